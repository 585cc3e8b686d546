//! Why an evaluation cannot be made.

use std::{io, path::PathBuf};

use crate::{engine::error::RunError, image::error::ImageError, spec::knockout::KnockoutError};

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file cannot be read.
    #[error("{}: cannot be read ({source})", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nothing to ask.
    #[error(
        "{}: neither scenes.jsonl nor annotations.json is there; give a folder that `sightline scenes` wrote, or one in COCO's format (with --annotations FILE if the file has another name)",
        dir.display()
    )]
    NoScenes {
        /// The folder.
        dir: PathBuf,
    },
    /// No image.
    #[error("{}: no image is listed, or the limit is 0", dir.display())]
    NoImages {
        /// The folder.
        dir: PathBuf,
    },
    /// A poll that names no class.
    #[error("the poll `{text}` has no place for the class: write {{class}} where it belongs")]
    Poll {
        /// As given.
        text: String,
    },
    /// A mask that is not there.
    #[error("{}: there is no mask; localising needs masks/ beside images/", file.display())]
    NoMask {
        /// Where it should be.
        file: PathBuf,
    },
    /// Neither a question nor a description.
    #[error("{}: no image has a question, and no description is asked for: there is nothing to ask", dir.display())]
    NothingAsked {
        /// The folder.
        dir: PathBuf,
    },
    /// A cut in layers or heads that the model has not.
    #[error("`{text}`: {source}")]
    Knockout {
        /// As written.
        text: String,
        /// What is wrong.
        source: KnockoutError,
    },
    /// Nothing to exchange.
    #[error("shuffling needs at least 2 images")]
    OneImage,
    /// An image cannot be opened; the error names it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model cannot answer.
    #[error("{}: {source}", image.display())]
    Run {
        /// About which image.
        image: PathBuf,
        /// Why. Boxed: it is much larger than the rest.
        source: Box<RunError>,
    },
}

impl EvalError {
    /// Whether it is about one image, so that the others can be asked about all the same.
    pub(in crate::studies) fn is_of_one_image(&self) -> bool {
        match self {
            EvalError::Image(_) | EvalError::NoMask { .. } | EvalError::File { .. } => true,
            EvalError::Run { source, .. } => !matches!(**source, RunError::Decoding(_)),
            _ => false,
        }
    }
}
