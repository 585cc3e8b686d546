//! From the pixels of one view to visual tokens: the seam between families' vision towers and the decoder.
//!
//! Pixels are `[3, height, width]`, visual tokens `[tokens, text width]`. Does not know where the tokens go.

use std::fmt;

use burn::tensor::Tensor;

use crate::{
    model::{
        hooks::{VisionRecording, Watch},
        projector::Projector,
        vision::VisionTower,
    },
    progress::{Cancel, Cancelled},
    trace::geometry::Grid,
};

/// A family's tower and projector.
pub trait Encoder: fmt::Debug + Send + Sync {
    /// Encodes one view.
    ///
    /// # Errors
    /// [`Cancelled`] between layers.
    fn encode(&self, view: Pixels<'_>, watch: Watch, cancel: &Cancel) -> Result<Encoded, Cancelled>;

    /// Layers whose weights are at hand, used or not.
    fn n_layers(&self) -> usize;

    /// Number of weights, the unused ones left out.
    fn parameters(&self) -> usize;
}

/// The pixels of one view.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    /// `[3, height, width]`, normalised.
    pub values: &'a [f32],
    /// Width and height.
    pub size: (u32, u32),
    /// Visual tokens that it becomes.
    pub grid: Grid,
}

/// What one view becomes.
#[derive(Debug)]
pub struct Encoded {
    /// `[tokens, text width]`.
    pub tokens: Tensor<2>,
    /// Features that the decoder adds at these tokens after a layer: its number, and `[tokens, text width]`.
    pub added: Vec<(usize, Tensor<2>)>,
    /// What the tower gave the projector, `[patches, vision width]`.
    pub features: Tensor<2>,
    /// The inside of the tower, when asked for.
    pub recorded: Option<VisionRecording>,
}

/// A tower and a projector that know nothing of each other.
#[derive(Clone, Debug)]
pub struct TowerAndProjector {
    /// Pixels to features.
    pub tower: VisionTower,
    /// Features to visual tokens.
    pub projector: Projector,
}

impl Encoder for TowerAndProjector {
    fn encode(&self, view: Pixels<'_>, watch: Watch, cancel: &Cancel) -> Result<Encoded, Cancelled> {
        let out = self.tower.forward(view.values, watch, cancel)?;
        let tokens = self.projector.forward(out.features.clone(), view.grid);
        Ok(Encoded { tokens, added: Vec::new(), features: out.features, recorded: out.recorded })
    }

    fn n_layers(&self) -> usize {
        self.tower.n_stored()
    }

    fn parameters(&self) -> usize {
        self.tower.parameters() + self.projector.parameters()
    }
}
