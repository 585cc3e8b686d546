//! The sets of visual tokens that are computed rather than typed.
//!
//! `register`: embeddings at the decoder's input whose norm exceeds the mean by more than two standard
//! deviations (Neo et al., arXiv 2410.07149), longest first. `sink`: tokens that draw attention
//! whatever the word (`trace::sinks`). `random`: all, shuffled by a seed. `gradient` comes from `gradient`. Knows
//! plain numbers, not tensors.

use crate::spec::resolve::Spot;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_view_and_its_last_row_are_told_from_the_tiles() {
        // Two by one tiles of 2 x 2 tokens, then the whole.
        let spot = |i: usize| Spot {
            position: i,
            image: 0,
            whole: i >= 8,
            row: if i < 8 { i / 2 } else { (i - 8) / 2 },
            col: i % 2,
        };
        let spots: Vec<Spot> = (0..12).map(spot).collect();
        assert_eq!(whole(&spots), [8, 9, 10, 11]);
        assert_eq!(last_row(&spots), [10, 11]);
        assert_eq!(last_row(&spots[..8]), [6, 7]);
    }
}
