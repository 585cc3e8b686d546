//! One forward over the whole prompt, nothing cut: everything inside it, and every layer's lens.
//!
//! Residuals are `[T, width]`, logits `[T, V]`.

use burn::tensor::Tensor;

use crate::{
    engine::{
        decoding::{Decoding, Rows, host},
        logits::top,
    },
    model::hooks::{Hooks, Keep},
    statistics::finite::larger,
    studies::verify::{
        case::Case,
        compare::{RELATIVE, magnitude},
        report::VerifyError,
    },
};

/// The baseline forward.
pub(super) struct Base {
    /// Per layer, `[T, width]`.
    pub(super) resid_post: Vec<Tensor<2>>,
    /// `[T, V]`.
    pub(super) logits: Vec<f32>,
}

/// Runs and compares it.
pub(super) fn baseline(case: &mut Case<'_>, rows: Rows) -> Result<Base, VerifyError> {
    let vlm = case.vlm;
    let mut decoding = Decoding::new(vlm, &[], 0, case.cancel)?;
    let all = Keep::rows(0..rows.len());
    let hooks = Hooks { pattern: all, resid_every: 1, ..Hooks::default() };
    let forward = decoding.pass(rows, hooks)?;
    for (k, resid) in &forward.recorded.resid_pre {
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
    let later = forward.recorded.resid_pre.into_iter().skip(1).map(|(_, resid)| resid);
    Ok(Base { resid_post: later.chain([forward.resid]).collect(), logits })
}

/// Layer, and `[heads, rows, keys]`: the attention of a pass that kept all layers.
pub(super) fn by_layer(pattern: Option<Tensor<4>>) -> impl Iterator<Item = (usize, Tensor<3>)> {
    let layers = pattern.as_ref().map_or(0, |pattern| pattern.dims()[0]);
    let layer = move |k: usize| Some((k, pattern.clone()?.narrow(0, k, 1).squeeze_dim(0)));
    (0..layers).filter_map(layer)
}

/// The reference's ids are looked up in our logits, so that near-ties may swap and nothing else.
pub(super) fn lens(case: &mut Case<'_>, resid_post: &[Tensor<2>]) -> Result<(), VerifyError> {
    let Some(ids) = case.find("lens.top_ids") else { return Ok(()) };
    let want = case.get("lens.top_logits")?;
    let (vocabulary, k) = (case.vlm.config.text.vocabulary, ids.shape.last().copied().unwrap_or(0));
    let values = (resid_post.len() * case.len).checked_mul(k);
    if k == 0 || Some(ids.values.len()) != values || Some(want.values.len()) != values {
        return Err(case.unfit("lens.top_ids", format!("has shape {:?}", ids.shape)));
    }
    let tolerance = RELATIVE * magnitude(&want.values);
    let (mut sorted, mut named, mut gap) = (0.0f64, 0.0f64, f64::INFINITY);
    for (layer, resid) in resid_post.iter().enumerate() {
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
    case.push("lens.top_logits", sorted, tolerance, String::new());
    case.push("lens.top_ids", named, tolerance, "our logits at the reference's ids".to_string());
    if let Some(want) = case.facts.lens.as_ref().and_then(|l| l.min_gap_top6) {
        case.push("lens.min_gap_top6", (gap - want).abs(), 2.0 * tolerance, String::new());
    }
    Ok(())
}
