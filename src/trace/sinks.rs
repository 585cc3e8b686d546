//! Attention sinks among visual tokens: those that draw attention whatever the word (after arXiv 2503.03321).
//!
//! For every visual token, the least that any answer row gives it, averaged over layers and heads; sinks are those more
//! than two standard deviations above the mean, most first. Knows plain numbers, not tensors.

use crate::{
    statistics::rank::outliers,
    trace::{pattern::PatternRow, run::Trace, tokens::visual},
};

/// Positions of the sinks of an uncut answer; `None` where not every layer, head and row of it was recorded.
pub fn sinks(trace: &Trace) -> Option<Vec<usize>> {
    if !trace.holds_everything() {
        return None;
    }
    let visual = visual(&trace.prompt);
    let rows: Vec<PatternRow> = trace.rows().map(|(_, row)| row).collect();
    let least = least_attention(&rows, &visual);
    Some(outliers(&least).into_iter().map(|i| visual[i]).collect())
}

/// For every visual position, the least attention that any of `rows` pays it, averaged over layers and
/// heads.
fn least_attention(rows: &[PatternRow], visual: &[usize]) -> Vec<f32> {
    let mut least = vec![f32::INFINITY; visual.len()];
    for row in rows {
        let means: Vec<Vec<f32>> = (0..row.n_layers).map(|layer| row.head_mean(layer)).collect();
        for (least, &key) in least.iter_mut().zip(visual) {
            let mean = means.iter().map(|m| m[key]).sum::<f32>() / row.n_layers.max(1) as f32;
            *least = least.min(mean);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_looked_at_by_every_row() {
        let row =
            |data: [f32; 4]| PatternRow { n_layers: 1, n_heads: 1, n_keys: 4, data: data.to_vec().into() };
        let rows = [row([0.1, 0.6, 0.2, 0.1]), row([0.1, 0.1, 0.6, 0.2])];
        assert_eq!(least_attention(&rows, &[1, 2]), [0.1, 0.2]);
    }
}
