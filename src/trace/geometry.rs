//! How the model sees an image: its views, the grid of visual tokens of each, and where every one of them
//! lies on the source image.
//!
//! Rectangles are `[x0, y0, x1, y1]` in pixels of the upright source image. Knows numbers; neither pixels
//! nor tensors.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{
    spec::resolve::Spot,
    trace::tokens::{Cell, PromptToken, VisualRef},
};

/// An image as the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Width and height of the upright source image.
    pub source: (u32, u32),
    /// Rows of tiles; 0 when the image is a single view.
    pub rows: usize,
    /// Columns of tiles; 0 when the image is a single view.
    pub cols: usize,
    /// In the order in which the model takes them: the tiles row by row, then the whole.
    pub views: Vec<View>,
}

/// One input of the vision encoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Where it stands.
    pub place: Place,
    /// What it shows. Exceeds the image where the model sees padding.
    pub rect: [f32; 4],
    /// Rows and columns of its visual tokens.
    pub grid: Grid,
    /// Visual tokens before those of the grid that show no patch: a class token.
    #[serde(default)]
    pub lead: usize,
}

/// Rows and columns of visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// From the top.
    pub rows: usize,
    /// From the left.
    pub cols: usize,
}

impl Grid {
    /// Visual tokens of it.
    pub fn len(self) -> usize {
        self.rows * self.cols
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Its cells, row by row.
    pub fn cells(self) -> impl Iterator<Item = Cell> {
        (0..self.len()).map(move |i| Cell { row: i / self.cols, col: i % self.cols })
    }
}

/// Where a view stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A tile.
    Tile {
        /// Row of tiles, from 0.
        row: usize,
        /// Column of tiles, from 0.
        col: usize,
    },
    /// The whole image.
    Whole,
}

/// What one visual token shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// Its part of the source image; empty for a token that shows none.
    pub rect: [f32; 4],
    /// Whether it belongs to a view of the whole image beside tiles.
    pub whole: bool,
}

/// A part of what stands for an image in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text around visual tokens: a marker.
    Marker(String),
    /// A visual token: its view, and its cell of that view's grid, if it shows a patch.
    Token {
        /// View, in order.
        view: usize,
        /// Its cell; `None` for a class token.
        cell: Option<Cell>,
    },
}

impl Geometry {
    /// Visual tokens of all views.
    pub fn n_tokens(&self) -> usize {
        self.views.iter().map(|view| view.lead + view.grid.len()).sum()
    }

    /// Whether there are tiles and a view of the whole beside them.
    pub fn is_tiled(&self) -> bool {
        self.views.len() > 1
    }

    /// The part of the source image that the model saw: what a crop left, all of it without one.
    pub fn seen(&self) -> [f32; 4] {
        let (w, h) = (self.source.0 as f32, self.source.1 as f32);
        let all = self.views.iter().map(|view| view.rect);
        let union = all.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
        let [x0, y0, x1, y1] = union.unwrap_or_default();
        [x0.clamp(0.0, w), y0.clamp(0.0, h), x1.clamp(0.0, w), y1.clamp(0.0, h)]
    }

    /// One a visual token, in prompt order.
    pub fn patches(&self) -> Vec<Patch> {
        let mut patches = Vec::with_capacity(self.n_tokens());
        for view in &self.views {
            let whole = self.is_tiled() && view.place == Place::Whole;
            patches.extend(std::iter::repeat_n(Patch { rect: [0.0; 4], whole }, view.lead));
            patches.extend(view.grid.cells().map(|cell| Patch { rect: view.rect_of(cell), whole }));
        }
        patches
    }

    /// The pieces of one view in a prompt: first what shows no patch, then the grid row by row.
    pub fn tokens_of(&self, view: usize) -> impl Iterator<Item = Piece> + '_ {
        let View { lead, grid, .. } = self.views[view];
        let lead = std::iter::repeat_n(None, lead);
        lead.chain(grid.cells().map(Some)).map(move |cell| Piece::Token { view, cell })
    }

    /// The view and the cell of a visual token, by its number in prompt order; `None` of one that shows no patch.
    pub fn cell_of(&self, number: usize) -> Option<(usize, Cell)> {
        let mut first = 0;
        for (at, view) in self.views.iter().enumerate() {
            let grid = first + view.lead;
            first = grid + view.grid.len();
            if number < first {
                let cell = number.checked_sub(grid)?;
                return Some((at, Cell { row: cell / view.grid.cols, col: cell % view.grid.cols }));
            }
        }
        None
    }

    /// Where a cell of a view stands: on the grid of all tiles together, or on that of the whole view.
    fn spot(&self, position: usize, image: usize, view: usize, cell: Cell) -> Option<Spot> {
        let (down, right, whole) = match self.views.get(view)?.place {
            Place::Whole => (0, 0, true),
            Place::Tile { row, col } => (row, col, false),
        };
        // Tiles of one image have one grid each, all alike.
        let Grid { rows, cols } = self.views[view].grid;
        Some(Spot { position, image, whole, row: down * rows + cell.row, col: right * cols + cell.col })
    }
}

impl View {
    /// The part of the source image behind one cell of its grid.
    pub fn rect_of(&self, cell: Cell) -> [f32; 4] {
        let [x0, y0, x1, y1] = self.rect.map(f64::from);
        let x = |col: usize| (x0 + (x1 - x0) * col as f64 / self.grid.cols as f64) as f32;
        let y = |row: usize| (y0 + (y1 - y0) * row as f64 / self.grid.rows as f64) as f32;
        [x(cell.col), y(cell.row), x(cell.col + 1), y(cell.row + 1)]
    }
}

/// The columns, or the rows, of a picture that lie under a patch, each with the part of it that does: a patch may
/// be narrower than a pixel, and reach beyond the picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    from: f64,
    to: f64,
}

impl Stretch {
    /// From one edge of a patch to the other along a side of `side` pixels; what lies beyond is cut off.
    pub fn new(from: f32, to: f32, side: u32) -> Stretch {
        let length = f64::from(side);
        let edge = |at: f32| {
            let (at, nearest) = (f64::from(at), f64::from(at).round());
            let at = if (at - nearest).abs() <= length * ROUNDING { nearest } else { at };
            at.clamp(0.0, length)
        };
        Stretch { from: edge(from), to: edge(to) }
    }

    /// The pixels of which something lies under it; none where it is empty.
    pub fn pixels(self) -> Range<u32> {
        if self.from < self.to { self.from.floor() as u32..self.to.ceil() as u32 } else { 0..0 }
    }

    /// How much of a pixel lies under it, from 0 to 1.
    pub fn of(self, pixel: u32) -> f64 {
        let start = f64::from(pixel);
        (self.to.min(start + 1.0) - self.from.max(start)).max(0.0)
    }
}

/// Edges of patches are float32: a patch whose edge is that of a pixel, but for this share of the picture's side,
/// does not touch the pixel beyond.
const ROUNDING: f64 = 2.5e-7;

/// Where every visual token of a prompt that shows a patch lies.
pub fn spots(prompt: &[PromptToken], images: &[Geometry]) -> Vec<Spot> {
    let spot = |token: &PromptToken| {
        let VisualRef { image, view, cell } = token.visual?;
        images.get(image)?.spot(token.position, image, view, cell?)
    };
    prompt.iter().filter_map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::span::Span;

    /// Two by one tiles of 2 x 3 tokens, then the whole.
    fn tiled() -> Geometry {
        let grid = Grid { rows: 2, cols: 3 };
        let tile = |row: usize| View {
            place: Place::Tile { row, col: 0 },
            rect: [0.0, 20.0 * row as f32, 60.0, 20.0 * (row + 1) as f32],
            grid,
            lead: 0,
        };
        let whole = View { place: Place::Whole, rect: [0.0, 0.0, 60.0, 40.0], grid, lead: 1 };
        Geometry { source: (60, 40), rows: 2, cols: 1, views: vec![tile(0), tile(1), whole] }
    }

    fn prompt(geometry: &Geometry) -> Vec<PromptToken> {
        let views = (0..geometry.views.len()).flat_map(|view| geometry.tokens_of(view));
        let token = |(position, piece): (usize, Piece)| {
            let Piece::Token { view, cell } = piece else { panic!("a marker") };
            let visual = Some(VisualRef { image: 0, view, cell });
            PromptToken { position, id: 9, text: String::new(), span: Span::Visual, visual, partial: false }
        };
        views.enumerate().map(token).collect()
    }

    #[test]
    fn tiles_form_one_grid_and_the_whole_view_another() {
        let geometry = tiled();
        let spots = spots(&prompt(&geometry), &[geometry]);
        let places: Vec<(bool, usize, usize)> = spots.iter().map(|s| (s.whole, s.row, s.col)).collect();
        assert_eq!(places[..4], [(false, 0, 0), (false, 0, 1), (false, 0, 2), (false, 1, 0)]);
        assert_eq!(places[6..8], [(false, 2, 0), (false, 2, 1)]);
        assert_eq!(
            places[12..],
            [(true, 0, 0), (true, 0, 1), (true, 0, 2), (true, 1, 0), (true, 1, 1), (true, 1, 2)]
        );
        assert_eq!(spots[12].position, 13, "a class token stands nowhere");
    }

    #[test]
    fn patches_smaller_than_a_pixel_share_it_out() {
        // A row of 3 pixels under 16 patches, as a small picture in four tiles of four.
        let patch = |i: usize| Stretch::new(3.0 * i as f32 / 16.0, 3.0 * (i + 1) as f32 / 16.0, 3);
        let mut of = [0.0; 3];
        for i in 0..16 {
            assert!(!patch(i).pixels().is_empty(), "patch {i}");
            patch(i).pixels().for_each(|x| of[x as usize] += patch(i).of(x));
        }
        assert_eq!(of, [1.0; 3]);
        assert_eq!(patch(5).pixels(), 0..2, "it lies on the border of two");
        assert_eq!((patch(5).of(0), patch(5).of(1), patch(5).of(2)), (0.0625, 0.125, 0.0));
        // Padding, an empty rectangle, and an edge that float32 puts beside a pixel's.
        assert_eq!(Stretch::new(-4.0, 0.5, 3).pixels(), 0..1);
        assert!(Stretch::new(-4.0, -1.0, 3).pixels().is_empty());
        assert!(Stretch::new(3.0, 9.0, 3).pixels().is_empty());
        assert!(Stretch::new(0.5, 0.5, 3).pixels().is_empty());
        assert!(Stretch::new(f32::NAN, 2.0, 3).pixels().is_empty());
        assert_eq!(Stretch::new(99.999_99, 200.000_02, 300).pixels(), 100..200);
    }

    #[test]
    fn what_a_crop_left_is_seen_and_padding_is_not() {
        let crop = |rect| {
            let view = View { place: Place::Whole, rect, grid: Grid { rows: 1, cols: 1 }, lead: 0 };
            Geometry { source: (300, 75), rows: 0, cols: 0, views: vec![view] }.seen()
        };
        assert_eq!(crop([112.5, 0.0, 187.5, 75.0]), [112.5, 0.0, 187.5, 75.0]);
        assert_eq!(crop([0.0, -112.5, 300.0, 187.5]), [0.0, 0.0, 300.0, 75.0], "padding above and below");
        assert_eq!(tiled().seen(), [0.0, 0.0, 60.0, 40.0]);
    }

    #[test]
    fn every_token_knows_its_part_of_the_picture() {
        let patches = tiled().patches();
        assert_eq!(patches.len(), 19);
        assert_eq!(patches[1], Patch { rect: [20.0, 0.0, 40.0, 10.0], whole: false });
        assert_eq!(patches[11], Patch { rect: [40.0, 30.0, 60.0, 40.0], whole: false });
        assert_eq!(patches[12], Patch { rect: [0.0; 4], whole: true });
        assert_eq!(patches[18], Patch { rect: [40.0, 20.0, 60.0, 40.0], whole: true });
    }
}
