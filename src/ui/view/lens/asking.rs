//! Asks for what the lens reads, and says how far reading is.
//!
//! A few rows are read by themselves once the selection rests; many, and what was stopped, on demand. Knows studies
//! and positions; nothing of how readings are drawn.

use std::sync::Arc;

use egui::{Label, RichText, Ui};

use crate::{
    spec::study::{LensAt, Study, StudyKind},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            store::Store,
            studies::{State, StudyRun},
        },
        theme,
        view::lens::places::contained,
        widgets::busy::busy,
    },
    worker::protocol::RunId,
};

/// Tokens that are listed at every place.
pub const TOP: usize = 10;

/// Most rows that are read without being asked for.
const UNASKED: usize = 64;

/// What is to be read of the run on show.
#[derive(Clone, Debug)]
pub struct Due {
    /// Positions, ascending.
    pub positions: Arc<[usize]>,
    /// The word that is followed there.
    pub word: Option<String>,
    /// Whether that word was entered just now: then it is waited for.
    pub entered: bool,
    /// Changes with the positions.
    pub serial: (u64, bool),
}

/// What a study was asked to read.
#[derive(Debug, PartialEq)]
struct Asked {
    run: RunId,
    positions: Arc<[usize]>,
    word: Option<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Asking {
    /// What was asked for last: it is not asked for again by itself.
    asked: Option<Asked>,
    /// What the last frame would have asked for.
    rested: Option<(u64, bool)>,
}

impl Asking {
    /// Says how far reading is, and asks for what is due.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, due: Due, frame: &mut Frame) {
        let lane = store.runs.lane(store.selection.slot);
        let Some(run) = lane.view() else { return };
        let Due { positions, word, entered, serial } = due;
        let study = store.studies.get(StudyKind::Lens);
        let of_this =
            study.filter(|study| study.base == run.id && covers(study, &positions, word.as_deref()));
        let asked = Asked { run: run.id, positions, word };
        let still = self.rested.replace(serial) == Some(serial);
        let resting = still && !ui.input(|input| input.pointer.any_down());
        let can = why_not(store).is_none() && !asked.positions.is_empty();
        let unread = can && of_this.is_none();
        let by_itself = unread && asked.positions.len() <= UNASKED && self.asked.as_ref() != Some(&asked);
        if by_itself && !resting {
            ui.ctx().request_repaint();
        }
        let given_up = of_this.is_some_and(|study| matches!(study.state, State::Dropped | State::Failed(_)));
        let clicked = ui.horizontal_wrapped(|ui| {
            if let Some(study) = study {
                state(ui, store, study, study.base != run.id, frame);
            }
            if let Some(why) = why_not(store).filter(|_| of_this.is_none()) {
                ui.label(RichText::new(why).small().weak());
            }
            let button = unread && !by_itself || can && given_up;
            button && read_button(ui, asked.positions.len())
        });
        if clicked.inner || unread && entered || by_itself && resting {
            let (positions, word) = (asked.positions.to_vec(), asked.word.clone());
            let at = LensAt { positions, layers: Default::default(), top: TOP, word };
            frame.ask(Command::Study(Box::new(Study::Lens(at))));
            self.asked = Some(asked);
        }
    }
}

/// Why nothing can be read of the run on show.
fn why_not(store: &Store) -> Option<&'static str> {
    if store.model.is_none() {
        return Some("A saved run keeps no layers: open its model, and ask again, to read them.");
    }
    let complete = store.runs.lane(store.selection.slot).complete().is_some();
    (!complete).then_some("The lens reads a run once it is complete.")
}

/// Whether a study reads all of these positions, and this word at them.
fn covers(study: &StudyRun, positions: &[usize], word: Option<&str>) -> bool {
    let Study::Lens(at) = &study.study else { return false };
    (word.is_none() || at.word.as_deref() == word) && contained(positions, &at.positions)
}

/// How far a study is, and of which run.
fn state(ui: &mut Ui, store: &Store, study: &StudyRun, of_another: bool, frame: &mut Frame) {
    let (done, all) = study.steps;
    if of_another {
        let color = theme::stale_color(ui.visuals());
        ui.label(RichText::new(format!("of run {}", study.base_name)).small().color(color));
    }
    match &study.state {
        State::Running => {
            if all == 0 || store.runs.busy() {
                busy(ui, frame.dear);
            }
            ui.label(RichText::new(format!("{done} of {all} steps read")).small().weak());
            let stop = ui.small_button("Stop").accessible_name("stop the lens");
            if stop.on_hover_text("Stop reading; what was read stays").clicked() {
                frame.ask(Command::DropStudy(StudyKind::Lens));
            }
        }
        State::Dropped => {
            ui.label(RichText::new(format!("stopped after {done} of {all} steps")).small().weak());
        }
        State::Failed(why) => {
            let color = theme::cut_color(ui.visuals());
            ui.add(Label::new(RichText::new(why).small().color(color)).wrap());
        }
        State::Whole => {}
    }
}

fn read_button(ui: &mut Ui, rows: usize) -> bool {
    let name = if rows == 1 { "Read 1 row".to_string() } else { format!("Read {rows} rows") };
    ui.button(name).on_hover_text("Read every layer at these rows").clicked()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::store::studies::Studies;

    #[test]
    fn a_study_of_more_rows_is_enough_and_one_of_another_word_is_not() {
        let mut studies = Studies::default();
        let at = |word: Option<&str>| LensAt {
            positions: vec![2, 4, 6],
            layers: Default::default(),
            top: TOP,
            word: word.map(str::to_string),
        };
        studies.begin(3, Study::Lens(at(Some("duck"))), 1, "A".to_string());
        let study = studies.get(StudyKind::Lens).unwrap();
        assert!(covers(study, &[2, 6], None) && covers(study, &[4], Some("duck")));
        assert!(!covers(study, &[2, 5], None) && !covers(study, &[2], Some("bus")));
        studies.begin(4, Study::Lens(at(None)), 1, "A".to_string());
        assert!(!covers(studies.get(StudyKind::Lens).unwrap(), &[2], Some("duck")));
    }
}
