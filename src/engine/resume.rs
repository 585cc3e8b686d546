//! An intervention that starts from a kept run: at its lowest layer, on the rows that it can change.
//!
//! A [`Baseline`] holds the input of every block and all keys and values. Below the lowest touched
//! layer nothing changes, and no row before the first touched one can see the change: the rows from
//! there on are run through the layers from there on, the whole baseline answer among them, in one
//! pass. That scores the baseline's answer under the intervention (teacher-forced). The new answer
//! follows the baseline's for as long as the model would have said the same, and is generated from
//! where it would not (free-running). The results are those of a run from scratch, but for the rounding
//! of kernels that differ between one row and many.
//!
//! Residuals are `[rows, width]`, rows counted over prompt and answer.

use std::{ops::Range, time::Instant};

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;
use serde::Serialize;

use crate::{engine::{answer::{Answer, Baseline, Watch, with_text}, decoding::{Decoding, DecodingError, Row, host, log_softmax}, load::{Engine, RunError, RunEvent, Seen}, masks, patches as patch_sets, resolve::{Change, Uncut}, sampling::choose}, model::{decoder::{Forward, Step}, hooks::{Hooks, Keep}, kv_cache::KvCache}, progress::Cancel, spec::{experiment::{Intervention, Pattern, RunSpec}, sets::Numbers}, trace::{diff::common, run::{Kept, PatternRow, Stop, Trace}}};

/// What an intervention does to a baseline.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Where it started; `None` when it touches nothing and the baseline was returned.
    pub start: Option<Start>,
    /// The baseline's answer, scored under the intervention.
    pub forced: Trace,
    /// One a baseline token.
    pub effects: Vec<Effect>,
    /// The answer that the model gives under the intervention.
    pub free: Trace,
    /// For each baseline token and each new token: whether it is part of what both answers share.
    pub common: (Vec<bool>, Vec<bool>),
}

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

/// Where a resumed run started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// First layer that ran.
    pub layer: usize,
    /// First row that ran.
    pub row: usize,
    /// Rows that ran in one pass.
    pub rows: usize,
}

/// What an intervention does to one token of the baseline's answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Natural log probability in the baseline.
    pub baseline: f32,
    /// Under the intervention.
    pub logprob: f32,
    /// `logprob - baseline`.
    pub delta: f32,
    /// How many tokens are likelier under the intervention.
    pub rank: usize,
    /// Kullback-Leibler divergence of the intervention's distribution from the baseline's, in nats.
    pub kl: f32,
}

impl Effect {
    /// Compares two rows of `[vocabulary]` log probabilities at a baseline token.
    pub fn new(p: &[f32], q: &[f32], id: u32) -> Self {
        let of = |logprobs: &[f32]| logprobs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let (before, after) = (of(p), of(q));
        let terms = p.iter().zip(q).map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q)));
        Effect {
            baseline: before,
            logprob: after,
            delta: after - before,
            rank: q.iter().filter(|&&other| other > after).count(),
            kl: terms.sum::<f64>() as f32,
        }
    }
}

/// The same intervention on random patches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Control {
    /// Sum of [`Effect::delta`] over the answer: of the intervention, then of every draw.
    pub delta: Spread,
    /// Mean of [`Effect::kl`] over the answer, likewise.
    pub kl: Spread,
}

/// One figure of an intervention beside its random draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Of the intervention itself.
    pub intervention: f32,
    /// One a draw.
    pub draws: Vec<f32>,
    /// Their mean.
    pub mean: f32,
    /// Their standard deviation (of a sample: over n - 1; 0 for one draw).
    pub sd: f32,
}

impl Spread {
    fn new(intervention: f32, draws: Vec<f32>) -> Self {
        let n = draws.len().max(1) as f32;
        let mean = draws.iter().sum::<f32>() / n;
        let squares: f32 = draws.iter().map(|d| (d - mean).powi(2)).sum();
        let sd = (squares / (n - 1.0).max(1.0)).sqrt();
        Spread { intervention, draws, mean, sd }
    }
}

/// Sum of the changes in log probability, and mean divergence.
pub fn totals(effects: &[Effect]) -> (f32, f32) {
    let kl: f32 = effects.iter().map(|e| e.kl).sum();
    (effects.iter().map(|e| e.delta).sum(), kl / effects.len().max(1) as f32)
}

impl Outcome {
    /// Nothing but the fact that it was stopped.
    fn cancelled(engine: &Engine, baseline: &Baseline, images: &[&Seen]) -> Self {
        let mut trace = engine.blank(&baseline.prompt, Kept::default(), images);
        trace.stop = Stop::Cancelled;
        let common = (vec![false; baseline.trace.answer.len()], Vec::new());
        Outcome { start: None, forced: trace.clone(), effects: Vec::new(), free: trace, common }
    }
}

impl Baseline {
    /// Answer token ids.
    pub fn ids(&self) -> Vec<u32> {
        self.trace.answer.iter().map(|t| t.id).collect()
    }

    /// Rows that ran: prompt, and answer but for its last token.
    pub fn n_rows(&self) -> usize {
        (self.prompt.len() + self.trace.answer.len()).saturating_sub(1)
    }

    /// What sets are computed from.
    pub(crate) fn uncut<'a>(&'a self, on_step: &'a mut dyn FnMut(usize, usize)) -> Uncut<'a> {
        Uncut { trace: &self.trace, by_gradient: &self.by_gradient, on_step }
    }

    /// The stored residual nearest below a layer, widened.
    fn stored(&self, layer: usize) -> Option<(usize, Tensor<2>)> {
        let (&at, resid) = self.resid_pre.range(..=layer).next_back()?;
        Some((at, resid.clone().cast(DType::F32)))
    }
}

impl Engine {
    /// Runs an intervention from a kept, uncut run about the same images.
    ///
    /// `on` hears of the new answer's tokens. An intervention that touches nothing returns the stored
    /// baseline. A cancelled one returns what there was, its `free` trace marked so.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn intervene(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Outcome, RunError> {
        on(RunEvent::Prompt(&baseline.prompt));
        let change = match self.change_of(baseline, intervention, images, cancel, on) {
            Err(RunError::Decoding(DecodingError::Cancelled(_))) => {
                return Ok(Outcome::cancelled(self, baseline, images));
            }
            other => other?,
        };
        let spec = RunSpec { intervention: intervention.clone(), ..baseline.spec.clone() };
        let mut resumed = Resumed::new(self, baseline, &spec, &change, cancel)?;
        let forced = match resumed.score() {
            Err(RunError::Decoding(DecodingError::Cancelled(_))) => {
                return Ok(Outcome::cancelled(self, baseline, images));
            }
            other => other?,
        };
        let effects = resumed.effects(&forced);
        let forced_trace = resumed.forced_trace(&forced, images)?;
        let free = resumed.free(forced, images, cancel, on)?;
        let ids = |trace: &Trace| trace.answer.iter().map(|t| t.id).collect::<Vec<u32>>();
        let common = common(&baseline.ids(), &ids(&free));
        Ok(Outcome { start: resumed.start, forced: forced_trace, effects, free, common })
    }

    /// Only the teacher-forced half of [`Engine::intervene`]: the baseline's answer under an
    /// intervention.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn score(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Scored, RunError> {
        let change = self.change_of(baseline, intervention, images, cancel, &mut |_| {})?;
        let spec = RunSpec { intervention: intervention.clone(), ..baseline.spec.clone() };
        let mut resumed = Resumed::new(self, baseline, &spec, &change, cancel)?;
        let forced = resumed.score()?;
        let (trace, effects) = (resumed.forced_trace(&forced, images)?, resumed.effects(&forced));
        Ok(Scored { start: resumed.start, trace, effects })
    }

    /// Scores the same intervention on as many random visual tokens, `draws` times.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Needs`] when no visual token is touched.
    pub fn control(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        images: &[&Seen],
        draws: usize,
        cancel: &Cancel,
    ) -> Result<Control, RunError> {
        let change = self.change_of(baseline, intervention, images, cancel, &mut |_| {})?;
        let visual = patch_sets::visual(&baseline.prompt.tokens);
        let random = |draw: u64| {
            let needs = || "an intervention on visual tokens".to_string();
            let random = change.at_random(&visual, baseline.spec.seed, draw);
            random.ok_or_else(|| RunError::Needs { what: "a control on random patches", needs: needs() })
        };
        random(0)?;
        let (mut deltas, mut kls) = (Vec::new(), Vec::new());
        for draw in 1..=draws as u64 {
            let random = random(draw)?;
            let (delta, kl) = totals(&self.score_change(baseline, intervention, &random, cancel)?);
            deltas.push(delta);
            kls.push(kl);
        }
        let (delta, kl) = totals(&self.score_change(baseline, intervention, &change, cancel)?);
        Ok(Control { delta: Spread::new(delta, deltas), kl: Spread::new(kl, kls) })
    }

    fn change_of(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Change, RunError> {
        if !baseline.spec.intervention.is_empty() {
            let needs = "an uncut run to start from".to_string();
            return Err(RunError::Needs { what: "an intervention", needs });
        }
        cancel.check().map_err(DecodingError::from)?;
        if baseline.trace.stop == Stop::Cancelled {
            let needs = "a run that came to its end: this one was cancelled".to_string();
            return Err(RunError::Needs { what: "an intervention", needs });
        }
        let mut on_step = |done: usize, total: usize| on(RunEvent::Gradients { done, total });
        let (prompt, uncut) = (&baseline.prompt, Some(baseline.uncut(&mut on_step)));
        self.change(intervention, prompt, images, baseline.max_new, baseline.spec.seed, uncut, cancel)
    }

    fn score_change(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        change: &Change,
        cancel: &Cancel,
    ) -> Result<Vec<Effect>, RunError> {
        // Nothing is recorded: only the scores are asked for.
        let mut spec = RunSpec { intervention: intervention.clone(), ..baseline.spec.clone() };
        spec.record.pattern.none = true;
        let mut resumed = Resumed::new(self, baseline, &spec, change, cancel)?;
        let forced = resumed.score()?;
        Ok(resumed.effects(&forced))
    }

    /// `[rows, width]`: the input of a layer in a kept run, or the last block's output for
    /// `layer = n_layers`; computed from the nearest stored one below.
    ///
    /// # Errors
    /// [`RunError::Needs`] when no residuals were kept; [`RunError::Decoding`].
    pub fn resid_pre(
        &self,
        baseline: &Baseline,
        layer: usize,
        cancel: &Cancel,
    ) -> Result<Tensor<2>, RunError> {
        if layer >= self.info.n_layers {
            return Ok(baseline.resid_post.clone().cast(DType::F32));
        }
        let (at, resid) = baseline.stored(layer).ok_or_else(needs_residuals)?;
        if at == layer {
            return Ok(resid);
        }
        Ok(self.rerun(baseline, at..layer, resid, Hooks::default(), cancel)?.resid)
    }

    /// `[rows, rows]`, row-major: the whole attention pattern of one layer and head of a kept run,
    /// computed anew from queries and keys.
    ///
    /// # Errors
    /// [`RunError`]: a layer or head that does not exist, or no residuals.
    pub fn square(
        &self,
        baseline: &Baseline,
        layer: usize,
        head: usize,
        cancel: &Cancel,
    ) -> Result<Vec<f32>, RunError> {
        let kept = Pattern {
            layers: Numbers::range(layer, layer),
            heads: Numbers::range(head, head),
            ..Default::default()
        };
        let what = format!("the square of layer {layer}, head {head}");
        kept.resolve(self.info.n_layers, self.info.n_heads, 1)
            .map_err(|source| RunError::Choice { what, source })?;
        let resid = self.resid_pre(baseline, layer, cancel)?;
        let rows = Keep::rows(0..resid.dims()[0]);
        let pattern = Keep { heads: Some([head].into()), ..rows };
        let hooks = Hooks { pattern, ..Hooks::default() };
        let recorded = self.rerun(baseline, layer..layer + 1, resid, hooks, cancel)?.recorded;
        let square = recorded.pattern.ok_or_else(needs_residuals)?;
        Ok(host(square)?)
    }

    /// Runs some layers again, all rows, under what was in force.
    fn rerun(
        &self,
        baseline: &Baseline,
        layers: Range<usize>,
        resid: Tensor<2>,
        mut hooks: Hooks,
        cancel: &Cancel,
    ) -> Result<Forward, RunError> {
        let rows = resid.dims()[0];
        hooks.blocked = masks::for_pass(&baseline.change.cuts, 0, rows, self.info.n_layers);
        let positions: Vec<u32> = (0..rows as u32).collect();
        let step = Step { resid, positions: &positions, layers, read: rows };
        let forward = self.vlm.decoder.forward(step, &mut KvCache::default(), &hooks, cancel);
        Ok(forward.map_err(DecodingError::from)?)
    }
}

fn needs_residuals() -> RunError {
    RunError::Needs { what: "this", needs: "residuals: keep them of every, or every few, layers".to_string() }
}

/// A resumed run under way.
struct Resumed<'a> {
    engine: &'a Engine,
    baseline: &'a Baseline,
    spec: &'a RunSpec,
    change: &'a Change,
    decoding: Decoding<'a>,
    start: Option<Start>,
    begun: Instant,
}

/// The baseline's answer under the intervention.
struct Forced {
    /// Place in the answer of the first row that ran.
    first: usize,
    /// The rows that ran, oldest first.
    rows: Vec<Row>,
    /// `[vocabulary]` log probabilities of each.
    logprobs: Vec<Vec<f32>>,
}

impl Forced {
    /// Place among the rows that ran; `None` for rows that cannot have changed.
    fn at(&self, s: usize) -> Option<usize> {
        s.checked_sub(self.first).filter(|&at| at < self.rows.len())
    }
}

impl<'a> Resumed<'a> {
    fn new(
        engine: &'a Engine,
        baseline: &'a Baseline,
        spec: &'a RunSpec,
        change: &'a Change,
        cancel: &'a Cancel,
    ) -> Result<Self, RunError> {
        let n_rows = baseline.prompt.len() + baseline.max_new - 1;
        let cache = baseline.cache.clone();
        let decoding = Decoding::from_cache(&engine.vlm, &change.cuts, n_rows, cancel, cache)
            .map_err(|e| with_text(e, &spec.intervention.knockouts))?;
        Ok(Resumed { engine, baseline, spec, change, decoding, start: None, begun: Instant::now() })
    }

    /// The pass that scores the baseline's answer.
    fn score(&mut self) -> Result<Forced, RunError> {
        let (baseline, answer) = (self.baseline, self.baseline.trace.answer.len());
        let n_rows = baseline.n_rows();
        let mut forced = Forced { first: answer, rows: Vec::new(), logprobs: Vec::new() };
        if let Some((layer, row)) = self.change.start(n_rows).filter(|_| answer > 0) {
            let (layer, resid) = baseline.stored(layer).ok_or_else(needs_residuals)?;
            let resid = resid.narrow(0, row, n_rows - row);
            let visual = patch_sets::visual(&baseline.prompt.tokens);
            let resid = if layer == 0 { self.change.overwrite(resid, row, &visual) } else { resid };
            let rows = n_rows - row;
            let predicting = answer.min(rows);
            forced.first = answer - predicting;
            let watch = Watch::new(&self.kept()?, &self.engine.info);
            let pattern = watch.keep(rows, forced.first, predicting);
            let hooks = Hooks { pattern, ..Hooks::default() };
            forced.rows = self.decoding.rows_from(layer, row, resid, [predicting; 2], hooks)?.rows;
            forced.logprobs = forced.rows.par_iter().map(|row| log_softmax(&row.logits)).collect();
            self.start = Some(Start { layer, row, rows });
        }
        Ok(forced)
    }

    fn effects(&self, forced: &Forced) -> Vec<Effect> {
        let effect = |(s, &id): (usize, &u32)| {
            let before = &self.baseline.logprobs[s];
            Effect::new(before, forced.at(s).map_or(before, |at| &forced.logprobs[at]), id)
        };
        self.baseline.ids().par_iter().enumerate().map(effect).collect()
    }

    fn kept(&self) -> Result<Kept, RunError> {
        self.engine.kept(self.spec, self.baseline.max_new)
    }

    /// The attention of answer row `s`: what lies below the first layer that ran is the baseline's.
    fn pattern(&self, s: usize, row: Option<&Row>) -> Result<Option<PatternRow>, DecodingError> {
        let kept = &self.baseline.trace.kept;
        let Ok(at) = kept.rows.binary_search(&s) else { return Ok(None) };
        let old = self.baseline.trace.pattern[at].row();
        let Some(new) = row.and_then(|row| row.pattern.clone()) else { return Ok(Some(old)) };
        let layer = self.start.map_or(0, |start| start.layer);
        let below = kept.layers.iter().filter(|&&l| l < layer).count();
        let mut data = old.data[..below * old.n_heads * old.n_keys].to_vec();
        data.extend(host(new)?);
        Ok(Some(PatternRow { data: data.into(), ..old }))
    }

    /// The baseline's tokens with their new scores.
    fn forced_trace(&self, forced: &Forced, images: &[&Seen]) -> Result<Trace, RunError> {
        let baseline = self.baseline;
        if self.start.is_none() {
            let mut trace = baseline.trace.clone();
            self.report(&mut trace);
            return Ok(trace);
        }
        let mut trace = self.engine.blank(&baseline.prompt, baseline.trace.kept.clone(), images);
        let mut quiet = |_: RunEvent<'_>| {};
        let mut answer = Answer::begin(self.engine, self.spec, &mut trace, &mut quiet);
        for (s, id) in baseline.ids().into_iter().enumerate() {
            self.again(&mut answer, forced, s, id)?;
        }
        trace.stop = Stop::Forced;
        trace.timing.prefill = self.begun.elapsed();
        self.report(&mut trace);
        Ok(trace)
    }

    /// Takes up token `id` at place `s`, from the scored pass where it ran and the baseline elsewhere.
    fn again(
        &self,
        answer: &mut Answer<'_, '_>,
        forced: &Forced,
        s: usize,
        id: u32,
    ) -> Result<(), DecodingError> {
        let at = forced.at(s);
        let logprobs = at.map_or(&self.baseline.logprobs[s], |at| &forced.logprobs[at]);
        let pattern = self.pattern(s, at.map(|at| &forced.rows[at]))?;
        answer.take(id, logprobs, pattern, None);
        Ok(())
    }

    /// The new answer.
    fn free(
        &mut self,
        forced: Forced,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Trace, RunError> {
        let baseline = self.baseline;
        let (spec, seed) = (self.spec, self.spec.seed);
        let mut trace = self.engine.blank(&baseline.prompt, self.kept()?, images);
        trace.timing.prefill = self.begun.elapsed();
        on(RunEvent::Prefilled(trace.timing.prefill));
        let mut answer = Answer::begin(self.engine, spec, &mut trace, on);
        let mut stop = baseline.trace.stop;
        for (s, old) in baseline.ids().into_iter().enumerate() {
            if cancel.is_cancelled() {
                // What follows was not said; what the scored pass ran of it does not count.
                self.decoding.truncate(baseline.prompt.len() + s.saturating_sub(1));
                stop = Stop::Cancelled;
                break;
            }
            let logits = forced.at(s).map_or(&baseline.logits[s], |at| &forced.rows[at].logits);
            // An untouched baseline is returned as it is; a forced one need not be what the model says.
            let new = match self.start {
                None => old,
                Some(_) => choose(logits, spec.sampling, seed, s) as u32,
            };
            self.again(&mut answer, &forced, s, new)?;
            let ends = self.start.is_some() && self.engine.is_end(new);
            if new == old && !ends {
                continue;
            }
            // The rows of the baseline's further tokens are no part of this answer.
            self.decoding.truncate(baseline.prompt.len() + s);
            if ends {
                stop = Stop::End;
                break;
            }
            let next = self.engine.vlm.decoder.embed(&[new]);
            stop = match answer.go_on(&mut self.decoding, next, baseline.max_new, s + 1) {
                Ok(Stop::MaxNew) if baseline.max_new < baseline.spec.length() => Stop::Context,
                Err(DecodingError::Cancelled(_)) => Stop::Cancelled,
                other => other?,
            };
            break;
        }
        trace.stop = stop;
        self.report(&mut trace);
        Ok(trace)
    }

    fn report(&self, trace: &mut Trace) {
        trace.finish(&self.spec.intervention.knockouts, &self.decoding);
    }
}
