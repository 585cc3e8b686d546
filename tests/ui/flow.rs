//! The flow view: which layer a click goes to, what is measured, and what it says where there is nothing.

use egui::{Rect, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    spec::{
        span::Span,
        study::{EdgeEffect, Study},
    },
    trace::{
        finding::{EdgeFound, Finding},
        report::End,
        run::Stop,
    },
    ui::{
        layout::Layout,
        store::{command::Command, selection::BASELINE, store::Store},
        theme,
    },
    worker::protocol::{Event, Request},
};

use crate::{
    bench::{answered, opened, serve, tell},
    made_up,
};

/// The window over a store, with a worker that answers at once; studies are only noted.
struct Bench {
    store: Store,
    layout: Layout,
    studies: Vec<Request>,
}

impl Bench {
    fn frame(&mut self, ui: &mut egui::Ui) {
        for command in self.layout.show(ui, &self.store) {
            let requests = self.store.apply(command);
            let is_study = |request: &Request| matches!(request, Request::Study { .. } | Request::Drop(_));
            let (studies, runs): (Vec<_>, Vec<_>) = requests.into_iter().partition(is_study);
            self.studies.extend(studies);
            serve(&mut self.store, runs);
            ui.ctx().request_repaint();
        }
    }
}

fn window(store: Store) -> Harness<'static, Bench> {
    let bench = Bench { store, layout: Layout::new(false, true), studies: Vec::new() };
    let builder = Harness::builder().with_size([1280.0, 800.0]).with_context_setup(theme::install);
    let mut harness = builder.build_ui_state(|ui, bench: &mut Bench| bench.frame(ui), bench);
    harness.run_ok();
    harness
}

fn place(harness: &Harness<'static, Bench>, name: &str) -> Rect {
    let places = harness.state().layout.places();
    places.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no {name}")).1
}

fn click_at(harness: &mut Harness<'static, Bench>, at: egui::Pos2) {
    harness.hover_at(at);
    harness.run_ok();
    harness.drag_at(at);
    harness.run_ok();
    harness.drop_at(at);
    harness.run_ok();
}

fn press(harness: &mut Harness<'static, Bench>, label: &str) {
    harness.get_by_role_and_label(Role::Button, label).click();
    harness.run_ok();
}

fn shows(harness: &Harness<'static, Bench>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

#[test]
fn a_click_goes_to_the_layer_on_every_chart() {
    let mut harness = window(answered());
    for (chart, layer) in [("ribbons", 6), ("lines", 1), ("bars", 5), ("ribbons", 0)] {
        press(&mut harness, chart);
        let column = place(&harness, &format!("flow[{layer}]"));
        click_at(&mut harness, column.center());
        assert_eq!(harness.state().store.selection.layer, layer, "{chart}");
    }
}

#[test]
fn an_effect_is_measured_of_the_pinned_words_in_the_window_that_is_chosen() {
    let mut store = answered();
    store.apply(Command::Pin(BASELINE, 1));
    let mut harness = window(store);
    press(&mut harness, "effect");
    assert!(shows(&harness, "Measure it"), "what there is to do");
    harness.get_by_label("window of 5 layers").click();
    harness.run_ok();
    press(&mut harness, "Measure “red”");
    let [Request::Study { id, study, base }] = &harness.state().studies[..] else {
        panic!("{:?}", harness.state().studies)
    };
    assert_eq!(**study, Study::Edges(EdgeEffect { tokens: vec![1], width: 5 }));
    assert!(base.intervention.is_empty());
    let id = *id;

    // Results come; then another word is pinned: they stay, and say whose they are.
    let edge = EdgeFound { query: Span::Answer, key: Span::Visual, layer: 3, delta: -3.2125 };
    harness.state_mut().store.event(Event::Found { id, finding: Finding::Edge(edge), steps: (1, 96) });
    harness.run_ok();
    assert!(shows(&harness, "1 of 96") && harness.query_by_label("Stop measuring").is_some());
    assert!(harness.query_by_label("of “red”").is_none(), "it is of what is pinned");
    harness.state_mut().store.apply(Command::Pin(BASELINE, 2));
    harness.run_ok();
    assert!(harness.query_by_label("of “red”").is_some());
    assert!(harness.query_by_label("Measure “ball”").is_some());
    press(&mut harness, "Stop measuring");
    assert!(matches!(harness.state().studies[..], [_, Request::Drop(dropped)] if dropped == id));
}

#[test]
fn a_run_without_flow_says_so() {
    let (mut store, id, experiment) = opened();
    let mut events = made_up::whole(id, &experiment);
    events.pop();
    let end = End { flow: None, ..made_up::end(&experiment, Stop::End) };
    events.push(Event::Done { id, end: Box::new(end) });
    tell(&mut store, events);
    let harness = window(store);
    assert!(shows(&harness, "no flow was recorded of this run"));
}

#[test]
fn a_made_up_flow_is_a_flow() {
    let (_, _, experiment) = opened();
    let flow = made_up::flow(&experiment);
    let prompt = made_up::prompt(&experiment.question());
    assert_eq!(flow.rows[Span::Visual.index()], made_up::GRID * made_up::GRID);
    assert_eq!(flow.rows[Span::Answer.index()], made_up::steps(&experiment).len() - 1);
    assert_eq!(flow.rows.iter().sum::<usize>(), prompt.len() + made_up::steps(&experiment).len() - 1);
    for layer in 0..made_up::LAYERS {
        for query in Span::ALL.into_iter().filter(|span| flow.rows[span.index()] > 0) {
            let sum: f32 = Span::ALL.into_iter().map(|key| flow.get(layer, query, key)).sum();
            assert!((sum - 1.0).abs() < 1e-5, "{layer} {query:?}: {sum}");
        }
    }
}
