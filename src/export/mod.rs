//! Runs as files: JSON, safetensors and JSON lines for other programs, PNG and SVG for people, and traces
//! read back.
//!
//! `offer` writes whatever a view gives away, by `svg`, `csv`, `picture`, `npz` and `tensors`; `study` what a study over
//! images leaves, its figure also as pixels (`figure_png`).
//!
//! Reads plain data; knows nothing of models or windows.

pub mod csv;
mod digits;
pub mod error;
pub mod figure_png;
pub mod flow_svg;
pub mod folder;
pub mod lines;
pub mod npz;
pub mod offer;
pub mod open;
pub mod picture;
pub mod study;
pub mod svg;
pub(crate) mod tensors;
pub mod trace;
