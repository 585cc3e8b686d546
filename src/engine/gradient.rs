//! Integrated gradients: how much each visual token speaks for the answer.
//!
//! Sundararajan et al. (arXiv 1703.01365), as Neo et al. (arXiv 2410.07149) use it to choose tokens:
//! the path runs from every visual token being their mean to what they are, in [`STEPS`] midpoint
//! steps; the target is the log probability of the whole answer, teacher-forced. Embeddings are
//! `[rows, width]`; gradients come from burn's autodiff through the hooked decoder itself, one block at
//! a time from the last to the first, so that what one block leaves for its way back is all that is
//! ever held.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData, activation::log_softmax};

use crate::{
    engine::{
        decoding::{DecodingError, Rows, host, place_rows},
        place::Place,
        see::rows_of,
    },
    model::{
        decoder::{Forward, Step},
        hooks::Hooks,
        kv_cache::KvCache,
        vlm::Vlm,
    },
    progress::{Cancel, Cancelled},
};

/// Points on the path.
pub const STEPS: usize = 50;

/// For every visual position, the part of the answer's log probability (in nats, against the mean
/// tokens) that is due to it. They sum to the difference between the two ends of the path, but for the
/// error of the steps. `prompt` holds the prompt's rows. `on_step` hears of every step done, and
/// of how many there are.
///
/// # Errors
/// [`DecodingError`]; stops within one block of being told.
pub fn attributions(
    vlm: &Vlm,
    prompt: Rows,
    visual: &[usize],
    answer: &[u32],
    cancel: &Cancel,
    on_step: &mut dyn FnMut(usize, usize),
) -> Result<Vec<f32>, DecodingError> {
    if visual.is_empty() || answer.is_empty() {
        return Ok(vec![0.0; visual.len()]);
    }
    let given = &answer[..answer.len() - 1];
    let rows = if given.is_empty() { prompt } else { prompt.then_text(vlm.decoder.embed(given)) };
    let base = at_mean(&rows.resid, visual);
    let way = rows.resid.clone() - base.clone();
    let mut gradients = Tensor::zeros(way.dims(), &vlm.device);
    for step in 0..STEPS {
        let share = (step as f32 + 0.5) / STEPS as f32;
        gradients =
            gradients + gradient(vlm, &rows.with(base.clone() + way.clone() * share), answer, cancel)?;
        on_step(step + 1, STEPS);
    }
    let parts = host((gradients * way / STEPS as f32).sum_dim(1))?;
    Place::Gradients.check(vlm, &parts)?;
    Ok(visual.iter().map(|&p| parts[p]).collect())
}

/// The rows with every visual one replaced by their mean.
pub fn at_mean(input: &Tensor<2>, visual: &[usize]) -> Tensor<2> {
    let mean = rows_of(input, visual).mean_dim(0);
    let width = input.dims()[1];
    place_rows(input.clone(), visual, mean.expand([visual.len(), width]))
}

/// `[1]`: the log probability of an answer whose given part stands at the end of `input`.
///
/// # Errors
/// [`DecodingError::Cancelled`].
pub fn log_probability(
    vlm: &Vlm,
    input: &Rows,
    answer: &[u32],
    cancel: &Cancel,
) -> Result<Tensor<1>, DecodingError> {
    let out = through(vlm, input, vlm.decoder.all_layers(), &Hooks::default(), cancel)?;
    Ok(of_answer(vlm, out.resid, answer))
}

/// `[rows, width]`: the gradient of [`log_probability`] at `input`.
fn gradient(vlm: &Vlm, input: &Rows, answer: &[u32], cancel: &Cancel) -> Result<Tensor<2>, DecodingError> {
    let hooks = Hooks { resid_every: 1, ..Hooks::default() };
    let out = through(vlm, input, vlm.decoder.all_layers(), &hooks, cancel)?;
    let top = out.resid.autodiff().require_grad();
    let mut gradient = back(&top, of_answer(vlm, top.clone(), answer))?;
    for (layer, resid) in out.recorded.resid_pre.into_iter().rev() {
        let x = resid.autodiff().require_grad();
        let y = through(vlm, &input.with(x.clone()), layer..layer + 1, &Hooks::default(), cancel)?.resid;
        gradient = back(&x, (y * gradient.autodiff()).sum())?;
    }
    Ok(gradient)
}

/// The gradient of `y` in `x`.
fn back(x: &Tensor<2>, y: Tensor<1>) -> Result<Tensor<2>, DecodingError> {
    let found = x.grad(&y.backward());
    found.ok_or_else(|| DecodingError::Device("no gradient came back".into()))
}

/// The first rows of a sequence through some layers.
fn through(
    vlm: &Vlm,
    rows: &Rows,
    layers: Range<usize>,
    hooks: &Hooks,
    cancel: &Cancel,
) -> Result<Forward, Cancelled> {
    let Rows { resid, positions, added } = rows;
    let step = Step { resid: resid.clone(), positions, added, layers, read: rows.len() };
    vlm.decoder.forward(step, &mut KvCache::default(), hooks, cancel)
}

/// `[1]`: the log probability of an answer that the last of some rows predict, given the last block's
/// output.
fn of_answer(vlm: &Vlm, resid: Tensor<2>, answer: &[u32]) -> Tensor<1> {
    let (rows, n) = (resid.dims()[0], answer.len());
    let logits = vlm.decoder.unembed(resid.narrow(0, rows - n, n));
    let ids: Vec<i32> = answer.iter().map(|&id| id as i32).collect();
    let ids = Tensor::from_data(TensorData::new(ids, [n, 1]), &vlm.device);
    log_softmax(logits, 1).gather(1, ids).sum()
}
