//! Collecting an answer: prefill and decode steps, or a given answer in one pass, into a trace; and,
//! where asked for, everything that a later intervention needs to start from it.
//!
//! Row `s` of an answer is the query row that predicts answer token `s`: the last prompt row for
//! `s = 0`. Residuals are `[rows, width]`. Knows prompts, decoding and traces; not what a cut means.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Instant,
};

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::{engine::{decoding::{Decoding, DecodingError, Passed, Row, argmax, host, log_softmax, top}, load::{Engine, RunError, RunEvent, Seen}, patches as patch_sets, resolve::{Change, Uncut}, sampling::choose}, model::{cpu::kernels::is_plain, hooks::{Hooks, Keep}, kv_cache::KvCache}, progress::{Cancel, Cancelled}, prompt::build::Prompt, spec::{experiment::{Extent, Memory, RunSpec}, knockout::Knockout, span::Span}, trace::run::{AnswerToken, Candidate, Kept, KnockoutReport, ModelInfo, PatternRow, Stop, StoredRow, Timing, Trace}};

/// A run kept whole enough to start others from: see `resume`.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What was run.
    pub spec: RunSpec,
    /// What came out.
    pub trace: Trace,
    /// Its prompt.
    pub prompt: Prompt,
    /// `[vocabulary]` logits, one row an answer token.
    pub logits: Vec<Vec<f32>>,
    /// The same as natural log probabilities.
    pub logprobs: Vec<Vec<f32>>,
    /// What was in force: an intervention goes back to before it.
    pub(crate) change: Change,
    /// Keys and values of every row that ran.
    pub(crate) cache: KvCache,
    /// `[rows, width]` by layer: that block's input, every row that ran.
    pub(crate) resid_pre: BTreeMap<usize, Tensor<2>>,
    /// `[rows, width]`: output of the last block, not normed.
    pub(crate) resid_post: Tensor<2>,
    /// Longest answer that the context allows.
    pub(crate) max_new: usize,
    /// Visual positions by integrated gradient, once something asked for them.
    pub(crate) by_gradient: OnceLock<Vec<usize>>,
}

/// An answer of which nothing but its words is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its tokens, the end token included when it was reached.
    pub ids: Vec<u32>,
    /// Its text, without the end token.
    pub text: String,
}

/// The parts of a pass that a baseline keeps.
#[derive(Default)]
struct Keeping {
    resid_pre: BTreeMap<usize, Vec<Tensor<2>>>,
    resid_post: Vec<Tensor<2>>,
    logits: Vec<Vec<f32>>,
}

impl Engine {
    /// What a run of `spec` on a prompt of so many positions keeps at most: as a baseline that later
    /// interventions start from, or just its trace.
    pub fn memory(&self, spec: &RunSpec, n_prompt: usize, baseline: bool) -> Memory {
        let text = &self.vlm.config.text;
        let answer = spec.length().min(self.info.context.saturating_sub(n_prompt)).max(1);
        let extent = Extent {
            layers: text.n_layers,
            heads: text.n_heads,
            kv_heads: text.n_kv_heads,
            head_dim: text.head_dim,
            width: text.width,
            vocabulary: text.vocabulary,
            weight_bytes: self.vlm.dtype.burn().size(),
            prompt: n_prompt,
            answer,
        };
        spec.record.memory(&extent, baseline)
    }

    /// Runs a spec and keeps residuals and KV cache.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn keep(
        &self,
        spec: &RunSpec,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Baseline, RunError> {
        self.answer(spec, images, true, cancel, on)
    }

    /// Runs what is left of a prompt, `[rows, width]`, and answers greedily; records nothing.
    ///
    /// # Errors
    /// [`RunError::Decoding`].
    pub fn reply(
        &self,
        mut decoding: Decoding<'_>,
        rest: Tensor<2>,
        max_new: usize,
    ) -> Result<Reply, RunError> {
        let mut ids = Vec::new();
        let mut next = rest;
        while ids.len() < max_new {
            let id = argmax(&decoding.logits(next)?) as u32;
            ids.push(id);
            if self.is_end(id) {
                break;
            }
            next = self.vlm.decoder.embed(&[id]);
        }
        let said: Vec<u32> = ids.iter().copied().filter(|&id| !self.is_end(id)).collect();
        let text = self.prompts.decode(&said).trim().to_string();
        Ok(Reply { ids, text })
    }

    /// The longest answer that a spec and the context allow.
    pub(crate) fn max_new(&self, spec: &RunSpec, n_prompt: usize) -> Result<usize, RunError> {
        let wanted = spec.length();
        if wanted == 0 {
            let expected = "at least 1".to_string();
            return Err(RunError::Spec { what: "the answer's length", found: 0, expected });
        }
        if let Some(&id) =
            spec.forced_answer.iter().flatten().find(|&&id| id as usize >= self.info.vocabulary)
        {
            let expected = format!("below the vocabulary's {}", self.info.vocabulary);
            return Err(RunError::Spec { what: "a forced token", found: id as usize, expected });
        }
        Ok(wanted.min(self.info.context - n_prompt))
    }

    /// Which attention a spec keeps of an answer of at most `max_new` tokens.
    pub(crate) fn kept(&self, spec: &RunSpec, max_new: usize) -> Result<Kept, RunError> {
        let kept = spec.record.pattern.resolve(self.info.n_layers, self.info.n_heads, max_new);
        kept.map_err(|source| RunError::Choice {
            what: format!("recording `{}`", spec.record.pattern),
            source,
        })
    }

    /// An empty trace of a prompt.
    pub(crate) fn blank(&self, prompt: &Prompt, kept: Kept, images: &[&Seen]) -> Trace {
        Trace {
            model: self.info.clone(),
            device: self.device.clone(),
            dtype: self.vlm.dtype_text(),
            prompt: prompt.tokens.clone(),
            answer: Vec::new(),
            kept,
            pattern: Vec::new(),
            knockouts: Vec::new(),
            stop: Stop::MaxNew,
            timing: Timing {
                load: self.load_time,
                encode: images.iter().map(|s| s.encode_time).sum(),
                ..Timing::default()
            },
        }
    }

    /// Runs a spec from the start; `baseline`: keeps residuals and logits too.
    pub(crate) fn answer(
        &self,
        spec: &RunSpec,
        images: &[&Seen],
        baseline: bool,
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Baseline, RunError> {
        let prompt = self.prompt(&spec.prompt, images)?;
        let n_prompt = prompt.len();
        on(RunEvent::Prompt(&prompt));
        spec.sampling.map_or(Ok(()), |s| s.check()).map_err(RunError::Sampling)?;
        let max_new = self.max_new(spec, n_prompt)?;
        let kept = self.kept(spec, max_new)?;
        let memory = self.memory(spec, n_prompt, baseline);
        if memory.total() > spec.record.limit {
            return Err(RunError::Memory { memory, limit: spec.record.limit });
        }
        let intervention = &spec.intervention;
        let uncut = self.uncut_for(spec, images, cancel);
        let by_gradient = OnceLock::new();
        let change = uncut.and_then(|uncut| {
            let mut on_step = |done: usize, total: usize| on(RunEvent::Gradients { done, total });
            let uncut =
                uncut.as_ref().map(|trace| Uncut { trace, by_gradient: &by_gradient, on_step: &mut on_step });
            self.change(intervention, &prompt, images, max_new, spec.seed, uncut, cancel)
        });
        let change = match change {
            // Stopped before it is known what is to change: the flag stops the run below as well.
            Err(RunError::Decoding(DecodingError::Cancelled(_))) => Change::default(),
            other => other?,
        };
        let visual = patch_sets::visual(&prompt.tokens);
        let embeds = change.overwrite(self.embeds(&prompt, images), 0, &visual);
        // The last answer token is predicted, never looked from.
        let mut decoding = Decoding::new(&self.vlm, &change.cuts, n_prompt + max_new - 1, cancel)
            .map_err(|e| with_text(e, &intervention.knockouts))?;
        let mut trace = self.blank(&prompt, kept, images);
        let keeping = baseline.then(Keeping::default);
        let every = if baseline { spec.record.residuals_every } else { 0 };
        let mut answer = Answer::new(self, spec, &mut trace, keeping, every, on);
        let stop = match &spec.forced_answer {
            Some(ids) => answer.score(&mut decoding, embeds, &ids[..max_new]),
            None => answer.go_on(&mut decoding, embeds, max_new, 0),
        };
        let keeping = answer.keeping.take().unwrap_or_default();
        trace.stop = match stop {
            Ok(Stop::MaxNew | Stop::Forced) if max_new < spec.length() => Stop::Context,
            Ok(stop) => stop,
            Err(DecodingError::Cancelled(_)) => Stop::Cancelled,
            Err(e) => return Err(e.into()),
        };
        trace.finish(&intervention.knockouts, &decoding);
        let cache = decoding.cache().clone();
        drop(decoding);
        let joined = |parts: Vec<Tensor<2>>| match parts.len() {
            0 => Tensor::zeros([0, self.info.width], &self.vlm.device),
            _ => stored(Tensor::cat(parts, 0), spec.record.half),
        };
        let resid_pre = keeping.resid_pre.into_iter().map(|(layer, parts)| (layer, joined(parts)));
        Ok(Baseline {
            spec: spec.clone(),
            resid_pre: resid_pre.collect(),
            resid_post: joined(keeping.resid_post),
            logprobs: keeping.logits.par_iter().map(|row| log_softmax(row)).collect(),
            logits: keeping.logits,
            trace,
            prompt,
            change,
            cache,
            max_new,
            by_gradient: OnceLock::new(),
        })
    }

    /// The uncut answer, where the intervention names a set that is computed from it.
    fn uncut_for(
        &self,
        spec: &RunSpec,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Option<Trace>, RunError> {
        if !spec.intervention.needs_uncut() {
            return Ok(None);
        }
        let uncut = RunSpec {
            intervention: Default::default(),
            record: crate::spec::experiment::Record { limit: spec.record.limit, ..Default::default() },
            ..spec.clone()
        };
        let uncut = self.run(&uncut, images, cancel, &mut |_| {})?;
        if uncut.stop == Stop::Cancelled {
            return Err(DecodingError::from(Cancelled).into());
        }
        Ok(Some(uncut))
    }
}

/// As residuals are stored.
fn stored(tensor: Tensor<2>, half: bool) -> Tensor<2> {
    if half { tensor.cast(DType::F16) } else { tensor }
}

/// Names the knockouts where together they leave a row nothing.
pub(crate) fn with_text(error: DecodingError, knockouts: &[Knockout]) -> RunError {
    match error {
        DecodingError::Knockout(source) => {
            let text = knockouts.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ");
            RunError::Knockout { text, source }
        }
        other => other.into(),
    }
}

impl Trace {
    /// Cuts the lists of what was kept to what there is, and reports what the cuts did.
    pub(crate) fn finish(&mut self, knockouts: &[Knockout], decoding: &Decoding<'_>) {
        self.kept.rows.truncate(self.pattern.len());
        let report = |(knockout, (pairs, blocked_mass)): (&Knockout, (Vec<u64>, f32))| KnockoutReport {
            text: knockout.to_string(),
            pairs,
            blocked_mass,
        };
        self.knockouts = knockouts.iter().zip(decoding.proof()).map(report).collect();
    }
}

/// An answer being collected.
pub(crate) struct Answer<'a, 'b> {
    engine: &'a Engine,
    spec: &'a RunSpec,
    pub(crate) trace: &'a mut Trace,
    ids: Vec<u32>,
    /// Text of `ids`.
    said: String,
    keeping: Option<Keeping>,
    resid_every: usize,
    watch: Watch,
    on: &'b mut dyn FnMut(RunEvent<'_>),
}

/// Which attention is kept, as the decoder's hooks take it.
pub(crate) struct Watch {
    rows: Vec<usize>,
    layers: Option<Arc<[bool]>>,
    heads: Option<Arc<[usize]>>,
}

impl Watch {
    pub(crate) fn new(kept: &Kept, info: &ModelInfo) -> Self {
        let layers = (kept.layers.len() < info.n_layers)
            .then(|| (0..info.n_layers).map(|l| kept.layers.contains(&l)).collect());
        let heads = (kept.heads.len() < info.n_heads).then(|| kept.heads.clone().into());
        Watch { rows: kept.rows.clone(), layers, heads }
    }

    /// For a pass whose last `n` of `rows` predict the answer from place `s` on.
    pub(crate) fn keep(&self, rows: usize, s: usize, n: usize) -> Keep {
        let kept = self.rows.iter().filter(|&&k| (s..s + n).contains(&k));
        let rows = kept.map(|k| rows - n + (k - s)).collect();
        Keep { rows, layers: self.layers.clone(), heads: self.heads.clone() }
    }
}

impl<'a, 'b> Answer<'a, 'b> {
    pub(crate) fn begin(
        engine: &'a Engine,
        spec: &'a RunSpec,
        trace: &'a mut Trace,
        on: &'b mut dyn FnMut(RunEvent<'_>),
    ) -> Self {
        Self::new(engine, spec, trace, None, 0, on)
    }

    fn new(
        engine: &'a Engine,
        spec: &'a RunSpec,
        trace: &'a mut Trace,
        keeping: Option<Keeping>,
        resid_every: usize,
        on: &'b mut dyn FnMut(RunEvent<'_>),
    ) -> Self {
        let watch = Watch::new(&trace.kept, &engine.info);
        let (ids, said) = (Vec::new(), String::new());
        Answer { engine, spec, trace, ids, said, keeping, resid_every, watch, on }
    }

    /// The hooks of a pass whose last `n` of `rows` predict the answer from place `s` on.
    fn hooks(&self, rows: usize, s: usize, n: usize) -> Hooks {
        let pattern = self.watch.keep(rows, s, n);
        Hooks { pattern, resid_every: self.resid_every, ..Hooks::default() }
    }

    /// How many of a pass's `rows` to read the output of, where `n` predict something.
    fn read(&self, rows: usize, n: usize) -> usize {
        if self.keeping.is_some() { rows } else { n }
    }

    /// Generates from place `first` on, given the rows that predict it.
    pub(crate) fn go_on(
        &mut self,
        decoding: &mut Decoding<'_>,
        embeds: Tensor<2>,
        max_new: usize,
        first: usize,
    ) -> Result<Stop, DecodingError> {
        let mut next = embeds;
        for step in first..max_new {
            let start = Instant::now();
            let rows = next.dims()[0];
            let hooks = self.hooks(rows, step, 1);
            let read = [1, self.read(rows, 1)];
            let row = self.passed(decoding.rows_from(0, decoding.cache().len(), next, read, hooks)?);
            let Some(row) = row.into_iter().next() else { break };
            let id = choose(&row.logits, self.spec.sampling, self.spec.seed, step) as u32;
            self.push(id, row)?;
            self.clock(step, start);
            if self.engine.is_end(id) {
                return Ok(Stop::End);
            }
            next = self.engine.vlm.decoder.embed(&[id]);
        }
        Ok(Stop::MaxNew)
    }

    /// Prompt and answer in one pass, every answer row scored.
    fn score(
        &mut self,
        decoding: &mut Decoding<'_>,
        embeds: Tensor<2>,
        ids: &[u32],
    ) -> Result<Stop, DecodingError> {
        let start = Instant::now();
        let given = &ids[..ids.len() - 1];
        let all = match given {
            [] => embeds,
            _ => Tensor::cat(vec![embeds, self.engine.vlm.decoder.embed(given)], 0),
        };
        let rows = all.dims()[0];
        let hooks = self.hooks(rows, 0, ids.len());
        let read = [ids.len(), self.read(rows, ids.len())];
        let rows = self.passed(decoding.rows_from(0, 0, all, read, hooks)?);
        self.clock(0, start);
        for (&id, row) in ids.iter().zip(rows) {
            self.push(id, row)?;
        }
        Ok(Stop::Forced)
    }

    /// Keeps what is to be kept of a pass and hands on its rows.
    fn passed(&mut self, passed: Passed) -> Vec<Row> {
        if let Some(keeping) = &mut self.keeping {
            for (layer, resid) in passed.resid_pre {
                keeping.resid_pre.entry(layer).or_default().push(resid);
            }
            keeping.resid_post.push(passed.resid_post);
            keeping.logits.extend(passed.rows.iter().map(|row| row.logits.clone()));
        }
        passed.rows
    }

    pub(crate) fn clock(&mut self, step: usize, start: Instant) {
        let timing = &mut self.trace.timing;
        if step == 0 {
            timing.prefill = start.elapsed();
            (self.on)(RunEvent::Prefilled(timing.prefill));
        } else {
            timing.decode += start.elapsed();
            timing.decode_steps += 1;
        }
    }

    /// Takes up one more token and what predicted it.
    pub(crate) fn push(&mut self, id: u32, row: Row) -> Result<(), DecodingError> {
        // Only a device's memory is worth drawing from: on the CPU the numbers are handed over.
        let resident = row.pattern.as_ref().filter(|pattern| !is_plain(pattern)).cloned();
        let pattern = match row.pattern {
            Some(pattern) => {
                let [n_layers, n_heads, n_keys] = pattern.dims();
                Some(PatternRow { n_layers, n_heads, n_keys, data: host(pattern)?.into() })
            }
            None => None,
        };
        self.take(id, &log_softmax(&row.logits), pattern, resident.as_ref());
        Ok(())
    }

    /// Takes up one more token, the `[vocabulary]` log probabilities at its place, and its attention.
    pub(crate) fn take(
        &mut self,
        id: u32,
        logprobs: &[f32],
        pattern: Option<PatternRow>,
        resident: Option<&Tensor<3>>,
    ) {
        let prompts = &self.engine.prompts;
        let candidate = |(id, logprob): (usize, f32)| Candidate {
            id: id as u32,
            text: prompts.token_text(id as u32),
            logprob,
        };
        self.ids.push(id);
        let said = prompts.decode(&self.ids);
        // Byte-level tokens only become letters together: a token's text is what it adds.
        let text = match said.strip_prefix(&self.said) {
            Some(added) if !added.is_empty() => added.to_string(),
            _ => prompts.token_text(id),
        };
        self.said = said;
        let token = AnswerToken {
            position: self.trace.n_positions(),
            id,
            text,
            span: Span::Answer,
            logprob: logprobs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY),
            top: top(logprobs, self.spec.top).into_iter().map(candidate).collect(),
            end: self.engine.is_end(id),
        };
        (self.on)(RunEvent::Token { token: &token, row: pattern.as_ref(), resident });
        self.trace.answer.push(token);
        let half = self.spec.record.half;
        self.trace.pattern.extend(pattern.map(|row| StoredRow::new(row, half)));
    }
}
