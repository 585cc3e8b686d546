//! Keys and values of the positions that a decoder has already seen.
//!
//! `[kv heads, keys, head width]` a layer, in the format that `format_of` gives, keys already rotated; on the CPU
//! keys lie by column and values by row (`cpu::Lie`), which only `cpu` has to know. The
//! cache knows the rotary position of every key: only an uncut run of a model whose positions have one axis
//! has position = place. Does not know what the keys stand for.

use std::ops::Range;

use burn::tensor::{DType, Tensor};

use crate::model::{
    cpu::{self, Lie},
    nn::index,
    rotary::Position,
};

/// The format of keys and values of a decoder whose embeddings are in some format. Half the memory where that is
/// float16; float32 where it is bfloat16, whose 8 bits would be too few for keys, and whose range float16 lacks.
pub(super) fn format_of(embeddings: DType) -> DType {
    if embeddings == DType::F16 { DType::F16 } else { DType::F32 }
}

/// The cache of one sequence. Clones share memory until one of them grows.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Per layer; `None` for one that no row went through.
    layers: Vec<Option<(Tensor<3>, Tensor<3>)>>,
    /// Where each row that ran was turned to.
    positions: Vec<Position>,
    /// Keys of every layer, between two passes.
    len: usize,
    /// Rows that ran and whose keys were dropped since.
    dropped: usize,
}

impl KvCache {
    /// Number of keys held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rotary positions of the rows that ran.
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Rotary positions of `n` more rows of text: past the largest so far, on every axis.
    pub fn next_positions(&self, n: usize) -> Vec<Position> {
        let next = self.positions.iter().flatten().max().map_or(0, |&last| last + 1);
        (next..next + n as u32).map(|position| [position; 3]).collect()
    }

    /// Forgets everything after the first `len` keys in all layers.
    ///
    /// Meant for sequences that lost no key.
    pub fn truncate(&mut self, len: usize) {
        self.rewind(0..self.layers.len(), len);
        self.len = self.len.min(len);
        self.positions.truncate(self.len + self.dropped);
    }

    /// Lets `layers` forget everything after their first `len` keys, so that a pass over these layers
    /// alone can write the rest anew. [`KvCache::len`] stays what it was.
    pub fn rewind(&mut self, layers: Range<usize>, len: usize) {
        for layer in self.layers.iter_mut().skip(layers.start).take(layers.len()) {
            // No tensor is narrowed to nothing.
            if len == 0 {
                *layer = None;
            }
            if let Some((k, v)) = layer.as_mut().filter(|(k, _)| k.dims()[1] > len) {
                (*k, *v) = (k.clone().narrow(1, 0, len), v.clone().narrow(1, 0, len));
            }
        }
    }

    /// Keeps the keys `kept[layer]` of every layer, in that order and at their own rotation. The
    /// sequence goes on at the position it would have had.
    ///
    /// # Panics
    /// If the lists are not of one length, or name a key that is not there.
    pub fn select(&mut self, kept: &[Vec<usize>]) {
        let len = kept.first().map_or(0, Vec::len);
        for ((k, v), kept) in self.layers.iter_mut().flatten().zip(kept) {
            assert_eq!(kept.len(), len, "every layer keeps as many keys");
            let index = index(kept, &k.device());
            (*k, *v) = (k.clone().select(1, index.clone()), v.clone().select(1, index));
        }
        self.dropped = self.positions.len().saturating_sub(len);
        self.len = len;
    }

    /// Per layer that holds something: its number, and the largest magnitude among its keys and values, `[1]`,
    /// float32.
    pub fn largest(&self) -> impl Iterator<Item = (usize, Tensor<1>)> + '_ {
        let held = self.layers.iter().enumerate().filter_map(|(n, layer)| Some((n, layer.as_ref()?)));
        held.filter(|(_, (k, _))| k.dims()[1] > 0).map(|(n, (k, v))| {
            let both = [k, v].map(|t| t.clone().max_abs().cast(DType::F32));
            (n, Tensor::cat(both.into(), 0).max())
        })
    }

    /// Keys that one layer holds at the moment; differs from [`KvCache::len`] only inside a pass and
    /// after [`KvCache::rewind`].
    pub(super) fn layer_len(&self, layer: usize) -> usize {
        self.layers.get(layer).and_then(Option::as_ref).map_or(0, |(k, _)| k.dims()[1])
    }

    /// Appends the new rows of one layer, float32, in the format `dtype`, and returns all of its keys
    /// and values.
    pub(super) fn append(
        &mut self,
        layer: usize,
        k: Tensor<3>,
        v: Tensor<3>,
        dtype: DType,
    ) -> (Tensor<3>, Tensor<3>) {
        if layer >= self.layers.len() {
            self.layers.resize(layer + 1, None);
        }
        // Taken out meanwhile: their only holder may write behind the old rows.
        let (old_k, old_v) = self.layers[layer].take().unzip();
        let joined = (append(old_k, k, dtype, Lie::Columns), append(old_v, v, dtype, Lie::Rows));
        self.layers[layer] = Some(joined.clone());
        joined
    }

    /// All keys and values of rows that follow the first `first` keys of a layer: those, and the rows' own, float32, in
    /// the format `dtype`. The cache stays as it is.
    pub(super) fn followed(
        &self,
        layer: usize,
        first: usize,
        k: Tensor<3>,
        v: Tensor<3>,
        dtype: DType,
    ) -> (Tensor<3>, Tensor<3>) {
        let held = self.layers.get(layer).and_then(Option::as_ref).filter(|_| first > 0);
        let before = |t: &Tensor<3>| t.clone().narrow(1, 0, first);
        let (old_k, old_v) = held.map(|(k, v)| (before(k), before(v))).unzip();
        (append(old_k, k, dtype, Lie::Columns), append(old_v, v, dtype, Lie::Rows))
    }

    /// Notes that every layer now holds `len` keys, the last of which were turned to `positions`.
    pub(super) fn advance(&mut self, len: usize, positions: &[Position]) {
        // A resumed pass writes some rows anew.
        self.positions.truncate((len + self.dropped).saturating_sub(positions.len()));
        self.positions.extend_from_slice(positions);
        self.len = len;
    }
}

fn append(old: Option<Tensor<3>>, new: Tensor<3>, dtype: DType, lie: Lie) -> Tensor<3> {
    cpu::append(old, &new, dtype, lie).unwrap_or_else(|old| match old {
        Some(old) if old.dims()[1] > 0 => Tensor::cat(vec![old, new.cast(dtype)], 1),
        _ => new.cast(dtype),
    })
}
