//! From encoder features to visual tokens: an MLP of two layers, or pixel shuffle before one linear map or such an MLP.
//! `[patches, vision width]` in, `[visual tokens, text width]` out, one view at a time. Does not know where
//! the tokens go.

use burn::tensor::Tensor;

use crate::{
    checkpoint::config::Activation,
    model::nn::{LayerNorm, Linear},
    trace::geometry::Grid,
};

/// A loaded projector.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a model")]
pub enum Projector {
    /// `LlavaMultiModalProjector`.
    Mlp(Mlp),
    /// `Idefics3Connector`.
    PixelShuffle {
        /// Patches a side that become one token.
        scale_factor: usize,
        /// Vision width times `scale_factor` squared, to text width.
        projection: Linear,
    },
    /// `InternVLMultiModalProjector`.
    ShuffledMlp {
        /// Patches a side that become one token.
        scale_factor: usize,
        /// Of them, side by side.
        norm: LayerNorm,
        /// Vision width times `scale_factor` squared, to text width.
        mlp: Mlp,
    },
}

/// Two linear layers.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// Vision width (times feature layers, or patches a token) to text width.
    pub linear_1: Linear,
    /// Between the two.
    pub act: Activation,
    /// Text width to text width.
    pub linear_2: Linear,
}

impl Mlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.linear_2.forward(self.linear_1.forward_activated(x, self.act))
    }

    fn parameters(&self) -> usize {
        self.linear_1.parameters() + self.linear_2.parameters()
    }
}

impl Projector {
    /// `[patches, vision width]` of one view to the `[visual tokens, text width]` of its grid.
    pub fn forward(&self, features: Tensor<2>, grid: Grid) -> Tensor<2> {
        match self {
            Projector::Mlp(mlp) => mlp.forward(features),
            Projector::PixelShuffle { scale_factor, projection } => {
                projection.forward(pixel_shuffle(features, grid, *scale_factor))
            }
            Projector::ShuffledMlp { scale_factor, norm, mlp } => {
                mlp.forward(norm.forward(pixel_shuffle(features, grid, *scale_factor)))
            }
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        match self {
            Projector::Mlp(mlp) => mlp.parameters(),
            Projector::PixelShuffle { projection, .. } => projection.parameters(),
            Projector::ShuffledMlp { norm, mlp, .. } => norm.parameters() + mlp.parameters(),
        }
    }
}

/// `Idefics3Connector.pixel_shuffle`: `s x s` neighbouring patches are laid side by side in one
/// vector, row by row. `[rows * cols * s^2, width]` to `[rows * cols, s * s * width]`. InternVL's `pixel_shuffle`
/// (`ps_version` v2) by half is the same with 2.
pub fn pixel_shuffle(x: Tensor<2>, Grid { rows, cols }: Grid, s: usize) -> Tensor<2> {
    let width = x.dims()[1];
    x.reshape([rows, s, cols, s * width]).swap_dims(1, 2).reshape([rows * cols, s * s * width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn neighbouring_patches_become_one_token_also_on_grids_that_are_not_square() {
        // 2 x 4 patches of width 1, numbered row by row: two tokens side by side.
        let patches: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let x = Tensor::from_data(TensorData::new(patches, [8, 1]), &Device::flex());
        let y = pixel_shuffle(x, Grid { rows: 1, cols: 2 }, 2);
        let y: Vec<f32> = y.try_into_vec_as().unwrap();
        assert_eq!(y, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
    }
}
