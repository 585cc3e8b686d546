//! The plain data of one run: tokens with their spans, attention of every answer row, log
//! probabilities, what the knockouts did, and how long it took.
//!
//! Knows nothing of burn, of windows or of files: `run` makes it, `interp` reads it, `export`
//! writes it, `ui` draws it.
//!
//! Layouts: a [`PatternRow`] is `[layers, heads, keys]`, layers slowest; of the kept layers and heads. Row `s` of an answer is the
//! query row that *predicted* answer token `s`: the last prompt row for `s = 0`, the row of answer
//! token `s - 1` after that.

use std::{sync::Arc, time::Duration};

use half::f16;
use serde::Serialize;

use crate::spec::span::Span;

/// Everything one run leaves behind.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The model that ran.
    pub model: ModelInfo,
    /// Where it ran, in words: "CPU (flex)" or the adapter's name.
    pub device: String,
    /// Which number formats were used for what.
    pub dtype: String,
    /// Prompt positions, in order.
    pub prompt: Vec<PromptToken>,
    /// Generated (or forced) tokens, in order, the end token included when it was reached.
    pub answer: Vec<AnswerToken>,
    /// Which layers, heads and answer rows `pattern` holds.
    pub kept: Kept,
    /// One entry a kept row.
    pub pattern: Vec<StoredRow>,
    /// One report a knockout, in the order given.
    pub knockouts: Vec<KnockoutReport>,
    /// Why the answer stopped.
    pub stop: Stop,
    /// Wall-clock times.
    pub timing: Timing,
}

impl Trace {
    /// The answer as text, without the end token.
    pub fn answer_text(&self) -> String {
        let words: String = self.answer.iter().filter(|t| !t.end).map(|t| t.text.as_str()).collect();
        words.trim().to_string()
    }

    /// Attention of the kept answer rows: place in the answer, and row.
    pub fn rows(&self) -> impl Iterator<Item = (usize, PatternRow)> + '_ {
        self.kept.rows.iter().copied().zip(self.pattern.iter().map(StoredRow::row))
    }

    /// Prompt and answer positions together.
    pub fn n_positions(&self) -> usize {
        self.prompt.len() + self.answer.len()
    }

    /// The span of any position.
    pub fn span(&self, position: usize) -> Span {
        self.prompt.get(position).map_or(Span::Answer, |t| t.span)
    }
}

/// What a trace or a window needs to know of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ModelInfo {
    /// The folder's name.
    pub name: String,
    /// SHA-256 of the weight files, in the order of their names.
    pub sha256: String,
    /// `model_type` of config.json.
    pub family: String,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads a layer.
    pub n_heads: usize,
    /// Key and value heads a layer.
    pub n_kv_heads: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence, prompt and answer together.
    pub context: usize,
    /// Total number of weights.
    pub parameters: usize,
}

/// One prompt position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PromptToken {
    /// Zero-based, absolute.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// The part of the prompt's text that this token adds. Where a character takes several tokens, it
    /// is the last one's, and empty for those before.
    pub text: String,
    /// Its part.
    pub span: Span,
    /// Which patch it holds, for visual tokens.
    #[serde(flatten)]
    pub visual: Option<VisualRef>,
}

/// Which piece of which image a visual token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VisualRef {
    /// Image, in prompt order.
    pub image: usize,
    /// Tile of that image, row by row, the global view last; 0 for a single view.
    pub tile: usize,
    /// Its place in the tile's token grid; `None` for a class token, which shows no patch.
    #[serde(flatten)]
    pub cell: Option<Cell>,
}

/// A place in a tile's token grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// From the top.
    pub row: usize,
    /// From the left.
    pub col: usize,
}

/// One answer position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerToken {
    /// Zero-based, absolute: prompt length plus place in the answer.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// The text that this token adds to the answer, leading blank included.
    pub text: String,
    /// Always [`Span::Answer`].
    pub span: Span,
    /// Natural log probability that the model gave it.
    pub logprob: f32,
    /// The likeliest tokens at this place, best first.
    pub top: Vec<Candidate>,
    /// Whether it is the token that ends an answer.
    pub end: bool,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Natural log probability.
    pub logprob: f32,
}

/// Which attention a trace holds, by number, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Decoder layers.
    pub layers: Vec<usize>,
    /// Query heads.
    pub heads: Vec<usize>,
    /// Answer rows.
    pub rows: Vec<usize>,
}

/// A row at rest.
#[derive(Clone, Debug)]
pub enum StoredRow {
    /// As it was.
    Full(PatternRow),
    /// Rounded to half precision.
    Half {
        /// `[layers, heads, keys]`.
        shape: [usize; 3],
        /// The values.
        data: Arc<[f16]>,
    },
}

impl StoredRow {
    /// Stores a row.
    pub fn new(row: PatternRow, half: bool) -> Self {
        if !half {
            return StoredRow::Full(row);
        }
        let data = row.data.iter().map(|&v| f16::from_f32(v)).collect();
        StoredRow::Half { shape: [row.n_layers, row.n_heads, row.n_keys], data }
    }

    /// The row, widened if need be.
    pub fn row(&self) -> PatternRow {
        match self {
            StoredRow::Full(row) => row.clone(),
            StoredRow::Half { shape: [n_layers, n_heads, n_keys], data } => PatternRow {
                n_layers: *n_layers,
                n_heads: *n_heads,
                n_keys: *n_keys,
                data: Arc::new(data.iter().map(|v| v.to_f32()).collect()),
            },
        }
    }
}

/// Attention of one answer row over everything it could see, after the softmax.
#[derive(Clone, Debug)]
pub struct PatternRow {
    /// Kept layers.
    pub n_layers: usize,
    /// Kept query heads.
    pub n_heads: usize,
    /// Keys: prompt length plus answer tokens before this one.
    pub n_keys: usize,
    /// `[layers, heads, keys]`; every `[keys]` row sums to 1. Shared, since the window keeps a copy; a
    /// vector, so that what came from the device is not copied once more.
    pub data: Arc<Vec<f32>>,
}

impl PatternRow {
    /// `[keys]`: one head of one layer.
    pub fn head(&self, layer: usize, head: usize) -> &[f32] {
        let at = (layer * self.n_heads + head) * self.n_keys;
        &self.data[at..at + self.n_keys]
    }

    /// `[keys]`: the mean of a layer's heads.
    pub fn head_mean(&self, layer: usize) -> Vec<f32> {
        let mut mean = vec![0.0; self.n_keys];
        for head in 0..self.n_heads {
            mean.iter_mut().zip(self.head(layer, head)).for_each(|(m, p)| *m += p);
        }
        mean.iter_mut().for_each(|m| *m /= self.n_heads as f32);
        mean
    }
}

/// What one knockout did: its proof.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KnockoutReport {
    /// As written.
    pub text: String,
    /// Per layer: (query, key) pairs that causality allowed and the cut blocked, each counted once
    /// however many heads are cut, over all rows that ran.
    pub pairs: Vec<u64>,
    /// Largest value after the softmax on any blocked pair of any cut head: 0 when the cut held.
    pub blocked_mass: f32,
}

impl KnockoutReport {
    /// Blocked pairs of all layers.
    pub fn total_pairs(&self) -> u64 {
        self.pairs.iter().sum()
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// The model said the end token.
    End,
    /// The number of new tokens asked for was reached.
    MaxNew,
    /// The context was full.
    Context,
    /// The answer was given (teacher-forced).
    Forced,
    /// Someone cancelled; the trace holds what there was.
    Cancelled,
}

/// Wall-clock times of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Reading the model.
    pub load: Duration,
    /// Vision encoder and projector; zero when the image was encoded before.
    pub encode: Duration,
    /// Prompt through the decoder.
    pub prefill: Duration,
    /// Answer tokens after the first.
    pub decode: Duration,
    /// Decode steps taken.
    pub decode_steps: usize,
}

impl Timing {
    /// Decode speed; `None` before the first step.
    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.decode_steps > 0).then(|| self.decode_steps as f64 / self.decode.as_secs_f64())
    }
}
