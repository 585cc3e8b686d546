//! One forward over the whole prompt, nothing cut: everything inside it, and every layer's lens.
//!
//! Residuals are `[T, width]`, logits `[T, V]`.

use burn::tensor::Tensor;

use crate::{
    engine::{
        decoding::{Decoding, DecodingError, Rows, host},
        logits::top,
    },
    model::{
        decoder::Step,
        hooks::{Hooks, Keep},
        kv_cache::KvCache,
    },
    statistics::finite::larger,
    studies::verify::{
        case::Case,
        compare::{RELATIVE, magnitude},
        reference::LensFacts,
        report::VerifyError,
    },
};

/// The baseline forward.
pub(super) struct Base {
    /// Per layer, `[T, width]`, before anything is added to it.
    pub(super) resid_post: Vec<Tensor<2>>,
    /// Per layer after which something is added, `[T, width]`: the input of the next.
    pub(super) resid_in: Vec<Tensor<2>>,
    /// `[T, V]`.
    pub(super) logits: Vec<f32>,
}

/// Runs and compares it.
pub(super) fn baseline(case: &mut Case<'_>, rows: Rows) -> Result<Base, VerifyError> {
    let vlm = case.vlm;
    let mut decoding = Decoding::new(vlm, &[], 0, case.cancel)?;
    let all = Keep::rows(0..rows.len());
    let hooks = Hooks { pattern: all, resid_every: 1, ..Hooks::default() };
    let forward = decoding.pass(rows.clone(), hooks)?;
    let inputs: Vec<Tensor<2>> = forward.recorded.resid_pre.iter().map(|(_, resid)| resid.clone()).collect();
    let mut resid_post: Vec<Tensor<2>> = inputs.iter().skip(1).chain([&forward.resid]).cloned().collect();
    let mut resid_in = Vec::new();
    for &(layer, _) in &rows.added {
        let input = std::mem::replace(&mut resid_post[layer], alone(case, &rows, layer, &inputs[layer])?);
        case.relative(&format!("resid_in.{}", layer + 1), &host(input.clone())?)?;
        resid_in.push(input);
    }
    for (k, resid) in inputs.iter().take(1).chain(&resid_post[..inputs.len() - 1]).enumerate() {
        case.relative(&format!("hidden.{k}"), &host(resid.clone())?)?;
    }
    let n = forward.recorded.resid_pre.len();
    let normed = vlm.decoder.norm(forward.resid.clone());
    case.relative(&format!("hidden.{n}"), &host(normed)?)?;
    case.relative("resid_last", &host(forward.resid.clone())?)?;
    for (k, pattern) in by_layer(forward.recorded.pattern) {
        case.pattern(&format!("attn.{k}"), &host(pattern)?, None)?;
    }
    let logits = host(vlm.decoder.unembed(forward.resid.clone()))?;
    case.relative("logits", &logits)?;
    Ok(Base { resid_post, resid_in, logits })
}

/// `[T, width]`: what one layer makes of its input, nothing added.
fn alone(case: &Case<'_>, rows: &Rows, layer: usize, input: &Tensor<2>) -> Result<Tensor<2>, VerifyError> {
    let (positions, read) = (rows.positions.as_slice(), rows.len());
    let step = Step { resid: input.clone(), positions, added: &[], layers: layer..layer + 1, read };
    let forward = case.vlm.decoder.forward(step, &mut KvCache::default(), &Hooks::default(), case.cancel);
    Ok(forward.map_err(DecodingError::from)?.resid)
}

/// Layer, and `[heads, rows, keys]`: the attention of a pass that kept all layers.
pub(super) fn by_layer(pattern: Option<Tensor<4>>) -> impl Iterator<Item = (usize, Tensor<3>)> {
    let layers = pattern.as_ref().map_or(0, |pattern| pattern.dims()[0]);
    let layer = move |k: usize| Some((k, pattern.clone()?.narrow(0, k, 1).squeeze_dim(0)));
    (0..layers).filter_map(layer)
}

/// What residuals say, by the reference's `name`. Its ids are looked up in our logits, so that near-ties may swap and
/// nothing else.
pub(super) fn lens(case: &mut Case<'_>, name: &str, resids: &[Tensor<2>]) -> Result<(), VerifyError> {
    let [top_ids, top_logits] = ["top_ids", "top_logits"].map(|part| format!("{name}.{part}"));
    let Some(ids) = case.find(&top_ids) else { return Ok(()) };
    let want = case.get(&top_logits)?;
    let (vocabulary, k) = (case.vlm.config.text.vocabulary, ids.shape.last().copied().unwrap_or(0));
    let values = (resids.len() * case.len).checked_mul(k);
    if k == 0 || Some(ids.values.len()) != values || Some(want.values.len()) != values {
        return Err(case.unfit(&top_ids, format!("has shape {:?}", ids.shape)));
    }
    let tolerance = RELATIVE * magnitude(&want.values);
    let (mut sorted, mut named, mut gap) = (0.0f64, 0.0f64, f64::INFINITY);
    for (layer, resid) in resids.iter().enumerate() {
        let logits = host(case.vlm.decoder.unembed(resid.clone()))?;
        for (row, logits) in logits.chunks(vocabulary).enumerate() {
            let at = (layer * case.len + row) * k;
            let best = top(logits, k + 1);
            let stored = want.values[at..at + k].iter().zip(&ids.values[at..at + k]);
            for ((want, id), (_, ours)) in stored.zip(&best) {
                sorted = larger(sorted, (f64::from(*ours) - want).abs());
                let ours = logits.get(*id as usize).copied().unwrap_or(f32::NAN);
                named = larger(named, (f64::from(ours) - want).abs());
            }
            gap = best.windows(2).map(|w| f64::from(w[0].1 - w[1].1)).fold(gap, f64::min);
        }
    }
    case.push(&top_logits, sorted, tolerance, String::new());
    case.push(&top_ids, named, tolerance, "our logits at the reference's ids".to_string());
    let gap_of = |l: &LensFacts| l.min_gap_top6.filter(|_| name == "lens");
    if let Some(want) = case.facts.lens.as_ref().and_then(gap_of) {
        case.push("lens.min_gap_top6", (gap - want).abs(), 2.0 * tolerance, String::new());
    }
    Ok(())
}
