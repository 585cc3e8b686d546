//! Runs as files: JSON, safetensors and JSON lines for other programs, PNG and SVG for people, and traces
//! read back.
//!
//! Reads plain data; knows nothing of models or windows.

pub mod error;
pub mod flow_svg;
pub mod folder;
pub mod lines;
pub mod open;
pub mod picture;
pub(crate) mod tensors;
pub mod trace;
