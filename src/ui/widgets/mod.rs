//! Parts that views share.

pub mod color_bar;
pub mod heatmap;
pub mod listed;
pub mod map_controls;
pub mod range_strip;
pub mod section;
mod slots;
pub mod swatch;
pub mod word;
