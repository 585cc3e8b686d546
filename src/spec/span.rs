//! What each position of a sequence is for.
//!
//! Knows nothing of tensors, models or windows: spans are assigned by the prompt builder, by
//! construction, and carried as plain data by the trace.

use serde::{Deserialize, Serialize};

/// The part that one position plays. Every position of a prompt, and every answer token, has
/// exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// The beginning-of-sequence token, the usual attention sink of text.
    Bos,
    /// Template text that is neither the user's nor one of the other spans; system text; earlier answers.
    System,
    /// Tile, row, column and image-boundary tokens, the family's or the template's.
    Markers,
    /// Positions that the projector fills with image patches.
    Visual,
    /// The user's own text, before or after the image.
    Question,
    /// The last prompt row: the one that predicts the first answer token.
    Last,
    /// Generated positions, and before them what the answer was given to begin with.
    Answer,
}

impl Span {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All spans, in the order in which flow tensors and charts list them.
    pub const ALL: [Span; Span::COUNT] =
        [Span::Bos, Span::System, Span::Markers, Span::Visual, Span::Question, Span::Last, Span::Answer];

    /// Place in [`Span::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name used in knockouts, files and on screen.
    pub fn name(self) -> &'static str {
        match self {
            Span::Bos => "bos",
            Span::System => "system",
            Span::Markers => "markers",
            Span::Visual => "visual",
            Span::Question => "question",
            Span::Last => "last",
            Span::Answer => "answer",
        }
    }
}
