//! The numbers of a map, one a patch, taken once for as long as the map is the same: its peak, ranks, what lies beyond
//! its colours.
//!
//! Knows maps; nothing of what their numbers measure.

use std::sync::Arc;

use crate::{
    trace::palette::Colormap,
    ui::widgets::heatmap::{Map, Patch},
};

/// What numbers were taken from. Holds it, so that nothing else can come to lie at the same address.
#[derive(Debug)]
struct Source {
    row: Arc<Vec<f32>>,
    patches: Arc<[Patch]>,
    layer: usize,
    head: Option<usize>,
    signed: bool,
}

impl Source {
    fn of(map: &Map) -> Self {
        let (row, patches) = (map.row.data.clone(), map.patches.clone());
        let signed = map.colormap == Colormap::Diverging;
        Source { row, patches, layer: map.layer, head: map.head, signed }
    }

    fn is(&self, map: &Map) -> bool {
        Arc::ptr_eq(&self.row, &map.row.data)
            && Arc::ptr_eq(&self.patches, &map.patches)
            && (self.layer, self.head) == (map.layer, map.head)
            && self.signed == (map.colormap == Colormap::Diverging)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct MapValues {
    source: Option<Source>,
    values: Vec<f32>,
    /// Of numbers with a sign, how far they are from 0.
    sizes: Vec<f32>,
    peak: Option<usize>,
}

impl MapValues {
    /// Follows the map on show; costs nothing where it is what it was.
    pub fn follow(&mut self, map: Option<&Map>) {
        let Some(map) = map else {
            *self = MapValues::default();
            return;
        };
        if self.source.as_ref().is_some_and(|source| source.is(map)) {
            return;
        }
        let source = Source::of(map);
        let values: Vec<f32> = (0..map.patches.len()).map(|at| map.value(at)).collect();
        let sizes: Vec<f32> = values.iter().map(|v| if source.signed { v.abs() } else { *v }).collect();
        *self = MapValues { source: Some(source), peak: peak(&sizes), values, sizes };
    }

    /// The number of a patch, in the map's order; `None` where it has none.
    pub fn get(&self, at: usize) -> Option<f32> {
        self.values.get(at).copied().filter(|value| !value.is_nan())
    }

    /// All of them; NaN where there is none.
    pub fn all(&self) -> &[f32] {
        &self.values
    }

    /// The patch with the largest number, or with the one farthest from 0; `None` where all are alike.
    pub fn peak(&self) -> Option<usize> {
        self.peak
    }

    /// How many patches have a larger number, and one more; and how many have a number at all.
    pub fn rank(&self, at: usize) -> Option<(usize, usize)> {
        let own = self.sizes.get(at).filter(|size| !size.is_nan())?;
        let larger = self.sizes.iter().filter(|size| *size > own).count();
        Some((larger + 1, self.sizes.iter().filter(|size| !size.is_nan()).count()))
    }

    /// Whether some number lies beyond the ends of the colours.
    pub fn beyond(&self, (low, high): (f32, f32)) -> bool {
        self.values.iter().any(|&value| value > high || low < 0.0 && value < low)
    }
}

/// The first of the largest numbers; `None` where there are no two that differ.
fn peak(sizes: &[f32]) -> Option<usize> {
    let numbers = || sizes.iter().copied().enumerate().filter(|(_, size)| !size.is_nan());
    let (at, most) = numbers().reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    numbers().any(|(_, size)| size < most).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::pattern::PatternRow;

    fn map(values: Vec<f32>, colormap: Colormap) -> Map {
        let patches: Vec<Patch> = (0..values.len()).map(|key| Patch::new([0.0; 4], key)).collect();
        Map {
            row: PatternRow { n_layers: 1, n_heads: 1, n_keys: values.len(), data: Arc::new(values) },
            resident: None,
            patches: patches.into(),
            layer: 0,
            head: Some(0),
            range: (0.0, 1.0),
            colormap,
            gamma: 1.0,
            smooth: false,
            opacity: 1.0,
            uniform: None,
            slot: 0,
        }
    }

    fn of(values: &[f32], colormap: Colormap) -> MapValues {
        let mut of = MapValues::default();
        of.follow(Some(&map(values.to_vec(), colormap)));
        of
    }

    #[test]
    fn what_was_left_out_has_no_rank_and_takes_none() {
        let values = of(&[0.2, f32::NAN, 0.5, 0.2], Colormap::Inferno);
        assert_eq!((values.peak(), values.rank(2), values.rank(0)), (Some(2), Some((1, 3)), Some((2, 3))));
        assert_eq!((values.rank(1), values.get(1), values.get(3)), (None, None, Some(0.2)));
        assert!(values.beyond((0.0, 0.4)) && !values.beyond((0.3, 0.5)));
    }

    #[test]
    fn differences_peak_and_rank_by_how_far_they_are_from_nought() {
        let values = of(&[0.2, -0.5, 0.1], Colormap::Diverging);
        assert_eq!((values.peak(), values.rank(1), values.get(1)), (Some(1), Some((1, 3)), Some(-0.5)));
        assert!(values.beyond((-0.4, 0.4)) && !values.beyond((-0.5, 0.5)));
    }

    #[test]
    fn a_level_map_has_no_peak() {
        assert_eq!(of(&[0.0, 0.0, f32::NAN], Colormap::Inferno).peak(), None);
        assert_eq!(of(&[], Colormap::Inferno).peak(), None);
        let mut values = of(&[0.0, 1.0], Colormap::Inferno);
        values.follow(None);
        assert!(values.peak().is_none() && values.all().is_empty());
    }
}
