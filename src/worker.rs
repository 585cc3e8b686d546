//! The inference thread: [`Request`] in, [`Event`] out, latest wins.
//!
//! Owns the loaded model. Knows nothing of egui: it is handed a `wake` callback that asks for a
//! repaint. Everything that crosses the channel is plain data, except [`Event::Token`]'s
//! `resident`, which keeps attention on the GPU when the model runs on the window's own device.

use std::{path::PathBuf, sync::Arc};

use image::RgbImage;

use crate::{
    gpu::ResidentRow,
    knockout::Knockout,
    trace::{AnswerToken, ModelInfo, PatternRow, PromptToken, Trace},
};

/// Names a run, so that late events of a superseded one can be told apart. Grows.
pub type RunId = u64;

/// What the window asks for.
#[derive(Debug)]
pub enum Request {
    /// Load another model folder; the image is kept.
    LoadModel(PathBuf),
    /// Take this image from now on.
    OpenImage(ImageSource),
    /// Answer a prompt about the current image. Supersedes a running one of the same `lane`.
    Run {
        /// Name of the run.
        id: RunId,
        /// What to run.
        ask: Ask,
    },
    /// Stop the current run; its partial trace arrives as [`Event::Done`].
    Cancel,
}

/// Where an image comes from. Decoding happens on the worker.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// A file.
    Path(PathBuf),
    /// A dropped or bundled file's bytes, and its name.
    Bytes(Arc<[u8]>, String),
}

/// One question to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The user's text.
    pub prompt: String,
    /// Cuts in force; empty for the baseline.
    pub knockouts: Vec<Knockout>,
    /// Longest answer.
    pub max_new: usize,
}

/// What the worker tells.
#[derive(Debug)]
pub enum Event {
    /// Something long is going on: a short phrase and, when known, the share done.
    Progress(String, Option<f32>),
    /// A model is ready.
    Model {
        /// What it is.
        info: ModelInfo,
        /// Where it runs, in words.
        device: String,
        /// Weights that were accepted and not used, by key.
        unused: Vec<String>,
    },
    /// The current image, as opened and as the model sees it.
    Image(ImageView),
    /// A run began; its prompt is known.
    Started {
        /// Name of the run.
        id: RunId,
        /// Prompt positions.
        prompt: Vec<PromptToken>,
        /// Words of the prompt that the tokenizer does not know.
        unknown_words: Vec<String>,
    },
    /// One more answer token.
    Token {
        /// Name of the run.
        id: RunId,
        /// The token.
        token: AnswerToken,
        /// The attention that predicted it.
        row: PatternRow,
        /// The same numbers where they lie on the window's device, if they do.
        resident: Option<ResidentRow>,
    },
    /// A run ended, or was cancelled.
    Done {
        /// Name of the run.
        id: RunId,
        /// Everything.
        trace: Box<Trace>,
    },
    /// Something went wrong; everything that was there before still is.
    Failed {
        /// The run, when it was one.
        id: Option<RunId>,
        /// What was wrong, where, and what to do.
        error: String,
    },
}

/// An opened image and how the model sees it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// Name to show.
    pub name: String,
    /// Upright, on white.
    pub pixels: Arc<RgbImage>,
    /// What was done to it, in words: "640x427 -> 192x192 (shortest edge, centre crop)".
    pub geometry: String,
    /// For each visual token of this image, in prompt order: the rectangle of `pixels` that it
    /// holds, `[x0, y0, x1, y1]` in source pixels.
    pub patches: Vec<[f32; 4]>,
    /// For each visual token: whether it belongs to a tile (false) or to the global view (true).
    pub global: Vec<bool>,
}
