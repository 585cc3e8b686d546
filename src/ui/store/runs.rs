//! The runs on show: what was asked, what has come back, what is still owed, what is kept.
//!
//! Runs are known by id; a slot names the one on show, the one under way over it, and one that was refused. Two
//! slots are live: the uncut run, and the run under the cuts in force. A kept run has a slot of its own, and its
//! letter; whatever another question or image would have pushed out is kept by itself, as far as memory allows.
//! Latest wins: events of a run that no slot names any more are dropped. A run under cuts waits until its uncut run is
//! complete, since both pass through one worker.
//!
//! Knows nothing of egui or of channels: methods return the [`Request`]s to send.

use std::collections::BTreeMap;

use crate::{
    spec::experiment::{Experiment, Intervention},
    trace::{
        report::{Effect, End, Start},
        run::Stop,
        tokens::{AnswerToken, PromptToken},
    },
    ui::store::{
        lane::{Lane, Refused},
        run::Run,
        selection::{BASELINE, CUT},
        setup::Setup,
    },
    worker::protocol::{Request, Row, RunId, Slot, ToldRow},
};

/// Most runs that are kept, and most bytes of their attention.
const KEPT: (usize, usize) = (25, 1 << 30);

/// What is on show for one slot, by name, and what is wanted there.
#[derive(Debug, Default)]
struct Place {
    shown: Option<RunId>,
    running: Option<RunId>,
    refused: Option<Refused>,
    /// What is to be done to the model; nothing in a slot without a cut.
    wanted: Intervention,
    /// Draws of the control beside it.
    control: usize,
    /// The letter of the runs here, once one began.
    letter: Option<usize>,
}

impl Place {
    /// Nothing on show and nothing under way.
    fn reset(&mut self) {
        (self.shown, self.running, self.refused) = (None, None, None);
    }
}

/// All runs, and the cuts that are wanted.
#[derive(Debug, Default)]
pub struct Runs {
    last_id: RunId,
    by_id: BTreeMap<RunId, Run>,
    slots: BTreeMap<Slot, Place>,
    /// The next letter.
    letters: usize,
    /// The last slot that was made for a kept run.
    last_slot: Slot,
}

/// `A` to `Z`, then `AA`.
fn letter(at: usize) -> String {
    let last = char::from(b'A' + (at % 26) as u8);
    match at / 26 {
        0 => last.to_string(),
        more => format!("{}{last}", letter(more - 1)),
    }
}

impl Runs {
    /// One slot, to look at.
    pub fn lane(&self, slot: Slot) -> Lane<'_> {
        let Some(place) = self.slots.get(&slot) else {
            return Lane { running: None, done: None, refused: None };
        };
        let run = |id: Option<RunId>| id.and_then(|id| self.by_id.get(&id));
        Lane { running: run(place.running), done: run(place.shown), refused: place.refused.as_ref() }
    }

    /// The run without cuts.
    pub fn baseline(&self) -> Lane<'_> {
        self.lane(BASELINE)
    }

    /// The run under the cuts in force.
    pub fn cut(&self) -> Lane<'_> {
        self.lane(CUT)
    }

    /// The letter of a slot; of one that has none yet, the letter that it will have.
    pub fn name(&self, slot: Slot) -> String {
        let lane = self.lane(slot);
        let run = lane.view().or(lane.running);
        let own = run.map(|run| run.letter).or_else(|| self.slots.get(&slot)?.letter);
        letter(own.unwrap_or(self.letters))
    }

    /// Slots of kept runs, in the order of their letters; without those that a live slot shows.
    pub fn kept(&self) -> Vec<Slot> {
        let live = [BASELINE, CUT].map(|slot| self.slots.get(&slot).and_then(|place| place.shown));
        let hidden = |place: &Place| place.shown.is_some() && live.contains(&place.shown);
        let kept = self.slots.iter().filter(|(slot, place)| **slot > CUT && !hidden(place));
        let mut kept: Vec<(Option<usize>, Slot)> = kept.map(|(slot, place)| (place.letter, *slot)).collect();
        kept.sort_unstable();
        kept.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Whether the run that a live slot shows is kept.
    pub fn is_kept(&self, slot: Slot) -> bool {
        let shown = self.slots.get(&slot).and_then(|place| place.shown);
        shown.is_some() && self.slots.iter().any(|(at, place)| *at > CUT && place.shown == shown)
    }

    /// All complete runs by their letters: "Run A", "Runs A to C"; `None` where there are none.
    pub fn all_named(&self) -> Option<String> {
        let shown = self.slots.values().filter_map(|place| self.by_id.get(&place.shown?));
        let letters: Vec<usize> = shown.filter(|run| run.end.is_some()).map(|run| run.letter).collect();
        let (first, last) = (*letters.iter().min()?, *letters.iter().max()?);
        Some(match first == last {
            true => format!("Run {}", letter(first)),
            false => format!("Runs {} to {}", letter(first), letter(last)),
        })
    }

    /// One run, by its name.
    pub fn get(&self, id: RunId) -> Option<&Run> {
        self.by_id.get(&id)
    }

    /// A name for something else than a run that shares their numbers.
    pub fn next_id(&mut self) -> RunId {
        self.last_id += 1;
        self.last_id
    }

    /// How many runs are held.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Bytes of the attention of all runs.
    pub fn bytes(&self) -> usize {
        self.by_id.values().map(Run::bytes).sum()
    }

    /// Whether anything is under way.
    pub fn busy(&self) -> bool {
        self.slots.values().any(|place| place.running.is_some())
    }

    /// Whether something under way has begun to answer.
    pub fn answering(&self) -> bool {
        let running = self.slots.values().filter_map(|place| self.by_id.get(&place.running?));
        running.into_iter().any(Run::has_answer)
    }

    /// Whether a slot has something on show or under way.
    pub fn has(&self, slot: Slot) -> bool {
        self.lane(slot).view().is_some() || self.lane(slot).busy()
    }

    /// The slot that a run is under way for.
    pub fn slot_of(&self, id: RunId) -> Option<Slot> {
        self.slots.iter().find(|(_, place)| place.running == Some(id)).map(|(slot, _)| *slot)
    }

    /// The slot that shows a run.
    pub fn slot_showing(&self, id: RunId) -> Option<Slot> {
        self.slots.iter().find(|(_, place)| place.shown == Some(id)).map(|(slot, _)| *slot)
    }

    /// Asks for a new uncut run; cuts follow when it is complete. Those on show stay until it has something
    /// to show.
    pub fn ask(&mut self, experiment: Experiment, setup: Setup) -> Vec<Request> {
        let mut cut_runs = false;
        if let Some(place) = self.slots.get_mut(&CUT) {
            cut_runs = place.running.take().is_some();
            place.refused = None;
        }
        // An uncut run does not supersede a cut by itself.
        let stop = cut_runs.then_some(Request::Cancel);
        let run = self.start(BASELINE, experiment, None, setup);
        stop.into_iter().chain([run]).collect()
    }

    /// Sets what is to be done to the model under the cut; nothing clears it, and stops what is under way for it.
    pub fn want(&mut self, wanted: &Intervention, control: usize) -> Option<Request> {
        let place = self.slots.entry(CUT).or_default();
        if place.wanted != *wanted {
            place.wanted = wanted.clone();
        }
        place.control = control;
        if !wanted.is_empty() {
            return None;
        }
        if place.shown.is_none() && place.running.is_none() && place.refused.is_none() {
            return None;
        }
        let was_busy = place.running.is_some();
        place.reset();
        self.sweep();
        was_busy.then_some(Request::Cancel)
    }

    /// The next run to ask for, if one is due.
    pub fn next_request(&mut self, setup: &Setup) -> Option<Request> {
        let base = self.baseline().complete()?;
        let (base_id, uncut) = (base.id, base.experiment.clone());
        let place = self.slots.get_mut(&CUT).filter(|place| !place.wanted.is_empty())?;
        let experiment = Experiment { intervention: place.wanted.clone(), control: place.control, ..uncut };
        let asks = |id: Option<RunId>| id.and_then(|id| self.by_id.get(&id)).map(|run| &run.experiment);
        // What was refused is told for as long as it is what is wanted.
        if place.refused.as_ref().is_some_and(|refused| refused.experiment != experiment) {
            place.refused = None;
        }
        let shown = asks(place.shown) == Some(&experiment);
        if let Some(running) = asks(place.running) {
            if *running == experiment {
                return None;
            }
            if shown {
                place.running = None;
                self.sweep();
                return Some(Request::Cancel);
            }
        } else if shown || place.refused.is_some() {
            return None;
        }
        Some(self.start(CUT, experiment, Some(base_id), setup.clone()))
    }

    fn start(&mut self, slot: Slot, experiment: Experiment, base: Option<RunId>, setup: Setup) -> Request {
        let id = self.next_id();
        let shown = self.slots.get(&slot).and_then(|place| self.by_id.get(&place.shown?));
        // Another question is another run; another cut is the same one, changed.
        let again = shown.is_none_or(|shown| slot == CUT || shown.experiment == experiment);
        let place = self.slots.entry(slot).or_default();
        let own = match place.letter.filter(|_| again) {
            Some(own) => own,
            None => {
                self.letters += 1;
                self.letters - 1
            }
        };
        (place.running, place.refused, place.letter) = (Some(id), None, Some(own));
        let run = Run { setup, letter: own, ..Run::new(id, experiment.clone(), base) };
        self.by_id.insert(id, run);
        self.sweep();
        Request::Run { id, slot, experiment: Box::new(experiment) }
    }

    /// Keeps what a live slot shows: it gets a slot of its own, and the next other run here the next letter. Returns
    /// that slot; `None` where nothing complete is shown.
    pub fn keep(&mut self, slot: Slot) -> Option<Slot> {
        let kept = self.set_apart(slot);
        self.make_room();
        kept
    }

    /// The same, however many are kept.
    fn set_apart(&mut self, slot: Slot) -> Option<Slot> {
        let run = self.by_id.get(&self.slots.get(&slot)?.shown?)?;
        let (id, own) = (run.id, run.letter);
        if let Some(place) = self.slots.get_mut(&slot).filter(|_| slot == CUT) {
            // It stays on show until the cut changes: only then there is another run, with another letter.
            place.letter = None;
        }
        if let Some(kept) = self.slots.iter().find(|(at, place)| **at > CUT && place.shown == Some(id)) {
            return Some(*kept.0);
        }
        self.last_slot = self.last_slot.max(CUT) + 1;
        let place = Place { shown: Some(id), letter: Some(own), ..Place::default() };
        self.slots.insert(self.last_slot, place);
        Some(self.last_slot)
    }

    /// Lets the oldest kept runs go where there are too many.
    fn make_room(&mut self) {
        let mut kept = self.kept();
        while kept.len() > KEPT.0 || kept.len() > 1 && self.bytes() > KEPT.1 {
            self.forget(kept.remove(0));
        }
    }

    /// Forgets a kept run.
    pub fn forget(&mut self, slot: Slot) {
        if slot > CUT {
            self.slots.remove(&slot);
            self.sweep();
        }
    }

    /// Makes a kept run, and the uncut run that it is compared with, the live ones; those that were are kept. Returns
    /// the state that it was asked in.
    pub fn restore(&mut self, slot: Slot) -> Option<Setup> {
        if slot <= CUT {
            return None;
        }
        let run = self.by_id.get(&self.slots.get(&slot)?.shown?)?;
        let (id, base, own, setup) = (run.id, run.base, run.letter, run.setup.clone());
        let uncut = base.unwrap_or(id);
        if base.is_some() && !self.by_id.contains_key(&uncut) {
            return None;
        }
        self.set_aside();
        let uncut_letter = self.by_id.get(&uncut).map(|run| run.letter);
        self.slots.retain(|at, place| *at <= CUT || ![Some(id), Some(uncut)].contains(&place.shown));
        let place = self.slots.entry(BASELINE).or_default();
        place.reset();
        (place.shown, place.letter) = (Some(uncut), uncut_letter);
        let place = self.slots.entry(CUT).or_default();
        place.reset();
        if base.is_some() {
            (place.shown, place.letter) = (Some(id), Some(own));
        }
        self.sweep();
        self.make_room();
        Some(setup)
    }

    /// Keeps what both live slots show, and leaves them empty.
    fn set_aside(&mut self) {
        let uncut = self.baseline().done().is_some_and(|run| run.end.is_some());
        for slot in [BASELINE, CUT].into_iter().filter(|_| uncut) {
            self.set_apart(slot);
        }
        for slot in [BASELINE, CUT] {
            if let Some(place) = self.slots.get_mut(&slot) {
                place.reset();
                place.letter = None;
            }
        }
    }

    /// Stops what runs. What has something to show ends with it; what has not is forgotten here, and is not
    /// asked for again by itself.
    pub fn cancel(&mut self, setup: &Setup) -> Request {
        let ids: Vec<RunId> = self.slots.values().filter_map(|place| place.running).collect();
        for id in ids {
            if self.by_id.get(&id).is_some_and(|run| !run.has_answer()) {
                self.refuse(id, None);
            }
        }
        self.hold_back(setup);
        Request::Cancel
    }

    /// Takes every run that is due now as cancelled: after a cancel, none begins by itself.
    fn hold_back(&mut self, setup: &Setup) {
        while let Some(Request::Run { id, .. }) = self.next_request(setup) {
            self.refuse(id, None);
        }
    }

    /// Forgets what is under way: an image or a model that is on its way stops it. What was on show stays.
    pub fn abandon(&mut self) {
        self.slots.values_mut().for_each(|place| place.running = None);
        self.sweep();
    }

    /// Leaves the live slots empty for another image; what they showed is kept. A question that the worker has not
    /// begun to answer stays asked: it will be about what is there by then.
    pub fn turn_to(&mut self) {
        let waiting = self.waiting();
        self.set_aside();
        self.slots.entry(BASELINE).or_default().running = waiting;
        self.sweep();
        self.make_room();
    }

    /// Forgets every answer: another model makes them meaningless. A question that the worker has not begun to
    /// answer stays asked, likewise.
    pub fn clear(&mut self) {
        let waiting = self.waiting();
        self.slots.retain(|slot, _| *slot <= CUT);
        self.slots.values_mut().for_each(|place| {
            place.reset();
            place.letter = None;
        });
        self.slots.entry(BASELINE).or_default().running = waiting;
        self.letters = 0;
        if let Some(run) = waiting.and_then(|id| self.by_id.get_mut(&id)) {
            run.letter = 0;
            self.letters = 1;
        }
        self.sweep();
    }

    /// The uncut run that was asked for and has not begun.
    fn waiting(&self) -> Option<RunId> {
        let waits = |id: &RunId| self.by_id.get(id).is_some_and(|run| run.prompt.is_empty());
        self.slots.get(&BASELINE).and_then(|place| place.running).filter(waits)
    }

    /// A run began.
    pub fn started(&mut self, id: RunId, prompt: Vec<PromptToken>, unknown_words: Vec<String>) {
        if let Some(run) = self.running(id) {
            (run.prompt, run.unknown_words) = (prompt, unknown_words);
        }
    }

    /// Scoring under the intervention began.
    pub fn scoring(&mut self, id: RunId, start: Option<Start>) {
        if let Some(run) = self.running(id) {
            run.start = start;
        }
    }

    /// One token of the uncut answer was scored.
    pub fn scored(&mut self, id: RunId, token: AnswerToken, effect: Effect, row: Option<Row>) {
        if let Some(run) = self.running(id) {
            run.score(token, effect, row);
        }
    }

    /// One more token came.
    pub fn token(&mut self, id: RunId, token: AnswerToken, row: ToldRow) {
        let Some(slot) = self.slot_of(id) else { return };
        if let Some(run) = self.running(id) {
            run.push(token, row);
        }
        if slot == BASELINE {
            self.set_cuts_of_others_aside(id);
        }
    }

    /// Keeps the cut of another uncut run than the one that has something to show now, where it is complete.
    fn set_cuts_of_others_aside(&mut self, uncut: RunId) {
        let shown = self.slots.get(&CUT).and_then(|place| self.by_id.get(&place.shown?));
        let Some(shown) = shown.filter(|run| run.base.is_some_and(|base| base != uncut)) else { return };
        let other_question = self.by_id.get(&uncut).zip(self.by_id.get(&shown.base.unwrap_or_default()));
        if other_question.is_some_and(|(new, old)| new.experiment != old.experiment) {
            self.keep(CUT);
        }
        if let Some(place) = self.slots.get_mut(&CUT) {
            place.reset();
        }
        self.sweep();
    }

    /// A run is complete: it takes the place of the one on show, unless it was stopped before it had
    /// anything to show. Returns its slot, or `None` for a superseded run, as the two below do.
    pub fn finished(&mut self, id: RunId, end: End, setup: &Setup) -> Option<Slot> {
        let slot = self.slot_of(id)?;
        let run = self.by_id.get_mut(&id)?;
        if end.stop == Stop::Cancelled && !run.has_answer() {
            return self.refuse(id, None);
        }
        let cancelled = end.stop == Stop::Cancelled;
        run.end = Some(end);
        let old = self.slots.get(&slot).and_then(|place| self.by_id.get(&place.shown?));
        let another = old.zip(self.by_id.get(&id)).is_some_and(|(old, new)| old.experiment != new.experiment);
        if slot == BASELINE && another {
            self.keep(BASELINE);
        }
        let place = self.slots.entry(slot).or_default();
        (place.running, place.shown) = (None, Some(id));
        self.sweep();
        if cancelled {
            self.hold_back(setup);
        }
        Some(slot)
    }

    /// A run failed: what was there before it stands again.
    pub fn failed(&mut self, id: RunId, why: String) -> Option<Slot> {
        self.refuse(id, Some(why))
    }

    /// A run was stopped before it had anything to show: likewise.
    pub fn stopped(&mut self, id: RunId) -> Option<Slot> {
        self.refuse(id, None)
    }

    fn refuse(&mut self, id: RunId, why: Option<String>) -> Option<Slot> {
        let slot = self.slot_of(id)?;
        let place = self.slots.get_mut(&slot)?;
        place.running = None;
        place.refused = self.by_id.get(&id).map(|run| Refused { experiment: run.experiment.clone(), why });
        self.sweep();
        Some(slot)
    }

    /// Takes runs up that were read from a file: an uncut one and, over it, one under cuts.
    pub fn take_saved(&mut self, mut uncut: Run, cut: Option<Run>) {
        self.set_aside();
        (uncut.id, uncut.letter) = (self.next_id(), self.letters);
        self.letters += 1;
        let (base, letter) = (uncut.id, uncut.letter);
        self.by_id.insert(base, uncut);
        let place = self.slots.entry(BASELINE).or_default();
        (place.shown, place.letter) = (Some(base), Some(letter));
        if let Some(mut cut) = cut {
            (cut.id, cut.base, cut.letter) = (self.next_id(), Some(base), self.letters);
            self.letters += 1;
            let (id, letter) = (cut.id, cut.letter);
            let place = self.slots.entry(CUT).or_default();
            (place.shown, place.letter, place.wanted) =
                (Some(id), Some(letter), cut.experiment.intervention.clone());
            self.by_id.insert(id, cut);
        }
        self.sweep();
    }

    fn running(&mut self, id: RunId) -> Option<&mut Run> {
        self.slot_of(id)?;
        self.by_id.get_mut(&id)
    }

    /// Drops the runs that no slot names, and that no run that is named is compared with.
    fn sweep(&mut self) {
        let named: Vec<RunId> = self.slots.values().flat_map(|p| [p.shown, p.running]).flatten().collect();
        let bases: Vec<RunId> =
            named.iter().filter_map(|id| self.by_id.get(id)?.base).chain(named.iter().copied()).collect();
        self.by_id.retain(|id, _| bases.contains(id));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn letters_go_on_after_z() {
        assert_eq!([0, 25, 26, 27, 52].map(super::letter), ["A", "Z", "AA", "AB", "BA"]);
    }
}
