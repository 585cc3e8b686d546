//! Orders: by size, by chance, and what stands out.

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

/// Places whose value exceeds the mean by more than two standard deviations, largest first.
pub fn outliers(values: &[f32]) -> Vec<usize> {
    let n = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    let limit = mean + 2.0 * variance.sqrt();
    ranked(values).into_iter().filter(|&i| f64::from(values[i]) > limit).collect()
}

/// All places, largest value first.
pub fn ranked(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

/// Positions in an order that only the seed and `draw` decide.
pub fn shuffled(positions: &[usize], seed: u64, draw: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(draw);
    let mut positions = positions.to_vec();
    positions.shuffle(&mut rng);
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_exceed_the_mean_by_two_deviations() {
        let mut values = vec![1.0; 30];
        (values[7], values[3]) = (9.0, 10.0);
        assert_eq!(outliers(&values), [3, 7]);
        assert!(outliers(&[1.0; 8]).is_empty());
        assert!(outliers(&[]).is_empty());
    }

    #[test]
    fn shuffles_depend_on_seed_and_draw_alone() {
        let all: Vec<usize> = (0..50).collect();
        assert_eq!(shuffled(&all, 7, 0), shuffled(&all, 7, 0));
        assert_ne!(shuffled(&all, 7, 0), shuffled(&all, 7, 1));
        assert_ne!(shuffled(&all, 7, 0), shuffled(&all, 8, 0));
        let mut sorted = shuffled(&all, 7, 3);
        sorted.sort_unstable();
        assert_eq!(sorted, all);
    }
}
