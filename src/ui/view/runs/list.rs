//! The runs by their letters: what each is, what its cut did, and what can be done with it.
//!
//! Knows runs and the selection; what it asks for is done elsewhere.

use egui::{Align, Color32, Label, Layout, RichText, Ui};

use crate::{
    spec::turn::{Role, Turn, asked, begun},
    trace::tokens::said,
    ui::{
        frame::Frame,
        store::{
            command::Command,
            run::{Run, ScoredToken},
            selection::{BASELINE, CUT},
            store::Store,
        },
        theme,
        view::runs::compare,
    },
    worker::protocol::Slot,
};

/// Tokens of a kept answer that its line begins with.
const BEGINNING: usize = 12;

/// The line over the words of a live run, and the one under it about what its cut did.
pub fn heading(ui: &mut Ui, store: &Store, frame: &mut Frame, slot: Slot) {
    let lane = store.runs.lane(slot);
    let run = lane.view().or(lane.running);
    ui.horizontal(|ui| {
        letter(ui, store, frame, slot);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let color = theme::cut_color(ui.visuals());
            total(ui, scored(store, slot), color);
            if slot == CUT && store.runs.is_kept(slot) {
                ui.label(RichText::new("kept").small().weak())
                    .on_hover_text("It stays by this letter when the cut changes");
            } else if slot == CUT && lane.complete().is_some() {
                let name = format!("keep run {}", store.runs.name(slot));
                let tooltip = "Keeps this run by its letter; the next cut gets the next one (Ctrl+D)";
                button(ui, frame, ("Keep", name.as_str(), tooltip), Command::Keep);
            }
            against(ui, store, frame, slot);
            if let Some(text) = going_on(store, slot) {
                ui.label(RichText::new(text).small().color(theme::stale_color(ui.visuals())));
            }
            if let Some(run) = run {
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| what(ui, run));
            }
        });
    });
    if let Some(why) = lane.refusal().filter(|_| slot == CUT) {
        let text = RichText::new(format!("not run: {why}")).small().color(theme::cut_color(ui.visuals()));
        ui.add(Label::new(text).wrap());
    }
    proof(ui, store, slot);
}

/// What a cut did to the uncut answer as a whole.
fn total(ui: &mut Ui, effects: &[ScoredToken], color: Color32) {
    if !effects.is_empty() {
        let text = format!("{} nats", compare::coarse(compare::sum(effects)));
        ui.label(RichText::new(text).color(color))
            .on_hover_text("Change of the log probability of the uncut answer, summed over its tokens");
    }
}

/// The letter: a click shows its run.
fn letter(ui: &mut Ui, store: &Store, frame: &mut Frame, slot: Slot) {
    let name = store.runs.name(slot);
    let text = RichText::new(&name).strong().color(color(ui, slot));
    let letter = ui.selectable_label(store.selection.slot == slot, text);
    frame.place(format!("run-{name}"), letter.rect);
    let letter = letter.accessible_name(format!("show run {name}"));
    if letter.on_hover_text("Maps and charts show this run").clicked() {
        frame.ask(Command::Show(slot));
    }
}

/// The colour of a run.
fn color(ui: &Ui, slot: Slot) -> Color32 {
    match slot {
        BASELINE => theme::accent(ui.visuals()),
        CUT => theme::cut_color(ui.visuals()),
        _ => ui.visuals().weak_text_color(),
    }
}

/// What a run is: its cuts, or the question that it answers.
fn what(ui: &mut Ui, run: &Run) {
    let cuts = run.experiment.intervention.to_string();
    if !cuts.is_empty() {
        ui.add(Label::new(RichText::new(&cuts).small().monospace()).truncate()).on_hover_text(cuts);
        return;
    }
    ui.label(RichText::new("uncut").small().weak());
    // The question in the box may be another by now.
    let Asked { turn, question, begun } = Asked::of(&run.experiment.turns, usize::MAX);
    let told =
        [turn, Some(format!("to {question}")), begun].into_iter().flatten().collect::<Vec<_>>().join(", ");
    ui.add(Label::new(RichText::new(&told).small().weak()).truncate()).on_hover_text(told);
}

/// What was asked, in pieces of a line.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    /// Which question of the conversation it is, where it is not the first.
    turn: Option<String>,
    question: String,
    /// What the answer was given to begin with.
    begun: Option<String>,
}

impl Asked {
    /// `room`: letters of a text that the line has room for.
    fn of(turns: &[Turn], room: usize) -> Self {
        let n = turns.iter().filter(|turn| turn.role == Role::User).count();
        let question = asked(turns).last().map(Turn::text).unwrap_or_default();
        let begins = |text: String| format!("begun “{}”", short(text.trim(), room));
        Asked {
            turn: (n > 1).then(|| format!("turn {n}")),
            question: format!("“{}”", short(question.trim(), room)),
            begun: begun(turns).map(begins),
        }
    }
}

/// What goes on in a run over what it shows.
fn going_on(store: &Store, slot: Slot) -> Option<String> {
    let lane = store.runs.lane(slot);
    let running = lane.running?;
    let base = running.base.and_then(|id| store.runs.get(id)).map_or(0, |base| base.answer.len());
    match running.scored.len() {
        _ if running.has_answer() => Some("answering…".to_string()),
        // A first answer has its progress where it will stand.
        _ if running.base.is_none() && lane.done().is_none() => None,
        n if n > 0 && n < base => Some(format!("recomputing… {n} of {base} scored")),
        _ => Some("recomputing…".to_string()),
    }
}

/// What the cut of a run did to its uncut answer.
fn scored(store: &Store, slot: Slot) -> &[ScoredToken] {
    match slot {
        BASELINE => &[],
        // Scores of the cut before stand until the first new one.
        CUT => store.effects_on(BASELINE),
        // Of an uncut run that is kept, there is no cut to tell of here.
        _ => store.runs.lane(slot).view().map_or(&[][..], |run| &run.scored),
    }
}

/// Whether the cut held, and what random patches do instead.
fn proof(ui: &mut Ui, store: &Store, slot: Slot) {
    let lane = store.runs.lane(slot);
    let Some(end) = lane.done().and_then(|run| run.end.as_ref()) else { return };
    let (proof, control) = (compare::proof(&end.knockouts), end.control.as_ref().map(compare::control));
    if proof.is_none() && control.is_none() {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let proven = proof.is_some();
        if let Some((text, held)) = proof {
            let text = RichText::new(text).small();
            let text = if held { text.weak() } else { text.color(theme::cut_color(ui.visuals())) };
            ui.label(text).on_hover_text(
                "Query-key pairs that were blocked, and the largest attention that any of them still has: the proof that \
                 the cut held",
            );
        }
        if let Some(text) = control {
            let dot = if proven { "· " } else { "" };
            ui.label(RichText::new(format!("{dot}{text}")).small().weak())
                .on_hover_text("The same cut on as many random patches: mean and standard deviation of the draws");
        }
    });
}

/// The line of a kept run.
pub fn kept(ui: &mut Ui, store: &Store, frame: &mut Frame, slot: Slot) {
    let name = store.runs.name(slot);
    let Some(run) = store.runs.lane(slot).view() else { return };
    ui.horizontal(|ui| {
        letter(ui, store, frame, slot);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let bin = format!("forget run {name}");
            button(ui, frame, ("forget", bin.as_str(), "Forgets this run"), Command::Forget(slot));
            let back = format!("restore run {name}");
            let tooltip = "Makes its image, question and cuts the present ones; nothing has to run again";
            button(ui, frame, ("restore", back.as_str(), tooltip), Command::Restore(slot));
            against(ui, store, frame, slot);
            let color = ui.visuals().weak_text_color();
            total(ui, scored(store, slot), color);
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                let of = described(store, run);
                ui.label(RichText::new(&of.other).small());
                if !of.cuts.is_empty() {
                    ui.label(RichText::new(&of.cuts).small().monospace());
                }
                let begins = said(run.answer.iter().take(BEGINNING));
                ui.add(Label::new(RichText::new(begins).small().weak()).truncate());
            });
        });
    });
}

/// What distinguishes a kept run from the live uncut one.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    /// Its image and question, where they are others.
    other: String,
    /// Its cuts.
    cuts: String,
}

fn described(store: &Store, run: &Run) -> Described {
    /// Letters of a text that a line has room for.
    const ROOM: usize = 40;
    let live = store.runs.baseline().view();
    let image = |run: &Run| run.experiment.images.first().map(|picture| picture.image.name());
    let mut parts = Vec::new();
    if live.is_none_or(|live| image(live) != image(run)) {
        parts.extend(image(run));
    }
    if live.is_none_or(|live| live.experiment.turns != run.experiment.turns) {
        let Asked { turn, question, begun } = Asked::of(&run.experiment.turns, ROOM);
        parts.extend([turn, Some(question), begun].into_iter().flatten());
    }
    let cuts = short(&run.experiment.intervention.to_string(), ROOM);
    if cuts.is_empty() {
        parts.push("uncut".to_string());
    }
    Described { other: parts.join(" · "), cuts }
}

/// The beginning of a text that is too long.
fn short(text: &str, room: usize) -> String {
    match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_string(),
    }
}

/// The toggle that takes a run off the one on show.
fn against(ui: &mut Ui, store: &Store, frame: &mut Frame, slot: Slot) {
    let on = store.selection.against == Some(slot);
    if !store.runs.has(slot) || store.selection.slot == slot {
        return;
    }
    let toggle = ui
        .selectable_label(on, RichText::new("compare").small())
        .accessible_name(format!("compare with run {}", store.runs.name(slot)))
        .on_hover_text("Words, bars and maps show how the run on show differs from this one");
    if toggle.clicked() {
        frame.ask(Command::Against((!on).then_some(slot)));
    }
}

/// A small button: what stands on it, its name for those who do not see it, and its tooltip.
fn button(ui: &mut Ui, frame: &mut Frame, (text, name, tooltip): (&str, &str, &str), command: Command) {
    if ui.small_button(text).accessible_name(name).on_hover_text(tooltip).clicked() {
        frame.ask(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_says_its_turn_and_what_its_answer_begins_with() {
        let first = [Turn::ask(1, "what ?")];
        let of = |turns: &[Turn]| {
            let Asked { turn, question, begun } = Asked::of(turns, 5);
            (turn, question, begun)
        };
        assert_eq!(of(&first), (None, "“what …”".to_string(), None));
        let turns = [Turn::ask(1, "a"), Turn::of(Role::Assistant, "b"), Turn::ask(0, "a")];
        let given = [&turns[..], &[Turn::of(Role::Assistant, "It is")]].concat();
        let begun = "begun “It is”".to_string();
        assert_eq!(of(&given), (Some("turn 2".to_string()), "“a”".to_string(), Some(begun)));
    }

    #[test]
    fn long_texts_are_cut_between_letters() {
        assert_eq!(short("ab", 2), "ab");
        assert_eq!(short("äöü", 2), "äö…");
        assert_eq!(short("", 0), "");
    }
}
