//! The numbers that maps need of a row, taken out of it to be copied to the window's device.
//!
//! A row of a large model has a hundred megabytes, of which what is on screen needs one line of keys a map.
//! Layout of what is taken out: `[maps, keys]`. Knows rows; nothing of graphics devices or of patches.

use std::{ops::Range, sync::Arc};

use crate::trace::pattern::PatternRow;

/// What to take out of a row. The same as another only where the row lies at the same place.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The row. Held, so that no other can come to lie where it does.
    pub row: PatternRow,
    /// Keys of it.
    pub keys: Range<usize>,
    /// Layer, and head or the mean of all, of every map.
    pub maps: Vec<(usize, Option<usize>)>,
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.row.data, &other.row.data) && self.keys == other.keys && self.maps == other.maps
    }
}

impl Lines {
    /// `[maps, keys]`. What the row does not have is not a number. Means are summed head by head, as those of
    /// single numbers are.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(self.maps.len() * self.keys.len());
        for &(layer, head) in &self.maps {
            let heads = head.map_or(0..self.row.n_heads, |head| head..head + 1);
            let from = numbers.len();
            numbers.resize(from + self.keys.len(), 0.0);
            let line = &mut numbers[from..];
            for head in heads.clone() {
                match self.line(layer, head) {
                    Some(of_head) => line.iter_mut().zip(of_head).for_each(|(sum, value)| *sum += value),
                    None => line.fill(f32::NAN),
                }
            }
            let n_heads = heads.len() as f32;
            line.iter_mut().for_each(|sum| *sum /= n_heads);
        }
        numbers
    }

    fn line(&self, layer: usize, head: usize) -> Option<&[f32]> {
        let row = &self.row;
        if layer >= row.n_layers || head >= row.n_heads || self.keys.end > row.n_keys {
            return None;
        }
        let at = (layer * row.n_heads + head) * row.n_keys;
        row.data.get(at + self.keys.start..at + self.keys.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::widgets::heatmap::value;

    #[test]
    fn lines_hold_the_numbers_of_the_tooltips() {
        let data: Vec<f32> = (0..3 * 3 * 5).map(|i| (i as f32 * 0.37).sin()).collect();
        let row = PatternRow { n_layers: 3, n_heads: 3, n_keys: 5, data: Arc::new(data) };
        let maps = vec![(2, Some(1)), (0, None), (2, None), (3, None), (1, Some(3))];
        let lines = Lines { row: row.clone(), keys: 1..4, maps: maps.clone() };
        let expected = maps.iter().flat_map(|&(layer, head)| (1..4).map(move |key| (layer, head, key)));
        let found = lines.numbers();
        assert_eq!(found.len(), 15);
        for ((layer, head, key), found) in expected.zip(&found) {
            let expected = value(&row, layer, head, key);
            let same = expected == *found || expected.is_nan() && found.is_nan();
            assert!(same, "layer {layer}, head {head:?}, key {key}: {found}, not {expected}");
        }
        assert!(found[9..].iter().all(|v| v.is_nan()), "a layer and a head that are not there");
    }

    #[test]
    fn what_lies_elsewhere_is_not_the_same() {
        let row = || PatternRow { n_layers: 1, n_heads: 1, n_keys: 2, data: Arc::new(vec![0.5; 2]) };
        let lines = Lines { row: row(), keys: 0..2, maps: vec![(0, None)] };
        assert!(lines == lines.clone() && lines != Lines { row: row(), ..lines.clone() });
        assert!(lines != Lines { maps: vec![(0, Some(0))], ..lines.clone() });
        assert!(lines != Lines { keys: 1..2, ..lines.clone() });
    }
}
