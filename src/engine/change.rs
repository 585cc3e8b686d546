//! What an intervention changes on one prompt, position by position: cuts, and overwritten rows of the
//! decoder's input.
//!
//! Embeddings are `[rows, width]`, and so is what the decoder adds at the images' tokens after a layer. Knows positions; not what was written, nor how it was resolved
//! (`resolve`).

use burn::tensor::Tensor;

use crate::{
    engine::{
        decoding::{Rows, place_rows},
        masks,
        see::rows_of,
    },
    spec::{knockout::Cut, resolve::Positions},
    statistics::rank::shuffled,
};

/// What an intervention changes, position by position.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// One a knockout, in order.
    pub cuts: Vec<Cut>,
    /// One an ablation, in order.
    pub overwritten: Vec<Overwritten>,
}

/// The rows that one ablation overwrites.
#[derive(Clone, Debug)]
pub struct Overwritten {
    /// Absolute prompt positions, ascending.
    pub positions: Vec<usize>,
    /// What they become.
    pub source: Source,
    /// Whether what the decoder adds at them after its layers is left out too.
    pub deepstack: bool,
}

/// What overwritten rows become.
#[derive(Clone, Debug)]
pub enum Source {
    /// `[1, width]`, the same for all.
    Same(Tensor<2>),
    /// `[visual tokens, width]`: each takes the row of its own place among the visual tokens.
    Rows(Tensor<2>),
}

impl Change {
    /// The lowest layer and the first row, of `n_rows`, that it touches; `None` if it touches nothing.
    pub fn start(&self, n_rows: usize) -> Option<(usize, usize)> {
        let overwritten = self.overwritten.iter().flat_map(|o| o.positions.first()).map(|&row| (0, row));
        let cut = |cut: &Cut| {
            let layer = cut.layers.iter().position(|&l| l)?;
            cut.heads.contains(&true).then_some((layer, masks::first_row(cut, n_rows)?))
        };
        let all = overwritten.chain(self.cuts.iter().filter_map(cut));
        all.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
    }

    /// Rows that enter the lowest layer that it touches, the first of which stands at position `first`, with what is
    /// overwritten replaced.
    pub fn overwrite(&self, rows: Rows, first: usize, visual: &[usize]) -> Rows {
        let gone: Vec<usize> = (self.overwritten.iter().filter(|o| o.deepstack))
            .flat_map(|o| o.positions.iter().map(|p| p - first))
            .collect();
        let without = |added: Tensor<2>| {
            let nothing = Tensor::zeros([gone.len(), added.dims()[1]], &added.device());
            place_rows(added, &gone, nothing)
        };
        let Rows { resid, positions, mut added } = rows;
        if !gone.is_empty() {
            added = added.into_iter().map(|(layer, added)| (layer, without(added))).collect();
        }
        Rows { resid: self.overwrite_embeds(resid, first, visual), positions, added }
    }

    /// `[rows, width]`, likewise.
    fn overwrite_embeds(&self, embeds: Tensor<2>, first: usize, visual: &[usize]) -> Tensor<2> {
        self.overwritten.iter().fold(embeds, |embeds, o| {
            let width = embeds.dims()[1];
            let rows = match &o.source {
                Source::Same(row) => row.clone().expand([o.positions.len(), width]),
                Source::Rows(rows) => {
                    let places = o.positions.iter().filter_map(|p| visual.binary_search(p).ok());
                    rows_of(rows, &places.collect::<Vec<usize>>())
                }
            };
            let positions: Vec<usize> = o.positions.iter().map(|p| p - first).collect();
            place_rows(embeds, &positions, rows)
        })
    }

    /// The same change on as many random visual tokens: keys of cuts, or their query rows where no key
    /// is visual, and overwritten tokens. `None` if it touches no visual token.
    pub fn at_random(&self, visual: &[usize], seed: u64, draw: u64) -> Option<Change> {
        let mut change = self.clone();
        let (mut touched, mut stream) = (false, draw << 8);
        let mut redraw = |n: usize| {
            touched |= n > 0;
            stream += 1;
            let mut drawn = shuffled(visual, seed, stream);
            drawn.truncate(n);
            drawn.sort_unstable();
            drawn
        };
        for cut in &mut change.cuts {
            let among = |set: &Positions| visual.iter().filter(|&&p| set.contains(p)).count();
            let set = if among(&cut.keys) > 0 { &mut cut.keys } else { &mut cut.rows };
            let drawn = redraw(among(set));
            set.exchange(visual, &drawn);
        }
        for o in &mut change.overwritten {
            o.positions = redraw(o.positions.len());
        }
        touched.then_some(change)
    }
}
