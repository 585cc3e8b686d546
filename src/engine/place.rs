//! Where in a model numbers come from, in words: what errors name. Knows layers by number.

use std::fmt;

/// A place that numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The patches of a view as they enter the vision tower's first layer.
    Patches,
    /// What one of the vision tower's layers gives.
    VisionOutput(usize),
    /// What the vision tower gives in the end.
    Vision,
    /// What the projector gives.
    Projector,
    /// The attention of one of the vision tower's layers.
    VisionLayer(usize),
    /// What enters a decoder layer from outside.
    Input(usize),
    /// What a decoder layer gives.
    Layer(usize),
    /// What a decoder layer keeps of the rows before.
    Cache(usize),
    /// Final norm and head.
    Logits,
    /// Integrated gradients.
    Gradients,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Patches => f.write_str("the input of the vision tower's first layer"),
            Place::VisionOutput(layer) => write!(f, "the output of the vision tower's layer {layer}"),
            Place::Vision => f.write_str("the vision tower's output"),
            Place::Projector => f.write_str("the projector's output"),
            Place::VisionLayer(layer) => write!(f, "the attention of the vision tower's layer {layer}"),
            Place::Input(layer) => write!(f, "the input of decoder layer {layer}"),
            Place::Layer(layer) => write!(f, "the output of decoder layer {layer}"),
            Place::Cache(layer) => write!(f, "the KV cache of decoder layer {layer}"),
            Place::Logits => f.write_str("the output of the decoder's head, the logits,"),
            Place::Gradients => f.write_str("the gradient of the answer"),
        }
    }
}

impl Place {
    /// Where the input of a layer comes from; that of the layer after the last is the decoder's output.
    pub fn entering(layer: usize) -> Self {
        layer.checked_sub(1).map_or(Place::Input(0), Place::Layer)
    }
}
