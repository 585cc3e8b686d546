//! Both answers, word by word. Hover previews a word, a click pins it.
//!
//! The stripe under a word is its attention to the image in the selected layer. Words that the cut changed
//! stand out in both answers; words that are not up to date are dim.

use egui::{Label, RichText, Ui, vec2};

use crate::{
    spec::{knockout::Knockout, span::Span},
    trace::run::Stop,
    ui::{
        frame::Frame,
        store::{
            command::Command,
            lane::Lane,
            run::{RowView, Run},
            selection::{BASELINE, CUT, slot_name},
            store::Store,
        },
        theme,
        view::pane::View,
        widgets::{
            section::{scrolling, section},
            word::{Look, word},
        },
    },
    worker::protocol::Slot,
};

/// The view. What is hovered is the store's: this one keeps nothing.
#[derive(Default)]
pub struct AnswerView;

impl View for AnswerView {
    fn title(&self, _store: &Store) -> String {
        "Answer".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        scrolling(ui, "answer", |ui, _| {
            section(ui, "Answer", frame, |ui, frame| choice(ui, store, frame));
            let changed = store.changed();
            let (lost, new) = changed.as_ref().map_or((&[][..], &[][..]), |(lost, new)| (lost, new));
            let mut hovered = strip(ui, store, frame, BASELINE, lost);
            if store.runs.has(CUT) {
                ui.add_space(4.0);
                under_the_cut(ui, store.runs.cut());
                hovered = strip(ui, store, frame, CUT, new).or(hovered);
                if changed.is_some() {
                    ui.label(RichText::new(difference(lost, new)).small());
                }
            }
            facts(ui, store);
            if hovered != store.selection.hovered {
                frame.ask(Command::Hover(hovered));
            }
        });
    }
}

/// Which of the two maps show.
fn choice(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    if !store.runs.has(CUT) {
        return;
    }
    for slot in [CUT, BASELINE] {
        let text = format!("maps of {}", slot_name(slot));
        if ui.selectable_label(store.selection.slot == slot, text).clicked() {
            frame.ask(Command::Show(slot));
        }
    }
}

fn under_the_cut(ui: &mut Ui, lane: Lane<'_>) {
    let knockouts = lane.view().map_or(String::new(), |run| list(&run.experiment.intervention.knockouts));
    ui.horizontal(|ui| {
        ui.label(RichText::new("Under the cut").strong().color(theme::cut_color(ui.visuals())));
        ui.add(Label::new(RichText::new(knockouts).small().monospace()).truncate());
        if lane.busy() {
            ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
        }
    });
}

/// Knockouts as text.
pub fn list(knockouts: &[Knockout]) -> String {
    knockouts.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ")
}

/// How two answers differ, in words.
fn difference(lost: &[bool], new: &[bool]) -> String {
    let count = |changed: &[bool]| changed.iter().filter(|c| **c).count();
    match (count(new), count(lost)) {
        (0, 0) => "The answer did not change.".to_string(),
        (n, m) => format!("{n} of {} tokens are new, {m} of {} are gone.", new.len(), lost.len()),
    }
}

/// One answer. Returns the word under the pointer.
fn strip(
    ui: &mut Ui,
    store: &Store,
    frame: &mut Frame,
    slot: Slot,
    changed: &[bool],
) -> Option<(Slot, usize)> {
    let lane = store.runs.lane(slot);
    let tokens = lane.tokens();
    if tokens.is_empty() {
        ui.label(RichText::new(instead(store, lane)).weak());
        return None;
    }
    let mut hovered = None;
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        for (at, (token, fresh)) in tokens.iter().enumerate() {
            let share = match (lane.view(), lane.row(at)) {
                (Some(run), Some((row, _))) => Some(image_share(store, run, row)),
                _ => None,
            };
            let look = Look {
                selected: store.selection.shown() == (slot, Some(at)),
                pinned: store.selection.slot == slot && store.selection.tokens.contains(&at),
                changed: changed.get(at).copied().unwrap_or(false),
                fresh: *fresh,
                share,
            };
            let response = word(ui, token, &look);
            frame.place(format!("{}[{at}]", slot_name(slot)), response.rect);
            if response.hovered() {
                hovered = Some((slot, at));
            }
            if response.clicked() {
                frame.ask(Command::Pin(slot, at));
            }
        }
    });
    if let Some(why) = lane.complete().and_then(|run| run.end.as_ref()).and_then(|end| cut_short(end.stop)) {
        ui.label(RichText::new(why).small().weak());
    }
    hovered
}

/// What stands where there is no answer.
fn instead(store: &Store, lane: Lane<'_>) -> &'static str {
    if lane.busy() || store.busy() {
        "…"
    } else if lane.cancelled() || store.cancelled() {
        "cancelled"
    } else {
        "no answer yet"
    }
}

fn cut_short(stop: Stop) -> Option<&'static str> {
    match stop {
        Stop::End | Stop::Forced => None,
        Stop::MaxNew => Some("stopped at the longest answer allowed"),
        Stop::Context => Some("stopped: the context is full"),
        Stop::Cancelled => Some("cancelled"),
    }
}

/// Attention to the image in the selected layer and head.
fn image_share(store: &Store, run: &Run, row: &RowView) -> f32 {
    let pattern = &row.pattern;
    let layer = store.selection.layer.min(pattern.n_layers.saturating_sub(1));
    match store.selection.head.filter(|&h| h < pattern.n_heads) {
        None => row.flow.get(layer).map_or(0.0, |shares| shares[Span::Visual.index()]),
        Some(head) => {
            let keys = pattern.head(layer, head).iter().enumerate();
            keys.filter(|(key, _)| run.span(*key) == Span::Visual).map(|(_, p)| p).sum()
        }
    }
}

/// The word on show in numbers, on a line of its own: a tooltip would cover the chart.
fn facts(ui: &mut Ui, store: &Store) {
    let (slot, shown) = store.selection.shown();
    let lane = store.runs.lane(slot);
    let word = shown.and_then(|at| Some((lane.token(at)?, lane.view()?, lane.row(at)?.0)));
    let Some((token, run, row)) = word else {
        ui.label(RichText::new("Hover a word to see where it looked; click to pin it.").small().weak());
        return;
    };
    let percent = |p: f32| format!("{:.1} %", p * 100.0);
    let others = token.top.iter().filter(|c| c.id != token.id).take(4);
    let others: Vec<String> =
        others.map(|c| format!("{} {}", c.text.trim(), percent(c.logprob.exp()))).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(", else {}", others.join(", ")),
    };
    let text = format!(
        "position {}: {} on the image in layer {}; probability {}{others}",
        token.position,
        percent(image_share(store, run, row)),
        store.selection.layer,
        percent(token.logprob.exp()),
    );
    ui.add(Label::new(RichText::new(&text).small()).truncate()).on_hover_text(text);
}
