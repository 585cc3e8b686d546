//! Localisation: does a word's attention peak on the object that it names?
//!
//! Kaduri et al. (arXiv 2411.17491): heads averaged, one layer at a time, the peak among the visual
//! tokens of the rows that predicted the word (their mean, where it takes several tokens), held against the
//! object's mask. A patch belongs to an object when more than [`COVERED`] of it is the object's.

use crate::trace::{
    pattern::PatternRow,
    tokens::{Cell, PromptToken, VisualRef},
};

/// Share of a patch that must be covered.
pub const COVERED: f32 = 0.25;

/// What one layer's peak hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// A patch of the object.
    pub on: bool,
    /// A patch of the object or one of its eight neighbours.
    pub near: bool,
}

/// Per layer, whether the peak of the head mean of a word's `rows` over the visual tokens of `prompt` hits. `covered`
/// has one entry a visual token, in prompt order: the share of its patch that the object covers.
/// Empty when the object fills no patch, or no visual token shows one.
pub fn hits(rows: &[PatternRow], prompt: &[PromptToken], covered: &[f32]) -> Vec<Hit> {
    let visual: Vec<(usize, VisualRef)> =
        prompt.iter().filter_map(|t| Some((t.position, t.visual?))).collect();
    let places: Vec<(usize, usize, Cell)> =
        visual.iter().filter_map(|(_, v)| Some((v.image, v.view, v.cell?))).collect();
    let object: Vec<&(usize, usize, Cell)> =
        places.iter().zip(covered).filter(|(_, share)| **share > COVERED).map(|(place, _)| place).collect();
    if object.is_empty() || places.len() != visual.len() {
        return Vec::new();
    }
    let hit = |layer: usize| {
        let means: Vec<Vec<f32>> = rows.iter().map(|row| row.head_mean(layer)).collect();
        let value = |i: &usize| means.iter().map(|mean| mean[visual[*i].0]).sum::<f32>();
        let peak = (0..visual.len()).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0);
        let (image, tile, at) = places[peak];
        let within = |far: usize| {
            let close = |a: usize, b: usize| a.abs_diff(b) <= far;
            object
                .iter()
                .any(|(i, t, c)| (*i, *t) == (image, tile) && close(c.row, at.row) && close(c.col, at.col))
        };
        Hit { on: within(0), near: within(1) }
    };
    (0..rows.first().map_or(0, |row| row.n_layers)).map(hit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::span::Span;

    #[test]
    fn the_peak_is_held_against_the_mask_layer_by_layer() {
        // BOS, then a 3 x 3 grid; two layers of one head.
        let mut prompt = vec![PromptToken {
            position: 0,
            id: 1,
            text: String::new(),
            span: Span::Bos,
            visual: None,
            partial: false,
        }];
        prompt.extend((0..9).map(|i| PromptToken {
            position: i + 1,
            id: 4,
            text: String::new(),
            span: Span::Visual,
            visual: Some(VisualRef { image: 0, view: 0, cell: Some(Cell { row: i / 3, col: i % 3 }) }),
            partial: false,
        }));
        let mut covered = [0.0; 9];
        covered[0] = 0.9;
        covered[8] = 0.2; // too little to count
        let mut data = vec![0.0; 20];
        (data[0], data[1 + 4]) = (0.7, 0.3); // layer 0: BOS is no patch; the peak is the centre
        (data[10 + 1 + 8], data[10]) = (0.6, 0.4); // layer 1: the far corner
        let row = [PatternRow { n_layers: 2, n_heads: 1, n_keys: 10, data: data.into() }];
        let near = Hit { on: false, near: true };
        assert_eq!(hits(&row, &prompt, &covered), [near, Hit::default()]);
        covered[4] = 0.26;
        assert_eq!(hits(&row, &prompt, &covered)[0], Hit { on: true, near: true });
        assert!(hits(&row, &prompt, &[0.0; 9]).is_empty());
        // A word of two tokens: the second looks at the corner, harder than the first at the centre.
        let mut second = vec![0.0; 20];
        (second[1], second[10 + 1]) = (0.9, 0.9);
        let second = PatternRow { n_layers: 2, n_heads: 1, n_keys: 10, data: second.into() };
        let both = [row[0].clone(), second];
        assert_eq!(hits(&both, &prompt, &covered), [Hit { on: true, near: true }; 2]);
    }
}
