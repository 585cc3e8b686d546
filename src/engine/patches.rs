//! The visual tokens of a prompt by place and by name: where each patch lies, and the sets that are
//! computed rather than typed.
//!
//! `register`: embeddings at the decoder's input whose norm exceeds the mean by more than two standard
//! deviations (Neo et al., arXiv 2410.07149), longest first. `sink`: tokens that draw attention
//! whatever the word (after arXiv 2503.03321): for every visual token, the least that any answer row
//! of the uncut answer gives it, averaged over layers and heads; those more than two standard
//! deviations above the mean, most first. `random`: all, shuffled by a seed. `gradient` comes from
//! `interp::gradient`. Knows plain numbers, not tensors.

use image::GrayImage;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use crate::{prompt::build::ImageGrid, spec::{sets::Spot, span::Span}, trace::run::{PatternRow, PromptToken}};

/// Where every visual token that shows a patch lies. `grids` are the tile grids of the prompt's images;
/// `side` is the number of tokens on a tile's side.
pub fn spots(prompt: &[PromptToken], grids: &[ImageGrid], side: usize) -> Vec<Spot> {
    let spot = |token: &PromptToken| {
        let visual = token.visual?;
        let cell = visual.cell?;
        let cols = grids.get(visual.image).map_or(0, |g| g.cols);
        let tiles = grids.get(visual.image).map_or(0, |g| g.rows * g.cols);
        let whole = visual.tile >= tiles;
        let (down, right) = if whole { (0, 0) } else { (visual.tile / cols, visual.tile % cols) };
        Some(Spot {
            position: token.position,
            image: visual.image,
            whole,
            row: down * side + cell.row,
            col: right * side + cell.col,
        })
    };
    prompt.iter().filter_map(spot).collect()
}

/// Absolute positions of all visual tokens.
pub fn visual(prompt: &[PromptToken]) -> Vec<usize> {
    prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect()
}

/// The view of the whole image.
pub fn whole(spots: &[Spot]) -> Vec<usize> {
    spots.iter().filter(|s| s.whole).map(|s| s.position).collect()
}

/// The last row of each image's last view.
pub fn last_row(spots: &[Spot]) -> Vec<usize> {
    let last = |spot: &Spot| {
        let same = spots.iter().filter(|s| s.image == spot.image && s.whole == spot.whole);
        let view_is_last = spot.whole || !spots.iter().any(|s| s.image == spot.image && s.whole);
        view_is_last && same.map(|s| s.row).max() == Some(spot.row)
    };
    spots.iter().filter(|s| last(s)).map(|s| s.position).collect()
}

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

/// For every visual position, the least attention that any of `rows` pays it, averaged over layers and
/// heads.
pub fn least_attention(rows: &[PatternRow], visual: &[usize]) -> Vec<f32> {
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

/// Positions in an order that only the seed and `draw` decide.
pub fn shuffled(positions: &[usize], seed: u64, draw: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(draw);
    let mut positions = positions.to_vec();
    positions.shuffle(&mut rng);
    positions
}

/// The share of a rectangle (`[x0, y0, x1, y1]` in mask pixels) that belongs to an object: pixels of
/// this value, or of any but 0.
pub fn covered(mask: &GrayImage, [x0, y0, x1, y1]: [f32; 4], value: Option<u8>) -> f32 {
    let (mut inside, mut all) = (0u32, 0u32);
    for y in y0.round() as u32..(y1.round() as u32).min(mask.height()) {
        for x in x0.round() as u32..(x1.round() as u32).min(mask.width()) {
            let pixel = mask.get_pixel(x, y).0[0];
            all += 1;
            inside += u32::from(value.map_or(pixel > 0, |value| pixel == value));
        }
    }
    if all == 0 { 0.0 } else { inside as f32 / all as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::run::{Cell, VisualRef};

    /// Two by one tiles of 2 x 2 tokens, then the whole.
    fn tiled() -> Vec<PromptToken> {
        let token = |i: usize| PromptToken {
            position: i,
            id: 9,
            text: String::new(),
            span: Span::Visual,
            visual: Some(VisualRef {
                image: 0,
                tile: i / 4,
                cell: Some(Cell { row: i % 4 / 2, col: i % 2 }),
            }),
        };
        (0..12).map(token).collect()
    }

    #[test]
    fn tiles_form_one_grid_and_the_whole_view_another() {
        let spots = spots(&tiled(), &[ImageGrid { rows: 2, cols: 1 }], 2);
        let places: Vec<(bool, usize, usize)> = spots.iter().map(|s| (s.whole, s.row, s.col)).collect();
        assert_eq!(places[..5], [(false, 0, 0), (false, 0, 1), (false, 1, 0), (false, 1, 1), (false, 2, 0)]);
        assert_eq!(places[8..], [(true, 0, 0), (true, 0, 1), (true, 1, 0), (true, 1, 1)]);
        assert_eq!(whole(&spots), [8, 9, 10, 11]);
        assert_eq!(last_row(&spots), [10, 11]);
    }

    #[test]
    fn outliers_exceed_the_mean_by_two_deviations() {
        let mut values = vec![1.0; 30];
        (values[7], values[3]) = (9.0, 10.0);
        assert_eq!(outliers(&values), [3, 7]);
        assert!(outliers(&[1.0; 8]).is_empty());
        assert!(outliers(&[]).is_empty());
    }

    #[test]
    fn a_sink_is_looked_at_by_every_row() {
        let row =
            |data: [f32; 4]| PatternRow { n_layers: 1, n_heads: 1, n_keys: 4, data: data.to_vec().into() };
        let rows = [row([0.1, 0.6, 0.2, 0.1]), row([0.1, 0.1, 0.6, 0.2])];
        assert_eq!(least_attention(&rows, &[1, 2]), [0.1, 0.2]);
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

    #[test]
    fn coverage_counts_the_pixels_of_one_object_or_of_any() {
        let mask = GrayImage::from_fn(4, 4, |x, _| image::Luma([x as u8]));
        assert_eq!(covered(&mask, [0.0, 0.0, 4.0, 4.0], Some(3)), 0.25);
        assert_eq!(covered(&mask, [0.0, 0.0, 2.0, 4.0], None), 0.5);
        assert_eq!(covered(&mask, [0.0; 4], None), 0.0);
    }
}
