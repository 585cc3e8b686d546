//! Both answers, word by word. Hover previews a word, a click pins it.
//!
//! The stripe under a word is its attention to the image in the selected layer. Words that the cut changed
//! stand out in both answers; words that are not up to date are dim.

use egui::{
    Event, EventFilter, Key, Label, Modifiers, Rect, RichText, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, vec2,
};

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
            number,
            section::{scrolling, section},
            word::{Look, shown, word},
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
            if let Some(run) = store.runs.baseline().view() {
                asked(ui, run);
            }
            let changed = store.changed();
            let (lost, new) = changed.as_ref().map_or((&[][..], &[][..]), |(lost, new)| (lost, new));
            let mut hovered = strip(ui, store, frame, BASELINE, lost);
            if store.runs.has(CUT) {
                ui.add_space(4.0);
                under_the_cut(ui, store.runs.cut());
                hovered = strip(ui, store, frame, CUT, new).or(hovered);
                if let (Some(_), Some(cut)) = (&changed, store.runs.cut().complete()) {
                    ui.add(Label::new(RichText::new(difference(lost, new, cut)).small()).wrap());
                }
            }
            facts(ui, store);
            if let Some(why) = nonsense(store) {
                ui.add(Label::new(RichText::new(why).small().color(theme::stale_color(ui.visuals()))).wrap());
            }
            // A word under a pointer that rests previews nothing anew: keys may have moved on from there.
            let moved = ui.input(|i| i.events.iter().any(|event| matches!(event, Event::PointerMoved(_))));
            if hovered != store.selection.hovered && (moved || hovered.is_none()) {
                frame.ask(Command::Hover(hovered));
            }
        });
    }
}

/// The question that this is the answer to: the one in the box may be another by now.
fn asked(ui: &mut Ui, run: &Run) {
    let question = run.experiment.question();
    let text = RichText::new(format!("to “{question}”")).small().weak();
    ui.add(Label::new(text).truncate()).on_hover_text(question);
}

/// Why an answer is not to be taken seriously.
fn nonsense(store: &Store) -> Option<&'static str> {
    let bundled = store.model.as_ref().is_some_and(|model| model.bundled);
    let foreign = store.image().is_some_and(|image| image.objects.is_none());
    (bundled && foreign).then_some(
        "The bundled model knows the sample scenes and nothing else: of this picture it talks nonsense. Open \
         another model for pictures of your own.",
    )
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

/// How two answers differ, in words: their tokens, and what the cut did to the probability of the uncut ones.
fn difference(lost: &[bool], new: &[bool], cut: &Run) -> String {
    let count = |changed: &[bool]| changed.iter().filter(|c| **c).count();
    let tokens = match (count(new), count(lost)) {
        (0, 0) => "The same tokens".to_string(),
        (n, m) => format!("{n} of {} tokens are new, {m} of {} are gone", new.len(), lost.len()),
    };
    let most = cut.scored.iter().max_by(|a, b| a.effect.delta.abs().total_cmp(&b.effect.delta.abs()));
    let Some(most) = most else { return format!("{tokens}.") };
    let sum: f32 = cut.scored.iter().map(|scored| scored.effect.delta).sum();
    format!(
        "{tokens}; under the cut the log probability of the uncut answer changes by {}, most at “{}” ({}).",
        number::signed(sum),
        shown(&most.token).trim(),
        number::signed(most.effect.delta),
    )
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
    let words = ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        for (at, (token, fresh)) in tokens.iter().enumerate() {
            let look = Look {
                selected: store.selection.shown() == (slot, Some(at)),
                pinned: store.selection.slot == slot && store.selection.tokens.contains(&at),
                changed: changed.get(at).copied().unwrap_or(false),
                fresh: *fresh,
                share: lane.row(at).map(|(row, _)| image_share(store, row)),
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
    walk(ui, store, frame, slot, words.response.rect);
    if let Some(why) = lane.complete().and_then(|run| run.end.as_ref()).and_then(|end| cut_short(end.stop)) {
        ui.label(RichText::new(why).small().weak());
    }
    hovered
}

/// Makes an answer one stop of the Tab key, which arrows walk word by word from there.
fn walk(ui: &mut Ui, store: &Store, frame: &mut Frame, slot: Slot, place: Rect) {
    let stop = ui.interact(place, ui.scope_id().with(("answer", slot)), Sense::focusable_noninteractive());
    stop.widget_info(|| WidgetInfo::labeled(Role::ListBox, true, format!("words of {}", slot_name(slot))));
    if !stop.has_focus() {
        return;
    }
    let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
    ui.memory_mut(|m| m.set_focus_lock_filter(stop.id, arrows));
    ui.painter().rect_stroke(
        place.expand(2.0),
        3.0,
        Stroke::new(1.5, theme::accent(ui.visuals())),
        StrokeKind::Outside,
    );
    let presses = |key| ui.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
    let steps = [(Key::ArrowRight, Command::NextWord), (Key::ArrowLeft, Command::PreviousWord)];
    for (key, command) in steps {
        for _ in 0..presses(key) {
            if store.selection.slot != slot {
                frame.ask(Command::Show(slot));
            }
            frame.ask(command.clone());
        }
    }
}

/// What stands where there is no answer.
fn instead(store: &Store, lane: Lane<'_>) -> String {
    match &store.progress {
        Some(progress) => format!("{progress}…"),
        None if lane.busy() || store.busy() => "…".to_string(),
        None if lane.cancelled() || store.cancelled() => "cancelled".to_string(),
        None => "no answer yet".to_string(),
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
fn image_share(store: &Store, row: &RowView) -> f32 {
    row.flow.share(store.selection.layer, store.selection.head, Span::Visual)
}

/// The word on show in numbers, on a line of its own: a tooltip would cover the chart.
fn facts(ui: &mut Ui, store: &Store) {
    let (slot, at) = store.selection.shown();
    let lane = store.runs.lane(slot);
    let word = at.and_then(|at| Some((lane.token(at)?, lane.row(at)?.0)));
    let Some((token, row)) = word else {
        ui.label(RichText::new("Hover a word to see where it looked; click to pin it.").small().weak());
        return;
    };
    let others = token.top.iter().filter(|c| c.id != token.id).take(4);
    let others: Vec<String> =
        others.map(|c| format!("{} {}", c.text.trim(), number::percent(c.logprob.exp()))).collect();
    let others = match others.is_empty() {
        true => String::new(),
        false => format!(", else {}", others.join(", ")),
    };
    let head = store.selection.head.map_or(String::new(), |h| format!(", head {h}"));
    let text = format!(
        "row {} predicts “{}”, position {}: {} on the image in layer {}{head}; probability {}{others}",
        token.position.saturating_sub(1),
        shown(token).trim(),
        token.position,
        number::percent(image_share(store, row)),
        store.selection.layer,
        number::probability(token.logprob),
    );
    ui.add(Label::new(RichText::new(&text).small()).wrap()).on_hover_text(
        "A word is predicted by the row of the position before it: its attention is that row's",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource},
        trace::{report::Effect, tokens::AnswerToken},
    };

    #[test]
    fn the_same_tokens_may_have_other_probabilities() {
        let experiment = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4);
        let mut cut = Run::new(1, experiment, Some(0));
        assert_eq!(difference(&[false; 2], &[false; 2], &cut), "The same tokens.");
        for (position, (text, delta)) in [(" red", -0.25), (" ball", -1.5)].into_iter().enumerate() {
            let effect = Effect { baseline: -0.1, logprob: -0.1 + delta, delta, rank: 0, kl: 0.0 };
            let token = AnswerToken {
                position,
                id: 0,
                text: text.to_string(),
                span: Span::Answer,
                logprob: 0.0,
                top: Vec::new(),
                end: false,
                partial: false,
            };
            cut.score(token, effect, None);
        }
        let told = difference(&[false; 2], &[false; 2], &cut);
        let all = ["The same tokens;", "changes by -1.75", "most at “ball” (-1.50)"];
        assert!(all.iter().all(|part| told.contains(part)), "{told}");
        assert!(
            difference(&[true, false], &[true], &cut).starts_with("1 of 1 tokens are new, 1 of 2 are gone;")
        );
    }
}
