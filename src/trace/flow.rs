//! Attention flow: how much of a row's attention goes to each span, layer by layer.
//!
//! Kaduri et al. (arXiv 2411.17491): pattern mass averaged over heads and summed between spans.

use crate::{
    spec::span::Span,
    trace::{pattern::PatternRow, run::Trace},
};

/// The part of attention that goes to each span, in the order of [`Span::ALL`].
pub type Shares = [f32; Span::COUNT];

/// Per layer, the share of one row's head-mean attention that goes to each span, in the order of
/// [`Span::ALL`]; every layer sums to 1.
pub fn of_row(row: &PatternRow, span: impl Fn(usize) -> Span) -> Vec<Shares> {
    (0..row.n_layers)
        .map(|layer| {
            let mut shares = [0.0; Span::COUNT];
            for (key, mass) in row.head_mean(layer).into_iter().enumerate() {
                shares[span(key).index()] += mass;
            }
            shares
        })
        .collect()
}

/// The same for every head on its own: `[layers, heads]`, layers slowest.
pub fn of_heads(row: &PatternRow, span: impl Fn(usize) -> Span) -> Vec<Shares> {
    let spans: Vec<usize> = (0..row.n_keys).map(|key| span(key).index()).collect();
    let heads = (0..row.n_layers).flat_map(|layer| (0..row.n_heads).map(move |head| (layer, head)));
    heads
        .map(|(layer, head)| {
            let mut shares = [0.0; Span::COUNT];
            spans.iter().zip(row.head(layer, head)).for_each(|(&at, mass)| shares[at] += mass);
            shares
        })
        .collect()
}

/// `[layers, answer, spans]`, layers slowest, of the kept layers, heads and answer rows.
pub fn of_trace(trace: &Trace) -> Vec<f32> {
    let rows: Vec<_> = trace.rows().map(|(_, row)| of_row(&row, |key| trace.span(key))).collect();
    (0..trace.kept.layers.len()).flat_map(|layer| rows.iter().flat_map(move |row| row[layer])).collect()
}
