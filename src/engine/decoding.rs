//! One sequence through the decoder: prefill, decode steps or a forced answer, under cuts; from the
//! start, or from where another sequence's cache still holds.
//!
//! Needs embeddings, not a tokenizer: `run` and `verify` stand on it. Patterns come as device tensors,
//! `[layers, heads, keys]`; logits as host rows, `[vocabulary]`; residuals as `[rows, width]`.

use burn::tensor::{Int, Tensor, TensorData};

use crate::{engine::masks, model::{decoder::{Forward, Step}, hooks::{Hooks, Keep}, kv_cache::KvCache, vlm::Vlm}, progress::{Cancel, Cancelled}, spec::knockout::{Cut, KnockoutError}};

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
    /// Per cut.
    blocked_mass: Vec<f32>,
}

/// What one row gives.
#[derive(Debug)]
pub struct Row {
    /// `[vocabulary]`.
    pub logits: Vec<f32>,
    /// `[layers, heads, keys]`, of the kept layers and heads; `None` where the row was not to be kept.
    pub pattern: Option<Tensor<3>>,
}

/// What a pass gives whose last rows are read.
#[derive(Debug)]
pub struct Passed {
    /// Oldest first.
    pub rows: Vec<Row>,
    /// What the hooks kept: layer and `[rows, width]`, all rows of the pass.
    pub resid_pre: Vec<(usize, Tensor<2>)>,
    /// `[read rows, width]`: output of the last block, not normed.
    pub resid_post: Tensor<2>,
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
        Self::from_cache(vlm, cuts, n_rows, cancel, KvCache::default())
    }

    /// A sequence of at most `n_rows` rows, in all, that goes on where `cache` ends: whatever the cuts
    /// change must come after.
    ///
    /// # Errors
    /// [`KnockoutError::NothingLeft`], before anything runs.
    pub fn from_cache(
        vlm: &'a Vlm,
        cuts: &'a [Cut],
        n_rows: usize,
        cancel: &'a Cancel,
        cache: KvCache,
    ) -> Result<Self, DecodingError> {
        let text = &vlm.config.text;
        masks::check_something_left(cuts, n_rows, text.n_layers, text.n_heads)?;
        Ok(Decoding { vlm, cuts, cancel, cache, blocked_mass: vec![0.0; cuts.len()] })
    }

    /// The same sequence so far, to be continued apart: what several sequences share is run once.
    /// The cache's tensors are shared too, until one side appends to them.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Keys and values so far.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Forgets all rows after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.cache.truncate(len);
    }

    /// Runs rows that continue the sequence at consecutive positions through every layer; the hooks'
    /// cuts are set here.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn pass(&mut self, embeds: Tensor<2>, hooks: Hooks) -> Result<Forward, DecodingError> {
        let read = embeds.dims()[0];
        self.pass_from(0, self.cache.len(), embeds, read, hooks)
    }

    /// Runs rows through the layers from `layer` on, given the input of that layer, and gives the output
    /// of the last `read` of them. They overwrite the rows from `first` on in these layers' caches; the
    /// layers below keep theirs.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn pass_from(
        &mut self,
        layer: usize,
        first: usize,
        resid: Tensor<2>,
        read: usize,
        mut hooks: Hooks,
    ) -> Result<Forward, DecodingError> {
        let layers = layer..self.vlm.config.text.n_layers;
        let rows = resid.dims()[0];
        hooks.blocked = masks::for_pass(self.cuts, first, rows, layers.end);
        let position = self.cache.next_position() - (self.cache.len() - first) as u32;
        let positions: Vec<u32> = (position..position + rows as u32).collect();
        self.cache.rewind(layers.clone(), first);
        let step = Step { resid, positions: &positions, layers, read };
        let forward = self.vlm.decoder.forward(step, &mut self.cache, &hooks, self.cancel)?;
        let masses = &forward.recorded.blocked_mass;
        if !masses.is_empty() {
            let all = Tensor::cat(masses.iter().map(|(_, _, m)| m.clone()).collect(), 0);
            for ((_, tag, _), mass) in masses.iter().zip(host(all)?) {
                self.blocked_mass[*tag] = self.blocked_mass[*tag].max(mass);
            }
        }
        Ok(forward)
    }

    /// Runs rows through every layer and returns what the last `n` of them predict, oldest first, with
    /// the attention of every layer and head.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn rows(&mut self, embeds: Tensor<2>, n: usize) -> Result<Vec<Row>, DecodingError> {
        let rows = embeds.dims()[0];
        let hooks = Hooks { pattern: Keep::rows(rows - n..rows), ..Hooks::default() };
        Ok(self.rows_from(0, self.cache.len(), embeds, [n, n], hooks)?.rows)
    }

    /// [`Decoding::pass_from`]: what the last `n` rows predict, and the output of the last `read`, of which
    /// these are the end.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn rows_from(
        &mut self,
        layer: usize,
        first: usize,
        resid: Tensor<2>,
        [n, read]: [usize; 2],
        hooks: Hooks,
    ) -> Result<Passed, DecodingError> {
        let kept = hooks.pattern.rows.clone();
        let rows = resid.dims()[0];
        let Forward { resid, mut recorded } = self.pass_from(layer, first, resid, read, hooks)?;
        let logits = host(self.vlm.decoder.unembed(resid.clone().narrow(0, read - n, n)))?;
        let resid_pre = std::mem::take(&mut recorded.resid_pre);
        let mut pattern = recorded.pattern;
        let mut pattern_of = |row: usize| {
            let at = kept.binary_search(&row).ok()?;
            // The last row takes the tensor itself: a decode step's numbers are not copied once more.
            let pattern = if at + 1 == kept.len() { pattern.take()? } else { pattern.clone()? };
            let [layers, heads, rows, all] = pattern.dims();
            let keys = first + row + 1;
            let row =
                if rows == 1 && keys == all { pattern } else { pattern.narrow(2, at, 1).narrow(3, 0, keys) };
            Some(row.reshape([layers, heads, keys]))
        };
        let vocabulary = self.vlm.config.text.vocabulary;
        let row = |(at, logits): (usize, &[f32])| Row {
            logits: logits.to_vec(),
            pattern: pattern_of(rows - n + at),
        };
        Ok(Passed {
            rows: logits.chunks(vocabulary).enumerate().map(row).collect(),
            resid_pre,
            resid_post: resid,
        })
    }

    /// Runs rows and returns the last one's logits, `[vocabulary]`, for callers that need no pattern.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn logits(&mut self, embeds: Tensor<2>) -> Result<Vec<f32>, DecodingError> {
        let resid = self.pass_from(0, self.cache.len(), embeds, 1, Hooks::default())?.resid;
        host(self.vlm.decoder.unembed(resid))
    }

    /// Per cut: the pairs that it blocks a layer among the rows so far, and the largest value that was
    /// left on any of them.
    pub fn proof(&self) -> impl Iterator<Item = (Vec<u64>, f32)> + '_ {
        let pairs = |cut: &Cut| -> Vec<u64> {
            let here = masks::pairs(cut, 0..self.cache.len());
            let cuts = |layer: &bool| *layer && cut.heads.contains(&true);
            cut.layers.iter().map(|layer| if cuts(layer) { here } else { 0 }).collect()
        };
        self.cuts.iter().map(pairs).zip(self.blocked_mass.iter().copied())
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
    let k = k.min(values.len());
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
    for (i, &value) in values.iter().enumerate() {
        // Almost every value of a vocabulary falls out at this comparison.
        if best.len() < k || best.last().is_some_and(|(_, worst)| value.total_cmp(worst).is_gt()) {
            let at = best.partition_point(|(_, held)| held.total_cmp(&value).is_ge());
            best.insert(at, (i, value));
            best.truncate(k);
        }
    }
    best
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
