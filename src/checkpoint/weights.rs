//! Safetensors shards of a Hugging Face folder, by key, with nothing passed over in silence.
//!
//! Every weight that the architecture needs is taken by key and shape; at the end, whatever was
//! not taken must have been excused by the part that knows why, or loading fails. Knows files and
//! number formats; does not know what the weights are for.
//!
//! Shapes are the file's: a linear layer is `[out, in]`.
//!
//! Files are read piece by piece and converted on the way: nothing but the weights in their final
//! format stays in memory, and no page of a file is mapped. A mapped file that another program cuts short ends
//! the process with a signal that no error can be made of; and pages of it would count against a limit on memory
//! beside the weights made from them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    numbers::{Format, Narrowing},
    shards::{Piece, Shard, Stored, Watch, open_shard, shard_files},
    upload::Upload,
    weight_error::WeightError,
};

/// The number format that matrices take in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightDtype {
    /// Each matrix as its file stores it, as far as the device computes in that: bfloat16 becomes float16 where only
    /// that is there, but for matrices that float16 cannot hold; these, and all where neither is there, are float32.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// 16 bits, IEEE half.
    F16,
    /// 16 bits, the upper half of float32.
    Bf16,
}

impl WeightDtype {
    /// Every format, by the name that people type.
    pub const ALL: [(&str, WeightDtype); 4] = [
        ("auto", WeightDtype::Auto),
        ("f32", WeightDtype::F32),
        ("f16", WeightDtype::F16),
        ("bf16", WeightDtype::Bf16),
    ];

    /// What weights are stored in; `None` for what no weight may be.
    pub fn stored(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(WeightDtype::F32),
            Dtype::F16 => Some(WeightDtype::F16),
            Dtype::BF16 => Some(WeightDtype::Bf16),
            _ => None,
        }
    }

    /// The name in traces.
    pub fn name(self) -> &'static str {
        match self {
            WeightDtype::Auto => "as stored",
            WeightDtype::F32 => f32::NAME,
            WeightDtype::F16 => f16::NAME,
            WeightDtype::Bf16 => bf16::NAME,
        }
    }

    /// The name that people type.
    pub fn typed(self) -> &'static str {
        Self::ALL.iter().find(|(_, dtype)| *dtype == self).map_or("", |(name, _)| *name)
    }

    /// Bytes of a number, at most.
    pub fn bytes(self) -> u64 {
        match self {
            WeightDtype::Auto | WeightDtype::F32 => 4,
            WeightDtype::F16 | WeightDtype::Bf16 => 2,
        }
    }

    /// Whether a device computes in it.
    pub fn is_of(self, device: &Device) -> bool {
        match self {
            WeightDtype::Auto | WeightDtype::F32 => true,
            WeightDtype::F16 => device.supports_dtype(DType::F16),
            WeightDtype::Bf16 => device.supports_dtype(DType::BF16),
        }
    }
}

/// The formats of a loaded model's matrices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// Whether somebody chose the one that they have.
    pub chosen: bool,
    /// In memory.
    pub used: BTreeSet<WeightDtype>,
    /// In the files.
    pub stored: BTreeSet<WeightDtype>,
    /// Keys of those that are float32 because the device's own format could not hold them.
    pub widened: Vec<String>,
}

impl Formats {
    /// The one that all of them have; [`WeightDtype::Auto`] where they have several.
    pub fn one(&self) -> WeightDtype {
        match self.used.first() {
            Some(&one) if self.used.len() == 1 => one,
            _ => WeightDtype::Auto,
        }
    }

    /// The reason where matrices are not as their files store them; empty where they are, or somebody chose so.
    pub fn why(&self) -> String {
        if self.chosen || self.used == self.stored {
            return String::new();
        }
        let kept = match self.widened.as_slice() {
            [] => String::new(),
            [key] => format!("; float16 cannot hold `{key}`"),
            [key, more @ ..] => format!("; float16 cannot hold `{key}` and {} more", more.len()),
        };
        format!(" (stored as {}{kept})", named(&self.stored))
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&named(&self.used))
    }
}

/// Formats by name.
fn named(formats: &BTreeSet<WeightDtype>) -> String {
    formats.iter().map(|format| format.name()).collect::<Vec<_>>().join(" and ")
}

/// All weights of a folder.
pub struct Weights<'a> {
    dir: PathBuf,
    shards: Vec<Shard>,
    /// Key -> shard.
    place: BTreeMap<String, usize>,
    taken: RefCell<BTreeSet<String>>,
    unused: RefCell<Vec<String>>,
    device: Device,
    upload: Upload,
    dtype: WeightDtype,
    /// Most bytes of one tensor, where the device has a limit.
    most: Option<u64>,
    formats: RefCell<Formats>,
    watch: &'a Watch<'a>,
}

impl<'a> Weights<'a> {
    /// Opens the folder's shards and reads their headers. Matrices will be made on `device` as
    /// `dtype`.
    ///
    /// # Errors
    /// [`WeightError`]: no file, a truncated one, a broken index, a key in two shards; a format that the device
    /// does not compute in.
    pub fn open(
        dir: &Path,
        device: &Device,
        dtype: WeightDtype,
        watch: &'a Watch<'a>,
    ) -> Result<Self, WeightError> {
        if !dtype.is_of(device) {
            return Err(WeightError::Unsupported { format: dtype.name() });
        }
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
            device: device.clone(),
            upload: Upload::to(device),
            dtype,
            most: None,
            formats: RefCell::new(Formats { chosen: dtype != WeightDtype::Auto, ..Formats::default() }),
            watch,
        })
    }

    /// The same on a device whose tensors take so many bytes at most.
    pub fn within(self, most: Option<u64>) -> Self {
        Weights { most, ..self }
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
    /// into several dimensions. One tensor, whatever the device's limit.
    ///
    /// # Errors
    /// [`WeightError`], when it is missing, misshapen, or not representable.
    pub fn matrix<const D: usize>(&self, key: &str, shape: [usize; D]) -> Result<Tensor<2>, WeightError> {
        let mut blocks = self.in_blocks(key, &shape, None)?;
        Ok(if blocks.len() == 1 { blocks.remove(0) } else { Tensor::cat(blocks, 0) })
    }

    /// The same as blocks of rows, all of one height but the last, none larger than the device's limit.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn blocks<const D: usize>(
        &self,
        key: &str,
        shape: [usize; D],
    ) -> Result<Vec<Tensor<2>>, WeightError> {
        self.in_blocks(key, &shape, self.most)
    }

    /// A norm's weight or a bias: always float32.
    ///
    /// # Errors
    /// As [`Weights::matrix`].
    pub fn vector(&self, key: &str, len: usize) -> Result<Tensor<1>, WeightError> {
        let (mut values, mut done) = (vec![0.0f32; len], 0);
        self.read(key, &[len], |piece| {
            let to = &mut values[done..][..piece.numbers()];
            done += to.len();
            piece.convert(key, &mut Narrowing::default(), to)
        })?;
        self.taken.borrow_mut().insert(key.to_string());
        self.place(key, TensorData::new(values, [len]), DType::F32)
    }

    fn in_blocks(
        &self,
        key: &str,
        shape: &[usize],
        most: Option<u64>,
    ) -> Result<Vec<Tensor<2>>, WeightError> {
        let (stored, _) = self.stored(key, shape)?;
        let made = match self.wanted(stored) {
            WeightDtype::F16 => self.blocks_as::<f16>(key, shape, stored == WeightDtype::F16, most),
            WeightDtype::Bf16 => self.blocks_as::<bf16>(key, shape, stored == WeightDtype::Bf16, most),
            _ => self.blocks_as::<f32>(key, shape, true, most),
        };
        let blocks = match made {
            Err(WeightError::Range { .. } | WeightError::Small { .. }) if self.dtype == WeightDtype::Auto => {
                self.formats.borrow_mut().widened.push(key.to_string());
                self.blocks_as::<f32>(key, shape, true, most)?
            }
            made => made?,
        };
        let mut formats = self.formats.borrow_mut();
        formats.stored.insert(stored);
        formats.used.extend(blocks.first().map(|block| match block.dtype() {
            DType::F16 => WeightDtype::F16,
            DType::BF16 => WeightDtype::Bf16,
            _ => WeightDtype::F32,
        }));
        self.taken.borrow_mut().insert(key.to_string());
        Ok(blocks)
    }

    /// The format that a matrix takes, if that can hold it.
    fn wanted(&self, stored: WeightDtype) -> WeightDtype {
        match (self.dtype, stored) {
            (WeightDtype::Auto, stored) if stored.is_of(&self.device) => stored,
            (WeightDtype::Auto, WeightDtype::Bf16) if WeightDtype::F16.is_of(&self.device) => {
                WeightDtype::F16
            }
            (WeightDtype::Auto, _) => WeightDtype::F32,
            (dtype, _) => dtype,
        }
    }

    /// A matrix in a format, in blocks of at most so many bytes. `exact`: the format is the file's, or holds it.
    fn blocks_as<T: Format>(
        &self,
        key: &str,
        shape: &[usize],
        exact: bool,
        most: Option<u64>,
    ) -> Result<Vec<Tensor<2>>, WeightError> {
        let (out, width) = (shape[0], shape[1..].iter().product::<usize>());
        let each =
            most.map_or(out, |most| (most as usize / (width * size_of::<T>()).max(1)).clamp(1, out.max(1)));
        let (mut blocks, mut narrowing, mut left) = (Vec::new(), Narrowing::default(), out);
        let (mut block, mut done) = (Vec::new(), 0);
        let file = self.read(key, shape, |mut piece| {
            while piece.numbers() > 0 {
                let rows = each.min(left);
                if done == 0 {
                    // Fresh memory is zero already: no pass over it, and it is fetched by the thread that writes there.
                    block = bytemuck::zeroed_vec::<T>(rows * width);
                }
                let (here, rest) = piece.split_at(piece.numbers().min(block.len() - done));
                here.convert(key, &mut narrowing, &mut block[done..][..here.numbers()])?;
                (done, piece) = (done + here.numbers(), rest);
                if done == block.len() {
                    (done, left) = (0, left - rows);
                    let data = TensorData::new(mem::take(&mut block), [rows, width]);
                    blocks.push(self.place(key, data, T::dtype())?);
                }
            }
            Ok(())
        })?;
        let end = if exact { Ok(()) } else { narrowing.end::<T>() };
        end.map(|()| blocks).map_err(|lost| WeightError::lost::<T>(lost, key, file))
    }

    /// Numbers on the device.
    fn place<const D: usize>(
        &self,
        key: &str,
        data: TensorData,
        dtype: DType,
    ) -> Result<Tensor<D>, WeightError> {
        self.upload.tensor(data, dtype).map_err(|why| WeightError::Device { key: key.to_string(), why })
    }

    /// The formats of the matrices so far.
    pub fn formats(&self) -> Formats {
        self.formats.borrow().clone()
    }

    /// Hands over the stored numbers, row-major, piece by piece; gives the file that they stand in.
    fn read(
        &self,
        key: &str,
        shape: &[usize],
        mut work: impl FnMut(Piece<'_>) -> Result<(), WeightError>,
    ) -> Result<&Path, WeightError> {
        let (_, stored) = self.stored(key, shape)?;
        let file = stored.file();
        stored.each(|piece| {
            self.watch.read(piece.bytes())?;
            work(piece)
        })?;
        Ok(file)
    }

    /// A weight's format and where it lies, its shape and format checked.
    fn stored(&self, key: &str, shape: &[usize]) -> Result<(WeightDtype, Stored<'_>), WeightError> {
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
        let format = WeightDtype::stored(info.dtype).ok_or_else(|| WeightError::Format {
            key: key.to_string(),
            found: format!("{:?}", info.dtype),
            file: shard.file.clone(),
        })?;
        let at = shard.data + info.data_offsets.0 as u64;
        Ok((format, Stored::new(shard, info.dtype, at, shape.iter().product())))
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
            let ((_, mut a), (_, mut b)) = (self.stored(key, &shape)?, self.stored(original, &shape)?);
            let (mut here, mut there) = (Vec::new(), Vec::new());
            loop {
                let read = a.next(&mut here)?;
                if read == 0 || b.next(&mut there)? == 0 {
                    break;
                }
                self.watch.read(read)?;
                if here != there {
                    let embedding = original.to_string();
                    return Err(WeightError::Untied { key: key.to_string(), embedding });
                }
            }
            self.excuse(key);
        }
        Ok(())
    }

    /// Checks that every weight was taken or excused, and waits until those are where they are used: a device may take
    /// them while it works on others. Returns the excused keys.
    ///
    /// # Errors
    /// [`WeightError::Surplus`], naming the rest, or [`WeightError::Underway`].
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
        if !surplus.is_empty() {
            return Err(WeightError::Surplus { keys: surplus });
        }
        self.device.sync().map_err(|e| WeightError::Underway { why: e.to_string() })?;
        Ok(unused)
    }
}
