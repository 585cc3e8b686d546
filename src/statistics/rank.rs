//! Orders: by size, by chance, what stands out, and how well two of them go together.

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

/// The rank of every value, from 0, the smallest first; values that are alike share the mean of theirs.
pub fn mean_ranks(values: &[f32]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for alike in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = first as f64 + (alike.len() - 1) as f64 / 2.0;
        alike.iter().for_each(|&place| ranks[place] = mean);
        first += alike.len();
    }
    ranks
}

/// Pearson's correlation of as many numbers, from -1 to 1; 0 where either side is constant. Of [`mean_ranks`] it is
/// Spearman's.
pub fn correlation(a: &[f64], b: &[f64]) -> f32 {
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        both += a * b;
        of_a += a * a;
        of_b += b * b;
    }
    if of_a > 0.0 && of_b > 0.0 { (both / (of_a * of_b).sqrt()).clamp(-1.0, 1.0) as f32 } else { 0.0 }
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
    fn values_that_are_alike_share_their_ranks() {
        assert_eq!(mean_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [3.0, 0.0, 3.0, 1.0, 3.0]);
        assert!(mean_ranks(&[]).is_empty());
    }

    #[test]
    fn ranks_go_together_whatever_the_values() {
        let spearman = |a: &[f32], b: &[f32]| correlation(&mean_ranks(a), &mean_ranks(b));
        let values = [0.1, 0.2, 5.0, 900.0];
        assert_eq!(spearman(&values, &[1.0, 2.0, 3.0, 4.0]), 1.0);
        assert_eq!(spearman(&values, &[4.0, 3.0, 2.0, 1.0]), -1.0);
        // By hand, from 1 - 6 * sum(d^2) / (n (n^2 - 1)): differences 0, 1, -1, 0.
        assert!((spearman(&values, &[1.0, 3.0, 2.0, 4.0]) - 0.8).abs() < 1e-6);
        assert_eq!(spearman(&values, &[7.0; 4]), 0.0);
        assert_eq!(spearman(&[], &[]), 0.0);
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
