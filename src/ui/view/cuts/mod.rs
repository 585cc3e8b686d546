//! What is done to the model, and the proof.

pub(super) mod add;
pub(super) mod editor;
pub(super) mod line;
pub(super) mod patches;
pub(super) mod table;
pub(crate) mod view;
