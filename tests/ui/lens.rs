//! The lens: what it asks for, what its table shows, and how it is linked with everything else.

use std::collections::BTreeSet;

use egui::{Key, Modifiers, Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    spec::study::{LensAt, Study, StudyKind},
    trace::{
        finding::{Finding, LensPage, LensReading},
        tokens::Candidate,
    },
    ui::{
        layout::Layout,
        store::{
            command::Command,
            selection::{BASELINE, CUT},
            store::Store,
            studies::State,
        },
        theme,
    },
    worker::protocol::{Event, Request, RunId},
};

use crate::{
    bench::{answered, serve},
    made_up,
};

/// The window over a store; the test plays the worker's studies.
struct Bench {
    store: Store,
    layout: Layout,
    /// Studies that were asked for, not answered yet.
    asked: Vec<(RunId, LensAt)>,
    /// How often a patch under the pointer was told.
    hovers: Vec<Option<usize>>,
}

impl Bench {
    fn frame(&mut self, ui: &mut egui::Ui) {
        for command in self.layout.show(ui, &self.store) {
            if let Command::HoverPatch(patch) = command {
                self.hovers.push(patch);
            }
            self.apply(command);
            ui.ctx().request_repaint();
        }
    }

    fn apply(&mut self, command: Command) {
        let (studies, others): (Vec<Request>, Vec<Request>) = self
            .store
            .apply(command)
            .into_iter()
            .partition(|request| matches!(request, Request::Study { .. }));
        for request in studies {
            if let Request::Study { id, study, .. } = request
                && let Study::Lens(at) = *study
            {
                self.asked.push((id, at));
            }
        }
        serve(&mut self.store, others);
    }

    /// Where something was drawn.
    fn place(&self, name: &str) -> Option<egui::Rect> {
        self.layout.places().iter().find(|(other, _)| other == name).map(|(_, rect)| *rect)
    }
}

type Window = Harness<'static, Bench>;

/// A window whose lens is in front.
fn window(store: Store) -> Window {
    let bench = Bench { store, layout: Layout::new(false, false), asked: Vec::new(), hovers: Vec::new() };
    let mut harness = Harness::builder()
        .with_size([1600.0, 1100.0])
        .with_context_setup(theme::install)
        .build_ui_state(|ui, bench: &mut Bench| bench.frame(ui), bench);
    harness.run_ok();
    harness.get_by_role_and_label(Role::Button, "Lens").click();
    harness.run_ok();
    harness.run_ok();
    harness
}

/// What a made-up layer says: its own number at the first places, “ duck” from the middle on.
fn page(at: &LensAt, layer: usize) -> LensPage {
    let reading = |position: &usize| {
        let duck = layer >= made_up::LAYERS / 2;
        let first = if duck { " duck".to_string() } else { format!(" layer{layer}") };
        let candidate = |id, text: String, p: f32| Candidate { id, text, logprob: p.ln() };
        let top = vec![
            candidate(if duck { 9 } else { layer as u32 + 40 }, first, 0.5),
            candidate(10, "Duck".to_string(), 0.125),
            candidate(11, " bus".to_string(), 0.0625),
        ];
        let chosen = at.word.as_ref().map(|_| (layer, 0.5 / (1 + layer) as f32));
        LensReading { position: *position, top, chosen }
    };
    LensPage { layer, readings: at.positions.iter().map(reading).collect() }
}

/// Answers the last study that was asked for, and forgets those before.
fn answer(harness: &mut Window) -> LensAt {
    let bench = harness.state_mut();
    let (id, at) = std::mem::take(&mut bench.asked).pop().expect("a study was asked for");
    for layer in 0..made_up::LAYERS {
        let finding = Finding::Lens(page(&at, layer));
        bench.store.event(Event::Found { id, finding, steps: (layer + 1, made_up::LAYERS) });
    }
    bench.store.event(Event::Studied { id, whole: true });
    harness.run_ok();
    at
}

/// Absolute position of the last prompt row, which predicts the first word.
fn last_row(harness: &Window) -> usize {
    harness.state().store.runs.baseline().view().expect("a run").prompt.len() - 1
}

fn cell(layer: usize, row: usize, says: &str) -> String {
    format!("layer {layer}, row {row}: {says}")
}

#[test]
fn a_few_rows_are_read_by_themselves_once_and_the_table_shows_their_words() {
    let mut harness = window(answered());
    let row = last_row(&harness);
    assert_eq!(harness.state().asked.len(), 1, "asked for once");
    let at = answer(&mut harness);
    let answer_len = harness.state().store.runs.baseline().view().unwrap().answer.len();
    assert_eq!(at.positions, (row..row + answer_len).collect::<Vec<_>>());
    assert_eq!((at.top, at.word), (10, None));
    assert!(harness.query_by_label(&cell(0, row, "layer0")).is_some());
    assert!(harness.query_by_label(&cell(4, row + 1, "duck")).is_some());
    let told = format!("row {} predicts “red”", row + 1);
    assert!(harness.query_by_role_and_label(Role::RowHeader, &told).is_some());
    harness.run_ok();
    assert!(harness.state().asked.is_empty(), "nothing more is due");
}

#[test]
fn readings_show_as_they_come() {
    let mut harness = window(answered());
    let row = last_row(&harness);
    let (id, at) = harness.state_mut().asked.pop().unwrap();
    let finding = Finding::Lens(page(&at, 0));
    harness.state_mut().store.event(Event::Found { id, finding, steps: (1, made_up::LAYERS) });
    harness.run_ok();
    assert!(harness.query_by_label(&cell(0, row, "layer0")).is_some());
    assert!(harness.query_by_label(&cell(1, row, "not read")).is_some());
    assert!(harness.query_by_label("1 of 8 steps read").is_some());
    harness.get_by_label("stop the lens").click();
    harness.run_ok();
    harness.state_mut().store.event(Event::Studied { id, whole: false });
    harness.run_ok();
    assert_eq!(harness.state().store.studies.get(StudyKind::Lens).unwrap().state, State::Dropped);
    assert!(harness.state().asked.is_empty(), "what was stopped does not begin by itself");
    assert!(harness.query_by_label("Read 15 rows").is_some());
}

#[test]
fn a_click_pins_a_cell_everywhere_and_a_second_one_lets_go() {
    let mut harness = window(answered());
    let row = last_row(&harness);
    answer(&mut harness);
    harness.get_by_label(&cell(2, row + 1, "layer2")).click();
    harness.run_ok();
    let selection = &harness.state().store.selection;
    assert_eq!((selection.layer, selection.slot, &selection.tokens[..]), (2, BASELINE, &[1][..]));
    harness.get_by_label(&cell(5, row + 1, "duck")).click();
    harness.run_ok();
    let selection = &harness.state().store.selection;
    assert_eq!((selection.layer, &selection.tokens[..]), (5, &[1][..]), "the row stays selected");
    harness.get_by_label(&cell(5, row + 1, "duck")).click();
    harness.run_ok();
    assert!(harness.state().store.selection.tokens.is_empty());
    harness.get_by_label("lens layer 3").click();
    harness.run_ok();
    assert_eq!(harness.state().store.selection.layer, 3);
}

#[test]
fn spellings_of_a_word_are_followed_as_one_line() {
    let mut harness = window(answered());
    let row = last_row(&harness);
    answer(&mut harness);
    harness.get_by_label(&cell(5, row, "duck")).click();
    harness.run_ok();
    harness.get_by_label(&cell(5, row, "duck")).click_modifiers(Modifiers::SHIFT);
    harness.run_ok();
    let lines = |harness: &Window, text: &str| harness.query_all_by_label_contains(text).count();
    assert!(lines(&harness, "“duck”, all spellings: 62.5 %, rank 0") > 0, "0.5 and 0.125 together");
    harness.get_by_label(&cell(5, row, "duck")).click_modifiers(Modifiers::SHIFT);
    harness.run_ok();
    assert_eq!(lines(&harness, "all spellings"), 0);
}

#[test]
fn keys_walk_the_cells_from_one_stop() {
    let mut harness = window(answered());
    answer(&mut harness);
    let layer = harness.state().store.selection.layer;
    harness.get_by_label("cells of the lens").focus();
    harness.run_ok();
    for key in [Key::ArrowDown, Key::ArrowDown, Key::ArrowRight] {
        harness.key_press(key);
        harness.run_ok();
    }
    assert_eq!(harness.state().store.selection.layer, layer, "walking changes nothing yet");
    harness.key_press(Key::Enter);
    harness.run_ok();
    let selection = &harness.state().store.selection;
    assert_eq!((selection.layer, &selection.tokens[..]), (layer + 1, &[2][..]));
}

#[test]
fn a_typed_word_is_asked_for_and_shown_over_the_image() {
    let mut harness = window(answered());
    answer(&mut harness);
    harness.get_by_label("lens word").focus();
    harness.run_ok();
    harness.get_by_label("lens word").type_text("duck");
    harness.run_ok();
    assert!(harness.state().asked.is_empty(), "not before Enter");
    harness.key_press(Key::Enter);
    harness.run_ok();
    let at = answer(&mut harness);
    assert_eq!(at.word.as_deref(), Some("duck"));
    let row = last_row(&harness);
    assert!(harness.query_by_label(&cell(0, row, "50.0 %")).is_some(), "the word's own probability");
    harness.get_by_label("over the image").click();
    harness.run_ok();
    // More rows than are read without being asked for.
    assert!(harness.state().asked.is_empty());
    harness.get_by_label("Read 159 rows").click();
    harness.run_ok();
    let at = answer(&mut harness);
    let visual = harness.state().store.runs.baseline().view().unwrap().visual_keys();
    assert!(visual.iter().all(|position| at.positions.contains(position)));
    assert!(harness.state().place("lens map").is_some());
}

#[test]
fn an_unknown_word_is_told_and_asked_for_no_more() {
    let mut harness = window(answered());
    answer(&mut harness);
    harness.get_by_label("lens word").focus();
    harness.run_ok();
    harness.get_by_label("lens word").type_text("xyzzy");
    harness.run_ok();
    harness.key_press(Key::Enter);
    harness.run_ok();
    let (id, _) = harness.state_mut().asked.pop().unwrap();
    let error = "no token for `xyzzy`".to_string();
    harness.state_mut().store.event(Event::Failed { id: Some(id), error: error.clone() });
    harness.run_ok();
    harness.run_ok();
    assert!(harness.query_all_by_label(&error).next().is_some());
    assert!(harness.state().asked.is_empty());
}

#[test]
fn rows_and_patches_point_at_each_other() {
    let mut harness = window(answered());
    answer(&mut harness);
    for patch in [5, 130] {
        harness.state_mut().apply(Command::Lock(patch));
    }
    harness.get_by_label("rows: selected").click();
    harness.run_ok();
    harness.run_ok();
    let visual = harness.state().store.runs.baseline().view().unwrap().visual_keys();
    assert_eq!(answer(&mut harness).positions, [visual[5], visual[130]]);
    let name = format!("lens[{}]", visual[130]);
    let place = harness.state().place(&name).expect("a row of the patch");
    harness.hover_at(place.center());
    harness.run_ok();
    assert_eq!(harness.state().store.selection.patch, Some(130), "the image marks it");
    let outside = place.center() - egui::vec2(0.0, 2000.0);
    harness.hover_at(outside);
    harness.run_ok();
    assert_eq!(harness.state().hovers.last(), Some(&None), "and lets it go");
}

#[test]
fn a_locked_patch_under_the_pointer_is_brought_into_sight() {
    let mut harness = window(answered());
    answer(&mut harness);
    harness.get_by_label("rows: image").click();
    harness.run_ok();
    let visual = harness.state().store.runs.baseline().view().unwrap().visual_keys();
    let name = format!("lens[{}]", visual[140]);
    assert!(harness.state().place(&name).is_none(), "it is far down");
    harness.state_mut().apply(Command::Lock(140));
    harness.state_mut().apply(Command::HoverPatch(Some(140)));
    for _ in 0..60 {
        harness.step();
    }
    assert!(harness.state().place(&name).is_some(), "it scrolled there");
}

#[test]
fn what_was_read_of_another_run_says_so_until_this_one_is_read() {
    let mut harness = window(answered());
    answer(&mut harness);
    harness.state_mut().apply(Command::CutLayers(2, 4));
    harness.state_mut().apply(Command::Show(CUT));
    harness.step();
    assert!(harness.query_all_by_label("of run A").next().is_some());
    harness.run_ok();
    harness.run_ok();
    assert_eq!(harness.state().asked.len(), 1, "the cut run is read by itself");
    answer(&mut harness);
    let store = &harness.state().store;
    let study = store.studies.get(StudyKind::Lens).unwrap();
    assert_eq!(
        (Some(study.base), study.base_name.as_str()),
        (store.runs.cut().view().map(|run| run.id), "B")
    );
}

#[test]
fn thousands_of_rows_cost_no_more_than_those_that_are_seen() {
    let mut store = Store::new("what ".repeat(3000), 4);
    store.apply(Command::LoadModel("model".into()));
    store.apply(Command::OpenImage(made_up::source()));
    store.event(Event::Model(made_up::model()));
    let asked = store.event(Event::Image(made_up::image(made_up::source())));
    serve(&mut store, asked);
    let mut harness = window(store);
    harness.state_mut().asked.clear();
    harness.get_by_label("rows: all prompt").click();
    harness.run_ok();
    let rows = harness.state().store.runs.baseline().view().unwrap().prompt.len();
    assert!(rows > 3000 && harness.state().asked.is_empty(), "so many are read on demand");
    harness.get_by_label(&format!("Read {rows} rows")).click();
    harness.run_ok();
    assert_eq!(answer(&mut harness).positions.len(), rows);
    let drawn = |harness: &Window| {
        let places = harness.state().layout.places();
        let cells =
            places.iter().filter(|(name, _)| name.starts_with("lens[") && name.matches('[').count() == 2);
        cells.map(|(name, _)| name.clone()).collect::<BTreeSet<_>>().len()
    };
    let cells = drawn(&harness);
    assert!(cells > 0 && cells < 60 * made_up::LAYERS, "{cells} cells of {}", rows * made_up::LAYERS);
}
