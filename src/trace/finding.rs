//! What studies find out about an answer, one finding at a time, as plain data.
//!
//! Effects are changes of natural log probability, summed over the tokens that a study is about: below 0 where
//! what was taken away had helped. Knows nothing of tensors or of how a study goes about it.

use serde::Serialize;

use crate::{
    spec::{span::Span, study::Taking},
    trace::tokens::Candidate,
};

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
    /// One layer was read, or a part of it: of many positions some at a time, and the pages of a layer that come
    /// one after the other make up the whole.
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
/// (`-delta`), per patch, over all blocks of one size. NaN never: 0 where either side is constant. Both lists are
/// empty where not all attention was recorded.
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
    /// One a position, in the order asked for: of all positions, or of some that follow those of the page before.
    pub readings: Vec<LensReading>,
}

/// What one layer would say at one position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LensReading {
    /// Absolute position.
    pub position: usize,
    /// Likeliest tokens, best first.
    pub top: Vec<Candidate>,
    /// Of the word asked for: how many tokens are likelier, and its probability. Of a word of several tokens the
    /// first is followed.
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

/// All effects that were asked for of one answer, as trace.json holds them. Of a study that was not asked for there
/// is nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Effects {
    /// Answer tokens whose log probabilities are summed.
    pub tokens: Vec<usize>,
    /// Of blocks of patches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlocksFound>,
    /// How they go with attention, one a size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub agreement: Vec<Agreement>,
    /// Of edges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesFound>,
    /// Of heads, layer by layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub heads: Vec<HeadFound>,
}

/// An effect map with its settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlocksFound {
    /// Patches along the side of the first blocks.
    pub coarsest: usize,
    /// How a block was taken away.
    pub how: Taking,
    /// Layers in which it was cut, as typed.
    pub layers: String,
    /// Coarse ones first.
    pub found: Vec<Block>,
}

/// The effects of edges with their settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgesFound {
    /// Layers in the window.
    pub width: usize,
    /// The layers of one edge one after the other.
    pub found: Vec<EdgeFound>,
}
