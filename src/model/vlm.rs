//! The vision-language model: encoder, projector, decoder, and one way to load and run them.
//!
//! A supported family is a config and a key style over shared parts. This module gets pixels, ids,
//! positions and boolean masks; it does not know prompts, spans, knockouts or windows. Everything is
//! one sequence at a time, without a batch dimension; each file's first lines say its layouts.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use crate::{
    checkpoint::{
        config::{ConfigError, VlmConfig},
        weights::{WeightDtype, WeightError, Weights},
    },
    model::{
        decoder::Decoder,
        projector::Projector,
        vision::{VisionTower, Watch},
    },
    progress::{Cancel, Cancelled},
};

/// Why a model folder cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// config.json.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Vlm {
    /// What config.json says.
    pub config: VlmConfig,
    /// Pixels to features.
    pub vision: VisionTower,
    /// Features to visual tokens.
    pub projector: Projector,
    /// Embeddings to logits.
    pub decoder: Decoder,
    /// Weights in the folder that nothing reads, by key.
    pub unused: Vec<String>,
    /// Format of matrices and of the KV cache.
    pub dtype: WeightDtype,
    /// Where it runs.
    pub device: Device,
}

impl Vlm {
    /// Loads an unchanged Hugging Face folder: config.json and safetensors.
    ///
    /// # Errors
    /// [`LoadError`]: an unsupported config, or a weight that is missing, misshapen or surplus.
    pub fn load(dir: &Path, device: &Device, dtype: WeightDtype) -> Result<Self, LoadError> {
        let config = VlmConfig::from_dir(dir)?;
        let weights = Weights::open(dir, device, dtype)?;
        let vision = VisionTower::load(&weights, &config, device)?;
        let projector = Projector::load(&weights, &config)?;
        let decoder = Decoder::load(&weights, &config, device)?;
        let unused = weights.finish()?;
        Ok(Vlm { config, vision, projector, decoder, unused, dtype, device: device.clone() })
    }

    /// `[visual tokens, width]`: one tile, `[3, side, side]` normalised pixels, through encoder and
    /// projector.
    ///
    /// # Errors
    /// [`Cancelled`] between layers.
    pub fn encode_tile(&self, pixels: &[f32], cancel: &Cancel) -> Result<Tensor<2>, Cancelled> {
        Ok(self.projector.forward(self.vision.forward(pixels, Watch::Nothing, cancel)?.features))
    }

    /// Number of weights in use.
    pub fn parameters(&self) -> usize {
        self.vision.parameters() + self.projector.parameters() + self.decoder.parameters()
    }

    /// In words, for traces: which format holds what.
    pub fn dtype_text(&self) -> String {
        format!(
            "{} weights and KV cache; float32 norms, softmax, residual stream and logits",
            self.dtype.name()
        )
    }
}
