//! A map over an image as plain data, to be given away as a picture: what lies under it, a value a patch, and which
//! colours values have.
//!
//! Rectangles are `[x0, y0, x1, y1]` in pixels of the upright source image. Knows numbers and pixels; neither
//! windows nor files.

use std::sync::Arc;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::trace::{
    geometry::{Geometry, Place},
    palette::Colormap,
};

/// A map over an image.
#[derive(Clone, Debug)]
pub struct MapSheet {
    /// The image, upright; it may be smaller than its source.
    pub picture: Arc<RgbImage>,
    /// Width and height of the source image.
    pub source: (u32, u32),
    /// What every shown patch covers, and its value; NaN where it has none.
    pub patches: Vec<([f32; 4], f32)>,
    /// The grids that these patches form.
    pub grids: Vec<SheetGrid>,
    /// Values at the two ends of the colours.
    pub range: (f32, f32),
    /// Colours.
    pub colormap: Colormap,
    /// Bends the colours: below 1 small values are told apart, above 1 large ones; 1 leaves them straight.
    pub gamma: f32,
    /// Whether values run smoothly from the middle of one patch to the next.
    pub smooth: bool,
    /// Of the map, the same for every value, from 0 to 1.
    pub opacity: f32,
    /// What lies under it.
    pub underlay: Underlay,
    /// Rectangles that are framed: a mask, a peak, what was locked. One without width or height is a line.
    pub outlines: Vec<[f32; 4]>,
    /// What it shows, line by line.
    pub caption: Vec<String>,
    /// What it was drawn from: names and values, kept with the file.
    pub settings: Vec<(String, String)>,
}

/// One view's patches among those of a [`MapSheet`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SheetGrid {
    /// What the view shows.
    pub rect: [f32; 4],
    /// Rows of patches.
    pub rows: usize,
    /// Patches a row.
    pub cols: usize,
    /// The first of them; the others follow row by row.
    pub first: usize,
}

/// What lies under a map. Over none of them does opacity change with the value: a colour is a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// The image without its colours: every colour that is seen is the map's.
    #[default]
    Grey,
    /// The image as it is: its colours mix with the map's.
    Colour,
    /// Nothing: the map alone, its colours pure.
    Nothing,
}

impl Underlay {
    /// All of them.
    pub const ALL: [Underlay; 3] = [Underlay::Grey, Underlay::Colour, Underlay::Nothing];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Underlay::Grey => "grey image",
            Underlay::Colour => "colour image",
            Underlay::Nothing => "map alone",
        }
    }
}

impl MapSheet {
    /// A map of one value a visual token of the image, in prompt order, with the colours of a fresh window. Of a
    /// tiled image it shows the tiles or the view of the whole; what is missing of `values` is no value.
    pub fn new(
        picture: Arc<RgbImage>,
        geometry: &Geometry,
        values: &[f32],
        tiles: bool,
        range: (f32, f32),
    ) -> Self {
        let has_whole = geometry.views.iter().any(|view| view.place == Place::Whole);
        let tiles = tiles || !has_whole;
        let (mut patches, mut grids, mut at) = (Vec::new(), Vec::new(), 0);
        for view in &geometry.views {
            let own = values.get(at + view.lead..).unwrap_or_default();
            at += view.lead + view.grid.len();
            if geometry.is_tiled() && (view.place == Place::Whole) == tiles {
                continue;
            }
            let (rows, cols) = (view.grid.rows, view.grid.cols);
            grids.push(SheetGrid { rect: view.rect, rows, cols, first: patches.len() });
            let value = |n: usize| own.get(n).copied().unwrap_or(f32::NAN);
            patches.extend(view.grid.cells().enumerate().map(|(n, cell)| (view.rect_of(cell), value(n))));
        }
        MapSheet {
            picture,
            source: geometry.source,
            patches,
            grids,
            range,
            colormap: Colormap::default(),
            gamma: 1.0,
            smooth: false,
            opacity: 0.65,
            underlay: Underlay::default(),
            outlines: Vec::new(),
            caption: Vec::new(),
            settings: Vec::new(),
        }
    }

    /// Where a value lies along the colours, from 0 to 1, as on screen ([`Colormap::with_gamma`]).
    pub fn share(&self, value: f32) -> f32 {
        let (low, high) = self.range;
        if high <= low {
            return 0.0;
        }
        self.colormap.with_gamma((value - low) / (high - low), self.gamma)
    }

    /// The value whose colour lies at a share of the colours: the other way round from [`MapSheet::share`].
    pub fn value_at(&self, share: f32) -> f32 {
        let (low, high) = self.range;
        low + (high - low).max(0.0) * self.colormap.with_gamma(share, 1.0 / self.gamma)
    }

    /// The colour of a value.
    pub fn colour(&self, value: f32) -> [u8; 3] {
        self.colormap.rgb8(self.share(value))
    }

    /// Whether some value lies below the range, and whether one lies above it.
    pub fn clipped(&self) -> (bool, bool) {
        let (low, high) = self.range;
        let mut values = self.patches.iter().map(|(_, value)| *value);
        (values.clone().any(|value| value < low), values.any(|value| value > high))
    }

    /// The value at a point where it runs smoothly: that of the grid around it, straight between the middles of its
    /// patches and level beyond the outer ones. Patches without a value leave the word to their neighbours, but
    /// within their own bounds there is none.
    pub fn smoothed(&self, x: f32, y: f32) -> Option<f32> {
        let within = |[x0, y0, x1, y1]: [f32; 4]| x0 <= x && x < x1 && y0 <= y && y < y1;
        let grid = self.grids.iter().find(|grid| within(grid.rect))?;
        let [x0, y0, x1, y1] = grid.rect;
        let (col, across) = Step::along((x - x0) / (x1 - x0), grid.cols)?;
        let (row, down) = Step::along((y - y0) / (y1 - y0), grid.rows)?;
        let at = |row: usize, col: usize| {
            let (_, value) = self.patches.get(grid.first + row * grid.cols + col)?;
            (!value.is_nan()).then_some(*value)
        };
        at(row, col)?;
        let (mut sum, mut weights) = (0.0, 0.0);
        for (row, down) in [(down.from, 1.0 - down.share), (down.to, down.share)] {
            for (col, across) in [(across.from, 1.0 - across.share), (across.to, across.share)] {
                if let Some(value) = at(row, col) {
                    sum += value * down * across;
                    weights += down * across;
                }
            }
        }
        (weights > 0.0).then(|| sum / weights)
    }

    /// Whether all its numbers are numbers, missing values aside.
    pub fn is_finite(&self) -> bool {
        let values = self.patches.iter().all(|(rect, value)| all(rect) && !value.is_infinite());
        let grids = self.grids.iter().all(|grid| all(&grid.rect));
        values && grids && self.outlines.iter().all(|rect| all(rect)) && self.has_sound_colours()
    }

    fn has_sound_colours(&self) -> bool {
        let gamma = self.gamma.is_finite() && self.gamma > 0.0;
        all(&[self.range.0, self.range.1, self.opacity]) && gamma
    }
}

fn all(numbers: &[f32]) -> bool {
    numbers.iter().all(|number| number.is_finite())
}

/// Two neighbouring cells along a side of a grid, and how far it is from the middle of one to that of the other.
struct Step {
    from: usize,
    to: usize,
    share: f32,
}

impl Step {
    /// At a share of a side of `n` cells: the cell there, and the step.
    fn along(share: f32, n: usize) -> Option<(usize, Step)> {
        let last = n.checked_sub(1)?;
        let at = share * n as f32;
        let middles = (at - 0.5).clamp(0.0, last as f32);
        // Casts saturate, and a NaN is 0.
        let from = (middles as usize).min(last);
        let step = Step { from, to: (from + 1).min(last), share: middles - from as f32 };
        Some(((at as usize).min(last), step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Grid, View};

    /// A view of 2 rows by 3 columns over 60 x 40 pixels, after a class token.
    fn geometry() -> Geometry {
        let grid = Grid { rows: 2, cols: 3 };
        let view = View { place: Place::Whole, rect: [0.0, 0.0, 60.0, 40.0], grid, lead: 1 };
        Geometry { source: (60, 40), rows: 0, cols: 0, views: vec![view] }
    }

    fn sheet(values: &[f32], range: (f32, f32)) -> MapSheet {
        MapSheet::new(Arc::new(RgbImage::new(60, 40)), &geometry(), values, true, range)
    }

    #[test]
    fn every_patch_has_its_value_and_the_tiles_or_the_whole_are_shown() {
        let map = sheet(&[9.0, 1.0, 2.0, 3.0, 4.0, 5.0], (0.0, 5.0));
        assert_eq!(map.patches[1], ([20.0, 0.0, 40.0, 20.0], 2.0), "the class token shows no patch");
        assert!(map.patches[5].1.is_nan(), "what is not there is no value");
        assert_eq!(map.grids, [SheetGrid { rect: [0.0, 0.0, 60.0, 40.0], rows: 2, cols: 3, first: 0 }]);
        let grid = Grid { rows: 1, cols: 1 };
        let tile = |col: usize| View {
            place: Place::Tile { row: 0, col },
            rect: [30.0 * col as f32, 0.0, 30.0 * (col + 1) as f32, 40.0],
            grid,
            lead: 0,
        };
        let whole = View { place: Place::Whole, rect: [0.0, 0.0, 60.0, 40.0], grid, lead: 0 };
        let tiled = Geometry { source: (60, 40), rows: 1, cols: 2, views: vec![tile(0), tile(1), whole] };
        let of = |tiles: bool| {
            let map =
                MapSheet::new(Arc::new(RgbImage::new(6, 4)), &tiled, &[1.0, 2.0, 3.0], tiles, (0.0, 1.0));
            map.patches.iter().map(|(_, value)| *value).collect::<Vec<f32>>()
        };
        assert_eq!((of(true), of(false)), (vec![1.0, 2.0], vec![3.0]));
    }

    #[test]
    fn a_value_has_one_place_among_the_colours_and_the_way_back_finds_it() {
        for (range, gamma) in [((0.0, 0.5), 1.0), ((0.0, 0.5), 0.4), ((-2.0, 1.0), 0.5), ((0.1, 0.2), 2.0)] {
            let map = MapSheet { gamma, ..sheet(&[], range) };
            let (low, high) = range;
            assert_eq!((map.share(low - 1.0), map.share(high + 1.0)), (0.0, 1.0));
            for i in 0..=10 {
                let value = low + (high - low) * i as f32 / 10.0;
                let back = map.value_at(map.share(value));
                assert!((back - value).abs() < 1e-5 * (high - low), "{range:?} {gamma}: {value} {back}");
            }
        }
        let signed = MapSheet { gamma: 0.3, colormap: Colormap::Diverging, ..sheet(&[], (-2.0, 2.0)) };
        assert_eq!(signed.share(0.0), 0.5);
        let bright = MapSheet { gamma: 0.5, ..sheet(&[], (0.0, 1.0)) };
        assert_eq!(bright.share(0.25), 0.5);
        assert_eq!(sheet(&[], (0.0, 0.0)).share(0.5), 0.0, "a map of noughts has one colour");
    }

    #[test]
    fn between_the_middles_of_patches_values_run_straight() {
        let map = sheet(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, f32::NAN], (0.0, 5.0));
        assert_eq!(map.smoothed(10.0, 10.0), Some(1.0));
        assert_eq!(map.smoothed(20.0, 10.0), Some(1.5));
        assert_eq!(map.smoothed(30.0, 20.0), Some(3.5));
        assert_eq!(map.smoothed(0.0, 0.0), Some(1.0), "level beyond the outer middles");
        assert_eq!(map.smoothed(55.0, 35.0), None, "a patch without a value");
        assert_eq!(map.smoothed(50.0, 18.0), Some(3.0), "its neighbours do without it");
        assert_eq!(map.smoothed(60.0, 10.0), None, "beyond the grid");
    }

    #[test]
    fn clipping_and_broken_numbers_are_told() {
        let map = sheet(&[0.0, -1.0, 2.0, 3.0, f32::NAN, 0.0, 0.0], (0.0, 3.0));
        assert_eq!(map.clipped(), (true, false));
        assert!(map.is_finite(), "no value is no broken one");
        assert!(!MapSheet { range: (0.0, f32::NAN), ..map.clone() }.is_finite());
        assert!(!MapSheet { gamma: 0.0, ..map.clone() }.is_finite());
        assert!(!sheet(&[0.0, f32::INFINITY], (0.0, 1.0)).is_finite());
    }
}
