//! A loaded folder, and the one way in which the window, the command line and the analyses run it:
//! RunSpec in, Trace out.
//!
//! An [`Engine`] is model, image processor and prompt builder. It encodes an image once ([`Seen`]) and
//! answers any number of [`RunSpec`]s about it; how an answer is collected is in `answer`, what an
//! intervention means on a prompt in `intervention`, and how one starts from an earlier run in
//! `resume`. Does not know that a window exists, nor what files a trace ends up in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use ::image::{GrayImage, RgbImage};
use burn::tensor::Tensor;

use crate::{checkpoint::{config::Family, weights::{self, WeightDtype}}, device::open::Compute, engine::{decoding::{DecodingError, host, place_rows}, patches::covered}, image::process::{ImageError, ImageProcessor, Place, Processed}, model::{vision::Watch, vlm::{LoadError, Vlm}}, progress::Cancel, prompt::build::{ImageGrid, ImageLayout, ImageTokens, Prompt, PromptBuilder, PromptError, Turn}, spec::{ablation::Fill, experiment::{Memory, ObjectMask, RunSpec, gigabytes}, knockout::KnockoutError, sets::SetError, span::Span}, trace::run::{AnswerToken, ModelInfo, PatternRow, Trace}};

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
    /// An ablation, with its text.
    #[error("`{text}`: {why}")]
    Ablation {
        /// As written.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// What is to be recorded, or looked at.
    #[error("{what}: {source}")]
    Choice {
        /// As written.
        what: String,
        /// What is wrong.
        source: SetError,
    },
    /// How the answer is drawn.
    #[error("sampling: {0}")]
    Sampling(String),
    /// The object's mask.
    #[error("{}: {why}", file.display())]
    Mask {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More would be kept than is allowed.
    #[error(
        "this run would keep {memory}; the limit is {}: record fewer layers, heads or rows, keep residuals of every few layers only, store in half precision, ask for a shorter answer, or raise the limit",
        gigabytes(*limit)
    )]
    Memory {
        /// The estimate.
        memory: Memory,
        /// The limit in bytes.
        limit: u64,
    },
    /// A baseline that an analysis cannot start from.
    #[error("{what} needs {needs}")]
    Needs {
        /// Which analysis.
        what: &'static str,
        /// What is missing.
        needs: String,
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
    /// Integrated gradients, which the set `gradient` needs, are on their way: steps done, and of how many.
    Gradients {
        /// So far.
        done: usize,
        /// In all.
        total: usize,
    },
    /// The prompt went through the decoder.
    Prefilled(Duration),
    /// One more answer token.
    Token {
        /// The token.
        token: &'a AnswerToken,
        /// The attention that predicted it, of the kept layers and heads; `None` if the row is not kept.
        row: Option<&'a PatternRow>,
        /// The same numbers where the model left them, `[layers, heads, keys]`; `None` where parts come
        /// from an earlier run.
        resident: Option<&'a Tensor<3>>,
    },
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
    /// Visual embeddings that ablations took from other files: each is encoded once.
    pub(crate) donors: Mutex<BTreeMap<Fill, Tensor<2>>>,
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
    /// `[visual tokens]`: whether a token's patch belongs to the object that the user marked.
    pub object: Option<Vec<bool>>,
}

impl Seen {
    /// Its grid of tiles.
    pub fn grid(&self) -> ImageGrid {
        ImageGrid { rows: self.processed.rows as usize, cols: self.processed.cols as usize }
    }
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
        let donors = Mutex::default();
        Ok(Engine { vlm, processor, prompts, end_ids, donors, info, device, load_time: start.elapsed() })
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
        Ok(Seen { processed, embeds, encode_time: start.elapsed(), object: None })
    }

    /// The vision encoder's attention in one layer, for one tile's pixels: its shape, `[heads, tokens,
    /// tokens]`, and the values after the softmax.
    ///
    /// # Errors
    /// [`RunError::Choice`] for a layer that does not exist.
    pub fn vision_attention(
        &self,
        pixels: &[f32],
        layer: usize,
        cancel: &Cancel,
    ) -> Result<([usize; 3], Vec<f32>), RunError> {
        let tower = &self.vlm.vision;
        let out = tower.forward(pixels, Watch::Layer(layer), cancel).map_err(DecodingError::from)?;
        let (pattern, len) = (out.recorded.and_then(|r| r.pattern.into_iter().next()), tower.n_stored());
        let pattern = pattern.ok_or_else(|| RunError::Choice {
            what: "the vision encoder's attention".to_string(),
            source: SetError::OutOfRange { what: "vision layer".to_string(), found: layer, len },
        })?;
        Ok((pattern.dims(), host(pattern)?))
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
        let grids: Vec<ImageGrid> = images.iter().map(|seen| seen.grid()).collect();
        let prompt = self.prompts.build(&[Turn::ask(images.len(), text)], &grids)?;
        let found = prompt.tokens.len();
        if found >= self.info.context {
            let visual = prompt.tokens.iter().filter(|t| t.span == Span::Visual).count();
            return Err(RunError::TooLong { found, visual, context: self.info.context });
        }
        Ok(prompt)
    }

    /// Runs a spec from the start. A cancelled run returns the trace of what there was.
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
        Ok(self.answer(spec, images, false, cancel, on)?.trace)
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, id: u32) -> bool {
        self.end_ids.contains(&id)
    }

    /// `[prompt, width]`: token embeddings, visual positions filled.
    pub(crate) fn embeds(&self, prompt: &Prompt, images: &[&Seen]) -> Tensor<2> {
        let embeds = self.vlm.decoder.embed(&prompt.ids());
        if images.is_empty() {
            return embeds;
        }
        let rows = Tensor::cat(images.iter().map(|s| s.embeds.clone()).collect(), 0);
        place_rows(embeds, &crate::engine::patches::visual(&prompt.tokens), rows)
    }

    /// Marks the object that a mask of the upright source image shows.
    ///
    /// # Errors
    /// [`RunError::Mask`] when the mask has another size, or touches no patch.
    pub fn mark(&self, seen: &mut Seen, mask: &GrayImage, object: &ObjectMask) -> Result<(), RunError> {
        let fail = |why: String| RunError::Mask { file: object.file.clone(), why };
        let (found, expected) = (mask.dimensions(), seen.processed.source);
        if found != expected {
            let ((w, h), (ew, eh)) = (found, expected);
            return Err(fail(format!("the mask is {w}x{h} pixels, expected {ew}x{eh} like the image")));
        }
        let (patches, _) = self.patches(&seen.processed);
        let member = |rect: &[f32; 4]| covered(mask, *rect, object.value) > object.share;
        let members: Vec<bool> = patches.iter().map(member).collect();
        if !members.contains(&true) {
            let pixel = object.value.map_or("above 0".to_string(), |v| v.to_string());
            let why = format!(
                "no patch is covered by more than {} by pixels of value {pixel}: is it the right mask and value?",
                object.share
            );
            return Err(fail(why));
        }
        seen.object = Some(members);
        Ok(())
    }
}
