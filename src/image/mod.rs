//! Pixels as the model sees them: decoding, resizing as Pillow does, and the plans by which images become
//! views.
//!
//! A plan a way of cutting (`crop`, `tiles`, `ratio`, `dynamic`); which one a model family takes, and into how many visual
//! tokens, its file in `model/families` says. Knows nothing of tensors, prompts or windows.

pub(crate) mod crop;
pub mod dynamic;
pub mod error;
pub(crate) mod files;
pub mod mask;
pub mod open;
pub mod patches;
pub mod plan;
pub(crate) mod ratio;
pub mod resample;
pub mod settings;
pub(crate) mod tiles;
mod whole;
