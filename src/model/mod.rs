//! Vision-language models.

pub mod image;
pub mod resample;
