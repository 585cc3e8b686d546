//! Heads by layers, and the maps of all of them.

pub(super) mod given;
pub(super) mod grid;
pub(super) mod matrix;
pub(super) mod places;
pub(super) mod values;
pub(crate) mod view;
