//! Parts that views share.

pub(crate) mod busy;
pub(crate) mod color_bar;
pub(crate) mod cut_field;
pub(crate) mod export_menu;
pub mod figure;
pub(crate) mod hatch;
pub mod heatmap;
mod heatmap_pipeline;
mod lines;
pub(crate) mod listed;
pub(crate) mod map_controls;
pub(crate) mod number;
pub(crate) mod picture;
pub(crate) mod range_strip;
pub(crate) mod section;
mod slots;
pub(crate) mod span_pick;
pub(crate) mod swatch;
pub(crate) mod word;
