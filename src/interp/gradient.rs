//! Integrated gradients: how much each visual token speaks for the answer.
//!
//! Sundararajan et al. (arXiv 1703.01365), as Neo et al. (arXiv 2410.07149) use it to choose tokens:
//! the path runs from every visual token being their mean to what they are, in [`STEPS`] midpoint
//! steps; the target is the log probability of the whole answer, teacher-forced. Embeddings are
//! `[rows, width]`; gradients come from burn's autodiff through the hooked decoder itself.

use burn::tensor::{Tensor, TensorData, activation::log_softmax};

use crate::{
    decoding::{DecodingError, host, place_rows},
    model::{Cancel, Vlm, decoder::Step, hooks::Hooks, kv_cache::KvCache},
};

/// Points on the path.
pub const STEPS: usize = 50;

/// For every visual position, the part of the answer's log probability (in nats, against the mean
/// tokens) that is due to it. They sum to the difference between the two ends of the path, but for the
/// error of the steps. `embeds` is the prompt's `[rows, width]`.
///
/// # Errors
/// [`DecodingError`].
pub fn attributions(
    vlm: &Vlm,
    embeds: Tensor<2>,
    visual: &[usize],
    answer: &[u32],
    cancel: &Cancel,
) -> Result<Vec<f32>, DecodingError> {
    if visual.is_empty() || answer.is_empty() {
        return Ok(vec![0.0; visual.len()]);
    }
    let (given, width) = (&answer[..answer.len() - 1], embeds.dims()[1]);
    let input = match given {
        [] => embeds.clone(),
        _ => Tensor::cat(vec![embeds.clone(), vlm.decoder.embed(given)], 0),
    };
    let base = at_mean(&input, visual);
    let way = input - base.clone();
    let mut gradients = Tensor::zeros(way.dims(), &vlm.device);
    for step in 0..STEPS {
        let share = (step as f32 + 0.5) / STEPS as f32;
        let x = (base.clone() + way.clone() * share).autodiff().require_grad();
        let found = log_probability(vlm, x.clone(), answer, cancel)?.backward();
        let gradient = x.grad(&found);
        gradients =
            gradients + gradient.ok_or_else(|| DecodingError::Device("no gradient came back".into()))?;
    }
    let parts = host((gradients * way / STEPS as f32).sum_dim(1))?;
    debug_assert_eq!(parts.len() * width, base.dims()[0] * width);
    Ok(visual.iter().map(|&p| parts[p]).collect())
}

/// The rows with every visual one replaced by their mean.
pub fn at_mean(input: &Tensor<2>, visual: &[usize]) -> Tensor<2> {
    let index: Vec<i32> = visual.iter().map(|&p| p as i32).collect();
    let n = index.len();
    let index = Tensor::from_data(TensorData::new(index, [n]), &input.device());
    let mean = input.clone().select(0, index).mean_dim(0);
    let width = input.dims()[1];
    place_rows(input.clone(), visual, mean.expand([n, width]))
}

/// `[1]`: the log probability of an answer whose given part stands at the end of `input`.
///
/// # Errors
/// [`DecodingError::Cancelled`].
pub fn log_probability(
    vlm: &Vlm,
    input: Tensor<2>,
    answer: &[u32],
    cancel: &Cancel,
) -> Result<Tensor<1>, DecodingError> {
    let (rows, n) = (input.dims()[0], answer.len());
    let positions: Vec<u32> = (0..rows as u32).collect();
    let step = Step { resid: input, positions: &positions, layers: vlm.decoder.all_layers() };
    let out = vlm.decoder.forward(step, &mut KvCache::default(), &Hooks::default(), cancel)?;
    let logits = vlm.decoder.unembed(out.resid.narrow(0, rows - n, n));
    let ids: Vec<i32> = answer.iter().map(|&id| id as i32).collect();
    let ids = Tensor::from_data(TensorData::new(ids, [n, 1]), &vlm.device);
    Ok(log_softmax(logits, 1).gather(1, ids).sum())
}
