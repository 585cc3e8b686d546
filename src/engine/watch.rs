//! What is asked of every pass of a run and kept of it: the attention of some rows, and of all rows what they give to
//! each span.
//!
//! Sums come from passes as `[layers, rows, spans]` and are put one behind the other, layer by layer. Knows which
//! rows predict what; not what a cut means, nor what a pass computes.

use std::{mem, sync::Arc};

use burn::tensor::Tensor;

use crate::{
    engine::decoding::{DecodingError, TOGETHER, host},
    model::hooks::{Groups, Hooks, Keep},
    spec::{record::Kept, span::Span},
    trace::{flow::RowFlow, run::ModelInfo, tokens::PromptToken},
};

/// What a run records, as the decoder's hooks take it.
pub(super) struct Watch {
    rows: Vec<usize>,
    layers: Option<Arc<[bool]>>,
    heads: Option<Arc<[usize]>>,
    /// Place in [`Span::ALL`] of every prompt position.
    prompt: Vec<u8>,
}

impl Watch {
    /// What is kept, of rows of such a prompt and what follows it.
    pub fn new(kept: &Kept, info: &ModelInfo, prompt: &[PromptToken]) -> Self {
        let layers = (kept.layers.len() < info.n_layers)
            .then(|| (0..info.n_layers).map(|l| kept.layers.contains(&l)).collect());
        let heads = (kept.heads.len() < info.n_heads).then(|| kept.heads.clone().into());
        let prompt = prompt.iter().map(|token| token.span.index() as u8).collect();
        Watch { rows: kept.rows.clone(), layers, heads, prompt }
    }

    /// For a pass whose last `n` of `rows` predict the answer from place `s` on.
    pub fn hooks(&self, rows: usize, s: usize, n: usize) -> Hooks {
        let kept = self.rows.iter().filter(|&&k| (s..s + n).contains(&k));
        let rows = kept.map(|k| rows - n + (k - s)).collect();
        let pattern = Keep { rows, layers: self.layers.clone(), heads: self.heads.clone() };
        // The row that predicts the first token stands at the prompt's last position.
        let said = std::iter::repeat_n(Span::Answer.index() as u8, (s + n).saturating_sub(1));
        let keys = self.prompt.iter().copied().chain(said).collect();
        Hooks { pattern, groups: Some(Groups { keys, count: Span::COUNT }), ..Hooks::default() }
    }
}

/// What the rows of some passes give to each span.
pub(super) struct Gathered {
    /// Of every layer, `[rows, spans]`.
    layers: Vec<Vec<f32>>,
    /// Of the last few passes, where the model left them: to read every one by itself would wait for each.
    last: Vec<Tensor<3>>,
}

impl Gathered {
    /// Nothing yet, of so many layers.
    pub fn new(layers: usize) -> Self {
        Gathered { layers: vec![Vec::new(); layers], last: Vec::new() }
    }

    /// The rows of another run, to go on behind them.
    pub fn after(rows: &RowFlow) -> Self {
        let layers = (0..rows.n_layers).map(|layer| rows.layer(layer).as_flattened().to_vec());
        Gathered { layers: layers.collect(), last: Vec::new() }
    }

    /// Forgets all rows after the first `len`.
    ///
    /// # Errors
    /// [`DecodingError::Device`].
    pub fn truncate(&mut self, len: usize) -> Result<(), DecodingError> {
        self.read()?;
        self.layers.iter_mut().for_each(|rows| rows.truncate(len * Span::COUNT));
        Ok(())
    }

    /// Adds the rows of one more pass, if it was asked for them.
    ///
    /// # Errors
    /// [`DecodingError::Device`].
    pub fn push(&mut self, passed: Option<Tensor<3>>) -> Result<(), DecodingError> {
        self.last.extend(passed);
        if self.last.len() >= TOGETHER { self.read() } else { Ok(()) }
    }

    fn read(&mut self) -> Result<(), DecodingError> {
        if self.last.is_empty() {
            return Ok(());
        }
        let values = host(Tensor::cat(mem::take(&mut self.last), 1))?;
        let each = (values.len() / self.layers.len().max(1)).max(1);
        self.layers.iter_mut().zip(values.chunks(each)).for_each(|(rows, new)| rows.extend_from_slice(new));
        Ok(())
    }

    /// All of them, from the first of the prompt on.
    ///
    /// # Errors
    /// [`DecodingError::Device`].
    pub fn rows(mut self, prompt: &[PromptToken]) -> Result<RowFlow, DecodingError> {
        self.read()?;
        let rows = self.layers.first().map_or(0, Vec::len) / Span::COUNT;
        let spans = prompt.iter().map(|token| token.span).chain(std::iter::repeat(Span::Answer));
        Ok(RowFlow {
            n_layers: self.layers.len(),
            spans: spans.take(rows).collect(),
            data: self.layers.concat(),
        })
    }

    /// All of them in the place of another run's rows: from row `row` of layer `layer` on.
    ///
    /// # Errors
    /// [`DecodingError::Device`].
    pub fn over(mut self, mut old: RowFlow, layer: usize, row: usize) -> Result<RowFlow, DecodingError> {
        self.read()?;
        let each = (old.spans.len() * Span::COUNT).max(1);
        for (rows, new) in old.data.chunks_mut(each).skip(layer).zip(&self.layers) {
            rows.iter_mut().skip(row * Span::COUNT).zip(new).for_each(|(old, new)| *old = *new);
        }
        Ok(old)
    }
}
