//! Attention of answer rows.
//!
//! A [`PatternRow`] is `[layers, heads, keys]`, layers slowest; of the kept layers and heads. Row `s` of an
//! answer is the query row that *predicted* answer token `s`: the last prompt row for `s = 0`, the row of
//! answer token `s - 1` after that.

use std::{borrow::Cow, sync::Arc};

use half::f16;

/// A row at rest.
#[derive(Clone, Debug)]
pub enum StoredRow {
    /// As it was.
    Full(PatternRow),
    /// Rounded to half precision.
    Half {
        /// `[layers, heads, keys]`.
        shape: [usize; 3],
        /// The values.
        data: Arc<[f16]>,
    },
}

impl StoredRow {
    /// Stores a row.
    pub fn new(row: PatternRow, half: bool) -> Self {
        if !half {
            return StoredRow::Full(row);
        }
        let data = row.data.iter().map(|&v| f16::from_f32(v)).collect();
        StoredRow::Half { shape: [row.n_layers, row.n_heads, row.n_keys], data }
    }

    /// Keys of the row.
    pub fn n_keys(&self) -> usize {
        match self {
            StoredRow::Full(row) => row.n_keys,
            StoredRow::Half { shape: [.., n_keys], .. } => *n_keys,
        }
    }

    /// `[keys]`: one head of one layer, widened if need be.
    pub fn head(&self, layer: usize, head: usize) -> Cow<'_, [f32]> {
        match self {
            StoredRow::Full(row) => Cow::Borrowed(row.head(layer, head)),
            StoredRow::Half { shape: [_, n_heads, n_keys], data } => {
                let at = (layer * n_heads + head) * n_keys;
                Cow::Owned(data[at..at + n_keys].iter().map(|v| v.to_f32()).collect())
            }
        }
    }

    /// The row, widened if need be.
    pub fn row(&self) -> PatternRow {
        match self {
            StoredRow::Full(row) => row.clone(),
            StoredRow::Half { shape: [n_layers, n_heads, n_keys], data } => PatternRow {
                n_layers: *n_layers,
                n_heads: *n_heads,
                n_keys: *n_keys,
                data: Arc::new(data.iter().map(|v| v.to_f32()).collect()),
            },
        }
    }
}

/// Attention of one answer row over everything it could see, after the softmax.
#[derive(Clone, Debug)]
pub struct PatternRow {
    /// Kept layers.
    pub n_layers: usize,
    /// Kept query heads.
    pub n_heads: usize,
    /// Keys: prompt length plus answer tokens before this one.
    pub n_keys: usize,
    /// `[layers, heads, keys]`; every `[keys]` row sums to 1. Shared, since the window keeps a copy; a
    /// vector, so that what came from the device is not copied once more.
    pub data: Arc<Vec<f32>>,
}

impl PatternRow {
    /// `[keys]`: one head of one layer.
    pub fn head(&self, layer: usize, head: usize) -> &[f32] {
        let at = (layer * self.n_heads + head) * self.n_keys;
        &self.data[at..at + self.n_keys]
    }

    /// `[keys]`: the mean of a layer's heads.
    pub fn head_mean(&self, layer: usize) -> Vec<f32> {
        let mut mean = vec![0.0; self.n_keys];
        for head in 0..self.n_heads {
            mean.iter_mut().zip(self.head(layer, head)).for_each(|(m, p)| *m += p);
        }
        mean.iter_mut().for_each(|m| *m /= self.n_heads as f32);
        mean
    }
}
