//! The weight files of a folder, read piece by piece.
//!
//! Knows the safetensors layout and number formats; not which weights there should be.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use half::{
    bf16, f16,
    slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _},
};
use rayon::prelude::*;
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};

use crate::{
    checkpoint::{
        json,
        numbers::{Format, Narrowing},
        weight_error::WeightError,
    },
    files::input,
    progress::{Cancel, Cancelled, Progress, Stage},
    statistics::finite::all_finite,
};

/// All weights in one file.
const WEIGHTS: &str = "model.safetensors";
/// Where the weights of several files are listed.
const INDEX: &str = "model.safetensors.index.json";
/// Numbers read at a time.
const PIECE: usize = 1 << 21;

/// One open file and its header.
pub struct Shard {
    /// Its path.
    pub file: PathBuf,
    handle: File,
    /// Its header.
    pub metadata: Metadata,
    /// Where tensor data begins.
    pub data: u64,
}

/// How reading is watched: it stops between two pieces of a file, and tells how many bytes are read.
pub struct Watch<'a> {
    /// Stops it.
    pub cancel: &'a Cancel,
    /// Bytes read so far for their numbers, of all that will be.
    done: Cell<u64>,
    /// Bytes read so far for their sum, on another thread.
    summed: Arc<AtomicU64>,
    total: u64,
    tell: &'a dyn Fn(Progress),
}

impl<'a> Watch<'a> {
    /// For a folder whose weight files are read twice: once for their sum, once for their numbers.
    ///
    /// # Errors
    /// [`WeightError::Read`] or [`WeightError::Index`].
    pub fn new(dir: &Path, cancel: &'a Cancel, tell: &'a dyn Fn(Progress)) -> Result<Self, WeightError> {
        let mut total = 0;
        for file in shard_files(dir)? {
            let size = input::size(&file).map_err(|source| WeightError::Read { file, source })?;
            total += 2 * size;
        }
        Ok(Watch { cancel, done: Cell::new(0), summed: Arc::default(), total, tell })
    }

    /// For [`sha256`]: counts the bytes that it has read.
    pub fn summed(&self) -> Arc<AtomicU64> {
        self.summed.clone()
    }

    /// Tells that everything was read: headers, and weights that no layer in use needs, are passed over.
    pub fn complete(&self) {
        self.done.set(self.total);
        (self.tell)(Progress { stage: Stage::Load, done: self.total, total: Some(self.total) });
    }

    /// Tells of so many bytes more.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn read(&self, bytes: usize) -> Result<(), Cancelled> {
        self.cancel.check()?;
        self.done.set(self.done.get() + bytes as u64);
        let done = (self.done.get() + self.summed.load(Ordering::Relaxed)).min(self.total);
        (self.tell)(Progress { stage: Stage::Load, done, total: Some(self.total) });
        Ok(())
    }
}

/// A weight in its file, being read.
pub struct Stored<'a> {
    shard: &'a Shard,
    dtype: Dtype,
    /// Place of the next number in the file.
    at: u64,
    /// Numbers left.
    left: usize,
}

impl<'a> Stored<'a> {
    /// `n` numbers of a shard, from `at` on.
    pub fn new(shard: &'a Shard, dtype: Dtype, at: u64, n: usize) -> Self {
        Stored { shard, dtype, at, left: n }
    }

    /// The file that it stands in.
    pub fn file(&self) -> &'a Path {
        &self.shard.file
    }

    /// Replaces `bytes` by the next piece; false at the end.
    ///
    /// # Errors
    /// [`WeightError::Read`].
    fn fetch(&mut self, bytes: &mut Vec<u8>) -> Result<bool, WeightError> {
        let n = self.left.min(PIECE);
        bytes.resize(n * size(self.dtype), 0);
        let mut file = &self.shard.handle;
        file.seek(SeekFrom::Start(self.at))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|source| WeightError::Read { file: self.shard.file.clone(), source })?;
        self.at += bytes.len() as u64;
        self.left -= n;
        Ok(n > 0)
    }

    /// Replaces `values` by the next piece, widened, and tells how many bytes that was; 0 at the end.
    ///
    /// # Errors
    /// [`WeightError::Read`].
    pub fn next(&mut self, values: &mut Vec<f32>) -> Result<usize, WeightError> {
        let mut bytes = Vec::new();
        self.fetch(&mut bytes)?;
        values.resize(bytes.len() / size(self.dtype), 0.0);
        widen(self.dtype, &bytes, values);
        Ok(bytes.len())
    }

    /// Hands over all pieces in order, each while the next is being read.
    ///
    /// # Errors
    /// [`WeightError::Read`], or what `work` says.
    pub fn each(
        mut self,
        mut work: impl FnMut(Piece<'_>) -> Result<(), WeightError>,
    ) -> Result<(), WeightError> {
        let (dtype, file, mut at) = (self.dtype, self.file(), 0);
        let mut hand = |bytes: &[u8]| {
            let piece = Piece { dtype, file, bytes, at };
            at += piece.numbers();
            work(piece)
        };
        if self.left <= PIECE {
            let mut bytes = Vec::new();
            return if self.fetch(&mut bytes)? { hand(&bytes) } else { Ok(()) };
        }
        thread::scope(|scope| {
            let ((full, pieces), (empty, used)) = (mpsc::sync_channel(1), mpsc::channel());
            let read_on = move || {
                loop {
                    let mut bytes: Vec<u8> = used.try_recv().unwrap_or_default();
                    let read = match self.fetch(&mut bytes) {
                        Ok(false) => return,
                        Ok(true) => Ok(bytes),
                        Err(error) => Err(error),
                    };
                    let failed = read.is_err();
                    // Nobody listens any more where work came to an error or was cancelled.
                    if full.send(read).is_err() || failed {
                        return;
                    }
                }
            };
            thread::Builder::new()
                .spawn_scoped(scope, read_on)
                .map_err(|source| WeightError::Read { file: file.to_path_buf(), source })?;
            for bytes in pieces {
                let bytes = bytes?;
                hand(&bytes)?;
                // It may have ended meanwhile.
                let _ = empty.send(bytes);
            }
            Ok(())
        })
    }
}

/// Some numbers of a weight, as its file stores them.
#[derive(Clone, Copy)]
pub struct Piece<'a> {
    dtype: Dtype,
    file: &'a Path,
    bytes: &'a [u8],
    /// Which number of the weight is the first.
    at: usize,
}

impl<'a> Piece<'a> {
    /// Numbers in it.
    pub fn numbers(&self) -> usize {
        self.bytes.len() / size(self.dtype)
    }

    /// Bytes in its file.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The first `n` numbers, and the rest.
    pub fn split_at(self, n: usize) -> (Self, Self) {
        let (here, rest) = self.bytes.split_at(n * size(self.dtype));
        (Piece { bytes: here, ..self }, Piece { bytes: rest, at: self.at + n, ..self })
    }

    /// Puts the numbers into `to`, which has room for as many, on all cores.
    ///
    /// # Errors
    /// [`WeightError::NotFinite`] or [`WeightError::Range`], of the first of the 16384 numbers at a time that have one;
    /// among these of what is no number before what is out of range.
    pub fn convert<T: Format>(
        self,
        key: &str,
        narrowing: &mut Narrowing,
        to: &mut [T],
    ) -> Result<(), WeightError> {
        /// Numbers at a time: what they pass through stays in a core's cache.
        const RUN: usize = 1 << 14;
        let run = |(n, (bytes, to)): (usize, (&[u8], &mut [T]))| {
            let mut values = vec![0.0; to.len()];
            widen(self.dtype, bytes, &mut values);
            if !all_finite(&values) {
                let i = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
                let (key, file) = (key.to_string(), self.file.to_path_buf());
                return Err(WeightError::NotFinite {
                    key,
                    value: values[i],
                    at: self.at + n * RUN + i,
                    file,
                });
            }
            let mut narrowing = Narrowing::default();
            let taken = narrowing.take(&values, to);
            taken.map(|()| narrowing).map_err(|lost| WeightError::lost::<T>(lost, key, self.file))
        };
        let runs = self.bytes.par_chunks(RUN * size(self.dtype)).zip(to.par_chunks_mut(RUN)).enumerate();
        let done: Vec<Result<Narrowing, WeightError>> = runs.map(run).collect();
        for one in done {
            *narrowing = narrowing.and(one?);
        }
        Ok(())
    }
}

/// Bytes of a number.
fn size(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

/// Stored numbers as float32, into room for just as many.
fn widen(dtype: Dtype, bytes: &[u8], to: &mut [f32]) {
    let pairs = bytes.as_chunks::<2>().0;
    let halves = || pairs.iter().map(|&b| u16::from_le_bytes(b)).collect::<Vec<u16>>();
    match dtype {
        Dtype::F16 => halves().reinterpret_cast::<f16>().convert_to_f32_slice(to),
        Dtype::BF16 => halves().reinterpret_cast::<bf16>().convert_to_f32_slice(to),
        _ => {
            let quads = bytes.as_chunks::<4>().0;
            to.iter_mut().zip(quads).for_each(|(v, &b)| *v = f32::from_le_bytes(b));
        }
    }
}

/// SHA-256 over the folder's weight files, in the order of their names, in hex. `summed` counts the bytes. Meant for a
/// thread beside the one that loads: whichever comes second finds what the other read in memory still, so that a model
/// larger than the machine keeps of its files comes from the disk once.
///
/// # Errors
/// [`WeightError::Read`], [`WeightError::Index`] or [`WeightError::Cancelled`].
pub fn sha256(dir: &Path, cancel: &Cancel, summed: &AtomicU64) -> Result<String, WeightError> {
    let mut hasher = Sha256::new();
    for file in shard_files(dir)? {
        let read = |source| WeightError::Read { file: file.clone(), source };
        let mut reader = BufReader::with_capacity(1 << 20, input::open(&file).map_err(read)?);
        loop {
            let chunk = reader.fill_buf().map_err(read)?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(chunk);
            let read = chunk.len();
            reader.consume(read);
            cancel.check()?;
            summed.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
    Ok(hasher.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// The name of the file that a folder's weights are read from, or of the index of several, in the order in which
/// transformers looks: the one that config.json names, the one file, the index.
///
/// # Errors
/// [`WeightError::Index`], if config.json names what is no such file.
pub fn weights_file(dir: &Path) -> Result<String, WeightError> {
    const KEY: &str = "transformers_weights";
    let file = dir.join("config.json");
    // A broken config is told by those who need it whole.
    let config = json::read(&file).ok().flatten().unwrap_or_default();
    match config.get(KEY).filter(|name| !name.is_null()) {
        None if !dir.join(WEIGHTS).is_file() && dir.join(INDEX).exists() => Ok(INDEX.to_string()),
        None => Ok(WEIGHTS.to_string()),
        Some(named) => match named.as_str().filter(|name| is_beside(name)) {
            Some(name) if name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json") => {
                Ok(name.to_string())
            }
            _ => {
                let why =
                    format!("`{KEY}` is {named}, expected the name of a safetensors file or index beside it");
                Err(WeightError::Index { file, why })
            }
        },
    }
}

/// Whether a name is one of a file in the same folder: a path would let a model read elsewhere.
fn is_beside(name: &str) -> bool {
    !name.contains(['/', '\\']) && name != ".."
}

/// The weight files of a folder, sorted: the one file, or those that the index names.
pub fn shard_files(dir: &Path) -> Result<Vec<PathBuf>, WeightError> {
    let index = dir.join(weights_file(dir)?);
    if index.extension().is_some_and(|extension| extension == "safetensors") {
        return Ok(vec![index]);
    }
    let fail = |why: String| WeightError::Index { file: index.clone(), why };
    let text =
        input::read_text(&index).map_err(|source| WeightError::Read { file: index.clone(), source })?;
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|e| fail(format!("not valid JSON ({e})")))?;
    let map = json.get("weight_map").and_then(|m| m.as_object());
    let map = map.ok_or_else(|| fail("has no `weight_map` object".to_string()))?;
    let mut names = BTreeSet::new();
    for (key, name) in map {
        match name.as_str() {
            Some(name) if is_beside(name) => names.insert(name),
            _ => return Err(fail(format!("`{key}` is in {name}, expected the name of a file beside it"))),
        };
    }
    if names.is_empty() {
        return Err(fail("`weight_map` is empty".to_string()));
    }
    Ok(names.into_iter().map(|n| dir.join(n)).collect())
}

/// Opens a weight file and reads its header.
///
/// # Errors
/// [`WeightError::Read`] or [`WeightError::Corrupt`].
pub fn open_shard(file: PathBuf) -> Result<Shard, WeightError> {
    /// Longer headers are refused, as the format's own library does.
    const LONGEST: u64 = 100_000_000;
    let read = |source| WeightError::Read { file: file.clone(), source };
    let corrupt = |why: String| WeightError::Corrupt { file: file.clone(), why };
    let mut handle = input::open(&file).map_err(read)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A file of one weight `w`, bfloat16, its numbers by their places.
    fn stored(dir: &Path, n: usize, number: impl Fn(usize) -> f32) -> PathBuf {
        let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[{n}],"data_offsets":[0,{}]}}}}"#, 2 * n);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend((0..n).flat_map(|i| bf16::from_f32(number(i)).to_le_bytes()));
        let file = dir.join("w.safetensors");
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// All of them, as float32.
    fn read(shard: &Shard, n: usize) -> Result<Vec<f32>, WeightError> {
        let (mut values, mut done) = (vec![0.0f32; n], 0);
        Stored::new(shard, Dtype::BF16, shard.data, n).each(|piece| {
            let to = &mut values[done..][..piece.numbers()];
            done += to.len();
            piece.convert("w", &mut Narrowing::default(), to)
        })?;
        Ok(values)
    }

    #[test]
    fn numbers_of_several_pieces_come_in_order_and_what_is_wrong_among_them_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let n = 2 * PIECE + 10;
        let shard = open_shard(stored(dir.path(), n, |i| (i % 251) as f32)).unwrap();
        assert!(read(&shard, n).unwrap().iter().enumerate().all(|(i, &v)| v == (i % 251) as f32));

        let bad = PIECE + 70_000;
        let number = |i| if i >= bad { f32::NAN } else { 1.0 };
        let shard = open_shard(stored(dir.path(), n, number)).unwrap();
        match read(&shard, n) {
            Err(WeightError::NotFinite { key, at, value, .. }) => {
                assert_eq!((key.as_str(), at, value.is_nan()), ("w", bad, true));
            }
            other => panic!("{:?}", other.map(|values| values.len())),
        }

        // Cut short after it was opened: the reading thread tells.
        let file = stored(dir.path(), n, |_| 1.0);
        let shard = open_shard(file.clone()).unwrap();
        let handle = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        handle.set_len(shard.data + 3 * PIECE as u64).unwrap();
        assert!(matches!(read(&shard, n), Err(WeightError::Read { .. })));
    }
}
