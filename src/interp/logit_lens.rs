//! Logit lens: the residual stream after any layer, read through the final norm and the head.
//!
//! nostalgebraist's method as used on visual tokens by Neo et al. (arXiv 2410.07149). The input is
//! the stream *before* the final norm, also for the last layer, so nothing is normed twice.

use burn::tensor::Tensor;

use crate::{
    decoding::{DecodingError, host, top},
    model::Vlm,
};

/// For every row of `resid` (`[rows, width]`, a block's output): its `k` likeliest ids and their
/// logits, best first.
///
/// # Errors
/// [`DecodingError::Device`].
pub fn top_ids(vlm: &Vlm, resid: Tensor<2>, k: usize) -> Result<Vec<Vec<(usize, f32)>>, DecodingError> {
    let logits = host(vlm.decoder.unembed(resid))?;
    Ok(logits.chunks(vlm.config.text.vocabulary).map(|row| top(row, k)).collect())
}
