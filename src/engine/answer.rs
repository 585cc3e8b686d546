//! Collecting an answer: prefill and decode steps, or a given answer in one pass, into a trace; and,
//! where asked for, everything that a later intervention needs to start from it.
//!
//! Row `s` of an answer is the query row that predicts answer token `s`: the last prompt row for
//! `s = 0`. Residuals are `[rows, width]`. Knows prompts, decoding and traces; not what a cut means.

use std::{collections::BTreeMap, sync::OnceLock, time::Instant};

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use crate::{
    engine::{
        baseline::Baseline,
        change::Change,
        decoding::{Decoding, DecodingError, Passed, Row, Rows, check_half, host, parts},
        error::RunError,
        event::{RunEvent, Told},
        folder::ModelFolder,
        load::Engine,
        logits::{argmax, entropy, log_softmax, norm, top},
        memory::Sizes,
        parts::Parts,
        resolve::{Asked, Uncut},
        sampling::choose,
        see::Seen,
        stem::Stem,
        watch::{Gathered, Watch},
    },
    model::{cpu::is_plain, hooks::Hooks},
    progress::{Cancel, Cancelled, Progress, Stage},
    prompt::{
        build::Prompt,
        detokenizer::{Added, Spoken},
    },
    spec::{
        experiment::Experiment,
        knockout::Knockout,
        record::{Held, Kept, Record},
        span::Span,
    },
    trace::{
        flow::SpanFlow,
        pattern::{PatternRow, StoredRow},
        run::{KnockoutReport, Stop, Timing, Trace},
        tokens::{AnswerToken, Candidate, visual},
    },
};

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
    /// By the layer that they enter; the decoder's output under the number after the last.
    resid: BTreeMap<usize, Parts>,
    logits: Vec<Vec<f32>>,
}

/// Runs what is left of a prompt and answers greedily; records nothing.
///
/// # Errors
/// [`RunError::Decoding`].
pub fn reply(
    engine: &Engine,
    mut decoding: Decoding<'_>,
    rest: Rows,
    max_new: usize,
) -> Result<Reply, RunError> {
    let mut ids = Vec::new();
    let mut next = rest;
    while ids.len() < max_new {
        let id = argmax(&decoding.logits(next)?) as u32;
        ids.push(id);
        if engine.folder.is_end(id) {
            break;
        }
        next = decoding.text(engine.vlm.decoder.embed(&[id]));
    }
    decoding.check()?;
    let said: Vec<u32> = ids.iter().copied().filter(|&id| !engine.folder.is_end(id)).collect();
    let text = engine.folder.prompts.decode(&said).trim().to_string();
    Ok(Reply { ids, text })
}

/// The longest answer that an experiment may have on a prompt of so many positions, and which attention is
/// kept of it.
///
/// # Errors
/// [`RunError`]: a number out of range.
pub fn allowed(
    folder: &ModelFolder,
    experiment: &Experiment,
    n_prompt: usize,
) -> Result<(usize, Kept), RunError> {
    experiment.sampling.map_or(Ok(()), |s| s.check()).map_err(RunError::Sampling)?;
    let max_new = max_new(folder, experiment, n_prompt)?;
    Ok((max_new, kept(folder, experiment, max_new)?))
}

/// The longest answer that an experiment and the context allow.
fn max_new(folder: &ModelFolder, experiment: &Experiment, n_prompt: usize) -> Result<usize, RunError> {
    let wanted = experiment.length();
    if wanted == 0 {
        let expected = "at least 1".to_string();
        return Err(RunError::Spec { what: "the answer's length", found: 0, expected });
    }
    let vocabulary = folder.text().vocabulary;
    if let Some(&id) = experiment.forced_answer.iter().flatten().find(|&&id| id as usize >= vocabulary) {
        let expected = format!("below the vocabulary's {vocabulary}");
        return Err(RunError::Spec { what: "a forced token", found: id as usize, expected });
    }
    Ok(wanted.min(folder.text().context - n_prompt))
}

/// Which attention an experiment keeps of an answer of at most `max_new` tokens.
pub(super) fn kept(folder: &ModelFolder, experiment: &Experiment, max_new: usize) -> Result<Kept, RunError> {
    let (pattern, text) = (&experiment.record.pattern, folder.text());
    let kept = pattern.resolve(text.n_layers, text.n_heads, max_new);
    kept.map_err(|source| RunError::Choice { what: format!("recording `{pattern}`"), source })
}

/// An empty trace of a prompt.
pub(super) fn blank(engine: &Engine, prompt: &Prompt, kept: Kept, images: &[&Seen]) -> Trace {
    Trace {
        model: engine.info.clone(),
        device: engine.device.clone(),
        dtype: engine.vlm.dtype_text(),
        images: images.iter().map(|seen| seen.geometry.clone()).collect(),
        prompt: prompt.tokens.clone(),
        answer: Vec::new(),
        kept,
        pattern: Vec::new(),
        flow: None,
        knockouts: Vec::new(),
        stop: Stop::MaxNew,
        timing: Timing {
            load: engine.load_time,
            encode: images.iter().map(|s| s.encode_time).sum(),
            ..Timing::default()
        },
    }
}

/// What is kept of an answer's run.
#[derive(Clone, Copy)]
pub(super) enum Keep<'a> {
    /// The trace.
    Trace,
    /// Residuals and logits too. A conversation that an earlier run began goes on from there.
    All(Option<&'a Baseline>),
}

/// Runs an experiment's answer, whatever is in force: from the start, or from where an earlier run has its rows.
pub(super) fn answer(
    engine: &Engine,
    experiment: &Experiment,
    images: &[&Seen],
    keep: Keep<'_>,
    cancel: &Cancel,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Baseline, RunError> {
    let prompt = engine.prompt(&experiment.turns, images)?;
    let n_prompt = prompt.len();
    on(RunEvent::Prompt(&prompt));
    let (max_new, kept) = allowed(&engine.folder, experiment, n_prompt)?;
    let (held, before) = match keep {
        Keep::Trace => (Held::Answer, None),
        Keep::All(before) => (Held::Baseline, before),
    };
    Sizes::of(engine, images, n_prompt).allow(experiment, held)?;
    let change = change_from_start(engine, experiment, &prompt, images, max_new, cancel, on)?;
    let rows = change.overwrite(engine.rows(&prompt, images), 0, &visual(&prompt.tokens));
    let added = rows.added.clone();
    let stem = before.and_then(|before| Stem::of(before, experiment, &prompt, &rows));
    let reused = stem.as_ref().map_or(0, |stem| stem.rows);
    let cache = stem.as_ref().map(Stem::cache).unwrap_or_default();
    // The last answer token is predicted, never looked from.
    let knockouts = &experiment.intervention.knockouts;
    let mut decoding = Decoding::from_cache(&engine.vlm, &change.cuts, n_prompt + max_new - 1, cancel, cache)
        .map_err(|e| with_text(e, knockouts))?;
    let mut trace = blank(engine, &prompt, kept, images);
    on(RunEvent::Progress(Progress::begun(Stage::Prefill)));
    let mut answer = Answer::begin(engine, experiment, &mut trace, on);
    if matches!(keep, Keep::All(_)) {
        answer.keep(stem.as_ref(), &prompt);
    }
    let stop = answer.run(&mut decoding, rows.part(reused..n_prompt), max_new);
    let Answer { keeping, flow, .. } = answer;
    let Keeping { resid, logits } = keeping.unwrap_or_default();
    trace.stop = match stop {
        Ok(Stop::MaxNew | Stop::Forced) if max_new < experiment.length() => Stop::Context,
        Ok(stop) => stop,
        Err(DecodingError::Cancelled(_)) => Stop::Cancelled,
        Err(e) => return Err(e.into()),
    };
    decoding.check()?;
    finish(&mut trace, knockouts, &decoding);
    let flow = flow.rows(&prompt.tokens)?;
    trace.flow = (!flow.spans.is_empty()).then(|| SpanFlow::of(&flow));
    let cache = decoding.cache().clone();
    drop(decoding);
    let mut resid_pre = joined(resid);
    let none = || Tensor::zeros([0, engine.info.width], &engine.vlm.device);
    let resid_post = resid_pre.remove(&engine.info.n_layers).unwrap_or_else(none);
    Ok(Baseline {
        experiment: experiment.clone(),
        resid_pre,
        resid_post,
        norms: logits.par_iter().map(|row| norm(row)).collect(),
        logits,
        trace,
        flow,
        prompt,
        change,
        cache,
        added,
        max_new,
        reused,
        by_gradient: OnceLock::new(),
    })
}

/// The rows of all passes, by the layer that they enter.
fn joined(resid: BTreeMap<usize, Parts>) -> BTreeMap<usize, Tensor<2>> {
    resid.into_iter().filter_map(|(layer, parts)| Some((layer, parts.join()?))).collect()
}

/// What an experiment's intervention changes, without an uncut run to start from: one is made where a set is
/// computed from it.
fn change_from_start(
    engine: &Engine,
    experiment: &Experiment,
    prompt: &Prompt,
    images: &[&Seen],
    max_new: usize,
    cancel: &Cancel,
    on: &mut dyn FnMut(RunEvent<'_>),
) -> Result<Change, RunError> {
    let uncut = uncut_for(engine, experiment, images, cancel);
    let by_gradient = OnceLock::new();
    let change = uncut.and_then(|uncut| {
        let mut tell = |progress: Progress| on(RunEvent::Progress(progress));
        let uncut = uncut.as_ref().map(|trace| Uncut { trace, by_gradient: &by_gradient, tell: &mut tell });
        let asked = Asked { engine, prompt, images, max_new, seed: experiment.seed, cancel };
        asked.change(&experiment.intervention, uncut)
    });
    match change {
        // Stopped before it is known what is to change: the flag stops the run as well.
        Err(e) if e.is_cancelled() => Ok(Change::default()),
        other => other,
    }
}

/// The uncut answer, where the intervention names a set that is computed from it.
fn uncut_for(
    engine: &Engine,
    experiment: &Experiment,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<Option<Trace>, RunError> {
    if !experiment.intervention.needs_uncut() {
        return Ok(None);
    }
    let record = Record { limit: experiment.record.limit, ..Default::default() };
    let uncut = Experiment { record, ..experiment.uncut() };
    let uncut = answer(engine, &uncut, images, Keep::Trace, cancel, &mut |_| {})?.trace;
    if uncut.stop == Stop::Cancelled {
        return Err(DecodingError::from(Cancelled).into());
    }
    Ok(Some(uncut))
}

/// As residuals are stored.
fn stored(tensor: Tensor<2>, half: bool) -> Tensor<2> {
    if half { tensor.cast(DType::F16) } else { tensor }
}

/// Names the knockouts where together they leave a row nothing.
pub(super) fn with_text(error: DecodingError, knockouts: &[Knockout]) -> RunError {
    match error {
        DecodingError::Knockout(source) => {
            let text = knockouts.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ");
            RunError::Knockout { text, source }
        }
        other => other.into(),
    }
}

/// Cuts the lists of what was kept to what there is, and reports what the cuts did.
pub(super) fn finish(trace: &mut Trace, knockouts: &[Knockout], decoding: &Decoding<'_>) {
    trace.kept.rows.truncate(trace.pattern.len());
    let report = |(knockout, (pairs, blocked_mass)): (&Knockout, (Vec<u64>, f32))| KnockoutReport {
        text: knockout.to_string(),
        pairs,
        blocked_mass,
    };
    trace.knockouts = knockouts.iter().zip(decoding.proof()).map(report).collect();
}

/// An answer being collected.
pub(super) struct Answer<'a, 'b> {
    engine: &'a Engine,
    experiment: &'a Experiment,
    pub(super) trace: &'a mut Trace,
    /// Its text so far.
    said: Spoken<'a>,
    keeping: Option<Keeping>,
    resid_every: usize,
    watch: Watch,
    /// What the rows that ran so far give to each span.
    pub(super) flow: Gathered,
    on: &'b mut dyn FnMut(RunEvent<'_>),
}

impl<'a, 'b> Answer<'a, 'b> {
    pub(super) fn begin(
        engine: &'a Engine,
        experiment: &'a Experiment,
        trace: &'a mut Trace,
        on: &'b mut dyn FnMut(RunEvent<'_>),
    ) -> Self {
        let watch = Watch::new(&trace.kept, &engine.info, &trace.prompt);
        let prompts = &engine.folder.prompts;
        let said = if experiment.begins().is_some() { prompts.spoken_on() } else { prompts.spoken() };
        let flow = Gathered::new(engine.info.n_layers);
        Answer { engine, experiment, trace, said, keeping: None, resid_every: 0, watch, flow, on }
    }

    /// Keeps residuals and logits, those of the rows that an earlier run has first.
    fn keep(&mut self, stem: Option<&Stem<'_>>, prompt: &Prompt) {
        let mut keeping = Keeping::default();
        if let Some(stem) = stem {
            for (layer, resid) in stem.residuals(self.engine.info.n_layers) {
                keeping.resid.entry(layer).or_default().push(resid);
            }
            self.flow = Gathered::after(&stem.flow(prompt));
        }
        self.keeping = Some(keeping);
        self.resid_every = self.experiment.record.residuals_every;
    }

    /// Runs what is left of the prompt, and generates the answer or scores the one that is given.
    fn run(
        &mut self,
        decoding: &mut Decoding<'_>,
        rest: Rows,
        max_new: usize,
    ) -> Result<Stop, DecodingError> {
        match &self.experiment.forced_answer {
            Some(ids) => self.score(decoding, rest, &ids[..max_new]),
            None => self.go_on(decoding, rest, max_new, 0),
        }
    }

    /// The hooks of a pass whose last `n` of `rows` predict the answer from place `s` on.
    fn hooks(&self, rows: usize, s: usize, n: usize) -> Hooks {
        Hooks { resid_every: self.resid_every, ..self.watch.hooks(rows, s, n) }
    }

    /// How many of a pass's `rows` to read the output of, where `n` predict something.
    fn read(&self, rows: usize, n: usize) -> usize {
        if self.keeping.is_some() { rows } else { n }
    }

    /// Generates from place `first` on, given the rows that predict it.
    pub(super) fn go_on(
        &mut self,
        decoding: &mut Decoding<'_>,
        rows: Rows,
        max_new: usize,
        first: usize,
    ) -> Result<Stop, DecodingError> {
        let mut next = rows;
        for step in first..max_new {
            let start = Instant::now();
            let rows = next.len();
            let hooks = self.hooks(rows, step, 1);
            let read = [1, self.read(rows, 1)];
            let row = self.passed(decoding.rows_from(0, decoding.cache().len(), next, read, hooks)?)?;
            let Some(row) = row.into_iter().next() else { break };
            let id = choose(&row.logits, self.experiment.sampling, self.experiment.seed, step) as u32;
            self.push(id, row)?;
            self.clock(step, start);
            if self.engine.folder.is_end(id) {
                return Ok(Stop::End);
            }
            next = decoding.text(self.engine.vlm.decoder.embed(&[id]));
        }
        Ok(Stop::MaxNew)
    }

    /// What is left of the prompt, and the answer, every row of which is scored.
    fn score(
        &mut self,
        decoding: &mut Decoding<'_>,
        prompt: Rows,
        ids: &[u32],
    ) -> Result<Stop, DecodingError> {
        let start = Instant::now();
        let given = &ids[..ids.len() - 1];
        let all = match given {
            [] => prompt,
            _ => prompt.then_text(self.engine.vlm.decoder.embed(given)),
        };
        let (rows, mut left, before) = (all.len(), ids, decoding.cache().len());
        for part in parts(rows, ids.len(), decoding.together(before + rows)) {
            let n = part.end - part.start.max(rows - ids.len());
            let hooks = self.hooks(part.len(), ids.len() - left.len(), n);
            let read = [n, self.read(part.len(), n)];
            let here =
                self.passed(decoding.rows_from(0, before + part.start, all.part(part), read, hooks)?)?;
            self.clock(0, start);
            let said;
            (said, left) = left.split_at(n);
            for (&id, row) in said.iter().zip(here) {
                self.push(id, row)?;
            }
        }
        Ok(Stop::Forced)
    }

    /// Keeps what is to be kept of a pass and hands on its rows.
    fn passed(&mut self, passed: Passed) -> Result<Vec<Row>, DecodingError> {
        self.flow.push(passed.groups)?;
        if let Some(keeping) = &mut self.keeping {
            let (half, mut resid) = (self.experiment.record.half, passed.resid_pre);
            resid.push((self.engine.info.n_layers, passed.resid_post));
            if half {
                check_half(&resid)?;
            }
            for (layer, resid) in resid {
                keeping.resid.entry(layer).or_default().push(stored(resid, half));
            }
            keeping.logits.extend(passed.rows.iter().map(|row| row.logits.clone()));
        }
        Ok(passed.rows)
    }

    pub(super) fn clock(&mut self, step: usize, start: Instant) {
        let timing = &mut self.trace.timing;
        if step == 0 {
            timing.prefill = start.elapsed();
            (self.on)(RunEvent::Progress(Progress::begun(Stage::Decode)));
        } else {
            timing.decode += start.elapsed();
            timing.decode_steps += 1;
        }
    }

    /// Takes up one more token and what predicted it.
    pub(super) fn push(&mut self, id: u32, row: Row) -> Result<(), DecodingError> {
        // Only a device's memory is worth drawing from: on the CPU the numbers are handed over.
        let resident = row.pattern.as_ref().filter(|pattern| !is_plain(pattern)).cloned();
        let pattern = match row.pattern {
            Some(pattern) => {
                let [n_layers, n_heads, n_keys] = pattern.dims();
                Some(PatternRow { n_layers, n_heads, n_keys, data: host(pattern)?.into() })
            }
            None => None,
        };
        let resident = resident.as_ref();
        let told = pattern.as_ref().map_or(Told::Nothing, |row| Told::New { row, resident });
        self.take(id, &log_softmax(&row.logits), told, pattern.as_ref());
        Ok(())
    }

    /// Takes up one more token, the `[vocabulary]` log probabilities at its place, what is told of its
    /// attention, and the attention itself.
    pub(super) fn take(&mut self, id: u32, logprobs: &[f32], told: Told<'_>, pattern: Option<&PatternRow>) {
        let folder = &self.engine.folder;
        let candidate = |(id, logprob): (usize, f32)| Candidate {
            id: id as u32,
            text: self.said.candidate(id as u32),
            logprob,
        };
        let top = top(logprobs, self.experiment.top).into_iter().map(candidate).collect();
        let end = folder.is_end(id);
        let Added { mut text, partial } = self.said.push(id, end);
        if text.is_empty() && !partial {
            // What adds nothing here is shown as it would stand elsewhere.
            text = folder.prompts.token_text(id);
        }
        let token = AnswerToken {
            position: self.trace.n_positions(),
            id,
            text,
            span: Span::Answer,
            logprob: logprobs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY),
            entropy: Some(entropy(logprobs)),
            top,
            end,
            partial,
        };
        (self.on)(RunEvent::Token { token: &token, row: told });
        self.trace.answer.push(token);
        let half = self.experiment.record.half;
        self.trace.pattern.extend(pattern.map(|row| StoredRow::new(row.clone(), half)));
    }
}
