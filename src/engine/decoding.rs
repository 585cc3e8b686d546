//! One sequence through the decoder: prefill, decode steps or a forced answer, under cuts; from the
//! start, or from where another sequence's cache still holds.
//!
//! Needs embeddings, not a tokenizer: runs and `verify` stand on it. Patterns come as device tensors,
//! `[layers, heads, keys]`; logits as host rows, `[vocabulary]`; residuals as `[rows, width]`.

use std::ops::Range;

use burn::tensor::{DType, Tensor};
use half::f16;

use crate::{
    checkpoint::weights::WeightDtype,
    device::remote::{self, RemoteError},
    engine::{masks, place::Place},
    model::{
        decoder::{Forward, Step},
        hooks::{Hooks, Keep},
        kv_cache::KvCache,
        nn::index,
        rotary::Position,
        vlm::Vlm,
    },
    progress::{Cancel, Cancelled},
    spec::{
        knockout::{Cut, KnockoutError},
        record::gigabytes,
    },
    statistics::finite::{all_finite, larger},
};

/// Answer rows that go through together where an answer is given: while they do, what is kept of their
/// attention is as wide as the last of them, and their logits are held twice.
pub const TOGETHER: usize = 128;

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
    /// A tensor that the device does not take in one piece.
    #[error(
        "a pass of {rows} rows needs {} in one piece, and the device takes {} at most: use a smaller image or less text, record fewer layers or heads, or use --device cpu",
        gigabytes(*bytes as u64),
        gigabytes(*most as u64)
    )]
    Large {
        /// Rows of the pass.
        rows: usize,
        /// Its largest tensor.
        bytes: usize,
        /// What the device takes.
        most: usize,
    },
    /// The device is elsewhere, and its connection broke.
    #[error(transparent)]
    Lost(#[from] RemoteError),
    /// NaN or an infinity: nothing that follows would mean anything.
    #[error("{place} holds numbers that are none (NaN, infinite, or too large to go on with): {advice}")]
    NotFinite {
        /// Where they are first found.
        place: Place,
        /// What to do.
        advice: &'static str,
    },
    /// More than half precision can hold.
    #[error("{place} reaches {value}, beyond float16's range (65504): {advice}")]
    BeyondHalf {
        /// Where.
        place: Place,
        /// The largest value; infinite where it was rounded already.
        value: f32,
        /// What to do.
        advice: &'static str,
    },
}

impl Place {
    /// The error of numbers that are none.
    pub(super) fn not_finite(self, vlm: &Vlm) -> DecodingError {
        let half = vlm.caches_half() || vlm.formats.used.contains(&WeightDtype::F16);
        let advice = match half {
            true => "load the model with --dtype f32",
            false => {
                "the weights and settings of this model do not go together, or are damaged; download them again"
            }
        };
        DecodingError::NotFinite { place: self, advice }
    }

    /// Refuses numbers that are none.
    ///
    /// # Errors
    /// [`DecodingError::NotFinite`].
    pub(crate) fn check(self, vlm: &Vlm, values: &[f32]) -> Result<(), DecodingError> {
        if all_finite(values) { Ok(()) } else { Err(self.not_finite(vlm)) }
    }
}

/// Rows that enter a layer, and where they stand.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `[rows, width]`.
    pub resid: Tensor<2>,
    /// One a row.
    pub positions: Vec<Position>,
    /// What is added after a layer: its number, and `[rows, width]`, 0 where nothing is.
    pub added: Vec<(usize, Tensor<2>)>,
}

impl Rows {
    /// Rows of text.
    pub fn text(resid: Tensor<2>, positions: Vec<Position>) -> Self {
        Rows { resid, positions, added: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Some of them.
    pub fn part(&self, Range { start, end }: Range<usize>) -> Rows {
        let narrow = |t: &Tensor<2>| t.clone().narrow(0, start, end - start);
        Rows {
            resid: narrow(&self.resid),
            positions: self.positions[start..end].to_vec(),
            added: self.added.iter().map(|(layer, t)| (*layer, narrow(t))).collect(),
        }
    }

    /// The same with other numbers in the same places.
    pub fn with(&self, resid: Tensor<2>) -> Rows {
        Rows { resid, ..self.clone() }
    }

    /// These rows, then `embeds`, `[rows, width]`, as text that goes on behind them.
    pub fn then_text(self, embeds: Tensor<2>) -> Rows {
        let [n, width] = embeds.dims();
        let next = self.positions.iter().flatten().max().map_or(0, |&last| last + 1);
        let positions = self.positions.into_iter().chain((next..next + n as u32).map(|p| [p; 3]));
        let zeros = Tensor::zeros([n, width], &embeds.device());
        Rows {
            positions: positions.collect(),
            added: self
                .added
                .into_iter()
                .map(|(layer, t)| (layer, Tensor::cat(vec![t, zeros.clone()], 0)))
                .collect(),
            resid: Tensor::cat(vec![self.resid, embeds], 0),
        }
    }
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
    /// `[layers that ran, rows, groups]`, all rows of the pass; `None` where the hooks asked for no groups.
    pub groups: Option<Tensor<3>>,
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

    /// Text, `[rows, width]`, as rows that continue the sequence.
    pub fn text(&self, embeds: Tensor<2>) -> Rows {
        let positions = self.cache.next_positions(embeds.dims()[0]);
        Rows::text(embeds, positions)
    }

    /// Runs rows that continue the sequence through every layer; the hooks' cuts are set here.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn pass(&mut self, rows: Rows, hooks: Hooks) -> Result<Forward, DecodingError> {
        let read = rows.len();
        self.pass_from(0, self.cache.len(), rows, read, hooks)
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
        rows: Rows,
        read: usize,
        mut hooks: Hooks,
    ) -> Result<Forward, DecodingError> {
        if let Some([bytes, most]) =
            self.vlm.decoder.too_large(rows.len(), first + rows.len(), &hooks.pattern)
        {
            return Err(DecodingError::Large { rows: rows.len(), bytes, most });
        }
        let layers = layer..self.vlm.config.text.n_layers;
        hooks.blocked = masks::for_pass(self.cuts, first, rows.len(), layers.end);
        self.cache.rewind(layers.clone(), first);
        let Rows { resid, positions, added } = rows;
        let step = Step { resid, positions: &positions, added: &added, layers, read };
        let forward = self.vlm.decoder.forward(step, &mut self.cache, &hooks, self.cancel)?;
        let masses = &forward.recorded.blocked_mass;
        if !masses.is_empty() {
            let all = Tensor::cat(masses.iter().map(|(_, _, m)| m.clone()).collect(), 0);
            for ((_, tag, _), mass) in masses.iter().zip(host(all)?) {
                self.blocked_mass[*tag] = larger(self.blocked_mass[*tag], mass);
            }
        }
        Ok(forward)
    }

    /// Runs rows through every layer and returns what the last `n` of them predict, oldest first, with
    /// the attention of every layer and head.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn rows(&mut self, rows: Rows, n: usize) -> Result<Vec<Row>, DecodingError> {
        let hooks = Hooks { pattern: Keep::rows(rows.len() - n..rows.len()), ..Hooks::default() };
        Ok(self.rows_from(0, self.cache.len(), rows, [n, n], hooks)?.rows)
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
        rows: Rows,
        [n, read]: [usize; 2],
        hooks: Hooks,
    ) -> Result<Passed, DecodingError> {
        let kept = hooks.pattern.rows.clone();
        let (n_rows, again) = (rows.len(), rows.clone());
        let Forward { resid, mut recorded } = self.pass_from(layer, first, rows, read, hooks)?;
        let logits = host(self.vlm.decoder.unembed(resid.clone().narrow(0, read - n, n)))?;
        self.check_logits(&logits, layer, first, again)?;
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
            pattern: pattern_of(n_rows - n + at),
        };
        Ok(Passed {
            rows: logits.chunks(vocabulary).enumerate().map(row).collect(),
            groups: recorded.groups,
            resid_pre,
            resid_post: resid,
        })
    }

    /// How many answer rows go through together where the last sees so many keys: [`TOGETHER`], or as many as the
    /// device holds what is kept of.
    pub fn together(&self, keys: usize) -> usize {
        TOGETHER.min(self.vlm.decoder.most_rows(keys))
    }

    /// Runs rows and returns the last one's logits, `[vocabulary]`, for callers that need no pattern.
    ///
    /// # Errors
    /// [`DecodingError`].
    pub fn logits(&mut self, rows: Rows) -> Result<Vec<f32>, DecodingError> {
        let (first, again) = (self.cache.len(), rows.clone());
        let resid = self.pass_from(0, first, rows, 1, Hooks::default())?.resid;
        let logits = host(self.vlm.decoder.unembed(resid))?;
        self.check_logits(&logits, 0, first, again)?;
        Ok(logits)
    }

    /// Refuses a pass that went wrong. NaN reaches the logits from wherever it arises, and rows too large to be
    /// normed make them all 0: a sound pass is looked at there alone, and one that looks broken is run again with
    /// every layer watched, for the first that gave no numbers.
    fn check_logits(
        &mut self,
        logits: &[f32],
        layer: usize,
        first: usize,
        rows: Rows,
    ) -> Result<(), DecodingError> {
        let text = &self.vlm.config.text;
        if is_sound(logits, text.vocabulary) {
            return Ok(());
        }
        let (read, n_layers) = (rows.len(), text.n_layers);
        let hooks = Hooks { resid_every: 1, ..Hooks::default() };
        let Forward { resid, recorded } = self.pass_from(layer, first, rows, read, hooks)?;
        for (n, resid) in recorded.resid_pre.into_iter().chain([(n_layers, resid)]) {
            if !is_finite(&resid)? {
                // A layer whose keys were rounded to infinities gives none.
                self.check_cache(n)?;
                let place = if n == layer { Place::Input(n) } else { Place::entering(n) };
                return Err(place.not_finite(self.vlm));
            }
        }
        if all_finite(logits) { Ok(()) } else { Err(Place::Logits.not_finite(self.vlm)) }
    }

    /// Refuses keys and values, of all rows so far in the first `layers` layers, that half precision could
    /// not hold: an infinite key draws no attention or all of it, which the logits need not show.
    ///
    /// # Errors
    /// [`DecodingError::BeyondHalf`]; [`DecodingError::Device`].
    pub fn check_cache(&self, layers: usize) -> Result<(), DecodingError> {
        if !self.vlm.caches_half() {
            return Ok(());
        }
        check_largest(self.cache.largest().filter(|(layer, _)| *layer < layers))
    }

    /// [`Decoding::check_cache`] of every layer.
    ///
    /// # Errors
    /// As [`Decoding::check_cache`].
    pub fn check(&self) -> Result<(), DecodingError> {
        self.check_cache(self.vlm.config.text.n_layers)
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
/// [`DecodingError::Device`], [`DecodingError::Lost`].
pub fn host<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DecodingError> {
    let device = tensor.device();
    tensor.try_into_vec_as::<f32>().map_err(|e| match remote::check(&device) {
        Err(lost) => lost.into(),
        Ok(()) => DecodingError::Device(e.to_string()),
    })
}

/// Whether a tensor holds numbers only, with squares that are numbers too: norms take them.
pub(super) fn is_finite<const D: usize>(tensor: &Tensor<D>) -> Result<bool, DecodingError> {
    let squares = tensor.clone().cast(DType::F32).square();
    // One number to read back, and none if any square is; that of sound ones might overflow, though.
    Ok(all_finite(&host(squares.clone().sum())?) || all_finite(&host(squares)?))
}

/// Whether rows of `vocabulary` logits are what a sound pass gives: NaN reaches them from wherever it arises, and rows too
/// large to be normed make them all 0.
pub(super) fn is_sound(logits: &[f32], vocabulary: usize) -> bool {
    all_finite(logits) && !logits.chunks(vocabulary).any(|row| row.iter().all(|&logit| logit == 0.0))
}

/// Refuses keys and values that half precision could not hold, given the largest magnitude, `[1]`, by layer.
///
/// # Errors
/// [`DecodingError::BeyondHalf`]; [`DecodingError::Device`].
pub(super) fn check_largest(
    largest: impl IntoIterator<Item = (usize, Tensor<1>)>,
) -> Result<(), DecodingError> {
    let (layers, largest): (Vec<usize>, Vec<Tensor<1>>) = largest.into_iter().unzip();
    if largest.is_empty() {
        return Ok(());
    }
    let values = host(Tensor::cat(largest, 0))?;
    // Some devices round what is too large to the largest number that there is.
    match layers.iter().zip(values).find(|(_, value)| *value >= f16::MAX.to_f32()) {
        Some((&layer, value)) => Err(DecodingError::BeyondHalf {
            place: Place::Cache(layer),
            value,
            advice: "load the model with --dtype f32",
        }),
        None => Ok(()),
    }
}

/// Refuses residuals, `[rows, width]` by the layer that they enter, that half precision could not hold.
///
/// # Errors
/// [`DecodingError::BeyondHalf`]; [`DecodingError::Device`].
pub(super) fn check_half(resids: &[(usize, Tensor<2>)]) -> Result<(), DecodingError> {
    if resids.is_empty() {
        return Ok(());
    }
    let largest = resids.iter().map(|(_, resid)| resid.clone().max_abs()).collect();
    let values = host(Tensor::cat(largest, 0))?;
    match resids.iter().zip(values).find(|(_, value)| !f16::from_f32(*value).is_finite()) {
        Some(((layer, _), value)) => Err(DecodingError::BeyondHalf {
            place: Place::entering(*layer),
            value,
            advice: "residuals of this model cannot be stored in half precision; leave --half out",
        }),
        None => Ok(()),
    }
}

/// `rows` rows, of which the last `n` predict something, in the parts that go through one after the other:
/// `together` of these at a time.
pub(super) fn parts(rows: usize, n: usize, together: usize) -> Vec<Range<usize>> {
    let mut from = 0;
    let ends = (1..=n.div_ceil(together)).map(|part| rows - n + n.min(part * together));
    ends.map(|end| std::mem::replace(&mut from, end)..end).collect()
}

/// `[n, width]` with row `positions[i]` replaced by row `i` of `rows`; differentiable in both.
pub fn place_rows(base: Tensor<2>, positions: &[usize], rows: Tensor<2>) -> Tensor<2> {
    let n = base.dims()[0];
    let mut places: Vec<usize> = (0..n).collect();
    for (i, &position) in positions.iter().enumerate() {
        places[position] = n + i;
    }
    let places = index(&places, &base.device());
    Tensor::cat(vec![base, rows], 0).select(0, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_once_and_hold_so_many_that_predict() {
        assert_eq!(parts(10, 3, 128).first(), Some(&(0..10)));
        assert_eq!(parts(130, 130, 128), [0..128, 128..130]);
        assert_eq!(parts(500, 256, 128), [0..372, 372..500]);
        assert_eq!(parts(5, 3, 1), [0..3, 3..4, 4..5]);
        assert!(parts(5, 0, 128).is_empty());
    }
}
