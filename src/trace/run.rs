//! The plain data of one run: tokens with their spans, attention of every answer row, log
//! probabilities, what the knockouts did, and how long it took.
//!
//! Knows nothing of burn, of windows or of files: `engine` makes it, `studies` read it, `export` writes it,
//! `ui` draws it.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    spec::{record::Kept, span::Span},
    trace::{
        flow::{SpanFlow, of_row},
        geometry::Geometry,
        pattern::{PatternRow, StoredRow},
        tokens::{AnswerToken, PromptToken},
    },
};

/// Everything one run leaves behind.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The model that ran.
    pub model: ModelInfo,
    /// Where it ran, in words: "CPU (flex)" or the adapter's name.
    pub device: String,
    /// Which number formats were used for what.
    pub dtype: String,
    /// How the model saw the prompt's images, in order: where every patch lies.
    pub images: Vec<Geometry>,
    /// Prompt positions, in order.
    pub prompt: Vec<PromptToken>,
    /// Generated (or forced) tokens, in order, the end token included when it was reached.
    pub answer: Vec<AnswerToken>,
    /// Which layers, heads and answer rows `pattern` holds.
    pub kept: Kept,
    /// One entry a kept row.
    pub pattern: Vec<StoredRow>,
    /// What each span reads from each, over all rows that ran, every layer and the mean of all heads; `None` where no
    /// row ran, or of files in which it was not noted yet.
    pub flow: Option<SpanFlow>,
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

    /// `[layers, answer, spans]`, layers slowest: the share of head-mean attention that goes to each span, of the kept
    /// layers, heads and answer rows.
    pub fn shares(&self) -> Vec<f32> {
        let rows: Vec<_> = self.rows().map(|(_, row)| of_row(&row, |key| self.span(key))).collect();
        (0..self.kept.layers.len()).flat_map(|layer| rows.iter().flat_map(move |row| row[layer])).collect()
    }

    /// Answer token ids.
    pub fn ids(&self) -> Vec<u32> {
        self.answer.iter().map(|t| t.id).collect()
    }

    /// Whether the attention of every layer, head and answer row is held.
    pub fn holds_everything(&self) -> bool {
        let held = (self.kept.layers.len(), self.kept.heads.len(), self.kept.rows.len());
        held == (self.model.n_layers, self.model.n_heads, self.answer.len())
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// After how many of its first decoder layers features of the images are added (Qwen3-VL's deepstack).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deepstack: usize,
    /// Which files it was read from; unknown of traces written before this was noted.
    #[serde(default)]
    pub sources: Sources,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The files of a model's folder that won, where several could say the same thing. Empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sources {
    /// The chat template's.
    pub template: String,
    /// The tokenizer's.
    pub tokenizer: String,
    /// The weights', or their index's.
    pub weights: String,
    /// Those which name the tokens that end an answer.
    pub end_tokens: String,
    /// That of the image processor's settings.
    pub image_processor: String,
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sources { template, tokenizer, weights, end_tokens, image_processor } = self;
        write!(
            f,
            "chat template: {template}; tokenizer: {tokenizer}; weights: {weights}; end tokens: {end_tokens}; image processor: {image_processor}"
        )
    }
}

/// What one knockout did: its proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
