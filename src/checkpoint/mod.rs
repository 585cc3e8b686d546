//! A Hugging Face folder, as it lies on disk.

pub mod config;
pub mod json;
pub mod weights;
