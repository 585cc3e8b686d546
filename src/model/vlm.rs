//! A loaded model: one family's encoder and the decoder, from a folder.

use std::{path::Path, sync::Arc};

use burn::tensor::{DType, Device};

use crate::{
    checkpoint::{
        config::VlmConfig,
        json::JsonError,
        shards::Watch,
        weight_error::WeightError,
        weights::{Formats, WeightDtype, Weights},
    },
    device::limits::largest_tensor,
    model::{
        decoder::Decoder,
        encoder::Encoder,
        families::{family::Family, registry},
    },
    progress::{Cancel, Progress},
};

/// Why a model folder cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// config.json.
    #[error(transparent)]
    Config(#[from] JsonError),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightError),
}

/// A loaded model.
#[derive(Clone, Debug)]
pub struct Vlm {
    /// Its family.
    pub family: Arc<dyn Family>,
    /// What config.json says.
    pub config: VlmConfig,
    /// Pixels to visual tokens.
    pub encoder: Arc<dyn Encoder>,
    /// Embeddings to logits.
    pub decoder: Decoder,
    /// Weights in the folder that nothing reads, by key.
    pub unused: Vec<String>,
    /// Format of matrices; [`WeightDtype::Auto`] where they have several.
    pub dtype: WeightDtype,
    /// Their formats, and why.
    pub formats: Formats,
    /// Where it runs.
    pub device: Device,
}

impl Vlm {
    /// Loads an unchanged Hugging Face folder: config.json and safetensors.
    ///
    /// # Errors
    /// [`LoadError`]: an unsupported config, or a weight that is missing, misshapen or surplus.
    pub fn load(dir: &Path, device: &Device, dtype: WeightDtype) -> Result<Self, LoadError> {
        let family = registry::open(dir)?;
        let cancel = Cancel::default();
        let watch = Watch::new(dir, &cancel, &|_: Progress| {})?;
        Self::load_as(family, dir, device, dtype, &watch)
    }

    /// Loads a folder of a family that is known already; `watch` stops it, and hears how far it is.
    ///
    /// # Errors
    /// [`LoadError`], as [`Vlm::load`]; also when cancelled.
    pub fn load_as(
        family: Arc<dyn Family>,
        dir: &Path,
        device: &Device,
        dtype: WeightDtype,
        watch: &Watch<'_>,
    ) -> Result<Self, LoadError> {
        let config = family.config().clone();
        let weights = Weights::open(dir, device, dtype, watch)?.within(largest_tensor(device));
        let encoder = Arc::from(family.encoder(&weights, device)?);
        let decoder = Decoder::load(&weights, &family.decoder_keys(&weights), &config.text, device)?;
        let formats = weights.formats();
        let unused = weights.finish()?;
        let (dtype, device) = (formats.one(), device.clone());
        Ok(Vlm { family, config, encoder, decoder, unused, dtype, formats, device })
    }

    /// Number of weights in use.
    pub fn parameters(&self) -> usize {
        self.encoder.parameters() + self.decoder.parameters()
    }

    /// Whether keys and values are rounded to half precision.
    pub fn caches_half(&self) -> bool {
        self.decoder.cache_dtype() == DType::F16
    }

    /// In words, for traces: which format holds what, and why where it is not the files' own.
    pub fn dtype_text(&self) -> String {
        let cache = if self.caches_half() { WeightDtype::F16 } else { WeightDtype::F32 };
        let rest = "float32 norms, softmax, residual stream and logits";
        let (weights, why) = (&self.formats, self.formats.why());
        match self.dtype == cache {
            true => format!("{weights} weights and KV cache{why}; {rest}"),
            false => format!("{weights} weights{why}, {} KV cache; {rest}", cache.name()),
        }
    }
}
