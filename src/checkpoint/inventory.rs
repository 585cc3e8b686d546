//! What a folder's weight files hold, from their headers alone: how many numbers, in which formats, and what they
//! come to in memory.
//!
//! Knows keys' shapes and formats; reads no number, and does not know which weights a model takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use safetensors::tensor::Metadata;

use crate::checkpoint::{
    shards::{open_shard, shard_files},
    weight_error::WeightError,
    weights::WeightDtype,
};

/// The numbers of a folder's weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Those of matrices, by the format that they are stored in.
    matrices: BTreeMap<WeightDtype, u64>,
    /// Those of norms and biases, which are float32 in memory whatever they are stored as.
    vectors: u64,
    /// Those of the largest tensor.
    pub largest: u64,
}

/// Bytes that a folder's weights take in memory, by format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// In float32.
    pub f32: u64,
    /// In float16.
    pub f16: u64,
    /// In bfloat16.
    pub bf16: u64,
}

/// What a folder's weights take in memory, by format. Nothing but the headers of its files is read.
///
/// # Errors
/// [`WeightError`], of a folder without weights, or with files that are broken.
pub fn estimate(dir: &Path) -> Result<Estimate, WeightError> {
    let inventory = Inventory::read(dir)?;
    let [f32, f16, bf16] =
        [WeightDtype::F32, WeightDtype::F16, WeightDtype::Bf16].map(|dtype| inventory.bytes(dtype));
    Ok(Estimate { f32, f16, bf16 })
}

impl Inventory {
    /// Of the files that lie in a folder.
    ///
    /// # Errors
    /// [`WeightError`], of files that are not there, or broken.
    pub fn read(dir: &Path) -> Result<Self, WeightError> {
        let mut inventory = Inventory::default();
        for file in shard_files(dir)? {
            inventory.add(&open_shard(file)?.metadata);
        }
        Ok(inventory)
    }

    /// Adds what one file's header lists. Formats that no weight may have are left to those who read the numbers.
    pub fn add(&mut self, header: &Metadata) {
        for info in header.tensors().into_values() {
            let Some(format) = WeightDtype::stored(info.dtype) else { continue };
            let numbers = info.shape.iter().map(|&n| n as u64).product();
            self.largest = self.largest.max(numbers);
            match info.shape.len() {
                0 | 1 => self.vectors += numbers,
                _ => *self.matrices.entry(format).or_default() += numbers,
            }
        }
    }

    /// The formats that matrices are stored in.
    pub fn formats(&self) -> BTreeSet<WeightDtype> {
        self.matrices.keys().copied().collect()
    }

    /// Bytes in memory with matrices in a format; [`WeightDtype::Auto`] is the one that each is stored in.
    pub fn bytes(&self, dtype: WeightDtype) -> u64 {
        let each = |(stored, numbers): (&WeightDtype, &u64)| {
            numbers * if dtype == WeightDtype::Auto { stored.bytes() } else { dtype.bytes() }
        };
        4 * self.vectors + self.matrices.iter().map(each).sum::<u64>()
    }
}
