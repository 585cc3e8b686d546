//! Traces as files: JSON and safetensors for other programs, PNG and SVG for people.
//!
//! Reads [`Trace`](crate::trace::run::Trace)s; knows nothing of models or windows.


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
    /// An encoder refused.
    #[error("{}: cannot be encoded ({why})", file.display())]
    Encode {
        /// Which file.
        file: PathBuf,
        /// Its word.
        why: String,
    },
}
