//! Parts that views share.

pub mod heatmap;
pub mod map_controls;
pub mod range_strip;
