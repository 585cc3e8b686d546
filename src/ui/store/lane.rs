//! What is on show for one slot: the run under way over the last complete one.
//!
//! While a run is under way, what it has not yet produced is filled in from the run before it and marked
//! stale. A run takes the other's place only once it has something to show.

use std::sync::Arc;

use crate::{
    spec::experiment::Experiment,
    trace::tokens::{AnswerToken, said},
    ui::store::run::{Mean, RowView, Run},
};

/// A run that was asked for and could not be had.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What was asked.
    pub experiment: Experiment,
    /// Why not; `None` when it was cancelled.
    pub why: Option<String>,
}

/// One slot, to look at.
#[derive(Clone, Copy, Debug)]
pub struct Lane<'a> {
    /// The run under way.
    pub running: Option<&'a Run>,
    /// The last complete run.
    pub done: Option<&'a Run>,
    /// The run that was asked for and could not be had.
    pub refused: Option<&'a Refused>,
}

impl<'a> Lane<'a> {
    /// The run whose prompt and facts are on show.
    pub fn view(&self) -> Option<&'a Run> {
        self.begun().or(self.done).or(self.running.filter(|run| !run.prompt.is_empty()))
    }

    /// Whether a run is under way.
    pub fn busy(&self) -> bool {
        self.running.is_some()
    }

    /// Whether some of what is on show is older than what was asked for.
    pub fn stale(&self) -> bool {
        self.busy() && self.filler().is_some()
    }

    /// The last complete run.
    pub fn done(&self) -> Option<&'a Run> {
        self.done
    }

    /// The run that was asked for, when nothing is owed any more.
    pub fn complete(&self) -> Option<&'a Run> {
        if self.busy() { None } else { self.done }
    }

    /// Why the last run asked for could not be had.
    pub fn refusal(&self) -> Option<&'a str> {
        self.refused.map(|refused| refused.why.as_deref().unwrap_or("cancelled"))
    }

    /// Whether the last run asked for was cancelled before it had anything to show.
    pub fn cancelled(&self) -> bool {
        self.refused.is_some_and(|refused| refused.why.is_none())
    }

    /// Answer tokens on show; `true` marks those of the run asked for, `false` stale ones.
    pub fn tokens(&self) -> Vec<(&'a AnswerToken, bool)> {
        let fresh = self.fresh().map_or(&[][..], |run| &run.answer);
        let stale = match self.busy() {
            true => self.filler().map_or(&[][..], |run| &run.answer),
            false => &[],
        };
        fresh.iter().map(|t| (t, true)).chain(stale.iter().skip(fresh.len()).map(|t| (t, false))).collect()
    }

    /// One answer token on show.
    pub fn token(&self, at: usize) -> Option<&'a AnswerToken> {
        let fresh = self.fresh().and_then(|run| run.answer.get(at));
        fresh.or_else(|| self.filler()?.answer.get(at))
    }

    /// The row of answer token `at`, and whether it is of the run asked for.
    pub fn row(&self, at: usize) -> Option<(&'a Arc<RowView>, bool)> {
        if let Some(row) = self.fresh().and_then(|run| run.rows.get(at)) {
            return row.as_ref().map(|row| (row, true));
        }
        self.filler()?.rows.get(at)?.as_ref().map(|row| (row, false))
    }

    /// The mean of the whole answer: of the complete run while it stands in for what is still to come, so
    /// that it does not jump back to that of a single word whenever something is asked.
    pub fn mean(&self) -> Option<&'a Mean> {
        let stand_in = self.filler().filter(|_| self.busy());
        stand_in.or_else(|| self.fresh()).map(|run| &run.mean).filter(|mean| mean.rows > 0)
    }

    /// The answer on show as text, without the end token.
    pub fn answer_text(&self) -> String {
        said(self.tokens().into_iter().map(|(token, _)| token))
    }

    /// The run under way, once it has something to show.
    fn begun(&self) -> Option<&'a Run> {
        self.running.filter(|run| run.has_answer())
    }

    /// The complete run that stands in for tokens still to come.
    fn filler(&self) -> Option<&'a Run> {
        let done = self.done?;
        match self.begun() {
            Some(run) => (run.same_prompt(done) && done.answer.len() > run.answer.len()).then_some(done),
            None => Some(done),
        }
    }

    fn fresh(&self) -> Option<&'a Run> {
        match self.running {
            Some(_) => self.begun(),
            None => self.done,
        }
    }
}
