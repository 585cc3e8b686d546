//! The effect map: how much a phrase depends on every block of patches.
//!
//! Every block of one size is taken away in turn, coarse sizes first, and the uncut answer scored; then the effects
//! are held against attention, size by size. Blocks lie on the grid of all tiles together, then on that of the whole
//! view beside them. Visual tokens count among those of the first image; a class token shows no patch, and is in no
//! block.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, see::Seen},
    progress::Cancel,
    spec::{resolve::Spot, study::PatchEffect},
    statistics::rank::{correlation, mean_ranks},
    studies::phrase::{Phrase, needs_image},
    trace::{
        finding::{Agreement, Block, Finding},
        geometry::spots,
        run::Trace,
        tokens::visual,
    },
};

/// An effect map under way.
#[derive(Debug)]
pub struct EffectMap {
    study: PatchEffect,
    phrase: Phrase,
    /// Absolute positions of the first image's visual tokens.
    positions: Vec<usize>,
    /// Side, and the visual tokens of every block; coarse ones first.
    sizes: Vec<(usize, Vec<Vec<usize>>)>,
    /// Which size it is at.
    size: usize,
    /// Of the blocks of this size that were taken away so far.
    deltas: Vec<f32>,
}

impl EffectMap {
    /// Before its first block.
    ///
    /// # Errors
    /// [`RunError`]: a token, a layer or a side that there is not, or no image.
    pub fn new(
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        study: &PatchEffect,
    ) -> Result<EffectMap, RunError> {
        needs_image(baseline, "an effect map")?;
        let fail =
            |source| RunError::Choice { what: format!("the effect map's layers {}", study.layers), source };
        study.layers.resolve("layer", engine.info.n_layers).map_err(fail)?;
        if study.coarsest == 0 {
            let expected = "a patch at least".to_string();
            return Err(RunError::Spec { what: "the side of the coarsest blocks", found: 0, expected });
        }
        let phrase = Phrase::new(baseline, &study.tokens)?;
        let geometries: Vec<_> = images.iter().map(|seen| seen.geometry.clone()).collect();
        let mut spots = spots(&baseline.prompt.tokens, &geometries);
        spots.retain(|spot| spot.image == 0);
        // The first image's come first.
        let mut positions = visual(&baseline.prompt.tokens);
        positions.truncate(geometries.first().map_or(0, |image| image.n_tokens()));
        let sizes = sides(study.coarsest, &spots)
            .into_iter()
            .map(|side| (side, blocks(&spots, &positions, side)))
            .collect();
        Ok(EffectMap { study: study.clone(), phrase, positions, sizes, size: 0, deltas: Vec::new() })
    }

    /// Takes the next block away, or holds a size that is done against attention; `None` when all is done.
    ///
    /// # Errors
    /// [`RunError`]; a cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Option<Finding>, RunError> {
        let Some((side, blocks)) = self.sizes.get(self.size) else { return Ok(None) };
        let side = *side;
        if let Some(patches) = blocks.get(self.deltas.len()) {
            let intervention = self.study.intervention(patches);
            let delta = self.phrase.delta(engine, baseline, &intervention, images, cancel)?;
            let block = Block { patches: patches.clone(), side, delta };
            self.deltas.push(delta);
            return Ok(Some(Finding::Block(block)));
        }
        let agreement = self.agreement(&baseline.trace, side, blocks);
        self.size += 1;
        self.deltas.clear();
        Ok(Some(Finding::Agreement(agreement)))
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        let of = |sizes: &[(usize, Vec<Vec<usize>>)]| -> usize {
            sizes.iter().map(|(_, blocks)| blocks.len() + 1).sum()
        };
        (of(&self.sizes[..self.size.min(self.sizes.len())]) + self.deltas.len(), of(&self.sizes))
    }

    /// How the effects of one size go with attention, per patch.
    fn agreement(&self, trace: &Trace, side: usize, blocks: &[Vec<usize>]) -> Agreement {
        if !trace.holds_everything() {
            return Agreement { side, heads: Vec::new(), mean: Vec::new() };
        }
        let falls: Vec<f32> =
            blocks.iter().zip(&self.deltas).map(|(block, delta)| -delta / block.len() as f32).collect();
        let falls = mean_ranks(&falls);
        let with = |attention: &[f32]| correlation(&mean_ranks(attention), &falls);
        let (n_layers, n_heads) = (trace.model.n_layers, trace.model.n_heads);
        let layer = |layer: usize| {
            let heads: Vec<Vec<f32>> =
                (0..n_heads).map(|head| self.attention(trace, layer, head, blocks)).collect();
            let of_block = |block: usize| heads.iter().map(|head| head[block]).sum::<f32>() / n_heads as f32;
            let mean: Vec<f32> = (0..blocks.len()).map(of_block).collect();
            (heads.iter().map(|head| with(head)).collect::<Vec<f32>>(), with(&mean))
        };
        let layers: Vec<(Vec<f32>, f32)> = (0..n_layers).into_par_iter().map(layer).collect();
        let mean = layers.iter().map(|(_, mean)| *mean).collect();
        Agreement { side, heads: layers.into_iter().flat_map(|(heads, _)| heads).collect(), mean }
    }

    /// `[blocks]`: the mean attention that the phrase's rows pay a patch of each, in one head of one layer.
    fn attention(&self, trace: &Trace, layer: usize, head: usize, blocks: &[Vec<usize>]) -> Vec<f32> {
        let mut paid = vec![0.0; self.positions.len()];
        for row in self.phrase.tokens.iter().filter_map(|&token| trace.pattern.get(token)) {
            let row = row.head(layer, head);
            paid.iter_mut().zip(&self.positions).for_each(|(paid, &position)| *paid += row[position]);
        }
        let rows = self.phrase.tokens.len() as f32;
        let per_patch = |block: &Vec<usize>| {
            block.iter().map(|&patch| paid[patch]).sum::<f32>() / (rows * block.len() as f32)
        };
        blocks.iter().map(per_patch).collect()
    }
}

/// The sides of blocks: halved down to 1. Of those that hold the whole grid only the smallest counts.
fn sides(coarsest: usize, spots: &[Spot]) -> Vec<usize> {
    let longest = spots.iter().map(|spot| spot.row.max(spot.col) + 1).max().unwrap_or(0);
    let halved = std::iter::successors(Some(coarsest), |side| Some(side / 2).filter(|&side| side > 0));
    halved.filter(|side| side / 2 < longest).collect()
}

/// The blocks of one side in reading order, first on the grid of tiles: the visual tokens of each, ascending, by
/// their place in `positions`.
fn blocks(spots: &[Spot], positions: &[usize], side: usize) -> Vec<Vec<usize>> {
    let mut blocks: BTreeMap<(bool, usize, usize), Vec<usize>> = BTreeMap::new();
    for spot in spots {
        if let Ok(token) = positions.binary_search(&spot.position) {
            blocks.entry((spot.whole, spot.row / side, spot.col / side)).or_default().push(token);
        }
    }
    blocks.values_mut().for_each(|block| block.sort_unstable());
    blocks.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One by two tiles of 2 x 2 tokens, then the whole view of 3 x 3, after a token that shows nothing.
    fn tiled() -> (Vec<Spot>, Vec<usize>) {
        let tiles = (0..8).map(|i| Spot {
            position: 10 + i,
            image: 0,
            whole: false,
            row: i % 4 / 2,
            col: i % 2 + i / 4 * 2,
        });
        let whole = (0..9).map(|i| Spot { position: 19 + i, image: 0, whole: true, row: i / 3, col: i % 3 });
        (tiles.chain(whole).collect(), (10..28).collect())
    }

    #[test]
    fn blocks_run_across_tiles_and_the_whole_view_comes_after_them() {
        let (spots, positions) = tiled();
        let found = blocks(&spots, &positions, 2);
        assert_eq!(found[..2], [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        assert_eq!(found[2..], [vec![9, 10, 12, 13], vec![11, 14], vec![15, 16], vec![17]]);
        // Row 0 of the first tile, then row 0 of the second: a block of 4 holds both tiles.
        assert_eq!(blocks(&spots, &positions, 4)[0], [0, 1, 2, 3, 4, 5, 6, 7]);
        let single = blocks(&spots, &positions, 1);
        assert_eq!(single[..4], [[0], [1], [4], [5]], "reading order is that of the grid");
        assert_eq!(single.len(), 17);
    }

    #[test]
    fn sides_are_halved_and_what_holds_everything_is_taken_once() {
        let (spots, _) = tiled();
        assert_eq!(sides(4, &spots), [4, 2, 1]);
        assert_eq!(sides(64, &spots), [4, 2, 1]);
        assert_eq!(sides(3, &spots), [3, 1]);
        assert_eq!(sides(1, &spots), [1]);
    }
}
