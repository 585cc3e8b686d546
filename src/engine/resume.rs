//! An intervention that starts from a kept run: at its lowest layer, on the rows that it can change.
//!
//! A [`Baseline`] holds the input of every block and all keys and values. Below the lowest touched
//! layer nothing changes, and no row before the first touched one can see the change: the rows from
//! there on are run through the layers from there on, the whole baseline answer among them, a long one in
//! parts. That scores the baseline's answer under the intervention (teacher-forced). The new answer
//! follows the baseline's for as long as the model would have said the same, and is generated from
//! where it would not (free-running). On the CPU the results are those of a run from scratch to the last
//! bit; elsewhere they differ by the rounding of kernels that take one row or many.
//!
//! Residuals are `[rows, width]`, rows counted over prompt and answer.

use std::time::Instant;

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::{
    engine::{
        answer::{Answer, blank, finish, kept, with_text},
        baseline::Baseline,
        change::Change,
        decoding::{Decoding, DecodingError, Row, host, parts},
        error::RunError,
        event::{RunEvent, Told},
        load::Engine,
        logits::{less_norm, norm},
        resolve::Asked,
        sampling::choose,
        see::Seen,
        watch::{Gathered, Watch},
    },
    model::hooks::Hooks,
    progress::{Cancel, Progress, Stage},
    spec::{
        experiment::{Experiment, Intervention},
        record::Kept,
    },
    trace::{
        diff::common,
        flow::{RowFlow, SpanFlow},
        pattern::{PatternRow, StoredRow},
        report::{Effect, Outcome, Start},
        run::{Stop, Trace},
        tokens::visual,
    },
};

/// A baseline's answer under an intervention.
#[derive(Clone, Debug)]
pub struct Scored {
    /// Where it started; `None` when the intervention touches nothing.
    pub start: Option<Start>,
    /// The baseline's tokens with the log probabilities and attention that they have now.
    pub trace: Trace,
    /// One a token.
    pub effects: Vec<Effect>,
}

/// Runs an intervention from a kept, uncut run about the same images: the answer that the model gives under
/// it, and what it did to the baseline's.
///
/// `on` hears of the baseline's tokens as they are scored, then of the new answer's. An intervention that
/// touches nothing returns the stored baseline. A cancelled one returns what there was, its answer marked so.
///
/// # Errors
/// [`RunError`].
pub fn intervene(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    cancel: &Cancel,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<(Trace, Option<Outcome>), RunError> {
    on(RunEvent::Prompt(&baseline.prompt));
    let cancelled = || {
        let mut trace = blank(engine, &baseline.prompt, Kept::default(), images);
        trace.stop = Stop::Cancelled;
        Ok((trace, None))
    };
    let change = match change_of(engine, baseline, intervention, images, cancel, on) {
        Err(e) if e.is_cancelled() => return cancelled(),
        other => other?,
    };
    let experiment = Experiment { intervention: intervention.clone(), ..baseline.experiment.clone() };
    let mut resumed = Resumed::new(engine, baseline, &experiment, &change, cancel)?;
    let mut forced = match resumed.score(true) {
        Err(e) if e.is_cancelled() => return cancelled(),
        other => other?,
    };
    on(RunEvent::Start(resumed.start));
    let effects = resumed.effects(&forced);
    let scored = resumed.forced_trace(&mut forced, images, &effects, on)?;
    let answer = resumed.free(forced, &scored, images, cancel, on)?;
    let common = common(&baseline.trace.ids(), &answer.ids());
    let outcome = Outcome { start: resumed.start, forced: scored, effects, common, control: None };
    Ok((answer, Some(outcome)))
}

/// Only the teacher-forced half of [`intervene`]: the baseline's answer under an intervention.
///
/// # Errors
/// [`RunError`]; also when cancelled.
pub fn score(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<Scored, RunError> {
    let change = change_of(engine, baseline, intervention, images, cancel, &mut |_| {})?;
    let experiment = Experiment { intervention: intervention.clone(), ..baseline.experiment.clone() };
    let mut resumed = Resumed::new(engine, baseline, &experiment, &change, cancel)?;
    let mut forced = resumed.score(true)?;
    let effects = resumed.effects(&forced);
    let trace = resumed.forced_trace(&mut forced, images, &effects, &mut |_| {})?;
    Ok(Scored { start: resumed.start, trace, effects })
}

/// What an intervention does to the baseline's answer, token by token; nothing is recorded.
///
/// # Errors
/// [`RunError`]; also when cancelled.
pub fn effects(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<Vec<Effect>, RunError> {
    let change = change_of(engine, baseline, intervention, images, cancel, &mut |_| {})?;
    effects_of(engine, baseline, intervention, &change, cancel)
}

/// How many visual tokens of a kept run an intervention's ablations overwrite.
///
/// # Errors
/// As [`effects`].
pub fn overwritten(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<usize, RunError> {
    let change = change_of(engine, baseline, intervention, images, cancel, &mut |_| {})?;
    Ok(change.overwritten.iter().map(|overwritten| overwritten.positions.len()).sum())
}

/// What an intervention changes on a kept run.
///
/// # Errors
/// [`RunError`]; [`RunError::Needs`] for a run that something was done to, or that was cancelled.
pub(super) fn change_of(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    images: &[&Seen],
    cancel: &Cancel,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Change, RunError> {
    let needs = |needs: &str| RunError::Needs { what: "an intervention", needs: needs.to_string() };
    if !baseline.experiment.intervention.is_empty() {
        return Err(needs("an uncut run to start from"));
    }
    cancel.check().map_err(DecodingError::from)?;
    if baseline.trace.stop == Stop::Cancelled {
        return Err(needs("a run that came to its end: this one was cancelled"));
    }
    let mut tell = |progress: Progress| on(RunEvent::Progress(progress));
    let (prompt, max_new, seed) = (&baseline.prompt, baseline.max_new, baseline.experiment.seed);
    let asked = Asked { engine, prompt, images, max_new, seed, cancel };
    asked.change(intervention, Some(baseline.uncut(&mut tell)))
}

/// What a change does to a kept run's answer; nothing is recorded.
///
/// # Errors
/// [`RunError`]; also when cancelled.
pub(super) fn effects_of(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    change: &Change,
    cancel: &Cancel,
) -> Result<Vec<Effect>, RunError> {
    let mut experiment = Experiment { intervention: intervention.clone(), ..baseline.experiment.clone() };
    experiment.record.pattern.none = true;
    let mut resumed = Resumed::new(engine, baseline, &experiment, change, cancel)?;
    let forced = resumed.score(false)?;
    Ok(resumed.effects(&forced))
}

/// A resumed run under way.
struct Resumed<'a> {
    engine: &'a Engine,
    baseline: &'a Baseline,
    experiment: &'a Experiment,
    change: &'a Change,
    decoding: Decoding<'a>,
    start: Option<Start>,
    begun: Instant,
}

/// The baseline's answer under the intervention.
struct Forced {
    /// Place in the answer of the first row that ran.
    first: usize,
    /// `[vocabulary]` of each row that ran, oldest first.
    logits: Vec<Vec<f32>>,
    /// Of each: what makes log probabilities of it.
    norms: Vec<f64>,
    /// Of each: its attention in the layers that ran, until the trace takes it; `None` where it is not kept.
    pattern: Vec<Option<StoredRow>>,
    /// What all rows give to each span, those that did not run too; empty where it was not asked for.
    flow: RowFlow,
}

impl Forced {
    /// Place among the rows that ran; `None` for rows that cannot have changed.
    fn at(&self, s: usize) -> Option<usize> {
        s.checked_sub(self.first).filter(|&at| at < self.logits.len())
    }
}

impl<'a> Resumed<'a> {
    fn new(
        engine: &'a Engine,
        baseline: &'a Baseline,
        experiment: &'a Experiment,
        change: &'a Change,
        cancel: &'a Cancel,
    ) -> Result<Self, RunError> {
        let n_rows = baseline.prompt.len() + baseline.max_new - 1;
        let cache = baseline.cache.clone();
        let decoding = Decoding::from_cache(&engine.vlm, &change.cuts, n_rows, cancel, cache)
            .map_err(|e| with_text(e, &experiment.intervention.knockouts))?;
        let begun = Instant::now();
        Ok(Resumed { engine, baseline, experiment, change, decoding, start: None, begun })
    }

    /// Scores the baseline's answer; `flow`: also what all rows give to each span.
    fn score(&mut self, flow: bool) -> Result<Forced, RunError> {
        let (baseline, answer) = (self.baseline, self.baseline.trace.answer.len());
        let n_rows = baseline.n_rows();
        let mut forced = Forced {
            first: answer,
            logits: vec![],
            norms: vec![],
            pattern: vec![],
            flow: if flow { baseline.flow.clone() } else { RowFlow::default() },
        };
        let Some((layer, row)) = self.change.start(n_rows).filter(|_| answer > 0) else { return Ok(forced) };
        let (layer, resid) = baseline.stored(layer)?;
        let rows = n_rows - row;
        let resid = resid.narrow(0, row, rows);
        let predicting = answer.min(rows);
        forced.first = answer - predicting;
        self.start = Some(Start { layer, row, rows });
        let watch = Watch::new(&self.kept()?, &self.engine.info, &baseline.prompt.tokens);
        let mut ran = Gathered::new(self.engine.info.n_layers - layer);
        // What overwrites rows touches layer 0.
        let visual = visual(&baseline.prompt.tokens);
        let input = self.change.overwrite(baseline.rows(resid, row), row, &visual);
        for part in parts(rows, predicting, self.decoding.together(row + rows)) {
            let n = part.end - part.start.max(rows - predicting);
            let first = forced.first + forced.logits.len();
            let hooks = watch.hooks(part.len(), first, n);
            let groups = hooks.groups.filter(|_| flow);
            let hooks = Hooks { groups, ..hooks };
            let at = row + part.start;
            let passed = self.decoding.rows_from(layer, at, input.part(part), [n, n], hooks)?;
            ran.push(passed.groups)?;
            for (s, Row { logits, pattern }) in (first..).zip(passed.rows) {
                forced.pattern.push(self.pattern(s, pattern)?);
                forced.logits.push(logits);
            }
        }
        self.decoding.check()?;
        forced.flow = ran.over(forced.flow, layer, row)?;
        forced.norms = forced.logits.par_iter().map(|row| norm(row)).collect();
        Ok(forced)
    }

    fn effects(&self, forced: &Forced) -> Vec<Effect> {
        let effect = |(s, &id): (usize, &u32)| {
            let (before, norm) = (&self.baseline.logits[s], self.baseline.norms[s]);
            Effect::new(&less_norm(before, norm), &self.logprobs(forced, s), id)
        };
        self.baseline.trace.ids().par_iter().enumerate().map(effect).collect()
    }

    /// `[vocabulary]` logits at place `s`, and their norm: of the scored pass where it ran, of the baseline
    /// elsewhere.
    fn said<'b>(&'b self, forced: &'b Forced, s: usize) -> (&'b [f32], f64) {
        match forced.at(s) {
            Some(at) => (&forced.logits[at], forced.norms[at]),
            None => (&self.baseline.logits[s], self.baseline.norms[s]),
        }
    }

    /// `[vocabulary]` log probabilities at place `s`.
    fn logprobs(&self, forced: &Forced, s: usize) -> Vec<f32> {
        let (logits, norm) = self.said(forced, s);
        less_norm(logits, norm)
    }

    fn kept(&self) -> Result<Kept, RunError> {
        kept(&self.engine.folder, self.experiment, self.baseline.max_new)
    }

    /// The baseline's attention of answer row `s`, if that was kept.
    fn old(&self, s: usize) -> Option<PatternRow> {
        let at = self.baseline.trace.kept.rows.binary_search(&s).ok()?;
        Some(self.baseline.trace.pattern[at].row())
    }

    /// The attention of answer row `s`, of which `new` ran: what lies below the first layer that did is the
    /// baseline's.
    fn pattern(&self, s: usize, new: Option<Tensor<3>>) -> Result<Option<StoredRow>, DecodingError> {
        let (Some(new), Some(old)) = (new, self.old(s)) else { return Ok(None) };
        let layer = self.start.map_or(0, |start| start.layer);
        let below = self.baseline.trace.kept.layers.iter().filter(|&&l| l < layer).count();
        let mut data = Vec::with_capacity(old.data.len());
        data.extend_from_slice(&old.data[..below * old.n_heads * old.n_keys]);
        data.extend(host(new)?);
        let row = PatternRow { data: data.into(), ..old };
        Ok(Some(StoredRow::new(row, self.experiment.record.half)))
    }

    /// The baseline's tokens with their new scores.
    fn forced_trace(
        &self,
        forced: &mut Forced,
        images: &[&Seen],
        effects: &[Effect],
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Trace, RunError> {
        let baseline = self.baseline;
        let kept = baseline.trace.kept.clone();
        let mut trace = blank(self.engine, &baseline.prompt, kept, images);
        let mut quiet = |_: RunEvent<'_>| {};
        let mut answer = Answer::begin(self.engine, self.experiment, &mut trace, &mut quiet);
        // Rows that did not run come first.
        let mut ran = std::mem::take(&mut forced.pattern).into_iter();
        for (s, (id, effect)) in baseline.trace.ids().into_iter().zip(effects).enumerate() {
            let new = forced.at(s).and_then(|_| ran.next().flatten());
            let row = new.map(|row| row.row()).or_else(|| self.old(s));
            answer.take(id, &self.logprobs(forced, s), Told::Nothing, row.as_ref());
            if let Some(token) = answer.trace.answer.last() {
                on(RunEvent::Scored { token, effect, row: row.as_ref() });
            }
        }
        if self.start.is_none() {
            trace = baseline.trace.clone();
        } else {
            trace.stop = Stop::Forced;
            trace.flow = Some(SpanFlow::of(&forced.flow));
            trace.timing.prefill = self.begun.elapsed();
        }
        self.report(&mut trace);
        Ok(trace)
    }

    /// The new answer; `scored` is the baseline's under the intervention.
    fn free(
        &mut self,
        forced: Forced,
        scored: &Trace,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Trace, RunError> {
        let (baseline, experiment) = (self.baseline, self.experiment);
        let mut trace = blank(self.engine, &baseline.prompt, self.kept()?, images);
        trace.timing.prefill = self.begun.elapsed();
        on(RunEvent::Progress(Progress::begun(Stage::Decode)));
        let mut answer = Answer::begin(self.engine, experiment, &mut trace, on);
        answer.flow = Gathered::after(&forced.flow);
        let mut stop = baseline.trace.stop;
        for (s, old) in baseline.trace.ids().into_iter().enumerate() {
            if cancel.is_cancelled() {
                // What follows was not said; what the scored pass ran of it does not count.
                let rows = baseline.prompt.len() + s.saturating_sub(1);
                self.decoding.truncate(rows);
                answer.flow.truncate(rows)?;
                stop = Stop::Cancelled;
                break;
            }
            let (logits, _) = self.said(&forced, s);
            // An untouched baseline is returned as it is; a forced one need not be what the model says.
            let new = match self.start {
                None => old,
                Some(_) => choose(logits, experiment.sampling, experiment.seed, s) as u32,
            };
            // The row that predicted it is the one that was scored.
            let row = scored.kept.rows.binary_search(&s).ok().map(|at| scored.pattern[at].row());
            let told = row.as_ref().map_or(Told::Nothing, |_| Told::AsScored);
            answer.take(new, &self.logprobs(&forced, s), told, row.as_ref());
            let ends = self.start.is_some() && self.engine.folder.is_end(new);
            if new == old && !ends {
                continue;
            }
            // The rows of the baseline's further tokens are no part of this answer.
            self.decoding.truncate(baseline.prompt.len() + s);
            answer.flow.truncate(baseline.prompt.len() + s)?;
            stop = if ends { Stop::End } else { self.part(&mut answer, new, s)? };
            break;
        }
        self.decoding.check()?;
        let flow = answer.flow.rows(&baseline.prompt.tokens)?;
        trace.flow = Some(SpanFlow::of(&flow));
        trace.stop = stop;
        self.report(&mut trace);
        Ok(trace)
    }

    /// Goes on by itself where the new answer's token `new` at place `s` is not the baseline's.
    fn part(&mut self, answer: &mut Answer<'_, '_>, new: u32, s: usize) -> Result<Stop, RunError> {
        let baseline = self.baseline;
        let next = self.decoding.text(self.engine.vlm.decoder.embed(&[new]));
        match answer.go_on(&mut self.decoding, next, baseline.max_new, s + 1) {
            Ok(Stop::MaxNew) if baseline.max_new < baseline.experiment.length() => Ok(Stop::Context),
            Err(DecodingError::Cancelled(_)) => Ok(Stop::Cancelled),
            other => Ok(other?),
        }
    }

    fn report(&self, trace: &mut Trace) {
        finish(trace, &self.experiment.intervention.knockouts, &self.decoding);
    }
}
