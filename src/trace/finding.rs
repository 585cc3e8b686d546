//! What studies find out about an answer, one finding at a time, as plain data.
//!
//! Effects are changes of natural log probability, summed over the tokens that a study is about: below 0 where
//! what was taken away had helped. Knows nothing of tensors or of how a study goes about it.

use serde::Serialize;

use crate::{spec::span::Span, trace::tokens::Candidate};

/// One finding of a [`Study`](crate::spec::study::Study).
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A block of patches was taken away.
    Block(Block),
    /// All blocks of one size were: how their effects go with attention.
    Agreement(Agreement),
    /// An edge was cut in a window of layers.
    Edge(EdgeFound),
    /// A head's view of the image was cut.
    Head(HeadFound),
    /// One layer was read.
    Lens(LensPage),
    /// A context was shortened, and asked.
    Compressed(Compression),
}

/// The effect of one block of patches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Block {
    /// Visual tokens of it, by their number among those of the first image, ascending.
    pub patches: Vec<usize>,
    /// Patches along its side; blocks at the borders may be smaller.
    pub side: usize,
    /// Change of the phrase's log probability, in nats.
    pub delta: f32,
}

/// Spearman's rank correlation of a block's attention, per patch, with the fall that taking it away causes
/// (`-delta`), per patch, over all blocks of one size. NaN never: 0 where either side is constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Patches along the sides of the blocks.
    pub side: usize,
    /// `[layers, heads]`, layers slowest.
    pub heads: Vec<f32>,
    /// `[layers]`: of the mean of all heads.
    pub mean: Vec<f32>,
}

/// The effect of what one span reads from another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct EdgeFound {
    /// Rows that lose sight. `answer` are the rows of answer tokens that were said before.
    pub query: Span,
    /// Positions that they lose.
    pub key: Span,
    /// Layer in the middle of the window.
    pub layer: usize,
    /// Change of the phrase's log probability, in nats.
    pub delta: f32,
}

/// The effect of one head's view of the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HeadFound {
    /// Decoder layer.
    pub layer: usize,
    /// Query head.
    pub head: usize,
    /// Change of the phrase's log probability, in nats.
    pub delta: f32,
}

/// What one layer would say.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LensPage {
    /// Decoder layer; the reading is of its output.
    pub layer: usize,
    /// One a position, in the order asked for.
    pub readings: Vec<LensReading>,
}

/// What one layer would say at one position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LensReading {
    /// Absolute position.
    pub position: usize,
    /// Likeliest tokens, best first.
    pub top: Vec<Candidate>,
    /// Of the word asked for: how many tokens are likelier, and its probability.
    pub chosen: Option<(usize, f32)>,
}

/// What became of a context, and of questions asked against it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compression {
    /// Share of visual tokens kept, in percent.
    pub percent: f32,
    /// Keys a layer.
    pub tokens: usize,
    /// Visual ones of them.
    pub visual: usize,
    /// Keys a layer of the whole context.
    pub full_tokens: usize,
    /// One a question.
    pub questions: Vec<Asked>,
    /// Share of the questions answered word for word alike.
    pub same: f32,
    /// Mean of [`Asked::agreement`].
    pub agreement: f32,
}

/// One question, asked against both contexts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// The question.
    pub question: String,
    /// Against the whole context.
    pub full: String,
    /// Against the short one.
    pub compressed: String,
    /// Whether both are the same, token for token.
    pub same: bool,
    /// Tokens of the longest common subsequence, as a share of the longer answer.
    pub agreement: f32,
}
