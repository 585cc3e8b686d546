//! What a model family has to say: the seam that every family goes through.
//!
//! A family is a config, a key map and a layout over shared parts. It says its config keys and defaults,
//! where its weights lie, how pixels become views, what surrounds visual tokens in a prompt, and at which
//! positions they stand. It knows the parts of this floor; not prompts, spans, knockouts or windows.

use std::fmt;

use burn::tensor::Device;
use serde_json::Value;

use crate::{
    checkpoint::{
        config::VlmConfig,
        json::{JsonError, Section},
        weight_error::WeightError,
        weights::Weights,
    },
    image::{patches::Patches, plan::PixelPlan, settings::Settings},
    model::{
        decoder::DecoderKeys,
        encoder::Encoder,
        rotary::{Position, consecutive},
    },
    trace::{
        geometry::{Geometry, Piece},
        tokens::PromptToken,
    },
};

/// A family, configured by one folder's config.json.
pub trait Family: fmt::Debug + Send + Sync {
    /// The numbers that the model is built from.
    fn config(&self) -> &VlmConfig;

    /// Loads tower and projector.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError>;

    /// Where the decoder's weights lie.
    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys;

    /// Image settings of the family's own code, as preprocessor_config.json would have them: they count instead of
    /// that file's.
    fn image_settings(&self) -> Option<&Value> {
        None
    }

    /// How an image becomes views, each of which knows its grid of visual tokens.
    ///
    /// # Errors
    /// [`JsonError`]: settings of another processor, or that ask for something else.
    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError>;

    /// What stands for an image in a prompt, in order; its visual tokens in the order of the geometry.
    fn layout(&self, image: &Geometry) -> Vec<Piece>;

    /// Rotary position of every prompt token: one after another unless a family says otherwise.
    fn positions(&self, prompt: &[PromptToken], _images: &[Geometry]) -> Vec<Position> {
        consecutive(0, prompt.len())
    }

    /// The only width and height of a view that the encoder takes, if there is one.
    fn side(&self) -> Option<u32> {
        self.config().vision.image_size.map(|side| side as u32)
    }

    /// What templates of the family write before and behind an image's place: markers, and not the system's words.
    fn around(&self) -> [&'static str; 2] {
        ["", ""]
    }

    /// After how many of the decoder's layers features of the images are added.
    fn added(&self) -> usize {
        0
    }

    /// How pixels are cut into patches, of a family whose reference files (`verify`) keep patches, one a row.
    fn patches(&self) -> Option<Patches> {
        None
    }

    /// Checks processor_config.json, which repeats numbers of the model, against it.
    ///
    /// # Errors
    /// [`JsonError`].
    fn check_processor(&self, _processor: &Section<'_>) -> Result<(), JsonError> {
        Ok(())
    }

    /// The chat template of folders that come without one that places an image.
    fn template(&self) -> Option<&'static str> {
        None
    }

    /// The name under which reference files (`verify`) keep the tower's output.
    fn features_name(&self) -> &'static str;

    /// Markers between the last visual token of a prompt and the text that follows.
    fn markers_after(&self) -> usize;
}
