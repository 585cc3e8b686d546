//! Where a forward pass can be watched and cut: one plain value, no callbacks.
//!
//! Names follow TransformerLens: the scores are what goes into the softmax, the pattern what comes
//! out, `resid_pre` is a block's input and `resid_post` its output. Knows positions and masks; does
//! not know what a span or a knockout is.

use burn::tensor::{Bool, Tensor};

/// What to cut and what to keep in one forward pass.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Per layer; layers past the end are left alone.
    pub blocked: Vec<Vec<Blocked>>,
    /// Rows whose attention is kept.
    pub pattern: Rows,
    /// Whether `resid_pre` of every layer is kept.
    pub resid: bool,
}

/// Pairs that lose their attention in one layer.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// The caller's name for it: the proof is reported under this number.
    pub tag: usize,
    /// `[1 or heads, rows, keys]`, true where blocked; 1 means every head.
    pub mask: Tensor<3, Bool>,
}

/// A choice of rows of the current pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// None.
    #[default]
    None,
    /// The last so many rows.
    Last(usize),
    /// All rows.
    All,
}

/// What the hooks kept.
#[derive(Debug, Default)]
pub struct Recorded {
    /// Per layer: `[heads, rows kept, keys]`, after the softmax.
    pub pattern: Vec<Tensor<3>>,
    /// Per layer: `[rows, width]`, the block's input.
    pub resid_pre: Vec<Tensor<2>>,
    /// The proof: per cut layer and tag, the largest value after the softmax on a blocked pair, `[1]`.
    pub blocked_mass: Vec<(usize, usize, Tensor<1>)>,
}

impl Rows {
    /// The kept part of `[heads, rows, keys]`.
    pub(super) fn of(self, pattern: &Tensor<3>) -> Option<Tensor<3>> {
        let rows = pattern.dims()[1];
        match self {
            Rows::None => None,
            Rows::Last(n) if n < rows => Some(pattern.clone().narrow(1, rows - n, n)),
            Rows::Last(_) | Rows::All => Some(pattern.clone()),
        }
    }
}
