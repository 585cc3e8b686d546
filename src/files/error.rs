//! Why something cannot be written.

use std::{io, path::PathBuf};

/// Why something cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system refuses.
    #[error("{}: cannot be written ({source}); is the folder writable, and is there room?", file.display())]
    Refused {
        /// Which file or folder.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Two runs at a time would leave files of both.
    #[error("{}: another run is writing here: wait until it is done, or write elsewhere", place.display())]
    Busy {
        /// Which file or folder.
        place: PathBuf,
    },
}
