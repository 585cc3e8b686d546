//! Keys and values of the positions that a decoder has already seen.
//!
//! `[kv heads, keys, head width]` a layer, in the chosen weight format, keys already rotated; on the CPU
//! keys lie by column and values by row (`cpu::Lie`), which only `cpu` has to know. The
//! cache knows which rotary position comes next: only an uncompressed run has position = number of
//! keys. Does not know what the keys stand for.

use std::ops::Range;

use burn::tensor::{DType, Int, Tensor, TensorData};

use crate::model::cpu::{kernels as cpu, kernels::Lie};

/// The cache of one sequence. Clones share memory until one of them grows.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Per layer; `None` for one that no row went through.
    layers: Vec<Option<(Tensor<3>, Tensor<3>)>>,
    /// Keys of every layer, between two passes.
    len: usize,
    /// Rotary position that the next row takes.
    next_position: u32,
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

    /// Rotary position that continues the sequence.
    pub fn next_position(&self) -> u32 {
        self.next_position
    }

    /// Forgets everything after the first `len` keys in all layers.
    ///
    /// Meant for sequences whose keys stand at consecutive positions.
    pub fn truncate(&mut self, len: usize) {
        let dropped = self.len.saturating_sub(len);
        self.rewind(0..self.layers.len(), len);
        self.len -= dropped;
        self.next_position -= dropped as u32;
    }

    /// Lets `layers` forget everything after their first `len` keys, so that a pass over these layers
    /// alone can write the rest anew. [`KvCache::len`] stays what it was.
    pub fn rewind(&mut self, layers: Range<usize>, len: usize) {
        for (k, v) in self.layers.iter_mut().skip(layers.start).take(layers.len()).flatten() {
            if k.dims()[1] > len {
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
            let index: Vec<i32> = kept.iter().map(|&i| i as i32).collect();
            let index: Tensor<1, Int> = Tensor::from_data(TensorData::new(index, [len]), &k.device());
            (*k, *v) = (k.clone().select(1, index.clone()), v.clone().select(1, index));
        }
        self.len = len;
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

    /// Notes that every layer now holds `len` keys, and which position comes next.
    pub(super) fn advance(&mut self, len: usize, next_position: u32) {
        self.len = len;
        self.next_position = next_position;
    }
}

fn append(old: Option<Tensor<3>>, new: Tensor<3>, dtype: DType, lie: Lie) -> Tensor<3> {
    cpu::append(old, &new, dtype, lie).unwrap_or_else(|old| match old {
        Some(old) if old.dims()[1] > 0 => Tensor::cat(vec![old, new.cast(dtype)], 1),
        _ => new.cast(dtype),
    })
}
