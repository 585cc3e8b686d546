//! The next token: the likeliest, or one drawn with a temperature from the likeliest few.
//!
//! Knows logits and a seed. A draw depends on the seed and the token's place in the answer alone, so
//! that a resumed run draws what a run from scratch would.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{engine::logits::argmax, spec::experiment::Sampling};

/// The id chosen from `[vocabulary]` logits at place `step` of an answer.
pub fn choose(logits: &[f32], sampling: Option<Sampling>, seed: u64, step: usize) -> usize {
    let Some(Sampling { temperature, top_p }) = sampling else { return argmax(logits) };
    let best = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weight = |&l: &f32| ((f64::from(l) - best) / f64::from(temperature)).exp();
    let weights: Vec<f64> = logits.iter().map(weight).collect();
    let all: f64 = weights.iter().sum();
    let probability: Vec<f64> = weights.iter().map(|w| w / all).collect();
    let mut order: Vec<usize> = (0..probability.len()).collect();
    order.sort_by(|&a, &b| probability[b].total_cmp(&probability[a]).then(a.cmp(&b)));
    // The shortest list of likeliest tokens that reaches top-p; always at least one.
    let mut reached = 0.0;
    let enough = order.iter().position(|&id| {
        reached += probability[id];
        reached >= f64::from(top_p)
    });
    order.truncate(enough.map_or(order.len(), |last| last + 1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(step as u64);
    let total: f64 = order.iter().map(|&id| probability[id]).sum();
    let mut left = rng.random::<f64>() * total;
    for &id in &order {
        left -= probability[id];
        if left < 0.0 {
            return id;
        }
    }
    order.last().copied().unwrap_or_else(|| argmax(logits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::logits::log_softmax;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -4.0];

    fn draws(temperature: f32, top_p: f32) -> [f64; 4] {
        let mut counts = [0.0; 4];
        for step in 0..4000 {
            counts[choose(&LOGITS, Some(Sampling { temperature, top_p }), 5, step)] += 1.0 / 4000.0;
        }
        counts
    }

    #[test]
    fn draws_follow_the_distribution() {
        let expected: Vec<f64> = log_softmax(&LOGITS).iter().map(|&l| f64::from(l).exp()).collect();
        for (found, expected) in draws(1.0, 1.0).iter().zip(&expected) {
            assert!((found - expected).abs() < 0.03, "{found} {expected}");
        }
        // 0.665 for the best, 0.245 for the next: together above 0.7.
        let few = draws(1.0, 0.7);
        assert!(few[0] == 0.0 && few[3] == 0.0 && few[2] > 0.2);
        assert_eq!(draws(0.01, 1.0)[1], draws(1.0, 0.1)[1]);
        assert_eq!(draws(f32::MIN_POSITIVE, 1.0)[1], draws(1.0, 0.1)[1]);
    }

    #[test]
    fn the_same_seed_and_place_give_the_same_token() {
        let sampling = Some(Sampling { temperature: 2.0, top_p: 1.0 });
        let all = |seed| (0..50).map(|s| choose(&LOGITS, sampling, seed, s)).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert_eq!(choose(&LOGITS, None, 1, 0), 1);
    }
}
