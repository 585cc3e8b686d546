//! Stopping long work, and hearing how far it is. Plain values, so that every floor can use them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// A flag that stops work: models between two layers, loading between two pieces of a file.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// The work was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

impl Cancel {
    /// Tells whoever holds a clone to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once it was told to stop.
    ///
    /// # Errors
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading a model's weights, in bytes.
    Load,
    /// Decoding an image file.
    Open,
    /// Images through the vision encoder, in views.
    Encode,
    /// The prompt through the decoder.
    Prefill,
    /// Integrated gradients, in steps of their path.
    Gradients,
    /// Answer tokens.
    Decode,
}

/// How far something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Something.
    pub stage: Stage,
    /// Units done.
    pub done: u64,
    /// Units in all, where that is known.
    pub total: Option<u64>,
}

impl Progress {
    /// Of something whose length is not known.
    pub fn begun(stage: Stage) -> Self {
        Progress { stage, done: 0, total: None }
    }

    /// `done` of `total`.
    pub fn of(stage: Stage, done: usize, total: usize) -> Self {
        Progress { stage, done: done as u64, total: Some(total as u64) }
    }

    /// The share done, 0 to 1.
    pub fn share(&self) -> Option<f32> {
        self.total.map(|total| self.done as f32 / total.max(1) as f32)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.stage {
            Stage::Load => "loading the model",
            Stage::Open => "opening the image",
            Stage::Encode => "encoding the image",
            Stage::Prefill => "reading the prompt",
            Stage::Gradients => "integrated gradients",
            Stage::Decode => "answering",
        };
        match (self.stage, self.total) {
            (Stage::Encode, Some(total)) => write!(f, "{what}, view {} of {total}", self.done),
            (Stage::Gradients, Some(total)) => write!(f, "{what}, step {} of {total}", self.done),
            _ => f.write_str(what),
        }
    }
}
