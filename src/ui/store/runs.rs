//! The runs on show: what was asked, what has come back, what is still owed.
//!
//! Runs are known by id; a slot names the one on show, the one under way over it, and one that was refused.
//! Latest wins: events of a run that no slot names any more are dropped. A run under knockouts waits until
//! its uncut run is complete, since both pass through one worker.
//!
//! Knows nothing of egui or of channels: methods return the [`Request`]s to send.

use std::collections::BTreeMap;

use crate::{
    spec::{experiment::Experiment, knockout::Knockout},
    trace::{
        report::{Effect, End, Start},
        run::Stop,
        tokens::{AnswerToken, PromptToken},
    },
    ui::store::{
        lane::{Lane, Refused},
        run::Run,
        selection::{BASELINE, CUT},
    },
    worker::protocol::{Request, Row, RunId, Slot, ToldRow},
};

/// What is on show for one slot, by name, and what is wanted there.
#[derive(Debug, Default)]
struct Place {
    shown: Option<RunId>,
    running: Option<RunId>,
    refused: Option<Refused>,
    /// Knockouts to be in force; none in a slot without a cut.
    wanted: Vec<Knockout>,
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

    /// The run without knockouts.
    pub fn baseline(&self) -> Lane<'_> {
        self.lane(BASELINE)
    }

    /// The run under the knockouts in force.
    pub fn cut(&self) -> Lane<'_> {
        self.lane(CUT)
    }

    /// How many runs are held.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
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

    /// Asks for a new uncut run; cuts follow when it is complete. Those on show stay until it has something
    /// to show.
    pub fn ask(&mut self, experiment: Experiment) -> Vec<Request> {
        let mut cut_runs = false;
        for (_, place) in self.slots.iter_mut().filter(|(slot, _)| **slot != BASELINE) {
            cut_runs |= place.running.take().is_some();
            place.refused = None;
        }
        // An uncut run does not supersede a cut by itself.
        let stop = cut_runs.then_some(Request::Cancel);
        let run = self.start(BASELINE, experiment, None);
        stop.into_iter().chain([run]).collect()
    }

    /// Sets the knockouts to be in force in a slot; none clears it, and stops what is under way for it.
    pub fn want(&mut self, slot: Slot, knockouts: &[Knockout]) -> Option<Request> {
        let place = self.slots.entry(slot).or_default();
        if place.wanted != knockouts {
            place.wanted = knockouts.to_vec();
        }
        if !knockouts.is_empty() {
            return None;
        }
        let was_busy = place.running.is_some();
        place.reset();
        self.sweep();
        was_busy.then_some(Request::Cancel)
    }

    /// The next run to ask for, if one is due.
    pub fn next_request(&mut self) -> Option<Request> {
        let base = self.baseline().complete()?;
        let (base_id, uncut) = (base.id, base.experiment.clone());
        let slots: Vec<Slot> = self.slots.keys().copied().filter(|slot| *slot != BASELINE).collect();
        slots.into_iter().find_map(|slot| self.due(slot, base_id, &uncut))
    }

    fn due(&mut self, slot: Slot, base: RunId, uncut: &Experiment) -> Option<Request> {
        let place = self.slots.get_mut(&slot).filter(|place| !place.wanted.is_empty())?;
        let experiment = uncut.clone().with_knockouts(place.wanted.clone());
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
        Some(self.start(slot, experiment, Some(base)))
    }

    fn start(&mut self, slot: Slot, experiment: Experiment, base: Option<RunId>) -> Request {
        self.last_id += 1;
        let id = self.last_id;
        self.by_id.insert(id, Run::new(id, experiment.clone(), base));
        let place = self.slots.entry(slot).or_default();
        (place.running, place.refused) = (Some(id), None);
        self.sweep();
        Request::Run { id, slot, experiment: Box::new(experiment) }
    }

    /// Stops what runs. What has something to show ends with it; what has not is forgotten here, and is not
    /// asked for again by itself.
    pub fn cancel(&mut self) -> Request {
        let ids: Vec<RunId> = self.slots.values().filter_map(|place| place.running).collect();
        for id in ids {
            if self.by_id.get(&id).is_some_and(|run| !run.has_answer()) {
                self.refuse(id, None);
            }
        }
        self.hold_back();
        Request::Cancel
    }

    /// Takes every run that is due now as cancelled: after a cancel, none begins by itself.
    fn hold_back(&mut self) {
        while let Some(Request::Run { id, .. }) = self.next_request() {
            self.refuse(id, None);
        }
    }

    /// Forgets what is under way: an image or a model that is on its way stops it. What was on show stays.
    pub fn abandon(&mut self) {
        self.slots.values_mut().for_each(|place| place.running = None);
        self.sweep();
    }

    /// Forgets every answer: another model or image makes them meaningless. A question that the worker has
    /// not begun to answer stays asked: it will be about what is there by then.
    pub fn clear(&mut self) {
        let waits = |id: &RunId| self.by_id.get(id).is_some_and(|run| run.prompt.is_empty());
        let waiting = self.slots.get(&BASELINE).and_then(|place| place.running).filter(waits);
        self.slots.values_mut().for_each(Place::reset);
        if let Some(place) = self.slots.get_mut(&BASELINE) {
            place.running = waiting;
        }
        self.sweep();
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
            self.drop_cuts_of_others(id);
        }
    }

    /// Drops cuts of another uncut run than the one that has something to show now.
    fn drop_cuts_of_others(&mut self, uncut: RunId) {
        let others =
            |id: &RunId| self.by_id.get(id).is_some_and(|run| run.base.is_some_and(|base| base != uncut));
        for place in self.slots.values_mut().filter(|place| place.shown.as_ref().is_some_and(others)) {
            place.reset();
        }
        self.sweep();
    }

    /// A run is complete: it takes the place of the one on show, unless it was stopped before it had
    /// anything to show. Returns its slot, or `None` for a superseded run, as the two below do.
    pub fn finished(&mut self, id: RunId, end: End) -> Option<Slot> {
        let slot = self.slot_of(id)?;
        let run = self.by_id.get_mut(&id)?;
        if end.stop == Stop::Cancelled && !run.has_answer() {
            return self.refuse(id, None);
        }
        let cancelled = end.stop == Stop::Cancelled;
        run.end = Some(end);
        let place = self.slots.entry(slot).or_default();
        (place.running, place.shown) = (None, Some(id));
        self.sweep();
        if cancelled {
            self.hold_back();
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

    fn running(&mut self, id: RunId) -> Option<&mut Run> {
        self.slot_of(id)?;
        self.by_id.get_mut(&id)
    }

    /// Drops the runs that no slot names.
    fn sweep(&mut self) {
        let slots = &self.slots;
        let named = |id: &RunId| slots.values().any(|p| p.shown == Some(*id) || p.running == Some(*id));
        self.by_id.retain(|id, _| named(id));
    }
}
