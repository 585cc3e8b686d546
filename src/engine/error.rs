//! Why a folder cannot be opened, and why a run failed.

use std::path::PathBuf;

use crate::{
    checkpoint::{json::JsonError, weight_error::WeightError},
    engine::decoding::DecodingError,
    image::error::ImageError,
    model::vlm::LoadError,
    progress::Cancelled,
    prompt::error::PromptError,
    spec::{
        knockout::KnockoutError,
        record::{Memory, gigabytes},
        sets::SetError,
    },
};

/// Why a folder cannot be opened as an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A settings file.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Config or weights.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Image processor.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Tokenizer or template.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// More than the machine has left.
    #[error(
        "{}: this model needs {need} with its weights {dtype}, and the machine has {left} left: {advice}; SIGHTLINE_LOAD_ANYWAY=1 in the environment loads it all the same",
        dir.display()
    )]
    Memory {
        /// Folder.
        dir: PathBuf,
        /// The format, in words.
        dtype: &'static str,
        /// The estimate, in words.
        need: String,
        /// What is left, in words.
        left: String,
        /// What would need less.
        advice: String,
    },
    /// Parts that do not belong together.
    #[error("{dir}: {why}")]
    Mismatch {
        /// Folder.
        dir: String,
        /// What does not fit.
        why: String,
    },
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A cut, with its text.
    #[error("`{text}`: {source}")]
    Knockout {
        /// As written.
        text: String,
        /// What is wrong.
        source: KnockoutError,
    },
    /// An ablation, with its text.
    #[error("`{text}`: {why}")]
    Ablation {
        /// As written.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// What is to be recorded, or looked at.
    #[error("{what}: {source}")]
    Choice {
        /// As written.
        what: String,
        /// What is wrong.
        source: SetError,
    },
    /// How the answer is drawn.
    #[error("sampling: {0}")]
    Sampling(String),
    /// The object's mask.
    #[error("{}: {why}", file.display())]
    Mask {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More would be kept than is allowed.
    #[error(
        "this run would keep {memory}; the limit is {}: record fewer layers, heads or rows, keep residuals of every few layers only, store in half precision, ask for a shorter answer, or raise the limit",
        gigabytes(*limit)
    )]
    Memory {
        /// The estimate.
        memory: Memory,
        /// The limit in bytes.
        limit: u64,
    },
    /// A baseline that an analysis cannot start from.
    #[error("{what} needs {needs}")]
    Needs {
        /// Which analysis.
        what: &'static str,
        /// What is missing.
        needs: String,
    },
    /// The decoder.
    #[error(transparent)]
    Decoding(#[from] DecodingError),
    /// No room for the prompt.
    #[error(
        "the prompt has {found} tokens ({visual} of them visual), but the model's context holds {context}, one of which the answer needs: shorten the text, or use an image that needs fewer tiles"
    )]
    TooLong {
        /// Prompt tokens.
        found: usize,
        /// Visual ones.
        visual: usize,
        /// Context length.
        context: usize,
    },
    /// A number of the spec that does not fit.
    #[error("{what} is {found}, expected {expected}")]
    Spec {
        /// Which.
        what: &'static str,
        /// The number.
        found: usize,
        /// What would do.
        expected: String,
    },
}

impl EngineError {
    /// Whether it is no failure: somebody told it to stop.
    pub fn is_cancelled(&self) -> bool {
        let stopped = |e: &LoadError| matches!(e, LoadError::Weights(WeightError::Cancelled(_)));
        matches!(self, EngineError::Cancelled(_)) || matches!(self, EngineError::Load(e) if stopped(e))
    }
}

impl RunError {
    /// Whether it is no failure: somebody told it to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, RunError::Decoding(DecodingError::Cancelled(_)))
    }
}
