//! RunSpec in, Trace out: the one way in which the window, the command line and the analyses run the
//! model.
//!
//! An [`Engine`] is a loaded folder: model, image processor and prompt builder. It encodes an image
//! once ([`Seen`]) and answers any number of [`RunSpec`]s about it. Knows spans and knockouts; does
//! not know that a window exists, nor what files a trace ends up in.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use ::image::RgbImage;
use burn::tensor::{Tensor, TensorData};

use crate::{
    decoding::{Decoding, DecodingError, Row, argmax, host, log_softmax, place_rows, top},
    device::Compute,
    knockout::{Cut, Knockout, KnockoutError, Scope},
    model::{
        Cancel, LoadError, Vlm,
        config::Family,
        image::{ImageError, ImageProcessor, Place, Processed},
        weights::{self, WeightDtype},
    },
    prompt::{ImageGrid, ImageLayout, ImageTokens, Prompt, PromptBuilder, PromptError, Turn},
    span::Span,
    trace::{AnswerToken, Candidate, KnockoutReport, ModelInfo, PatternRow, Stop, Timing, Trace},
};

/// What to run, as a value. The image is given beside it, already encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpec {
    /// The user's text.
    pub prompt: String,
    /// Cuts in force; none for the baseline.
    pub knockouts: Vec<Knockout>,
    /// Input embeddings to overwrite.
    pub replace: Vec<Replacement>,
    /// Teacher forcing: these ids are the answer, and are scored.
    pub forced_answer: Option<Vec<u32>>,
    /// Longest answer, the end token included.
    pub max_new: usize,
    /// Candidates kept for every answer token.
    pub top: usize,
}

impl RunSpec {
    /// An uncut, free-running question.
    pub fn ask(prompt: &str, max_new: usize) -> Self {
        RunSpec {
            prompt: prompt.to_string(),
            knockouts: Vec::new(),
            replace: Vec::new(),
            forced_answer: None,
            max_new,
            top: 5,
        }
    }
}

/// One input embedding replaced before the first layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    /// Absolute prompt position.
    pub position: usize,
    /// `[width]`.
    pub embedding: Vec<f32>,
}

/// Why a folder cannot be opened as an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Config or weights.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Image processor.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Tokenizer or template.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Parts that do not belong together.
    #[error("{dir}: {why}")]
    Mismatch {
        /// Folder.
        dir: String,
        /// What does not fit.
        why: String,
    },
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The prompt.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A cut, with its text.
    #[error("`{text}`: {source}")]
    Knockout {
        /// As written.
        text: String,
        /// What is wrong.
        source: KnockoutError,
    },
    /// The decoder.
    #[error(transparent)]
    Decoding(#[from] DecodingError),
    /// No room for the prompt.
    #[error(
        "the prompt has {found} tokens ({visual} of them visual), but the model's context holds {context}, one of which the answer needs: shorten the text, or use an image that needs fewer tiles"
    )]
    TooLong {
        /// Prompt tokens.
        found: usize,
        /// Visual ones.
        visual: usize,
        /// Context length.
        context: usize,
    },
    /// A number of the spec that does not fit.
    #[error("{what} is {found}, expected {expected}")]
    Spec {
        /// Which.
        what: &'static str,
        /// The number.
        found: usize,
        /// What would do.
        expected: String,
    },
}

/// What a run tells while it goes on.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The prompt is built.
    Prompt(&'a Prompt),
    /// The prompt went through the decoder.
    Prefilled(Duration),
    /// One more answer token, its attention, and the same on the device: `[layers, heads, keys]`.
    Token(&'a AnswerToken, &'a PatternRow, &'a Tensor<3>),
}

/// A loaded folder.
#[derive(Debug)]
pub struct Engine {
    /// The model.
    pub vlm: Vlm,
    /// Pixels for it.
    pub processor: ImageProcessor,
    /// Prompts for it.
    pub prompts: PromptBuilder,
    /// Tokens that end an answer.
    end_ids: Vec<u32>,
    /// What traces say of it.
    pub info: ModelInfo,
    /// Where it runs, in words.
    pub device: String,
    /// How long loading took.
    pub load_time: Duration,
}

/// An image as the model sees it, encoded once.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Tiles and their geometry.
    pub processed: Processed,
    /// `[visual tokens, width]`: all tiles, in order.
    pub embeds: Tensor<2>,
    /// How long encoder and projector took.
    pub encode_time: Duration,
}

impl Engine {
    /// Loads an unchanged Hugging Face folder.
    ///
    /// # Errors
    /// [`EngineError`], naming file and key.
    pub fn load(dir: &Path, compute: &Compute, dtype: WeightDtype) -> Result<Self, EngineError> {
        let start = Instant::now();
        let vlm = Vlm::load(dir, &compute.device, dtype)?;
        let processor = ImageProcessor::from_dir(dir)?;
        let config = &vlm.config;
        let layout = match config.family {
            Family::Llava { keep_class_token, .. } => ImageLayout::Llava { class_token: keep_class_token },
            Family::Idefics3 { .. } => ImageLayout::Idefics3,
        };
        let grid = (config.token_grid(), config.token_grid());
        let prompts = PromptBuilder::from_dir(dir, ImageTokens { id: config.image_token_id, grid, layout })?;
        let model = config.text.vocabulary;
        if let Some(id) = prompts.largest_id().filter(|&id| id as usize >= model) {
            let why = format!("tokenizer.json has a token {id}, config.json's vocab_size is {model}");
            return Err(EngineError::Mismatch { dir: dir.display().to_string(), why });
        }
        let end_ids = match prompts.eos_ids() {
            [] => config.eos_token_ids.clone(),
            ids => ids.to_vec(),
        };
        let name = dir.canonicalize().ok().and_then(|d| Some(d.file_name()?.to_string_lossy().into_owned()));
        let info = ModelInfo {
            name: name.unwrap_or_else(|| dir.display().to_string()),
            sha256: weights::sha256(dir).map_err(LoadError::from)?,
            family: config.model_type.clone(),
            n_layers: config.text.n_layers,
            n_heads: config.text.n_heads,
            n_kv_heads: config.text.n_kv_heads,
            width: config.text.width,
            vocabulary: config.text.vocabulary,
            context: config.text.context,
            parameters: vlm.parameters(),
        };
        let device = compute.description.clone();
        Ok(Engine { vlm, processor, prompts, end_ids, info, device, load_time: start.elapsed() })
    }

    /// An image's tiles, as the model's processor makes them.
    ///
    /// # Errors
    /// [`RunError::Image`]; [`RunError::Spec`] when processor and encoder disagree on the tile's side.
    pub fn process(&self, image: &RgbImage) -> Result<Processed, RunError> {
        let processed = self.processor.process(image)?;
        let side = self.vlm.config.vision.image_size as u32;
        if processed.tile_size != (side, side) {
            return Err(RunError::Spec {
                what: "the tile side that preprocessor_config.json makes",
                found: processed.tile_size.0 as usize,
                expected: format!("{side}, the encoder's image_size in config.json"),
            });
        }
        Ok(processed)
    }

    /// Encodes a processed image. `on_tile` hears of every tile done, and of how many there are.
    ///
    /// # Errors
    /// [`RunError::Decoding`] when cancelled, or when the device fails.
    pub fn see(
        &self,
        processed: Processed,
        cancel: &Cancel,
        on_tile: &mut dyn FnMut(usize, usize),
    ) -> Result<Seen, RunError> {
        let start = Instant::now();
        let total = processed.tiles.len();
        let mut embeds = Vec::with_capacity(total);
        for (n, tile) in processed.tiles.iter().enumerate() {
            embeds.push(self.vlm.encode_tile(&tile.pixels, cancel).map_err(DecodingError::from)?);
            on_tile(n + 1, total);
        }
        let embeds = Tensor::cat(embeds, 0);
        self.vlm.device.sync().map_err(|e| DecodingError::Device(e.to_string()))?;
        Ok(Seen { processed, embeds, encode_time: start.elapsed() })
    }

    /// For every visual token of an image, in prompt order: the part of the source image that it
    /// holds, `[x0, y0, x1, y1]` in source pixels (empty for a class token, which holds no part), and
    /// whether it belongs to a view of the whole image beside tiles.
    pub fn patches(&self, processed: &Processed) -> (Vec<[f32; 4]>, Vec<bool>) {
        let grid = self.vlm.config.token_grid();
        let class = self.vlm.config.tokens_per_tile() - grid * grid;
        let (mut patches, mut global) = (Vec::new(), Vec::new());
        for (n, tile) in processed.tiles.iter().enumerate() {
            let whole = processed.tiles.len() > 1 && tile.place == Place::Whole;
            patches.extend(std::iter::repeat_n([0.0; 4], class));
            for row in 0..grid {
                patches.extend((0..grid).filter_map(|col| processed.token_rect(n, row, col, grid, grid)));
            }
            global.resize(patches.len(), whole);
        }
        (patches, global)
    }

    /// The prompt of a question about images, one user turn: the images, then the text.
    ///
    /// # Errors
    /// [`RunError::Prompt`], or [`RunError::TooLong`].
    pub fn prompt(&self, text: &str, images: &[&Seen]) -> Result<Prompt, RunError> {
        let grid = |seen: &&Seen| ImageGrid {
            rows: seen.processed.rows as usize,
            cols: seen.processed.cols as usize,
        };
        let grids: Vec<ImageGrid> = images.iter().map(grid).collect();
        let prompt = self.prompts.build(&[Turn::ask(images.len(), text)], &grids)?;
        let found = prompt.tokens.len();
        if found >= self.info.context {
            let visual = prompt.tokens.iter().filter(|t| t.span == Span::Visual).count();
            return Err(RunError::TooLong { found, visual, context: self.info.context });
        }
        Ok(prompt)
    }

    /// Runs a spec. A cancelled run returns the trace of what there was.
    ///
    /// # Errors
    /// [`RunError`]; nothing of the engine is changed by a failed run.
    pub fn run(
        &self,
        spec: &RunSpec,
        images: &[&Seen],
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Trace, RunError> {
        let prompt = self.prompt(&spec.prompt, images)?;
        let n_prompt = prompt.tokens.len();
        on(RunEvent::Prompt(&prompt));
        let wanted = spec.forced_answer.as_ref().map_or(spec.max_new, Vec::len);
        if wanted == 0 {
            return Err(RunError::Spec {
                what: "the answer's length",
                found: 0,
                expected: "at least 1".into(),
            });
        }
        let max_new = wanted.min(self.info.context - n_prompt);
        let cuts = self.resolve(&spec.knockouts, &prompt, max_new)?;
        let embeds = self.embeds(&prompt, images, &spec.replace)?;
        // The last answer token is predicted, never looked from.
        let mut decoding = Decoding::new(&self.vlm, &cuts, n_prompt + max_new - 1, cancel)
            .map_err(|e| with_text(e, &spec.knockouts))?;
        let mut trace = Trace {
            model: self.info.clone(),
            device: self.device.clone(),
            dtype: self.vlm.dtype_text(),
            prompt: prompt.tokens,
            answer: Vec::new(),
            pattern: Vec::new(),
            knockouts: Vec::new(),
            stop: Stop::MaxNew,
            timing: Timing {
                load: self.load_time,
                encode: images.iter().map(|s| s.encode_time).sum(),
                ..Timing::default()
            },
        };
        let mut answer = Answer { engine: self, spec, trace: &mut trace, ids: Vec::new(), on };
        let stop = match &spec.forced_answer {
            Some(ids) => answer.score(&mut decoding, embeds, ids),
            None => answer.generate(&mut decoding, embeds, max_new),
        };
        trace.stop = match stop {
            Ok(Stop::MaxNew) if max_new < wanted => Stop::Context,
            Ok(stop) => stop,
            Err(DecodingError::Cancelled(_)) => Stop::Cancelled,
            Err(e) => return Err(e.into()),
        };
        let report = |(knockout, (pairs, blocked_mass)): (&Knockout, (&[u64], f32))| KnockoutReport {
            text: knockout.to_string(),
            pairs: pairs.to_vec(),
            blocked_mass,
        };
        trace.knockouts = spec.knockouts.iter().zip(decoding.proof()).map(report).collect();
        Ok(trace)
    }

    pub(crate) fn resolve(
        &self,
        knockouts: &[Knockout],
        prompt: &Prompt,
        max_new: usize,
    ) -> Result<Vec<Cut>, RunError> {
        let spans: Vec<Span> = prompt.tokens.iter().map(|t| t.span).collect();
        let (n_layers, n_heads) = (self.info.n_layers, self.info.n_heads);
        let scope = Scope { spans: &spans, max_new, n_layers, n_heads };
        let resolve = |k: &Knockout| {
            k.resolve(&scope).map_err(|source| RunError::Knockout { text: k.to_string(), source })
        };
        knockouts.iter().map(resolve).collect()
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_ids.contains(&id)
    }

    /// `[prompt, width]`: token embeddings, visual positions filled, replacements made.
    pub(crate) fn embeds(
        &self,
        prompt: &Prompt,
        images: &[&Seen],
        replace: &[Replacement],
    ) -> Result<Tensor<2>, RunError> {
        let ids: Vec<u32> = prompt.tokens.iter().map(|t| t.id).collect();
        let mut embeds = self.vlm.decoder.embed(&ids);
        let visual: Vec<usize> =
            prompt.tokens.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect();
        if !images.is_empty() {
            let rows = Tensor::cat(images.iter().map(|s| s.embeds.clone()).collect(), 0);
            embeds = place_rows(embeds, &visual, rows);
        }
        for r in replace {
            let width = self.info.width;
            if r.position >= ids.len() {
                let expected = format!("below the prompt's {} positions", ids.len());
                return Err(RunError::Spec { what: "a replaced position", found: r.position, expected });
            }
            if r.embedding.len() != width {
                let found = r.embedding.len();
                return Err(RunError::Spec {
                    what: "a replacement's width",
                    found,
                    expected: width.to_string(),
                });
            }
            let row = Tensor::from_data(TensorData::new(r.embedding.clone(), [1, width]), &self.vlm.device);
            embeds = place_rows(embeds, &[r.position], row);
        }
        Ok(embeds)
    }
}

fn with_text(error: DecodingError, knockouts: &[Knockout]) -> RunError {
    match error {
        DecodingError::Knockout(source) => {
            let text = knockouts.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ");
            RunError::Knockout { text, source }
        }
        other => other.into(),
    }
}

/// An answer being collected.
struct Answer<'a> {
    engine: &'a Engine,
    spec: &'a RunSpec,
    trace: &'a mut Trace,
    ids: Vec<u32>,
    on: &'a mut dyn FnMut(RunEvent<'_>),
}

impl Answer<'_> {
    fn generate(
        &mut self,
        decoding: &mut Decoding<'_>,
        embeds: Tensor<2>,
        max_new: usize,
    ) -> Result<Stop, DecodingError> {
        let mut next = embeds;
        for step in 0..max_new {
            let start = Instant::now();
            let row = decoding.rows(next, 1)?.remove(0);
            let id = argmax(&row.logits) as u32;
            self.push(id, row)?;
            self.clock(step, start);
            if self.engine.end_ids.contains(&id) {
                return Ok(Stop::End);
            }
            next = self.engine.vlm.decoder.embed(&[id]);
        }
        Ok(Stop::MaxNew)
    }

    /// Prompt and answer in one pass, every answer row scored.
    fn score(
        &mut self,
        decoding: &mut Decoding<'_>,
        embeds: Tensor<2>,
        ids: &[u32],
    ) -> Result<Stop, DecodingError> {
        let start = Instant::now();
        let given = &ids[..ids.len() - 1];
        let all = match given {
            [] => embeds,
            _ => Tensor::cat(vec![embeds, self.engine.vlm.decoder.embed(given)], 0),
        };
        let rows = decoding.rows(all, ids.len())?;
        self.clock(0, start);
        for (&id, row) in ids.iter().zip(rows) {
            self.push(id, row)?;
        }
        Ok(Stop::Forced)
    }

    fn clock(&mut self, step: usize, start: Instant) {
        let timing = &mut self.trace.timing;
        if step == 0 {
            timing.prefill = start.elapsed();
            (self.on)(RunEvent::Prefilled(timing.prefill));
        } else {
            timing.decode += start.elapsed();
            timing.decode_steps += 1;
        }
    }

    fn push(&mut self, id: u32, row: Row) -> Result<(), DecodingError> {
        let prompts = &self.engine.prompts;
        let logprobs = log_softmax(&row.logits);
        let candidate = |(id, logprob): (usize, f32)| Candidate {
            id: id as u32,
            text: prompts.token_text(id as u32),
            logprob,
        };
        let before = prompts.decode(&self.ids);
        self.ids.push(id);
        let after = prompts.decode(&self.ids);
        let end = self.engine.end_ids.contains(&id);
        // Byte-level tokens only become letters together: a token's text is what it adds.
        let text = match after.strip_prefix(&before) {
            Some(added) if !added.is_empty() => added.to_string(),
            _ => prompts.token_text(id),
        };
        let token = AnswerToken {
            position: self.trace.n_positions(),
            id,
            text,
            span: Span::Answer,
            logprob: logprobs.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY),
            top: top(&logprobs, self.spec.top).into_iter().map(candidate).collect(),
            end,
        };
        let [n_layers, n_heads, n_keys] = row.pattern.dims();
        let data = host(row.pattern.clone())?.into();
        let pattern = PatternRow { n_layers, n_heads, n_keys, data };
        (self.on)(RunEvent::Token(&token, &pattern, &row.pattern));
        self.trace.answer.push(token);
        self.trace.pattern.push(pattern);
        Ok(())
    }
}
