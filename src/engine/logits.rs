//! What a row of logits says. `[vocabulary]` numbers, on the host.

/// Natural log probabilities of a row of logits, computed in float64.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    less_norm(logits, norm(logits))
}

/// What log probabilities lie below their logits: with it they take no time, and need no memory.
pub fn norm(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&l| (l as f64 - max).exp()).sum();
    max + sum.ln()
}

/// Log probabilities of a row of logits whose [`norm`] is known.
pub fn less_norm(logits: &[f32], norm: f64) -> Vec<f32> {
    logits.iter().map(|&l| (l as f64 - norm) as f32).collect()
}

/// Entropy of a distribution given by its log probabilities, in nats.
pub fn entropy(logprobs: &[f32]) -> f32 {
    let terms = logprobs.iter().map(|&l| f64::from(l)).filter(|l| l.is_finite());
    // No probability has a negative part in it; the sum of none is -0.
    (-terms.map(|l| l.exp() * l).sum::<f64>()).max(0.0) as f32
}

/// The place of the largest value, the first one on ties, as `torch.argmax`.
pub fn argmax(values: &[f32]) -> usize {
    let best = |best: usize, (i, v): (usize, &f32)| if *v > values[best] { i } else { best };
    values.iter().enumerate().fold(0, best)
}

/// The `k` largest, best first: (place, value). Ties keep their order.
pub fn top(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    let k = k.min(values.len());
    let mut best: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
    for (i, &value) in values.iter().enumerate() {
        // Almost every value of a vocabulary falls out at this comparison.
        if best.len() < k || best.last().is_some_and(|(_, worst)| value.total_cmp(worst).is_gt()) {
            let at = best.partition_point(|(_, held)| held.total_cmp(&value).is_ge());
            best.insert(at, (i, value));
            best.truncate(k);
        }
    }
    best
}
