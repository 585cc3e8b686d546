//! Where a forward pass can be watched and cut: one plain value, no callbacks.
//!
//! Names follow TransformerLens: the scores are what goes into the softmax, the pattern what comes
//! out, `resid_pre` is a block's input and `resid_post` its output. Knows rows, keys and heads by
//! number; does not know what a span or a knockout is. Cuts are outer products, so that nothing the
//! size of the square of the prompt is ever stored; sums over groups of keys tell of all of it.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;

/// What to cut and what to keep in one forward pass.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Per layer; layers past the end are left alone.
    pub blocked: Vec<Vec<Arc<Blocked>>>,
    /// Whose attention is kept.
    pub pattern: Keep,
    /// By which groups of keys the attention of every row is summed; `None` sums nothing.
    pub groups: Option<Groups>,
    /// Keep `resid_pre` of every so-manyth layer, counted from layer 0; 0 keeps none.
    pub resid_every: usize,
}

/// Pairs that lose their attention in one layer: every marked row with every marked key that it could
/// see, in every marked head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The caller's name for it: the proof is reported under this number.
    pub tag: usize,
    /// `[rows]` of the pass.
    pub rows: Vec<bool>,
    /// `[keys]`: cached ones, then the rows'.
    pub keys: Vec<bool>,
    /// `[heads]`.
    pub heads: Vec<bool>,
}

/// Whose attention is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Rows of the pass, ascending; none by default.
    pub rows: Vec<usize>,
    /// `[layers]`; `None` means every layer.
    pub layers: Option<Arc<[bool]>>,
    /// Query heads, ascending; `None` means every head.
    pub heads: Option<Arc<[usize]>>,
}

impl Keep {
    /// These rows in every layer and head.
    pub fn rows(rows: impl IntoIterator<Item = usize>) -> Self {
        Keep { rows: rows.into_iter().collect(), ..Keep::default() }
    }

    /// Whether a layer's attention is kept at all.
    pub(super) fn layer(&self, layer: usize) -> bool {
        !self.rows.is_empty() && self.layers.as_ref().is_none_or(|l| l.get(layer) == Some(&true))
    }

    /// How many of `heads` query heads are kept.
    pub(super) fn n_heads(&self, heads: usize) -> usize {
        self.heads.as_ref().map_or(heads, |kept| kept.len())
    }
}

/// Which keys belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Group of every key, cached ones first; keys past its end belong to none.
    pub keys: Arc<[u8]>,
    /// How many groups there are, one at least.
    pub count: usize,
}

impl Groups {
    /// Where neighbouring keys of one group stand, among the first `keys`, and which group that is.
    pub(super) fn runs(&self, keys: usize) -> Vec<(Range<usize>, usize)> {
        let here = &self.keys[..keys.min(self.keys.len())];
        let mut start = 0;
        let runs = here.chunk_by(|a, b| a == b).map(|run| {
            let group = run.first().map_or(0, |&group| usize::from(group));
            start += run.len();
            (start - run.len()..start, group)
        });
        runs.filter(|(_, group)| *group < self.count).collect()
    }
}

/// What the hooks kept.
#[derive(Debug, Default)]
pub struct Recorded {
    /// `[kept layers, kept heads, kept rows, keys]`, after the softmax; `None` where nothing was to be kept.
    pub pattern: Option<Tensor<4>>,
    /// `[layers that ran, rows, groups]`: what every row gives the keys of each group, after the softmax, the mean of
    /// all heads; `None` where no groups were asked for.
    pub groups: Option<Tensor<3>>,
    /// Layer, and `[rows, width]`: that block's input.
    pub resid_pre: Vec<(usize, Tensor<2>)>,
    /// The proof: layer, tag, and the largest value after the softmax on a blocked pair, `[1]`; several
    /// entries a layer and tag when rows went through in chunks.
    pub blocked_mass: Vec<(usize, usize, Tensor<1>)>,
}

/// What to record of a view's way through the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the fast way.
    Nothing,
    /// Hidden states of every stored layer.
    States,
    /// Hidden states and patterns of every stored layer.
    Everything,
    /// The pattern of one layer.
    Layer(usize),
}

impl Watch {
    /// Whether every stored layer runs, and hidden states are recorded.
    pub fn states(self) -> bool {
        matches!(self, Watch::States | Watch::Everything)
    }

    /// Whether a layer's pattern is recorded.
    pub fn pattern(self, layer: usize) -> bool {
        self == Watch::Everything || self == Watch::Layer(layer)
    }
}

/// The inside of the encoder for one view.
#[derive(Debug, Default)]
pub struct VisionRecording {
    /// `L + 1` times `[tokens, width]`: input of the first layer, then every layer's output. Only where
    /// states were watched.
    pub hidden: Vec<Tensor<2>>,
    /// `[heads, tokens, tokens]` of every watched layer, after the softmax; 0 outside windows.
    pub pattern: Vec<Tensor<3>>,
    /// What follows from where patches stand, by the names that references have for it, `[tokens, ..]`. Only where
    /// everything was watched.
    pub places: Vec<(&'static str, Tensor<2>)>,
    /// Visual tokens of each window of a tower that has windows, in order; likewise.
    pub windows: Vec<Vec<usize>>,
}
