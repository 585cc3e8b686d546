//! A run kept whole enough to start others from.
//!
//! Residuals are `[rows, width]`, rows counted over prompt and answer. Knows what was run and what came out;
//! not how either is done.

use std::{collections::BTreeMap, sync::OnceLock};

use burn::tensor::{DType, Tensor};

use crate::{
    engine::{change::Change, decoding::Rows, error::RunError, resolve::Uncut},
    model::kv_cache::KvCache,
    progress::Progress,
    prompt::build::Prompt,
    spec::experiment::Experiment,
    trace::{flow::RowFlow, run::Trace},
};

/// A run kept whole enough to start others from: see `resume`.
#[derive(Clone, Debug)]
pub struct Baseline {
    /// What was run.
    pub experiment: Experiment,
    /// What came out.
    pub trace: Trace,
    /// What every row that ran gives to each span.
    pub flow: RowFlow,
    /// Its prompt.
    pub prompt: Prompt,
    /// `[vocabulary]` logits, one row an answer token.
    pub logits: Vec<Vec<f32>>,
    /// Of each row: what makes log probabilities of it.
    pub(crate) norms: Vec<f64>,
    /// What was in force: an intervention goes back to before it.
    pub(crate) change: Change,
    /// Keys and values of every row that ran.
    pub(crate) cache: KvCache,
    /// What the decoder adds to the prompt's rows after a layer: its number, and `[prompt, width]`.
    pub(crate) added: Vec<(usize, Tensor<2>)>,
    /// `[rows, width]` by layer: that block's input, every row that ran.
    pub(crate) resid_pre: BTreeMap<usize, Tensor<2>>,
    /// `[rows, width]`: output of the last block, not normed.
    pub(crate) resid_post: Tensor<2>,
    /// Longest answer that the context allows.
    pub(crate) max_new: usize,
    /// Its first rows were not run again: an earlier run of the conversation had them.
    pub reused: usize,
    /// Visual positions by integrated gradient, once something asked for them.
    pub(crate) by_gradient: OnceLock<Vec<usize>>,
}

impl Baseline {
    /// Rows that ran: prompt, and answer but for its last token.
    pub fn n_rows(&self) -> usize {
        (self.prompt.len() + self.trace.answer.len()).saturating_sub(1)
    }

    /// What sets are computed from.
    pub(crate) fn uncut<'a>(&'a self, tell: &'a mut dyn FnMut(Progress)) -> Uncut<'a> {
        Uncut { trace: &self.trace, by_gradient: &self.by_gradient, tell }
    }

    /// The stored residual nearest below a layer, widened.
    ///
    /// # Errors
    /// [`RunError::Needs`] when none were kept.
    pub(crate) fn stored(&self, layer: usize) -> Result<(usize, Tensor<2>), RunError> {
        let needs = || RunError::Needs {
            what: "this",
            needs: "residuals: keep them of every, or every few, layers".to_string(),
        };
        let (&at, resid) = self.resid_pre.range(..=layer).next_back().ok_or_else(needs)?;
        Ok((at, resid.clone().cast(DType::F32)))
    }

    /// Rows that ran, from `first` on, where `resid` is what enters some layer at them.
    pub(crate) fn rows(&self, resid: Tensor<2>, first: usize) -> Rows {
        let (n_rows, n_prompt) = (self.n_rows(), self.prompt.len().min(self.n_rows()));
        let width = resid.dims()[1];
        let later = Tensor::zeros([n_rows - n_prompt, width], &resid.device());
        let all = |t: &Tensor<2>| match n_rows - n_prompt {
            0 => t.clone().narrow(0, first, n_rows - first),
            _ => Tensor::cat(vec![t.clone(), later.clone()], 0).narrow(0, first, n_rows - first),
        };
        Rows {
            resid,
            positions: self.cache.positions()[first..n_rows].to_vec(),
            added: self.added.iter().map(|(layer, t)| (*layer, all(t))).collect(),
        }
    }
}
