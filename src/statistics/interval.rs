//! How sure a share or a figure is: 95 % intervals.

use serde::Serialize;

use crate::statistics::dice::Dice;

/// The normal distribution's 97.5 % point.
const Z: f64 = 1.959963984540054;
/// Bootstrap resamples.
const RESAMPLES: usize = 1000;
/// Seed of the resamples.
const SEED: u64 = 95;

/// A share, with its 95 % Wilson interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Of how many.
    pub n: usize,
    /// How many.
    pub right: usize,
    /// Their share; 0 of none.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Rate {
    /// `right` of `n`.
    pub fn new(right: usize, n: usize) -> Self {
        if n == 0 {
            return Rate { n, right, value: 0.0, low: 0.0, high: 1.0 };
        }
        let (k, p) = (n as f64, right as f64 / n as f64);
        let scale = 1.0 + Z * Z / k;
        let center = (p + Z * Z / (2.0 * k)) / scale;
        let half = Z / scale * (p * (1.0 - p) / k + Z * Z / (4.0 * k * k)).sqrt();
        // Rounding must not put the share outside its own interval.
        let (low, high) = ((center - half).clamp(0.0, p), (center + half).clamp(p, 1.0));
        Rate { n, right, value: p, low, high }
    }
}

/// A figure with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The figure.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Figure {
    /// A figure of all items, and between what it lies for 95 % of resampled sets of them.
    pub fn bootstrap<T: Copy>(items: &[T], figure: impl Fn(&mut dyn Iterator<Item = T>) -> f64) -> Self {
        let value = figure(&mut items.iter().copied());
        if items.is_empty() {
            return Figure { value, low: value, high: value };
        }
        let mut dice = Dice::new(SEED, 0);
        let mut resampled: Vec<f64> = (0..RESAMPLES)
            .map(|_| figure(&mut items.iter().map(|_| items[dice.below(items.len())])))
            .collect();
        resampled.sort_unstable_by(f64::total_cmp);
        let tail = RESAMPLES / 40;
        Figure { value, low: resampled[tail].min(value), high: resampled[RESAMPLES - 1 - tail].max(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_are_the_published_ones() {
        // Newcombe 1998, table I.
        for (right, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (29, 29, 0.8830, 1.0),
        ] {
            let rate = Rate::new(right, n);
            assert!((rate.low - low).abs() < 5e-5 && (rate.high - high).abs() < 5e-5, "{rate:?}");
        }
        assert_eq!(Rate::new(0, 0), Rate { n: 0, right: 0, value: 0.0, low: 0.0, high: 1.0 });
    }
}
