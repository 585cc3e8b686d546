//! From encoder features to visual tokens: LLaVA's two-layer MLP, or Idefics3's pixel shuffle and
//! one linear map. `[tokens, vision width]` in, `[visual tokens, text width]` out, one tile at a
//! time. Does not know where the tokens go.

use burn::tensor::Tensor;

use crate::{checkpoint::{config::{Activation, Family, VlmConfig}, weights::{WeightError, Weights}}, model::nn::{Linear, activate}};

/// A loaded projector.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a model")]
pub enum Projector {
    /// `LlavaMultiModalProjector`.
    Mlp {
        /// Vision width (times feature layers) to text width.
        linear_1: Linear,
        /// Between the two.
        act: Activation,
        /// Text width to text width.
        linear_2: Linear,
    },
    /// `Idefics3Connector`.
    PixelShuffle {
        /// Patches a side that become one token.
        scale_factor: usize,
        /// Vision width times `scale_factor` squared, to text width.
        projection: Linear,
    },
}

impl Projector {
    /// Loads the projector that `config` describes.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights, config: &VlmConfig) -> Result<Self, WeightError> {
        let (vision, text) = (config.vision.width, config.text.width);
        match &config.family {
            Family::Llava { feature_layers, projector_bias, projector_act, .. } => {
                let prefixes = ["multi_modal_projector.", "model.multi_modal_projector."];
                let prefix = w.prefix(&prefixes, "linear_1.weight");
                let load = |name: &str, from: usize| {
                    Linear::load(w, &format!("{prefix}{name}"), [text, from], *projector_bias)
                };
                Ok(Projector::Mlp {
                    linear_1: load("linear_1", vision * feature_layers.len())?,
                    act: *projector_act,
                    linear_2: load("linear_2", text)?,
                })
            }
            Family::Idefics3 { scale_factor } => {
                let prefix = w.prefix(&["model.connector.", "connector."], "modality_projection.proj.weight");
                let shape = [text, vision * scale_factor * scale_factor];
                Ok(Projector::PixelShuffle {
                    scale_factor: *scale_factor,
                    projection: Linear::load(w, &format!("{prefix}modality_projection.proj"), shape, false)?,
                })
            }
        }
    }

    /// `[tokens, vision width]` of one tile to `[visual tokens, text width]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        match self {
            Projector::Mlp { linear_1, act, linear_2 } => {
                linear_2.forward(activate(*act, linear_1.forward(features)))
            }
            Projector::PixelShuffle { scale_factor, projection } => {
                projection.forward(pixel_shuffle(features, *scale_factor))
            }
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        match self {
            Projector::Mlp { linear_1, linear_2, .. } => linear_1.parameters() + linear_2.parameters(),
            Projector::PixelShuffle { projection, .. } => projection.parameters(),
        }
    }
}

/// `Idefics3Connector.pixel_shuffle`: `s x s` neighbouring patches are laid side by side in one
/// vector, row by row. `[side * side, width]` to `[(side / s)^2, s * s * width]`.
fn pixel_shuffle(x: Tensor<2>, s: usize) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let side = tokens.isqrt() / s;
    x.reshape([side, s, side, s * width]).swap_dims(1, 2).reshape([side * side, s * s * width])
}
