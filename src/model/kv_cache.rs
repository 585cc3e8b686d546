//! Keys and values of the positions that a decoder has already seen.
//!
//! `[kv heads, keys, head width]` a layer, in the chosen weight format, keys already rotated. The
//! cache stores each key's rotary position: only an uncut, uncompressed run has position = index.

use burn::tensor::Tensor;

/// The cache of one sequence.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    /// Per layer.
    layers: Vec<(Tensor<3>, Tensor<3>)>,
    /// Rotary position of every key.
    positions: Vec<u32>,
}

impl KvCache {
    /// Number of keys held.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether nothing is held yet.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Rotary position of every key.
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Appends the new rows of one layer and returns all of its keys and values.
    pub(super) fn append(&mut self, layer: usize, k: Tensor<3>, v: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let joined = match self.layers.get(layer) {
            Some((old_k, old_v)) => {
                (Tensor::cat(vec![old_k.clone(), k], 1), Tensor::cat(vec![old_v.clone(), v], 1))
            }
            None => (k, v),
        };
        match self.layers.get_mut(layer) {
            Some(slot) => *slot = joined.clone(),
            None => self.layers.push(joined.clone()),
        }
        joined
    }

    /// Notes the positions of the rows just appended to every layer.
    pub(super) fn advance(&mut self, positions: &[u32]) {
        self.positions.extend_from_slice(positions);
    }
}
