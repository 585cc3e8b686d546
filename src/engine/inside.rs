//! The inside of a kept run: residuals of any layer, whole attention patterns, and the rows that a set
//! names.
//!
//! Residuals are `[rows, width]`, rows counted over prompt and answer; what was not kept is computed anew
//! from the nearest that was. Where the model adds features of the image after a layer (Qwen3-VL's deepstack), that
//! layer's `resid_post` is before the addition and the next one's `resid_pre` after it, as in transformers 5.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use crate::{
    engine::{
        baseline::Baseline,
        decoding::{DecodingError, Rows, host},
        error::RunError,
        folder::ModelFolder,
        load::Engine,
        masks,
        place::Place,
        resolve::Asked,
        see::Seen,
    },
    model::{
        decoder::{Forward, Step},
        hooks::{Hooks, Keep},
        kv_cache::KvCache,
    },
    progress::{Cancel, Progress},
    spec::{
        record::Pattern,
        sets::{Numbers, Set, SetError},
    },
};

/// `[rows, width]`: the input of a layer in a kept run, or the last block's output for
/// `layer = n_layers`; computed from the nearest stored one below.
///
/// # Errors
/// [`RunError::Needs`] when no residuals were kept; [`RunError::Decoding`].
pub fn resid_pre(
    engine: &Engine,
    baseline: &Baseline,
    layer: usize,
    cancel: &Cancel,
) -> Result<Tensor<2>, RunError> {
    if layer >= engine.info.n_layers {
        return Ok(baseline.resid_post.clone().cast(DType::F32));
    }
    let (at, resid) = baseline.stored(layer)?;
    if at == layer {
        return Ok(resid);
    }
    Ok(rerun(engine, baseline, at..layer, baseline.rows(resid, 0), Hooks::default(), cancel)?.resid)
}

/// `[rows, width]`: the output of a layer in a kept run, before anything is added to it.
///
/// # Errors
/// As [`resid_pre`].
pub fn resid_post(
    engine: &Engine,
    baseline: &Baseline,
    layer: usize,
    cancel: &Cancel,
) -> Result<Tensor<2>, RunError> {
    if baseline.added.iter().all(|(after, _)| *after != layer) {
        return resid_pre(engine, baseline, layer + 1, cancel);
    }
    let rows = baseline.rows(resid_pre(engine, baseline, layer, cancel)?, 0);
    let rows = Rows { added: Vec::new(), ..rows };
    Ok(rerun(engine, baseline, layer..layer + 1, rows, Hooks::default(), cancel)?.resid)
}

/// Refuses a square that there is not.
///
/// # Errors
/// [`RunError::Choice`]: a layer or head that does not exist.
pub fn check_square(folder: &ModelFolder, layer: usize, head: usize) -> Result<(), RunError> {
    let kept = Pattern {
        layers: Numbers::range(layer, layer),
        heads: Numbers::range(head, head),
        ..Default::default()
    };
    let (text, what) = (folder.text(), format!("the square of layer {layer}, head {head}"));
    kept.resolve(text.n_layers, text.n_heads, 1).map_err(|source| RunError::Choice { what, source })?;
    Ok(())
}

/// `[rows, rows]`, row-major: the whole attention pattern of one layer and head of a kept run,
/// computed anew from queries and keys.
///
/// # Errors
/// [`RunError`]: a layer or head that does not exist, or no residuals.
pub fn square(
    engine: &Engine,
    baseline: &Baseline,
    layer: usize,
    head: usize,
    cancel: &Cancel,
) -> Result<Vec<f32>, RunError> {
    check_square(&engine.folder, layer, head)?;
    let resid = resid_pre(engine, baseline, layer, cancel)?;
    let pattern = Keep { heads: Some([head].into()), ..Keep::rows(0..baseline.n_rows()) };
    let hooks = Hooks { pattern, ..Hooks::default() };
    let rows = baseline.rows(resid, 0);
    let recorded = rerun(engine, baseline, layer..layer + 1, rows, hooks, cancel)?.recorded;
    let none = || RunError::Needs { what: "a square", needs: "a run with a row at least".to_string() };
    let pattern = host(recorded.pattern.ok_or_else(none)?)?;
    Place::Layer(layer).check(&engine.vlm, &pattern)?;
    Ok(pattern)
}

/// The rows of a kept run that a set names; `answer` means the generated positions.
///
/// # Errors
/// [`RunError::Choice`] when there is no such set, or none of it ran.
pub fn positions(
    engine: &Engine,
    baseline: &Baseline,
    set: &Set,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<Vec<usize>, RunError> {
    let (prompt, max_new, seed) = (&baseline.prompt, baseline.trace.answer.len(), baseline.experiment.seed);
    let asked = Asked { engine, prompt, images, max_new, seed, cancel };
    let mut unheard = |_: Progress| {};
    let patches = asked.patch_sets(&set.patch_sets().collect(), Some(baseline.uncut(&mut unheard)))?;
    let fail = |source| RunError::Choice { what: format!("positions `{set}`"), source };
    let members = set.resolve(&asked.scope(&prompt.spans(), &patches), false).map_err(fail)?;
    let rows: Vec<usize> = (0..baseline.n_rows()).filter(|&p| members.contains(p)).collect();
    if rows.is_empty() {
        let there = "the last token of an answer is predicted and never looked from".to_string();
        return Err(fail(SetError::Empty { set: set.to_string(), there }));
    }
    Ok(rows)
}

/// Runs some layers again, on all rows, under what was in force.
fn rerun(
    engine: &Engine,
    baseline: &Baseline,
    layers: Range<usize>,
    rows: Rows,
    mut hooks: Hooks,
    cancel: &Cancel,
) -> Result<Forward, RunError> {
    let Rows { resid, positions, added } = rows;
    let read = positions.len();
    hooks.blocked = masks::for_pass(&baseline.change.cuts, 0, read, engine.info.n_layers);
    let step = Step { resid, positions: &positions, added: &added, layers, read };
    let forward = engine.vlm.decoder.forward(step, &mut KvCache::default(), &hooks, cancel);
    Ok(forward.map_err(DecodingError::from)?)
}
