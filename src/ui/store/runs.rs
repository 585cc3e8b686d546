//! The two runs on show, baseline and cut: what was asked, what has come back, what is still owed.
//!
//! Latest wins. Events of a superseded run carry an old id and are dropped. While a run is under
//! way, what it has not yet produced is filled in from the run before it and marked stale. A cut
//! waits until its baseline is complete, since both pass through one worker.
//!
//! Knows nothing of egui or of channels: methods return the [`Request`]s to send.

use std::sync::Arc;

use crate::{device::shared::ResidentRow, interp, spec::{knockout::Knockout, span::Span}, trace::run::{AnswerToken, KnockoutReport, PatternRow, PromptToken, Stop, StoredRow, Timing, Trace}, ui::store::selection::Which, worker::thread::{Ask, Request, RunId}};

/// The attention that predicted one answer token.
#[derive(Clone, Debug)]
pub struct Row {
    /// The numbers.
    pub pattern: PatternRow,
    /// Where they lie on the window's own device, if the model runs there.
    pub resident: Option<ResidentRow>,
    /// `[layers][spans]`: the head mean, summed by span. Taken once, when the row arrives.
    pub flow: Vec<[f32; 7]>,
}

/// One run, as far as it is known.
#[derive(Clone, Debug)]
pub struct View {
    /// What was asked.
    pub ask: Ask,
    /// Prompt positions; empty until the worker has begun.
    pub prompt: Vec<PromptToken>,
    /// Words of the prompt that the tokenizer does not know.
    pub unknown_words: Vec<String>,
    /// Answer tokens so far.
    pub answer: Vec<AnswerToken>,
    /// One row an answer token.
    pub rows: Vec<Row>,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the knockouts did.
    pub knockouts: Vec<KnockoutReport>,
    /// Why it stopped.
    pub stop: Stop,
    /// Wall-clock times.
    pub timing: Timing,
    /// Number formats.
    pub dtype: String,
}

impl View {
    fn new(ask: Ask) -> Self {
        View {
            ask,
            prompt: Vec::new(),
            unknown_words: Vec::new(),
            answer: Vec::new(),
            rows: Vec::new(),
            outcome: None,
        }
    }

    fn row(&self, pattern: PatternRow, resident: Option<ResidentRow>) -> Row {
        let flow = interp::flow::of_row(&pattern, |key| self.span(key));
        Row { pattern, resident, flow }
    }

    /// The span of any position.
    pub fn span(&self, position: usize) -> Span {
        self.prompt.get(position).map_or(Span::Answer, |t| t.span)
    }

    /// Absolute positions of the visual tokens of the first image, in prompt order.
    pub fn visual_keys(&self) -> Vec<usize> {
        let first = |t: &&PromptToken| t.span == Span::Visual && t.visual.is_none_or(|v| v.image == 0);
        self.prompt.iter().filter(first).map(|t| t.position).collect()
    }

    fn same_prompt(&self, other: &View) -> bool {
        self.prompt.len() == other.prompt.len()
            && self.prompt.iter().zip(&other.prompt).all(|(a, b)| a.id == b.id && a.span == b.span)
    }
}

/// Baseline or cut: the run under way over the last complete one.
#[derive(Debug, Default)]
pub struct Lane {
    running: Option<(RunId, View)>,
    done: Option<View>,
    refused: Option<(Ask, String)>,
}

impl Lane {
    /// The run whose prompt and facts are on show.
    pub fn view(&self) -> Option<&View> {
        match &self.running {
            Some((_, view)) if !view.prompt.is_empty() => Some(view),
            _ => self.done.as_ref(),
        }
    }

    /// Whether a run is under way.
    pub fn busy(&self) -> bool {
        self.running.is_some()
    }

    /// Whether some of what is on show is older than what was asked for.
    pub fn stale(&self) -> bool {
        self.running.is_some() && self.filler().is_some()
    }

    /// The last complete run.
    pub fn done(&self) -> Option<&View> {
        self.done.as_ref()
    }

    /// Why the last run asked for could not be had.
    pub fn refusal(&self) -> Option<&str> {
        self.refused.as_ref().map(|(_, why)| why.as_str())
    }

    fn begun(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, view)| !view.prompt.is_empty())
    }

    /// The complete run that stands in for tokens still to come.
    fn filler(&self) -> Option<&View> {
        let done = self.done.as_ref()?;
        match &self.running {
            Some((_, view)) if self.begun() => {
                (view.same_prompt(done) && done.answer.len() > view.answer.len()).then_some(done)
            }
            _ => Some(done),
        }
    }

    fn fresh(&self) -> Option<&View> {
        match &self.running {
            Some((_, view)) if self.begun() => Some(view),
            Some(_) => None,
            None => self.done.as_ref(),
        }
    }

    /// Answer tokens on show; `true` marks those of the run asked for, `false` stale ones.
    pub fn tokens(&self) -> Vec<(&AnswerToken, bool)> {
        let fresh = self.fresh().map_or(&[][..], |v| &v.answer);
        let stale = match self.busy() {
            true => self.filler().map_or(&[][..], |v| &v.answer),
            false => &[],
        };
        fresh.iter().map(|t| (t, true)).chain(stale.iter().skip(fresh.len()).map(|t| (t, false))).collect()
    }

    /// The row of answer token `at`, and whether it is of the run asked for.
    pub fn row(&self, at: usize) -> Option<(&Row, bool)> {
        if let Some(row) = self.fresh().and_then(|v| v.rows.get(at)) {
            return Some((row, true));
        }
        Some((self.filler()?.rows.get(at)?, false))
    }

    /// Every row on show, stale ones included.
    pub fn rows(&self) -> Vec<&Row> {
        (0..self.tokens().len()).filter_map(|at| self.row(at).map(|(row, _)| row)).collect()
    }

    /// The answer on show as text, without the end token.
    pub fn answer_text(&self) -> String {
        let text: String =
            self.tokens().iter().filter(|(t, _)| !t.end).map(|(t, _)| t.text.as_str()).collect();
        text.trim().to_string()
    }

    fn start(&mut self, id: RunId, ask: Ask) -> Request {
        self.refused = None;
        self.running = Some((id, View::new(ask.clone())));
        Request::Run { id, ask }
    }

    fn running(&mut self, id: RunId) -> Option<&mut View> {
        self.running.as_mut().filter(|(running, _)| *running == id).map(|(_, view)| view)
    }
}

/// Both lanes, and the cut that is wanted.
#[derive(Debug, Default)]
pub struct Runs {
    last_id: RunId,
    /// Without knockouts.
    pub baseline: Lane,
    /// With the knockouts in force.
    pub cut: Lane,
    wanted: Vec<Knockout>,
}

impl Runs {
    /// One of the two lanes.
    pub fn lane(&self, which: Which) -> &Lane {
        match which {
            Which::Baseline => &self.baseline,
            Which::Cut => &self.cut,
        }
    }

    /// Whether anything is under way.
    pub fn busy(&self) -> bool {
        self.baseline.busy() || self.cut.busy()
    }

    /// Whether a cut is in force or under way.
    pub fn has_cut(&self) -> bool {
        self.cut.view().is_some() || self.cut.busy()
    }

    /// Asks for a new baseline; the cut follows when it is complete.
    pub fn ask(&mut self, prompt: String, max_new: usize) -> Vec<Request> {
        // A baseline does not supersede a cut by itself.
        let stop = self.cut.busy().then_some(Request::Cancel);
        self.cut = Lane::default();
        let id = self.fresh_id();
        let run = self.baseline.start(id, Ask { prompt, knockouts: Vec::new(), max_new });
        stop.into_iter().chain([run]).collect()
    }

    /// Sets the knockouts to be in force; none clears the cut.
    pub fn want_cut(&mut self, knockouts: Vec<Knockout>) {
        self.wanted = knockouts;
    }

    /// Stops what runs. What has begun ends with its partial trace; what has not is forgotten here,
    /// since the worker drops it without a word, and is not asked for again by itself.
    pub fn cancel(&mut self) -> Request {
        for lane in [&mut self.baseline, &mut self.cut] {
            if !lane.begun()
                && let Some((_, view)) = lane.running.take()
            {
                lane.refused = Some((view.ask, "cancelled".to_string()));
            }
        }
        Request::Cancel
    }

    /// Forgets both runs: another model or image makes them meaningless.
    pub fn clear(&mut self) {
        (self.baseline, self.cut) = (Lane::default(), Lane::default());
    }

    /// The next thing to send, if something is due.
    pub fn next_request(&mut self) -> Option<Request> {
        if self.wanted.is_empty() {
            let was_busy = self.cut.busy();
            self.cut = Lane::default();
            return was_busy.then_some(Request::Cancel);
        }
        if self.baseline.busy() {
            return None;
        }
        let base = &self.baseline.done.as_ref()?.ask;
        let ask = Ask { knockouts: self.wanted.clone(), ..base.clone() };
        if let Some((_, running)) = &self.cut.running {
            if running.ask == ask {
                return None;
            }
            if self.cut.done.as_ref().is_some_and(|done| done.ask == ask) {
                self.cut.running = None;
                return Some(Request::Cancel);
            }
        } else if self.cut.done.as_ref().is_some_and(|done| done.ask == ask)
            || self.cut.refused.as_ref().is_some_and(|(refused, _)| *refused == ask)
        {
            return None;
        }
        let id = self.fresh_id();
        Some(self.cut.start(id, ask))
    }

    /// A run began. Returns its lane, or `None` for a superseded run, as all three below do.
    pub fn started(
        &mut self,
        id: RunId,
        prompt: Vec<PromptToken>,
        unknown_words: Vec<String>,
    ) -> Option<Which> {
        let (which, view) = self.running(id)?;
        (view.prompt, view.unknown_words) = (prompt, unknown_words);
        Some(which)
    }

    /// One more token came.
    pub fn token(
        &mut self,
        id: RunId,
        token: AnswerToken,
        pattern: PatternRow,
        resident: Option<ResidentRow>,
    ) -> Option<Which> {
        let (which, view) = self.running(id)?;
        let row = view.row(pattern, resident);
        view.answer.push(token);
        view.rows.push(row);
        Some(which)
    }

    /// A run is complete.
    pub fn finished(&mut self, id: RunId, trace: Trace) -> Option<Which> {
        let (which, view) = self.running(id)?;
        let mut done = View {
            prompt: trace.prompt,
            unknown_words: std::mem::take(&mut view.unknown_words),
            answer: trace.answer,
            outcome: Some(Outcome {
                knockouts: trace.knockouts,
                stop: trace.stop,
                timing: trace.timing,
                dtype: trace.dtype,
            }),
            ..View::new(view.ask.clone())
        };
        let mut came = std::mem::take(&mut view.rows).into_iter();
        for pattern in trace.pattern.iter().map(StoredRow::row) {
            // Most often the very row that came with its token.
            let row = match came.next() {
                Some(row) if Arc::ptr_eq(&row.pattern.data, &pattern.data) => row,
                Some(row) => done.row(pattern, row.resident),
                None => done.row(pattern, None),
            };
            done.rows.push(row);
        }
        let lane = self.lane_mut(which);
        (lane.running, lane.done) = (None, Some(done));
        Some(which)
    }

    /// A run failed: what was there before it stands again.
    pub fn failed(&mut self, id: RunId, why: String) -> Option<Which> {
        let (which, _) = self.running(id)?;
        let lane = self.lane_mut(which);
        lane.refused = lane.running.take().map(|(_, view)| (view.ask, why));
        Some(which)
    }

    fn lane_mut(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::Baseline => &mut self.baseline,
            Which::Cut => &mut self.cut,
        }
    }

    fn running(&mut self, id: RunId) -> Option<(Which, &mut View)> {
        let baseline = self.baseline.running(id).map(|view| (Which::Baseline, view));
        baseline.or_else(|| self.cut.running(id).map(|view| (Which::Cut, view)))
    }

    fn fresh_id(&mut self) -> RunId {
        self.last_id += 1;
        self.last_id
    }
}
