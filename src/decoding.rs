//! One sequence through the decoder: prefill, decode steps or a forced answer, under cuts.
//!
//! Needs embeddings, not a tokenizer: `run` and `verify` stand on it. Row `s` is the query row that
//! predicts answer token `s`. Patterns come as device tensors, `[layers, heads, keys]`; logits as
//! host rows, `[vocabulary]`.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    knockout::{Cut, KnockoutError},
    masks,
    model::{
        Cancel, Cancelled, Vlm,
        decoder::{Forward, Step},
        hooks::{Hooks, Rows},
        kv_cache::KvCache,
    },
};

/// Why a sequence cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum DecodingError {
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A cut that leaves a row nothing.
    #[error(transparent)]
    Knockout(#[from] KnockoutError),
    /// The device failed, or ran out of memory.
    #[error(
        "the device could not return its results ({0}); a smaller image or prompt, or --device cpu, may help"
    )]
    Device(String),
}

/// A sequence in progress.
#[derive(Clone)]
pub struct Decoding<'a> {
    vlm: &'a Vlm,
    cuts: &'a [Cut],
    cancel: &'a Cancel,
    cache: KvCache,
    /// Per cut, per layer.
    pairs: Vec<Vec<u64>>,
    /// Per cut.
    blocked_mass: Vec<f32>,
}

/// What one answer row gives.
#[derive(Debug)]
pub struct Row {
    /// `[vocabulary]`.
    pub logits: Vec<f32>,
    /// `[layers, heads, keys]`.
    pub pattern: Tensor<3>,
}

impl<'a> Decoding<'a> {
    /// A fresh sequence of at most `n_rows` rows.
    ///
    /// # Errors
    /// [`KnockoutError::NothingLeft`], before anything runs.
    pub fn new(
        vlm: &'a Vlm,
        cuts: &'a [Cut],
        n_rows: usize,
        cancel: &'a Cancel,
    ) -> Result<Self, DecodingError> {
        let text = &vlm.config.text;
        masks::check_something_left(cuts, n_rows, text.n_layers, text.n_heads)?;
        Ok(Decoding {
            vlm,
            cuts,
            cancel,
            cache: KvCache::default(),
            pairs: vec![vec![0; text.n_layers]; cuts.len()],
            blocked_mass: vec![0.0; cuts.len()],
        })
    }

    /// The same sequence so far, to be continued apart: what several sequences share is run once.
    /// The cache's tensors are shared too, until one side appends to them.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Runs rows that continue the sequence at consecutive positions; the hooks' cuts are set here.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn pass(&mut self, embeds: Tensor<2>, mut hooks: Hooks) -> Result<Forward, DecodingError> {
        let text = &self.vlm.config.text;
        let (first, rows) = (self.cache.len(), embeds.dims()[0]);
        let masks = masks::for_pass(self.cuts, first, rows, text.n_layers, text.n_heads, &self.vlm.device);
        hooks.blocked = masks.blocked;
        let positions: Vec<u32> = (first..first + rows).map(|p| p as u32).collect();
        let hidden = self.vlm.causal_mask(rows, first + rows);
        let step = Step { embeds, positions: &positions, hidden };
        let forward = self.vlm.decoder.forward(step, &mut self.cache, &hooks, self.cancel)?;
        for (tag, cut) in self.cuts.iter().enumerate() {
            for layer in (0..text.n_layers).filter(|&l| cut.layers[l] && cut.heads.contains(&true)) {
                self.pairs[tag][layer] += masks.pairs[tag];
            }
        }
        let masses = &forward.recorded.blocked_mass;
        if !masses.is_empty() {
            let all = Tensor::cat(masses.iter().map(|(_, _, m)| m.clone()).collect(), 0);
            for ((_, tag, _), mass) in masses.iter().zip(host(all)?) {
                self.blocked_mass[*tag] = self.blocked_mass[*tag].max(mass);
            }
        }
        Ok(forward)
    }

    /// Runs rows and returns what the last `n` of them predict, oldest first.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn rows(&mut self, embeds: Tensor<2>, n: usize) -> Result<Vec<Row>, DecodingError> {
        let first = self.cache.len() + embeds.dims()[0] - n;
        let forward = self.pass(embeds, Hooks { pattern: Rows::Last(n), ..Hooks::default() })?;
        let rows = forward.resid.dims()[0];
        let logits = self.vlm.decoder.unembed(forward.resid.narrow(0, rows - n, n));
        let vocabulary = self.vlm.config.text.vocabulary;
        let flat = host(logits)?;
        let pattern: Tensor<4> = Tensor::stack(forward.recorded.pattern, 0);
        let [layers, heads, _, _] = pattern.dims();
        let row = |s: usize, logits: &[f32]| {
            let keys = first + s + 1;
            let pattern = pattern.clone().narrow(2, s, 1).narrow(3, 0, keys);
            Row { logits: logits.to_vec(), pattern: pattern.reshape([layers, heads, keys]) }
        };
        Ok(flat.chunks(vocabulary).enumerate().map(|(s, logits)| row(s, logits)).collect())
    }

    /// Runs rows and returns the last one's logits, `[vocabulary]`, for callers that need no pattern.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn logits(&mut self, embeds: Tensor<2>) -> Result<Vec<f32>, DecodingError> {
        let resid = self.pass(embeds, Hooks::default())?.resid;
        let rows = resid.dims()[0];
        host(self.vlm.decoder.unembed(resid.narrow(0, rows - 1, 1)))
    }

    /// Per cut: blocked pairs a layer so far, and the largest value left on any of them.
    pub fn proof(&self) -> impl Iterator<Item = (&[u64], f32)> {
        self.pairs.iter().map(Vec::as_slice).zip(self.blocked_mass.iter().copied())
    }
}

/// A tensor's values, row-major.
///
/// # Errors
/// [`DecodingError::Device`].
pub fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DecodingError> {
    tensor.try_into_vec_as::<f32>().map_err(|e| DecodingError::Device(e.to_string()))
}

/// Natural log probabilities of a row of logits, computed in float64.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&l| (l as f64 - max).exp()).sum();
    let norm = max + sum.ln();
    logits.iter().map(|&l| (l as f64 - norm) as f32).collect()
}

/// The place of the largest value, the first one on ties, as `torch.argmax`.
pub fn argmax(values: &[f32]) -> usize {
    let best = |best: usize, (i, v): (usize, &f32)| if *v > values[best] { i } else { best };
    values.iter().enumerate().fold(0, best)
}

/// The `k` largest, best first: (place, value). Ties keep their order.
pub fn top(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let k = k.min(order.len());
    let better = |&a: &usize, &b: &usize| values[b].total_cmp(&values[a]).then(a.cmp(&b));
    if k < order.len() {
        order.select_nth_unstable_by(k, better);
        order.truncate(k);
    }
    order.sort_unstable_by(better);
    order.into_iter().map(|i| (i, values[i])).collect()
}

/// `[n, width]` with row `positions[i]` replaced by row `i` of `rows`; differentiable in both.
pub fn place_rows(base: Tensor<2>, positions: &[usize], rows: Tensor<2>) -> Tensor<2> {
    let n = base.dims()[0];
    let mut index: Vec<i32> = (0..n as i32).collect();
    for (i, &position) in positions.iter().enumerate() {
        index[position] = (n + i) as i32;
    }
    let index: Tensor<1, Int> = Tensor::from_data(TensorData::new(index, [n]), &base.device());
    Tensor::cat(vec![base, rows], 0).select(0, index)
}
