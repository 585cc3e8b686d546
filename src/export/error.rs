//! Why a file could not be written, or read back.

use std::path::PathBuf;

use crate::files::error::WriteError;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
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
