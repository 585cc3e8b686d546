//! Safetensors shards of a Hugging Face folder, by key, with nothing passed over in silence.
//!
//! Every weight that the architecture needs is taken by key and shape; at the end, whatever was
//! not taken must have been excused by the part that knows why, or loading fails. Knows files and
//! number formats; does not know what the weights are for.
//!
//! Shapes are the file's: a linear layer is `[out, in]`.
//!
//! Files are read piece by piece and converted on the way: nothing but the weights in their final
//! format stays in memory, and no page of a file is mapped.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{f16, slice::HalfFloatSliceExt as _};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::{
    checkpoint::{
        shards::{Shard, Stored, Watch, open_shard, shard_files},
        upload::Upload,
        weight_error::WeightError,
    },
    statistics::finite::all_finite,
};

/// The number format that weights and the KV cache take in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE half. bfloat16 files are converted, their range checked.
    F16,
}

impl WeightDtype {
    /// burn's name.
    pub fn burn(self) -> DType {
        match self {
            WeightDtype::F32 => DType::F32,
            WeightDtype::F16 => DType::F16,
        }
    }

    /// Every format, by the name that people type.
    pub const ALL: [(&str, WeightDtype); 2] = [("f32", WeightDtype::F32), ("f16", WeightDtype::F16)];

    /// The name in traces.
    pub fn name(self) -> &'static str {
        match self {
            WeightDtype::F32 => "float32",
            WeightDtype::F16 => "float16",
        }
    }
}

/// All weights of a folder.
pub struct Weights<'a> {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Key -> shard.
    place: BTreeMap<String, usize>,
    taken: RefCell<BTreeSet<String>>,
    unused: RefCell<Vec<String>>,
    upload: Upload,
    dtype: WeightDtype,
    watch: &'a Watch<'a>,
}

impl<'a> Weights<'a> {
    /// Opens the folder's shards and reads their headers. Matrices will be made on `device` as
    /// `dtype`.
    ///
    /// # Errors
    /// [`WeightError`]: no file, a truncated one, a broken index, a key in two shards.
    pub fn open(
        dir: &Path,
        device: &Device,
        dtype: WeightDtype,
        watch: &'a Watch<'a>,
    ) -> Result<Self, WeightError> {
        let mut shards: Vec<Shard> = Vec::new();
        let mut place: BTreeMap<String, usize> = BTreeMap::new();
        for file in shard_files(dir)? {
            let shard = open_shard(file)?;
            for key in shard.metadata.tensors().into_keys() {
                if let Some(other) = place.insert(key.clone(), shards.len()) {
                    let first = shards[other].file.clone();
                    return Err(WeightError::Twice { key, first, second: shard.file });
                }
            }
            shards.push(shard);
        }
        Ok(Weights {
            dir: dir.to_path_buf(),
            shards,
            place,
            taken: RefCell::default(),
            unused: RefCell::default(),
            upload: Upload::to(device),
            dtype,
            watch,
        })
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.place.contains_key(key)
    }

    /// The first of `prefixes` under which `probe` is found, else the first: folders saved by
    /// different versions of transformers name the same part differently.
    pub fn prefix(&self, prefixes: &[&str], probe: &str) -> String {
        let found = prefixes.iter().find(|p| self.has(&format!("{p}{probe}")));
        found.or(prefixes.first()).copied().unwrap_or_default().to_string()
    }

    /// A matrix or embedding table, in the chosen format: `[out, in]`, where the file may divide `in`
    /// into several dimensions.
    ///
    /// # Errors
    /// [`WeightError`], when it is missing, misshapen, or not representable.
    pub fn matrix<const D: usize>(&self, key: &str, shape: [usize; D]) -> Result<Tensor<2>, WeightError> {
        let rows = self.tensor(key, shape, self.dtype)?;
        Ok(rows.reshape([shape[0], shape[1..].iter().product()]))
    }

    /// A norm's weight or a bias: always float32.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn vector(&self, key: &str, len: usize) -> Result<Tensor<1>, WeightError> {
        self.tensor(key, [len], WeightDtype::F32)
    }

    fn tensor<const D: usize>(
        &self,
        key: &str,
        shape: [usize; D],
        dtype: WeightDtype,
    ) -> Result<Tensor<D>, WeightError> {
        let n = shape.iter().product();
        let beyond =
            |value, file: &Path| WeightError::Range { key: key.to_string(), value, file: file.to_path_buf() };
        let data = match dtype {
            WeightDtype::F32 => {
                let mut values: Vec<f32> = Vec::with_capacity(n);
                self.read(key, &shape, |piece, _| {
                    values.extend_from_slice(piece);
                    Ok(())
                })?;
                TensorData::new(values, shape)
            }
            WeightDtype::F16 => {
                let mut halves: Vec<f16> = vec![f16::ZERO; n];
                let mut done = 0;
                self.read(key, &shape, |piece, file| {
                    let part = &mut halves[done..done + piece.len()];
                    part.convert_from_f32_slice(piece);
                    done += piece.len();
                    match part.iter().position(|h| !h.is_finite()) {
                        Some(i) => Err(beyond(piece[i], file)),
                        None => Ok(()),
                    }
                })?;
                TensorData::new(halves, shape)
            }
        };
        self.taken.borrow_mut().insert(key.to_string());
        let placed = self.upload.tensor(data, dtype.burn());
        placed.map_err(|why| WeightError::Device { key: key.to_string(), why })
    }

    /// Hands over the stored numbers, widened to float32, row-major, piece by piece, and the file that they
    /// stand in; numbers all of them.
    fn read(
        &self,
        key: &str,
        shape: &[usize],
        mut piece: impl FnMut(&[f32], &Path) -> Result<(), WeightError>,
    ) -> Result<(), WeightError> {
        let mut stored = self.stored(key, shape)?;
        let (mut values, mut done) = (Vec::new(), 0);
        while stored.next(&mut values)? {
            self.watch.read(stored.piece())?;
            if !all_finite(&values) {
                let i = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
                let (key, file) = (key.to_string(), stored.file().to_path_buf());
                return Err(WeightError::NotFinite { key, value: values[i], at: done + i, file });
            }
            done += values.len();
            piece(&values, stored.file())?;
        }
        Ok(())
    }

    /// Where a weight lies, its shape and format checked.
    fn stored(&self, key: &str, shape: &[usize]) -> Result<Stored<'_>, WeightError> {
        let missing =
            || WeightError::Missing { key: key.to_string(), expected: shape.to_vec(), dir: self.dir.clone() };
        let shard = &self.shards[*self.place.get(key).ok_or_else(missing)?];
        let info = shard.metadata.info(key).ok_or_else(missing)?;
        if info.shape != shape {
            return Err(WeightError::Shape {
                key: key.to_string(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
                file: shard.file.clone(),
            });
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(WeightError::Format {
                key: key.to_string(),
                found: format!("{:?}", info.dtype),
                file: shard.file.clone(),
            });
        }
        let at = shard.data + info.data_offsets.0 as u64;
        Ok(Stored::new(shard, info.dtype, at, shape.iter().product()))
    }

    /// Excuses a weight that belongs to the architecture but plays no part here, if it is there.
    pub fn excuse(&self, key: &str) {
        if self.has(key) && self.taken.borrow_mut().insert(key.to_string()) {
            self.unused.borrow_mut().push(key.to_string());
        }
    }

    /// Lists what was taken under `prefix` among the unused: weights that only a full recording of
    /// the encoder reads.
    pub fn list_unused(&self, prefix: &str) {
        let taken = self.taken.borrow();
        self.unused.borrow_mut().extend(taken.iter().filter(|k| k.starts_with(prefix)).cloned());
    }

    /// Excuses the stored copy of a tied head.
    ///
    /// # Errors
    /// [`WeightError::Untied`] when it is not a copy.
    pub fn excuse_copy(&self, key: &str, original: &str, shape: [usize; 2]) -> Result<(), WeightError> {
        if self.has(key) && self.has(original) {
            let (mut a, mut b) = (self.stored(key, &shape)?, self.stored(original, &shape)?);
            let (mut here, mut there) = (Vec::new(), Vec::new());
            while a.next(&mut here)? && b.next(&mut there)? {
                self.watch.read(a.piece())?;
                if here != there {
                    let embedding = original.to_string();
                    return Err(WeightError::Untied { key: key.to_string(), embedding });
                }
            }
            self.excuse(key);
        }
        Ok(())
    }

    /// Checks that every weight was taken or excused; returns the excused keys.
    ///
    /// # Errors
    /// [`WeightError::Surplus`], naming the rest.
    pub fn finish(self) -> Result<Vec<String>, WeightError> {
        // Buffers that old checkpoints store although they follow from the config.
        let buffer = |k: &str| k.ends_with(".position_ids") || k.ends_with(".rotary_emb.inv_freq");
        for key in self.place.keys().filter(|k| buffer(k)) {
            self.excuse(key);
        }
        let taken = self.taken.into_inner();
        let surplus: Vec<String> = self.place.into_keys().filter(|k| !taken.contains(k)).collect();
        let mut unused = self.unused.into_inner();
        unused.sort();
        if surplus.is_empty() { Ok(unused) } else { Err(WeightError::Surplus { keys: surplus }) }
    }
}
