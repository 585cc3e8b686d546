//! Pixels as the model sees them.

pub mod process;
pub mod resample;
