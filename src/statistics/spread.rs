//! One figure beside what chance gives.

use serde::{Deserialize, Serialize};

/// A figure of an intervention beside those of its random draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Of the intervention itself.
    pub intervention: f32,
    /// One a draw.
    pub draws: Vec<f32>,
    /// Their mean.
    pub mean: f32,
    /// Their standard deviation (of a sample: over n - 1; 0 for one draw).
    pub sd: f32,
}

impl Spread {
    /// Of an intervention and its draws.
    pub fn new(intervention: f32, draws: Vec<f32>) -> Self {
        let n = draws.len().max(1) as f32;
        let mean = draws.iter().sum::<f32>() / n;
        let squares: f32 = draws.iter().map(|d| (d - mean).powi(2)).sum();
        let sd = (squares / (n - 1.0).max(1.0)).sqrt();
        Spread { intervention, draws, mean, sd }
    }
}
