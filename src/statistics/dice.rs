//! A stream of random numbers: of one scene, of an image's polls, of resamples.
//!
//! ChaCha8 keyed by the world's seed, one stream per scene, so that scene 7 needs no scene 6 and threads change
//! nothing. Draws are made from raw words here, not by `rand`'s distributions, whose results may change between
//! versions.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    pub fn new(seed: u64, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        Dice(rng)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.0.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n; n is small, so the bias of the multiplication is far below one in a million.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Of the normal distribution: mean 0, standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        // Above 0: its logarithm is a number.
        let radius = (-2.0 * (1.0 - f64::from(self.unit())).ln()).sqrt();
        radius * (std::f64::consts::TAU * f64::from(self.unit())).cos()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.unit() < probability
    }

    /// Takes one element out of the list.
    pub fn draw<T>(&mut self, from: &mut Vec<T>) -> T {
        let at = self.below(from.len());
        from.swap_remove(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_their_moments_and_come_again() {
        let draw = |seed, stream| {
            let mut dice = Dice::new(seed, stream);
            (0..40_000).map(|_| dice.normal()).collect::<Vec<f64>>()
        };
        let numbers = draw(1, 0);
        let mean = |power: i32| numbers.iter().map(|x| x.powi(power)).sum::<f64>() / numbers.len() as f64;
        // Of 40 000: five standard errors of each.
        assert!(mean(1).abs() < 0.025 && (mean(2) - 1.0).abs() < 0.036, "{} {}", mean(1), mean(2));
        assert!(mean(3).abs() < 0.1 && (mean(4) - 3.0).abs() < 0.25, "{} {}", mean(3), mean(4));
        let within = numbers.iter().filter(|x| x.abs() < 1.0).count() as f64 / numbers.len() as f64;
        assert!((within - 0.6827).abs() < 0.012, "{within}");
        assert_eq!(draw(1, 0), numbers);
        assert!(draw(2, 0) != numbers && draw(1, 1) != numbers);
    }
}
