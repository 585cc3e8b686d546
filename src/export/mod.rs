//! Runs as files: JSON, safetensors and JSON lines for other programs, PNG and SVG for people, and traces
//! read back. `writable` asks beforehand whether there is a place for them.
//!
//! Reads plain data; knows nothing of models or windows.

pub mod error;
pub mod flow_svg;
pub mod lines;
pub mod open;
pub mod picture;
pub mod trace;
pub mod writable;
