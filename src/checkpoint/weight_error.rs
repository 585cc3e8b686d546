//! Why weights cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    checkpoint::numbers::{Format, Lost},
    progress::Cancelled,
};

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// The device elsewhere did not take one.
    #[error("weight `{key}` did not reach the device ({why})")]
    Device {
        /// Its key.
        key: String,
        /// The device's word.
        why: String,
    },
    /// At the end not all of them had arrived where they are used.
    #[error("the weights did not all reach the device ({why})")]
    Underway {
        /// The device's word.
        why: String,
    },
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
    /// A value that is no number.
    #[error("weight `{key}` in {} holds {value} at place {at}: the file is damaged, or was saved from a model that had diverged; download it again", file.display())]
    NotFinite {
        /// Its key.
        key: String,
        /// NaN or an infinity.
        value: f32,
        /// Its place, row-major.
        at: usize,
        /// Which file.
        file: PathBuf,
    },
    /// A value that a format of 16 bits cannot hold.
    #[error("weight `{key}` in {} holds {value}, beyond {format}'s range: load it with --dtype f32", file.display())]
    Range {
        /// Its key.
        key: String,
        /// The value.
        value: f32,
        /// The format's name.
        format: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// Values so small, all of them, that a format of 16 bits would round them away.
    #[error("weight `{key}` in {} holds nothing larger than {largest:e}, which {format} would round away: load it with --dtype f32", file.display())]
    Small {
        /// Its key.
        key: String,
        /// Its largest magnitude.
        largest: f32,
        /// The format's name.
        format: &'static str,
        /// Which file.
        file: PathBuf,
    },
    /// A number format that the device does not compute in.
    #[error(
        "this device does not compute in {format}: use --dtype auto, which takes what it has, or --dtype f32"
    )]
    Unsupported {
        /// The format's name.
        format: &'static str,
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

impl WeightError {
    /// What a format cannot hold of a weight.
    pub fn lost<T: Format>(lost: Lost, key: &str, file: &Path) -> Self {
        let (key, file, format) = (key.to_string(), file.to_path_buf(), T::NAME);
        match lost {
            Lost::Range(value) => WeightError::Range { key, value, format, file },
            Lost::Small(largest) => WeightError::Small { key, largest, format, file },
        }
    }
}

fn shorten(keys: &[String]) -> String {
    let shown: Vec<&str> = keys.iter().take(5).map(String::as_str).collect();
    let more = keys.len() - shown.len();
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}
