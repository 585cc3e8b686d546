//! Parts that views share.

pub(crate) mod busy;
pub(crate) mod color_bar;
pub(crate) mod export_menu;
pub(crate) mod figure;
pub(crate) mod glance;
pub(crate) mod hatch;
pub mod heatmap;
pub(crate) mod layer_strip;
pub(crate) mod listed;
pub(crate) mod map_controls;
pub(crate) mod matrix;
pub(crate) mod number;
pub(crate) mod picture;
pub(crate) mod section;
mod slots;
pub(crate) mod swatch;
pub(crate) mod word;
