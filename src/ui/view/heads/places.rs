//! Which maps of heads stand side by side, where, and how large their largest values are.
//!
//! Largest values are taken some a frame, and kept. Knows numbers and rectangles; draws nothing.

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use egui::{Pos2, Rect, Vec2, vec2};

use crate::ui::widgets::heatmap::{Map, Patch, value};

/// Least and largest width of a map.
pub const WIDTH: (f32, f32) = (70.0, 220.0);
/// Room for what stands below a map.
pub const LABEL: f32 = 14.0;
/// Room between maps.
const GAP: f32 = 5.0;
/// Numbers of which the largest are looked for in one frame: about two milliseconds.
const NUMBERS_A_FRAME: usize = 400_000;

/// A layer, and a head or the mean of all.
pub type Place = (usize, Option<usize>);

/// Which maps stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Those of all heads of the layer on show, the mean first.
    Layer,
    /// Those of the head on show in all layers.
    Head,
}

impl Of {
    /// The maps, where this layer and head are on show.
    pub fn maps(self, (layer, head): Place, n_layers: usize, n_heads: usize) -> Vec<Place> {
        match self {
            Of::Layer => {
                std::iter::once(None).chain((0..n_heads).map(Some)).map(|head| (layer, head)).collect()
            }
            Of::Head => (0..n_layers).map(|layer| (layer, head)).collect(),
        }
    }

    /// A map's name; the number alone where that must do.
    pub fn name(self, (layer, head): Place, short: bool) -> String {
        match (self, head) {
            (Of::Layer, None) => "mean".to_string(),
            (Of::Layer, Some(head)) => format!("{}{head}", if short { "" } else { "head " }),
            (Of::Head, _) => format!("{}{layer}", if short { "" } else { "layer " }),
        }
    }
}

/// Where maps lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Places {
    n: usize,
    /// Maps a row.
    pub columns: usize,
    /// Size of a map.
    size: Vec2,
    /// Upper left corner of the first.
    pub origin: Pos2,
}

impl Places {
    /// As large as lets all be seen at once; where that would be too small, as small as can be told apart.
    /// `aspect`: height by width.
    pub fn new(n: usize, room: Vec2, aspect: f32) -> Self {
        let n = n.max(1);
        let size = |columns: usize| {
            let width = ((room.x + GAP) / columns as f32 - GAP).clamp(1.0, WIDTH.1);
            vec2(width, width * aspect)
        };
        let fits =
            |columns: &usize| n.div_ceil(*columns) as f32 * (size(*columns).y + LABEL + GAP) - GAP <= room.y;
        let all = (1..=n).take_while(|columns| size(*columns).x >= WIDTH.0).find(fits);
        let columns =
            all.unwrap_or_else(|| (((room.x + GAP) / (WIDTH.0 + GAP)).floor() as usize).clamp(1, n));
        Places { n, columns, size: size(columns), origin: Pos2::ZERO }
    }

    /// From one row of maps to the next.
    fn step(self) -> Vec2 {
        self.size + vec2(GAP, LABEL + GAP)
    }

    /// Of all of them.
    pub fn height(self) -> f32 {
        self.n.div_ceil(self.columns) as f32 * self.step().y - GAP
    }

    /// Where a map lies.
    pub fn of(self, at: usize) -> Rect {
        let (row, column) = (at / self.columns, at % self.columns);
        let step = self.step();
        Rect::from_min_size(self.origin + vec2(column as f32 * step.x, row as f32 * step.y), self.size)
    }

    /// The map at a place, with what stands below it.
    pub fn at(self, place: Pos2) -> Option<usize> {
        let from = place - self.origin;
        let (column, row) = ((from.x / self.step().x).floor(), (from.y / self.step().y).floor());
        if column < 0.0 || row < 0.0 || column as usize >= self.columns {
            return None;
        }
        Some(row as usize * self.columns + column as usize).filter(|at| *at < self.n)
    }

    /// Numbers of the maps between two heights, from the first's top.
    pub fn between(self, top: f32, bottom: f32) -> Range<usize> {
        let row = |y: f32| (y / self.step().y).max(0.0);
        let first = row(top).floor() as usize * self.columns;
        let end = row(bottom).ceil() as usize * self.columns;
        first.min(self.n)..end.min(self.n)
    }
}

/// Attention, patches and places of maps.
type TakenOf = (Weak<Vec<f32>>, Arc<[Patch]>, Vec<Place>);

/// The largest values of maps, taken over several frames.
#[derive(Default)]
pub struct Highs {
    taken_of: Option<TakenOf>,
    values: Vec<f32>,
}

impl Highs {
    /// Goes on. Returns whether all are taken.
    pub fn follow(&mut self, map: &Map, maps: &[Place]) -> bool {
        let same = self.taken_of.as_ref().is_some_and(|(row, patches, held)| {
            let row = std::ptr::eq(row.as_ptr(), Arc::as_ptr(&map.row.data));
            row && Arc::ptr_eq(patches, &map.patches) && held == maps
        });
        if !same {
            self.taken_of = Some((Arc::downgrade(&map.row.data), map.patches.clone(), maps.to_vec()));
            self.values.clear();
        }
        let mut left = NUMBERS_A_FRAME;
        while let Some(&(layer, head)) = maps.get(self.values.len()).filter(|_| left > 0) {
            let numbers = map.patches.iter().map(|patch| value(&map.row, layer, head, patch.key as usize));
            // What is no number is smaller than any.
            self.values.push(numbers.fold(0.0, |high: f32, number| high.max(number.abs())));
            let each = if head.is_some() { 1 } else { map.row.n_heads };
            left = left.saturating_sub((map.patches.len() * each).max(1));
        }
        self.values.len() == maps.len()
    }

    /// The largest value of one map; until that is taken, of those that are.
    pub fn of(&self, at: usize) -> f32 {
        self.values.get(at).copied().unwrap_or_else(|| self.largest())
    }

    /// The largest of all that are taken.
    pub fn largest(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;
    use crate::trace::{palette::Colormap, pattern::PatternRow};

    #[test]
    fn the_mean_stands_before_the_heads_of_a_layer() {
        let maps = Of::Layer.maps((2, Some(1)), 4, 3);
        assert_eq!(maps, [(2, None), (2, Some(0)), (2, Some(1)), (2, Some(2))]);
        assert_eq!(Of::Head.maps((2, Some(1)), 2, 3), [(0, Some(1)), (1, Some(1))]);
        assert_eq!(Of::Head.maps((2, None), 2, 3), [(0, None), (1, None)]);
    }

    #[test]
    fn maps_are_as_large_as_lets_all_be_seen() {
        let few = Places::new(5, vec2(600.0, 400.0), 1.0);
        assert!(few.columns >= 3 && few.height() <= 400.0 && few.size.x > 140.0, "{few:?}");
        let many = Places::new(65, vec2(600.0, 400.0), 1.0);
        assert!(many.height() > 400.0, "these scroll");
        assert!(many.size.x >= WIDTH.0 && many.columns == 8, "{many:?}");
        let narrow = Places::new(9, vec2(50.0, 100.0), 0.5);
        assert_eq!((narrow.columns, narrow.size), (1, vec2(50.0, 25.0)));
        assert_eq!(Places::new(0, vec2(300.0, 300.0), 1.0).n, 1);
    }

    #[test]
    fn a_place_has_its_map_and_only_what_is_seen_is_drawn() {
        let places = Places { origin: pos2(10.0, -100.0), ..Places::new(65, vec2(600.0, 400.0), 1.0) };
        for at in [0, 7, 8, 64] {
            assert_eq!(places.at(places.of(at).center()), Some(at));
        }
        assert_eq!(places.at(places.of(64).center() + vec2(places.step().x, 0.0)), None);
        assert_eq!((places.at(pos2(5.0, 0.0)), places.at(pos2(900.0, 0.0))), (None, None));
        let row = places.step().y;
        assert_eq!(places.between(0.0, row), 0..8);
        assert_eq!(places.between(1.5 * row, 3.5 * row), 8..32);
        assert_eq!(places.between(7.9 * row, 99.0 * row), 56..65);
    }

    #[test]
    fn largest_values_are_taken_once() {
        let data = Arc::new((0..2 * 2 * 3).map(|i| i as f32 - 6.0).collect::<Vec<f32>>());
        let row = PatternRow { n_layers: 2, n_heads: 2, n_keys: 3, data };
        let patch = |key| Patch::new([0.0, 0.0, 1.0, 1.0], key);
        let map = Map {
            row,
            resident: None,
            patches: Arc::from([patch(0), patch(2), patch(9)]),
            layer: 0,
            head: None,
            range: (0.0, 1.0),
            colormap: Colormap::Inferno,
            gamma: 1.0,
            smooth: false,
            opacity: 1.0,
            uniform: None,
            slot: 0,
        };
        let maps = [(0, Some(0)), (1, None), (1, Some(1))];
        let mut highs = Highs::default();
        assert!(highs.follow(&map, &maps));
        // Head 0 of layer 0 has -6, -5, -4; the mean of layer 1 has 1.5, 2.5, 3.5.
        assert_eq!(highs.values, [6.0, 3.5, 5.0]);
        assert_eq!((highs.of(1), highs.of(7), highs.largest()), (3.5, 6.0, 6.0));
        assert!(highs.follow(&map, &maps[1..]));
        assert_eq!(highs.values, [3.5, 5.0]);
    }
}
