//! Why a study over images cannot go on.

use std::path::PathBuf;

use crate::{
    engine::{decoding::DecodingError, error::RunError},
    files::error::WriteError,
    image::error::ImageError,
    studies::eval::error::EvalError,
};

/// Why a study cannot be done, or goes no further.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The folder of images, or what belongs to it.
    #[error(transparent)]
    Folder(#[from] EvalError),
    /// An image cannot be opened.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An image cannot be measured.
    #[error("{}: {source}", image.display())]
    Run {
        /// Its file.
        image: PathBuf,
        /// Why not.
        source: Box<RunError>,
    },
    /// Something was chosen that the study cannot do.
    #[error("{0}")]
    Choice(String),
    /// A file of an earlier run that does not go with this one.
    #[error("{}: {why}", file.display())]
    Stored {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Something cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl SurveyError {
    /// Whether it was told to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, SurveyError::Run { source, .. } if source.is_cancelled())
    }

    /// Whether other images can still be measured: it is about one image, its masks or what is asked about it.
    pub fn is_of_one_image(&self) -> bool {
        match self {
            SurveyError::Folder(e) => e.is_of_one_image(),
            SurveyError::Image(_) => true,
            SurveyError::Run { source, .. } => {
                !matches!(**source, RunError::Decoding(DecodingError::Lost(_) | DecodingError::Cancelled(_)))
            }
            SurveyError::Choice(_) | SurveyError::Stored { .. } | SurveyError::Write(_) => false,
        }
    }
}
