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
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _},
};
use safetensors::{Dtype, tensor::Metadata};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::progress::{Cancel, Cancelled, Progress, Stage};

/// Numbers read at a time.
const PIECE: usize = 1 << 18;

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// No weights, or a file that cannot be read.
    #[error("{}: {source}; expected model.safetensors, or model.safetensors.index.json and its shards", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file that is not whole, or not safetensors.
    #[error("{}: not a complete safetensors file ({why}); download it again", file.display())]
    Corrupt {
        /// Which file.
        file: PathBuf,
        /// The parser's word.
        why: String,
    },
    /// The index of shards is not usable.
    #[error("{}: {why}", file.display())]
    Index {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A weight that the architecture needs is not there.
    #[error("weight `{key}` is missing from {}: expected shape {expected:?}", dir.display())]
    Missing {
        /// Its key.
        key: String,
        /// Its shape.
        expected: Vec<usize>,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A weight has another shape.
    #[error("weight `{key}` in {} has shape {found:?}, expected {expected:?} by config.json", file.display())]
    Shape {
        /// Its key.
        key: String,
        /// What config.json asks for.
        expected: Vec<usize>,
        /// What is there.
        found: Vec<usize>,
        /// Which file.
        file: PathBuf,
    },
    /// A number format that is not read.
    #[error("weight `{key}` in {} is stored as {found}, expected F32, F16 or BF16", file.display())]
    Format {
        /// Its key.
        key: String,
        /// What is there.
        found: String,
        /// Which file.
        file: PathBuf,
    },
    /// A value that half precision cannot hold.
    #[error("weight `{key}` holds {value}, beyond float16's range: load it with --dtype f32")]
    Range {
        /// Its key.
        key: String,
        /// The value.
        value: f32,
    },
    /// Weights that config.json's architecture does not have.
    #[error("{} weights are not in the architecture that config.json describes: {}; is this the right config.json?", keys.len(), shorten(keys))]
    Surplus {
        /// Their keys.
        keys: Vec<String>,
    },
    /// Two shards hold the same weight.
    #[error("weight `{key}` is in both {} and {}", first.display(), second.display())]
    Twice {
        /// Its key.
        key: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A tied head is stored, and is not the embedding.
    #[error(
        "config.json ties the head to the embedding, but `{key}` differs from `{embedding}`: set tie_word_embeddings to false, or remove it"
    )]
    Untied {
        /// Key of the head.
        key: String,
        /// Key of the embedding.
        embedding: String,
    },
}

fn shorten(keys: &[String]) -> String {
    let shown: Vec<&str> = keys.iter().take(5).map(String::as_str).collect();
    let more = keys.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

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

/// One open file and its header.
struct Shard {
    file: PathBuf,
    handle: File,
    metadata: Metadata,
    /// Where tensor data begins.
    data: u64,
}

/// How reading is watched: it stops between two pieces of a file, and tells how many bytes are read.
pub struct Watch<'a> {
    /// Stops it.
    pub cancel: &'a Cancel,
    /// Bytes read so far, of all that will be.
    done: Cell<u64>,
    total: u64,
    tell: &'a dyn Fn(Progress),
}

impl<'a> Watch<'a> {
    /// For a folder whose weight files are read twice: once for their sum, once for their numbers.
    ///
    /// # Errors
    /// [`WeightError::Read`] or [`WeightError::Index`].
    pub fn new(
        dir: &Path,
        cancel: &'a Cancel,
        tell: &'a dyn Fn(Progress),
    ) -> Result<Self, WeightError> {
        let mut total = 0;
        for file in shard_files(dir)? {
            let size = fs::metadata(&file).map_err(|source| WeightError::Read { file, source })?.len();
            total += 2 * size;
        }
        Ok(Watch { cancel, done: Cell::new(0), total, tell })
    }

    fn read(&self, bytes: usize) -> Result<(), Cancelled> {
        self.cancel.check()?;
        let done = (self.done.get() + bytes as u64).min(self.total);
        self.done.set(done);
        (self.tell)(Progress { stage: Stage::Load, done, total: Some(self.total) });
        Ok(())
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
    device: Device,
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
            device: device.clone(),
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
        let data = match dtype {
            WeightDtype::F32 => {
                let mut values: Vec<f32> = Vec::with_capacity(n);
                self.read(key, &shape, |piece| {
                    values.extend_from_slice(piece);
                    Ok(())
                })?;
                TensorData::new(values, shape)
            }
            WeightDtype::F16 => {
                let mut halves: Vec<f16> = vec![f16::ZERO; n];
                let mut done = 0;
                self.read(key, &shape, |piece| {
                    let part = &mut halves[done..done + piece.len()];
                    part.convert_from_f32_slice(piece);
                    done += piece.len();
                    match part.iter().position(|h| !h.is_finite()) {
                        Some(i) => Err(WeightError::Range { key: key.to_string(), value: piece[i] }),
                        None => Ok(()),
                    }
                })?;
                TensorData::new(halves, shape)
            }
        };
        self.taken.borrow_mut().insert(key.to_string());
        Ok(Tensor::from_data(data, (&self.device, dtype.burn())))
    }

    /// Hands over the stored numbers, widened to float32, row-major, piece by piece.
    fn read(
        &self,
        key: &str,
        shape: &[usize],
        mut piece: impl FnMut(&[f32]) -> Result<(), WeightError>,
    ) -> Result<(), WeightError> {
        let mut stored = self.stored(key, shape)?;
        let mut values = Vec::new();
        while stored.next(&mut values)? {
            self.watch.read(stored.bytes.len())?;
            piece(&values)?;
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
        Ok(Stored { shard, dtype: info.dtype, at, left: shape.iter().product(), bytes: Vec::new() })
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
                self.watch.read(a.bytes.len())?;
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

/// A weight in its file, being read.
struct Stored<'a> {
    shard: &'a Shard,
    dtype: Dtype,
    /// Place of the next number in the file.
    at: u64,
    /// Numbers left.
    left: usize,
    bytes: Vec<u8>,
}

impl Stored<'_> {
    /// Replaces `values` by the next piece, widened; false at the end.
    fn next(&mut self, values: &mut Vec<f32>) -> Result<bool, WeightError> {
        let n = self.left.min(PIECE);
        self.bytes.resize(n * if self.dtype == Dtype::F32 { 4 } else { 2 }, 0);
        let mut file = &self.shard.handle;
        file.seek(SeekFrom::Start(self.at))
            .and_then(|_| file.read_exact(&mut self.bytes))
            .map_err(|source| WeightError::Read { file: self.shard.file.clone(), source })?;
        values.clear();
        values.resize(n, 0.0);
        let pairs = self.bytes.as_chunks::<2>().0;
        let halves = || pairs.iter().map(|&b| u16::from_le_bytes(b)).collect::<Vec<u16>>();
        match self.dtype {
            Dtype::F16 => halves().reinterpret_cast::<f16>().convert_to_f32_slice(values),
            Dtype::BF16 => halves().reinterpret_cast::<bf16>().convert_to_f32_slice(values),
            _ => {
                let quads = self.bytes.as_chunks::<4>().0;
                values.iter_mut().zip(quads).for_each(|(v, &b)| *v = f32::from_le_bytes(b));
            }
        }
        self.at += self.bytes.len() as u64;
        self.left -= n;
        Ok(n > 0)
    }
}

/// SHA-256 over the folder's weight files, in the order of their names, in hex.
///
/// # Errors
/// [`WeightError::Read`], [`WeightError::Index`] or [`WeightError::Cancelled`].
pub fn sha256(dir: &Path, watch: &Watch<'_>) -> Result<String, WeightError> {
    let mut hasher = Sha256::new();
    for file in shard_files(dir)? {
        let read = |source| WeightError::Read { file: file.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&file).map_err(read)?);
        loop {
            let chunk = reader.fill_buf().map_err(read)?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(chunk);
            let read = chunk.len();
            reader.consume(read);
            watch.read(read)?;
        }
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// The weight files of a folder, sorted: those that the index names, or the one file.
fn shard_files(dir: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let index = dir.join("model.safetensors.index.json");
    if !index.exists() {
        return Ok(vec![dir.join("model.safetensors")]);
    }
    let fail = |why: String| WeightError::Index { file: index.clone(), why };
    let text =
        fs::read_to_string(&index).map_err(|source| WeightError::Read { file: index.clone(), source })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| fail(format!("not valid JSON ({e})")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object());
    let map = map.ok_or_else(|| fail("has no `weight_map` object".to_string()))?;
    let mut names = BTreeSet::new();
    for (key, name) in map {
        match name.as_str() {
            // A shard is a file beside the index: a path would let a model read elsewhere.
            Some(name) if !name.contains(['/', '\\']) && name != ".." => names.insert(name),
            _ => return Err(fail(format!("`{key}` is in {name}, expected the name of a file beside it"))),
        };
    }
    if names.is_empty() {
        return Err(fail("`weight_map` is empty".to_string()));
    }
    Ok(names.into_iter().map(|n| dir.join(n)).collect())
}

fn open_shard(file: PathBuf) -> Result<Shard, WeightError> {
    /// Longer headers are refused, as the format's own library does.
    const LONGEST: u64 = 100_000_000;
    let read = |source| WeightError::Read { file: file.clone(), source };
    let corrupt = |why: String| WeightError::Corrupt { file: file.clone(), why };
    let mut handle = File::open(&file).map_err(read)?;
    let size = handle.metadata().map_err(read)?.len();
    let mut length = [0; 8];
    handle.read_exact(&mut length).map_err(|_| corrupt(format!("it has only {size} bytes")))?;
    let header = u64::from_le_bytes(length);
    if header > LONGEST || 8 + header > size {
        return Err(corrupt(format!("its header asks for {header} bytes, the file has {size}")));
    }
    let mut text = vec![0; header as usize];
    handle.read_exact(&mut text).map_err(read)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| corrupt(e.to_string()))?;
    let data = 8 + header;
    let end = metadata.tensors().values().map(|t| t.data_offsets.1 as u64).max().unwrap_or(0);
    if size - data != end {
        return Err(corrupt(format!("its header asks for {end} bytes of data, {} are there", size - data)));
    }
    Ok(Shard { file, handle, metadata, data })
}
