//! Why a file could not be written, or read back.

use std::{io, path::PathBuf};

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be written.
    #[error("{}: cannot be written ({source}); is the folder writable, and is there room?", file.display())]
    Write {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file could not be read back.
    #[error("{}: {why}", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An encoder refused.
    #[error("{}: cannot be encoded ({why})", file.display())]
    Encode {
        /// Which file.
        file: PathBuf,
        /// Its word.
        why: String,
    },
}
