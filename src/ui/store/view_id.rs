//! The names of views, in files too.
//!
//! Knows nothing of what they show or where they stand.

use serde::{Deserialize, Serialize};

/// Names a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewId {
    /// The image and the map over it.
    Image,
    /// The layer strip.
    Layers,
    /// The question and the prompt's tokens.
    Question,
    /// Runs, word by word.
    Answer,
    /// Who reads what, layer by layer, and what that does.
    Flow,
    /// Heads by layers, and the maps of all of them.
    Heads,
    /// What every layer would say.
    Lens,
    /// What patches do to a word, beside how much it looks at them.
    Effects,
    /// What is done to the model, and the proof.
    Cut,
    /// What a shortened context still knows.
    Compress,
    /// The papers' figures, over images.
    Studies,
}

impl ViewId {
    /// All of them.
    pub const ALL: [ViewId; 11] = [
        ViewId::Image,
        ViewId::Layers,
        ViewId::Question,
        ViewId::Answer,
        ViewId::Flow,
        ViewId::Heads,
        ViewId::Lens,
        ViewId::Effects,
        ViewId::Cut,
        ViewId::Compress,
        ViewId::Studies,
    ];
}
