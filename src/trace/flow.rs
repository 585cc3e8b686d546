//! Attention flow: how much of a row's attention goes to each span, layer by layer.
//!
//! Kaduri et al. (arXiv 2411.17491): pattern mass averaged over heads and summed between spans. Of an answer row
//! from its recorded pattern; of every row that ran, prompt and answer, from what each pass summed while it had
//! the pattern, so that no square is kept.

use crate::{spec::span::Span, trace::pattern::PatternRow};

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

/// How the attention of every row that ran divides among the spans of its keys, the mean of all heads. The last
/// token of an answer is predicted and never looked from: it has no row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowFlow {
    /// Decoder layers.
    pub n_layers: usize,
    /// Of the rows, by position.
    pub spans: Vec<Span>,
    /// `[layers, rows, spans]`, layers slowest; every row sums to 1.
    pub data: Vec<f32>,
}

impl RowFlow {
    /// One layer, a row at a time; none of a layer that is not there.
    pub fn layer(&self, layer: usize) -> &[Shares] {
        let (rows, all) = (self.spans.len(), self.data.as_chunks::<{ Span::COUNT }>().0);
        all.get(layer * rows..(layer + 1) * rows).unwrap_or_default()
    }
}

/// What each span reads from each: the mean over its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanFlow {
    /// Decoder layers.
    pub n_layers: usize,
    /// How many rows of each span ran, in the order of [`Span::ALL`].
    pub rows: [usize; Span::COUNT],
    /// `[layers, query span, key span]`, layers slowest; a query span sums to 1 if it has rows, and is 0 if not.
    pub data: Vec<f32>,
}

impl SpanFlow {
    /// The mean over the rows of each span.
    pub fn of(rows: &RowFlow) -> Self {
        let mut count = [0; Span::COUNT];
        rows.spans.iter().for_each(|span| count[span.index()] += 1);
        let mut data = Vec::with_capacity(rows.n_layers * Span::COUNT * Span::COUNT);
        for layer in 0..rows.n_layers {
            let mut sums = [[0.0f64; Span::COUNT]; Span::COUNT];
            for (span, shares) in rows.spans.iter().zip(rows.layer(layer)) {
                sums[span.index()].iter_mut().zip(shares).for_each(|(sum, &share)| *sum += f64::from(share));
            }
            for (sums, &n) in sums.iter().zip(&count) {
                data.extend(sums.iter().map(|sum| (sum / n.max(1) as f64) as f32));
            }
        }
        SpanFlow { n_layers: rows.n_layers, rows: count, data }
    }

    /// What the rows of one span give the keys of another in a layer; 0 of a layer that is not there.
    pub fn get(&self, layer: usize, query: Span, key: Span) -> f32 {
        let at = (layer * Span::COUNT + query.index()) * Span::COUNT + key.index();
        self.data.get(at).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_means_over_their_own_rows() {
        let share = |of: &[(Span, f32)]| {
            let mut shares = [0.0; Span::COUNT];
            of.iter().for_each(|&(span, share)| shares[span.index()] = share);
            shares
        };
        let rows = [
            share(&[(Span::Bos, 1.0)]),
            share(&[(Span::Bos, 0.5), (Span::Visual, 0.5)]),
            share(&[(Span::Bos, 0.25), (Span::Visual, 0.75)]),
            share(&[(Span::Visual, 1.0)]),
        ];
        // The same again in a second layer, with the last row turned to the first key.
        let second = [rows[0], rows[1], rows[2], rows[0]];
        let flow = RowFlow {
            n_layers: 2,
            spans: vec![Span::Bos, Span::Visual, Span::Visual, Span::Last],
            data: [rows, second].concat().concat(),
        };
        assert_eq!((flow.layer(1), flow.layer(2).len()), (&second[..], 0));
        let spans = SpanFlow::of(&flow);
        assert_eq!(spans.rows, [1, 0, 0, 2, 0, 1, 0]);
        assert_eq!(spans.get(0, Span::Visual, Span::Bos), 0.375);
        assert_eq!(spans.get(0, Span::Visual, Span::Visual), 0.625);
        assert_eq!([0, 1].map(|layer| spans.get(layer, Span::Last, Span::Visual)), [1.0, 0.0]);
        assert_eq!(spans.get(1, Span::Last, Span::Bos), 1.0);
        // A span without rows reads nothing, and there is no third layer.
        assert!(Span::ALL.iter().all(|&key| spans.get(0, Span::Question, key) == 0.0));
        assert_eq!(spans.get(2, Span::Bos, Span::Bos), 0.0);
        assert_eq!(spans.data.len(), 2 * Span::COUNT * Span::COUNT);
    }
}
