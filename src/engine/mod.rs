//! A loaded model that runs.

pub mod answer;
pub mod decoding;
pub mod gradient;
pub mod load;
pub mod masks;
pub mod patches;
pub mod resolve;
pub mod resume;
pub mod sampling;
