//! What a verification finds, as text and as JSON, and why one cannot be made.
//!
//! Knows neither models nor files.

use std::{fmt, path::PathBuf};

use serde::Serialize;

use crate::{engine::decoding::DecodingError, model::vlm::LoadError};

/// Why a folder cannot be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The model.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Running it.
    #[error(transparent)]
    Decoding(#[from] DecodingError),
    /// A reference file that cannot be read.
    #[error("{}: {why}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A reference that does not fit the model or the format.
    #[error("reference `{name}`: {why}")]
    Reference {
        /// Tensor or key.
        name: String,
        /// What is wrong.
        why: String,
    },
}

/// One compared tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Case of the reference.
    pub case: String,
    /// Tensor of the case.
    pub tensor: String,
    /// Largest absolute difference; for ids the number of differing ones.
    pub error: f64,
    /// Largest error that passes.
    pub tolerance: f64,
    /// Whether it passes.
    pub pass: bool,
    /// What else is wrong, or worth knowing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The outcome of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder.
    pub model: String,
    /// The file that its weights were read from, or the index of several.
    pub weights: String,
    /// Where it ran.
    pub device: String,
    /// Number formats.
    pub dtype: String,
    /// Weights that the folder holds and the model does not use.
    pub unused_weights: Vec<String>,
    /// Tensors of the reference that this program has no counterpart for.
    pub not_checked: Vec<String>,
    /// One line a tensor.
    pub checks: Vec<Check>,
    /// Whether all passed.
    pub pass: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} on {}; {}", self.model, self.device, self.dtype)?;
        writeln!(f, "weights: {}", self.weights)?;
        for key in &self.unused_weights {
            writeln!(f, "unused weight: {key}")?;
        }
        writeln!(f, "{:<10} {:<28} {:>11} {:>11}  result", "case", "tensor", "error", "tolerance")?;
        for c in &self.checks {
            let result = if c.pass { "pass" } else { "FAIL" };
            let note = if c.note.is_empty() { String::new() } else { format!("  {}", c.note) };
            writeln!(
                f,
                "{:<10} {:<28} {:>11.3e} {:>11.3e}  {result}{note}",
                c.case, c.tensor, c.error, c.tolerance
            )?;
        }
        for name in &self.not_checked {
            writeln!(f, "not checked: {name}")?;
        }
        let failed = self.checks.iter().filter(|c| !c.pass).count();
        let verdict = if self.pass { "PASS" } else { "FAIL" };
        write!(f, "{verdict}: {} tensors compared, {failed} failed", self.checks.len())
    }
}
