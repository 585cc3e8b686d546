//! How far two lists of numbers are apart, and how far they may be. NaN is the worst of errors.

use crate::statistics::finite::larger;

/// Attention: absolute.
pub(super) const ATTENTION: f64 = 1e-5;
/// Logits, embeddings, hidden states, vision: share of the tensor's largest magnitude.
pub(super) const RELATIVE: f64 = 1e-4;
/// Features that are added after layers, and learned positions: absolute.
pub(super) const FEATURES: f64 = 1e-4;
/// Log probabilities and KL: absolute, in nats.
pub(super) const NATS: f64 = 2e-4;

/// Largest absolute difference; infinite when the lengths differ, NaN when either side has one.
pub(super) fn distance(ours: &[f32], want: &[f64]) -> f64 {
    if ours.len() != want.len() {
        return f64::INFINITY;
    }
    ours.iter().zip(want).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, larger)
}

/// Largest absolute value of the reference; a NaN in it is passed over, and fails by its distance.
pub(super) fn magnitude(values: &[f64]) -> f64 {
    values.iter().map(|v| v.abs()).fold(0.0, f64::max)
}

/// Largest absolute value among ours.
pub(super) fn largest(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(v.abs())).fold(0.0, larger)
}
