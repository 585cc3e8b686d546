//! Many interventions on one kept run, scored together: their rows go through the weights in one pass.
//!
//! What each does to the kept answer's tokens, to the bit what `resume::effects` gives one by one. Nothing is
//! recorded, and no new answer is generated. Residuals are `[rows, width]`. Knows kept runs and interventions; not what
//! they are for.

use rayon::prelude::*;

use crate::{
    engine::{
        answer::with_text,
        baseline::Baseline,
        change::Change,
        decoding::{DecodingError, check_largest, host, is_sound},
        error::RunError,
        load::Engine,
        logits::norm,
        masks,
        place::Place,
        resume::{change_of, effects_of},
        see::Seen,
    },
    model::{
        hooks::{Hooks, Keep},
        together::Pass,
    },
    progress::Cancel,
    spec::experiment::Intervention,
    trace::tokens::{AnswerToken, visual},
};

/// Rows that go through together: enough that reading the weights takes no part of the time, few enough that what they
/// need on the way stays in the caches that cores share.
const TOGETHER: usize = 1024;
/// Rows whose logits exist at one time.
const LOGITS: usize = 128;

/// What an intervention does to one token of a kept answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Its natural log probability under the intervention.
    pub logprob: f32,
    /// By how much that is more than it was.
    pub delta: f32,
    /// How many tokens are likelier under the intervention: above 0, a greedy answer would part from the kept one here.
    pub rank: usize,
}

/// One list an intervention, in order: one entry a token of the kept answer. `on` hears of how many are done.
///
/// # Errors
/// [`RunError`]; also when cancelled.
pub fn score(
    engine: &Engine,
    baseline: &Baseline,
    interventions: &[Intervention],
    images: &[&Seen],
    cancel: &Cancel,
    on: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Scored>>, RunError> {
    let mut asked = Vec::with_capacity(interventions.len());
    for (number, intervention) in interventions.iter().enumerate() {
        let change = change_of(engine, baseline, intervention, images, cancel, &mut |_| {})?;
        let start = start(engine, baseline, intervention, &change)?;
        asked.push(Asked { number, intervention, change, start });
    }
    // Those that begin low come first: the others join them on their way up.
    asked.sort_by_key(|asked| asked.start.map(|start| start.layer));
    let uncut = uncut(baseline);
    let mut all = vec![uncut.clone(); interventions.len()];
    let run: Vec<Asked<'_>> = asked.into_iter().filter(|asked| asked.start.is_some()).collect();
    let mut done = interventions.len() - run.len();
    let mut rest = run.as_slice();
    while !rest.is_empty() {
        let (some, others) = rest.split_at(fitting(engine, baseline, rest)?);
        for (asked, scored) in some.iter().zip(pass(engine, baseline, some, &uncut, cancel)?) {
            all[asked.number] = scored;
        }
        done += some.len();
        on(done);
        rest = others;
    }
    Ok(all)
}

/// One intervention, and what it means on the prompt.
struct Asked<'a> {
    number: usize,
    intervention: &'a Intervention,
    change: Change,
    /// `None` where it touches nothing.
    start: Option<Start>,
}

/// Where an intervention begins.
#[derive(Clone, Copy)]
struct Start {
    /// A layer whose input is kept.
    layer: usize,
    row: usize,
}

fn start(
    engine: &Engine,
    baseline: &Baseline,
    intervention: &Intervention,
    change: &Change,
) -> Result<Option<Start>, RunError> {
    let text = &engine.vlm.config.text;
    let n_rows = baseline.prompt.len() + baseline.max_new - 1;
    masks::check_something_left(&change.cuts, n_rows, text.n_layers, text.n_heads)
        .map_err(|e| with_text(e.into(), &intervention.knockouts))?;
    let touched = change.start(baseline.n_rows()).filter(|_| !baseline.trace.answer.is_empty());
    let Some((layer, row)) = touched else { return Ok(None) };
    Ok(Some(Start { layer: baseline.stored(layer)?.0, row }))
}

/// How many of these go through together: one at least.
///
/// # Errors
/// [`DecodingError::Large`]: not even that.
fn fitting(engine: &Engine, baseline: &Baseline, asked: &[Asked<'_>]) -> Result<usize, DecodingError> {
    let n_rows = baseline.n_rows();
    let mut rows = 0;
    for (n, asked) in asked.iter().enumerate() {
        rows += n_rows - asked.start.map_or(n_rows, |start| start.row);
        let large = engine.vlm.decoder.too_large(rows, n_rows, &Keep::default());
        match large {
            Some([bytes, most]) if n == 0 => return Err(DecodingError::Large { rows, bytes, most }),
            _ if n > 0 && (large.is_some() || rows > TOGETHER) => return Ok(n),
            _ => {}
        }
    }
    Ok(asked.len())
}

/// Runs some interventions in one pass and scores the answer under each.
fn pass(
    engine: &Engine,
    baseline: &Baseline,
    asked: &[Asked<'_>],
    uncut: &[Scored],
    cancel: &Cancel,
) -> Result<Vec<Vec<Scored>>, RunError> {
    let passes = asked.iter().filter_map(|asked| pass_of(engine, baseline, asked).transpose());
    let passes = passes.collect::<Result<Vec<Pass>, RunError>>()?;
    let decoder = &engine.vlm.decoder;
    let ran = decoder.forward_together(&passes, &baseline.cache, cancel).map_err(DecodingError::from)?;
    check_largest(ran.largest)?;
    let mut all = Vec::with_capacity(asked.len());
    for (asked, resid) in asked.iter().zip(ran.resid) {
        let [rows, _] = resid.dims();
        let mut scored = uncut.to_vec();
        let first = scored.len() - rows;
        for from in (0..rows).step_by(LOGITS) {
            cancel.check().map_err(DecodingError::from)?;
            let n = LOGITS.min(rows - from);
            let logits = host(decoder.unembed(resid.clone().narrow(0, from, n)))?;
            if !is_sound(&logits, engine.info.vocabulary) {
                return broken(engine, baseline, asked, cancel);
            }
            let tokens = &baseline.trace.answer[first + from..][..n];
            let here = &mut scored[first + from..][..n];
            let rows = logits.par_chunks(engine.info.vocabulary).zip(tokens).zip(here);
            rows.for_each(|((logits, token), scored)| *scored = scored_by(logits, token.id, *scored));
        }
        all.push(scored);
    }
    Ok(all)
}

/// The rows that an intervention touches, as they enter its first layer.
fn pass_of(engine: &Engine, baseline: &Baseline, asked: &Asked<'_>) -> Result<Option<Pass>, RunError> {
    let Some(Start { layer, row }) = asked.start else { return Ok(None) };
    let (layer, resid) = baseline.stored(layer)?;
    let n = baseline.n_rows() - row;
    let rows = baseline.rows(resid.narrow(0, row, n), row);
    // What overwrites rows touches layer 0.
    let rows = asked.change.overwrite(rows, row, &visual(&baseline.prompt.tokens));
    let blocked = masks::for_pass(&asked.change.cuts, row, n, engine.info.n_layers);
    Ok(Some(Pass {
        layer,
        first: row,
        resid: rows.resid,
        positions: rows.positions,
        added: rows.added,
        hooks: Hooks { blocked, ..Hooks::default() },
        read: baseline.trace.answer.len().min(n),
    }))
}

/// The answer as it was kept.
fn uncut(baseline: &Baseline) -> Vec<Scored> {
    let rows = baseline.logits.par_iter().zip(&baseline.norms).zip(&baseline.trace.answer);
    let kept = |((logits, &norm), token): ((&Vec<f32>, &f64), &AnswerToken)| {
        let (logprob, rank) = place(logits, norm, token.id);
        Scored { logprob, delta: 0.0, rank }
    };
    rows.map(kept).collect()
}

fn scored_by(logits: &[f32], id: u32, before: Scored) -> Scored {
    let (logprob, rank) = place(logits, norm(logits), id);
    Scored { logprob, delta: logprob - before.logprob, rank }
}

/// Log probability of a token, and how many are likelier: as `Effect::new` has them.
fn place(logits: &[f32], norm: f64, id: u32) -> (f32, usize) {
    let less = |logit: f32| (f64::from(logit) - norm) as f32;
    let own = logits.get(id as usize).map_or(f32::NEG_INFINITY, |&logit| less(logit));
    (own, logits.iter().filter(|&&logit| less(logit) > own).count())
}

/// What is wrong with an intervention whose logits are no numbers: run alone, it says so.
fn broken(
    engine: &Engine,
    baseline: &Baseline,
    asked: &Asked<'_>,
    cancel: &Cancel,
) -> Result<Vec<Vec<Scored>>, RunError> {
    effects_of(engine, baseline, asked.intervention, &asked.change, cancel)?;
    Err(Place::Logits.not_finite(&engine.vlm).into())
}
