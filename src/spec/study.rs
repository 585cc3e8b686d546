//! What to find out about an answer beyond its own run, as plain data.
//!
//! A study names what it is about and how finely; its findings, [`Finding`](crate::trace::finding::Finding)s, come one
//! by one. Knows the grammar's numbers; knows nothing of tensors.

use crate::spec::sets::Numbers;

/// A study of one answer. An empty list of tokens means all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Study {
    /// How much a phrase depends on every block of patches.
    Patches(PatchEffect),
    /// How much it depends on what one span reads from another, layer by layer.
    Edges(EdgeEffect),
    /// How much it depends on every head's view of the image.
    Heads(HeadEffect),
    /// What every layer would say at some positions.
    Lens(LensAt),
    /// What a context of which only a part is left still knows.
    Compress(Compress),
}

/// Blocks of patches, each taken away in turn, coarse ones first.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
    /// How a block is taken away.
    pub how: Taking,
    /// Layers in which a block is cut; all of them where it is overwritten.
    pub layers: Numbers,
    /// Patches along the side of the first blocks; halved down to 1.
    pub coarsest: usize,
}

/// How a block of patches is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taking {
    /// No position outside the block may look at it: `all - BLOCK -> BLOCK`.
    #[default]
    Cut,
    /// It is overwritten with the mean visual embedding of the prompt.
    Mean,
}

/// What one span reads from another, cut in a window of layers around every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
    /// Layers in the window: odd, clipped at both ends.
    pub width: usize,
}

/// `answer -> visual`, cut in one head of one layer at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
}

/// Where the logit lens reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LensAt {
    /// Absolute positions, ascending.
    pub positions: Vec<usize>,
    /// Decoder layers whose output is read.
    pub layers: Numbers,
    /// Tokens listed at every place.
    pub top: usize,
    /// A word whose rank and probability are wanted at every place.
    pub word: Option<String>,
}

/// Questions to a context of text and some of the visual tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Compress {
    /// Percentages of the visual tokens that stay.
    pub percents: Vec<f32>,
    /// What is asked.
    pub questions: Vec<String>,
    /// Whether the first answer stays in the context too.
    pub keep_answer: bool,
}

/// Names a kind of study: of two of one kind about one answer, only the later is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StudyKind {
    /// [`Study::Patches`].
    Patches,
    /// [`Study::Edges`].
    Edges,
    /// [`Study::Heads`].
    Heads,
    /// [`Study::Lens`].
    Lens,
    /// [`Study::Compress`].
    Compress,
}

impl Study {
    /// Its kind.
    pub fn kind(&self) -> StudyKind {
        match self {
            Study::Patches(_) => StudyKind::Patches,
            Study::Edges(_) => StudyKind::Edges,
            Study::Heads(_) => StudyKind::Heads,
            Study::Lens(_) => StudyKind::Lens,
            Study::Compress(_) => StudyKind::Compress,
        }
    }
}

impl StudyKind {
    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            StudyKind::Patches => "effect map",
            StudyKind::Edges => "effect of edges",
            StudyKind::Heads => "effect of heads",
            StudyKind::Lens => "lens",
            StudyKind::Compress => "compression",
        }
    }
}
