//! Where visual tokens lie on a picture: rows and columns of cells, each a token by its number among those of the
//! image.
//!
//! A picture shows the source image, with its tiles merged or with the view of the whole, or one view by itself as it
//! enters the encoder. Places are shares of the picture, from 0 to 1; of a lattice some may lie beyond, where the model
//! sees padding. Knows geometry; nothing of pixels, runs or drawing.

use std::collections::BTreeSet;

use crate::{
    trace::geometry::{Geometry, Place, View},
    ui::store::settings::Views,
};

/// What of an image a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// The source image, and the tiles where they lie on it; the only view of an image without tiles.
    Tiles,
    /// The source image, and the view of the whole.
    Whole,
    /// One view by itself.
    View(usize),
}

impl Sight {
    /// What a picture of the source image shows.
    pub fn of(views: Views) -> Self {
        if views == Views::Whole { Sight::Whole } else { Sight::Tiles }
    }

    /// Whether the tokens of a view are seen.
    pub fn shows(self, geometry: &Geometry, view: usize) -> bool {
        let is_whole = |view: &View| view.place == Place::Whole;
        let Some(it) = geometry.views.get(view) else { return false };
        match self {
            Sight::View(only) => only == view,
            _ if !geometry.is_tiled() || !geometry.views.iter().any(is_whole) => true,
            Sight::Tiles => !is_whole(it),
            Sight::Whole => is_whole(it),
        }
    }

    /// The part of the source image, in its pixels, that the picture shows.
    pub fn frame(self, geometry: &Geometry) -> [f32; 4] {
        let (w, h) = geometry.source;
        let view = match self {
            Sight::View(view) => geometry.views.get(view),
            Sight::Tiles | Sight::Whole => None,
        };
        view.map_or([0.0, 0.0, w as f32, h as f32], |view| view.rect)
    }
}

/// A rectangle of the source image as shares of a part of it.
pub fn shares([x0, y0, x1, y1]: [f32; 4], frame: [f32; 4]) -> [f32; 4] {
    let (w, h) = ((frame[2] - frame[0]).max(f32::MIN_POSITIVE), (frame[3] - frame[1]).max(f32::MIN_POSITIVE));
    [(x0 - frame[0]) / w, (y0 - frame[1]) / h, (x1 - frame[0]) / w, (y1 - frame[1]) / h]
}

/// Rows and columns of cells.
#[derive(Clone, Debug, PartialEq)]
struct Lattice {
    rect: [f32; 4],
    rows: usize,
    cols: usize,
    /// Numbers of the cells' tokens, row by row.
    numbers: Vec<usize>,
}

impl Lattice {
    fn of(view: &View, first: usize, frame: [f32; 4]) -> Self {
        let (rows, cols) = (view.grid.rows, view.grid.cols);
        let numbers = (first..first + view.grid.len()).collect();
        Lattice { rect: shares(view.rect, frame), rows, cols, numbers }
    }

    /// All tiles of an image as one lattice; `None` unless they are alike and leave no gap.
    fn merged(geometry: &Geometry, parts: &[(View, usize)], frame: [f32; 4]) -> Option<Self> {
        let grid = parts.first().filter(|_| parts.len() == geometry.rows * geometry.cols)?.0.grid;
        let union =
            |a: [f32; 4], b: [f32; 4]| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
        let [x0, y0, x1, y1] = parts.iter().map(|(view, _)| view.rect).reduce(union)?;
        let (w, h) = ((x1 - x0) / geometry.cols as f32, (y1 - y0) / geometry.rows as f32);
        let (rows, cols) = (geometry.rows * grid.rows, geometry.cols * grid.cols);
        let mut numbers = vec![None; rows * cols];
        for (view, first) in parts {
            let Place::Tile { row, col } = view.place else { return None };
            let (x, y) = (x0 + w * col as f32, y0 + h * row as f32);
            let there = [x, y, x + w, y + h];
            let off = view.rect.iter().zip(there).any(|(a, b)| (a - b).abs() > 1e-3 * w.min(h));
            if off || view.grid != grid || row >= geometry.rows || col >= geometry.cols {
                return None;
            }
            for (i, cell) in grid.cells().enumerate() {
                let at = (row * grid.rows + cell.row) * cols + col * grid.cols + cell.col;
                *numbers.get_mut(at)? = Some(first + i);
            }
        }
        let numbers = numbers.into_iter().collect::<Option<Vec<usize>>>()?;
        Some(Lattice { rect: shares([x0, y0, x1, y1], frame), rows, cols, numbers })
    }

    /// A place in rows and columns: whole numbers are the borders of cells.
    fn inside(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [x0, y0, x1, y1] = self.rect;
        [(x - x0) / (x1 - x0) * self.cols as f32, (y - y0) / (y1 - y0) * self.rows as f32]
    }

    /// The rectangle from one border of cells to another.
    fn rect_of(&self, [left, top, right, bottom]: [usize; 4]) -> [f32; 4] {
        let [x0, y0, x1, y1] = self.rect.map(f64::from);
        let x = |col: usize| (x0 + (x1 - x0) * col as f64 / self.cols as f64) as f32;
        let y = |row: usize| (y0 + (y1 - y0) * row as f64 / self.rows as f64) as f32;
        [x(left), y(top), x(right), y(bottom)]
    }

    fn cell(&self, row: usize, col: usize) -> [f32; 4] {
        self.rect_of([col, row, col + 1, row + 1])
    }

    /// Cells of which something lies on the picture, and that a test on row and column takes.
    fn chosen(&self, takes: impl Fn(usize, usize) -> bool) -> impl Iterator<Item = usize> {
        let chosen = self.numbers.iter().enumerate().filter(move |(i, _)| {
            let (row, col) = (i / self.cols, i % self.cols);
            let [x0, y0, x1, y1] = self.cell(row, col);
            x0 < 1.0 && y0 < 1.0 && x1 > 0.0 && y1 > 0.0 && takes(row, col)
        });
        chosen.map(|(_, number)| *number)
    }

    /// Which cells a set has.
    fn mask(&self, set: &BTreeSet<usize>) -> Vec<bool> {
        self.numbers.iter().map(|number| set.contains(number)).collect()
    }
}

/// All visual tokens that a picture shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The part of the source image that the picture shows, in its pixels.
    pub frame: [f32; 4],
    lattices: Vec<Lattice>,
    /// Number, lattice and cell of every token, by number.
    cells: Vec<(usize, usize, usize)>,
}

impl Shown {
    /// What a picture of an image shows.
    pub fn of(geometry: &Geometry, sight: Sight) -> Self {
        let frame = sight.frame(geometry);
        let mut first = 0;
        let mut parts: Vec<(View, usize)> = Vec::new();
        for (at, view) in geometry.views.iter().enumerate() {
            if sight.shows(geometry, at) && !view.grid.is_empty() {
                parts.push((*view, first + view.lead));
            }
            first += view.lead + view.grid.len();
        }
        let lattices: Vec<Lattice> = match Lattice::merged(geometry, &parts, frame) {
            Some(all) => vec![all],
            None => parts.iter().map(|(view, first)| Lattice::of(view, *first, frame)).collect(),
        };
        let of = |(at, lattice): (usize, &Lattice)| -> Vec<(usize, usize, usize)> {
            lattice.numbers.iter().enumerate().map(|(cell, number)| (*number, at, cell)).collect()
        };
        let mut cells: Vec<(usize, usize, usize)> = lattices.iter().enumerate().flat_map(of).collect();
        cells.sort_unstable();
        Shown { frame, lattices, cells }
    }

    /// Tokens that are shown, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.cells.iter().map(|(number, ..)| *number)
    }

    /// Which of them a token is.
    pub fn index(&self, number: usize) -> Option<usize> {
        self.cells.binary_search_by_key(&number, |(number, ..)| *number).ok()
    }

    fn find(&self, number: usize) -> Option<(&Lattice, usize, usize)> {
        let (_, lattice, cell) = *self.cells.get(self.index(number)?)?;
        let lattice = self.lattices.get(lattice)?;
        Some((lattice, cell / lattice.cols, cell % lattice.cols))
    }

    /// The token at a place.
    pub fn at(&self, place: [f32; 2]) -> Option<usize> {
        self.lattices.iter().rev().find_map(|lattice| {
            let [x, y] = lattice.inside(place);
            // Written so that what is no number is nowhere.
            let inside = x >= 0.0 && y >= 0.0 && x < lattice.cols as f32 && y < lattice.rows as f32;
            inside.then(|| lattice.numbers.get(y as usize * lattice.cols + x as usize).copied()).flatten()
        })
    }

    /// Where a token lies.
    pub fn rect(&self, number: usize) -> Option<[f32; 4]> {
        self.find(number).map(|(lattice, row, col)| lattice.cell(row, col))
    }

    /// The token so many rows below and columns to the right of another, of the same lattice.
    pub fn beside(&self, number: usize, down: isize, right: isize) -> Option<usize> {
        let (lattice, row, col) = self.find(number)?;
        let (row, col) = (row.checked_add_signed(down)?, col.checked_add_signed(right)?);
        (col < lattice.cols).then(|| lattice.numbers.get(row * lattice.cols + col).copied()).flatten()
    }

    /// Tokens of which something lies in the rectangle between two places.
    pub fn boxed(&self, a: [f32; 2], b: [f32; 2]) -> Vec<usize> {
        let chosen = self.lattices.iter().flat_map(|lattice| {
            let ([ax, ay], [bx, by]) = (lattice.inside(a), lattice.inside(b));
            lattice.chosen(move |row, col| {
                let (x, y) = (col as f32, row as f32);
                ax.max(bx) > x && ax.min(bx) < x + 1.0 && ay.max(by) > y && ay.min(by) < y + 1.0
            })
        });
        chosen.collect()
    }

    /// Tokens that a brush, so many patches wide, touches on its way from one place to another: those that the way
    /// crosses, and those whose middle is within the brush.
    pub fn stroke(&self, from: [f32; 2], to: [f32; 2], width: f32) -> Vec<usize> {
        let chosen = self.lattices.iter().flat_map(|lattice| {
            let (from, to) = (lattice.inside(from), lattice.inside(to));
            lattice.chosen(move |row, col| {
                let cell = [col as f32, row as f32];
                crosses(from, to, cell) || distance(from, to, [cell[0] + 0.5, cell[1] + 0.5]) < width / 2.0
            })
        });
        chosen.collect()
    }

    /// A set and the tokens within so many rings around it.
    pub fn grown(&self, set: &BTreeSet<usize>, rings: usize) -> BTreeSet<usize> {
        let mut grown = set.clone();
        for (lattice, row, col) in set.iter().filter_map(|number| self.find(*number)) {
            for row in row.saturating_sub(rings)..(row + rings + 1).min(lattice.rows) {
                let (left, right) = (col.saturating_sub(rings), (col + rings + 1).min(lattice.cols));
                let line = lattice.numbers.get(row * lattice.cols + left..row * lattice.cols + right);
                grown.extend(line.unwrap_or_default());
            }
        }
        grown
    }

    /// The border of a set as lines, those that continue one another as one.
    pub fn border(&self, set: &BTreeSet<usize>) -> Vec<[f32; 4]> {
        let mut lines = Vec::new();
        for lattice in &self.lattices {
            let mask = lattice.mask(set);
            let (rows, cols) = (lattice.rows, lattice.cols);
            let has = |row: usize, col: usize| row < rows && col < cols && mask[row * cols + col];
            // Beyond the first row and column `wrapping_sub` leads to one that is not there.
            for row in 0..=rows {
                let edge = |col: usize| has(row, col) != has(row.wrapping_sub(1), col);
                let runs = runs(cols, edge);
                lines.extend(runs.map(|(from, to)| lattice.rect_of([from, row, to, row])));
            }
            for col in 0..=cols {
                let edge = |row: usize| has(row, col) != has(row, col.wrapping_sub(1));
                let runs = runs(rows, edge);
                lines.extend(runs.map(|(from, to)| lattice.rect_of([col, from, col, to])));
            }
        }
        lines
    }

    /// A set as few rectangles that do not overlap.
    pub fn areas(&self, set: &BTreeSet<usize>) -> Vec<[f32; 4]> {
        let mut areas = Vec::new();
        for lattice in &self.lattices {
            let mask = lattice.mask(set);
            // Runs of the row above that go on: first and last column, and the row that they began in.
            let mut open: Vec<(usize, usize, usize)> = Vec::new();
            for row in 0..=lattice.rows {
                let has = |col: usize| row < lattice.rows && mask[row * lattice.cols + col];
                let here: Vec<(usize, usize)> = runs(lattice.cols, has).collect();
                let (on, closed): (Vec<_>, Vec<_>) =
                    open.into_iter().partition(|(from, to, _)| here.contains(&(*from, *to)));
                areas.extend(closed.iter().map(|(from, to, top)| lattice.rect_of([*from, *top, *to, row])));
                let began = |run: (usize, usize)| on.iter().find(|(from, to, _)| (*from, *to) == run);
                open = here.iter().map(|run| (run.0, run.1, began(*run).map_or(row, |on| on.2))).collect();
            }
        }
        areas
    }

    /// All borders of cells as lines across their lattices.
    pub fn grid(&self) -> Vec<[f32; 4]> {
        let lines = self.lattices.iter().flat_map(|lattice| {
            let (rows, cols) = (lattice.rows, lattice.cols);
            let across = (0..=rows).map(move |row| lattice.rect_of([0, row, cols, row]));
            across.chain((0..=cols).map(move |col| lattice.rect_of([col, 0, col, rows])))
        });
        lines.collect()
    }
}

/// Runs of places, out of `n`, that a test takes: the first of each, and the first after it.
fn runs(n: usize, takes: impl Fn(usize) -> bool) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = (at..n).find(|i| takes(*i))?;
        at = (from..n).find(|i| !takes(*i)).unwrap_or(n);
        Some((from, at))
    })
}

/// Whether the way from `a` to `b` leads through the cell of side 1 whose upper left corner is given.
fn crosses(a: [f32; 2], b: [f32; 2], corner: [f32; 2]) -> bool {
    let (mut enters, mut leaves) = (0.0f32, 1.0f32);
    for ((corner, a), b) in corner.into_iter().zip(a).zip(b) {
        let (near, far, step) = (corner - a, corner + 1.0 - a, b - a);
        if step.abs() < 1e-6 {
            // A border belongs to the cell below it, or to its right.
            if near > 0.0 || far <= 0.0 {
                return false;
            }
        } else {
            enters = enters.max((near / step).min(far / step));
            leaves = leaves.min((near / step).max(far / step));
        }
    }
    enters < leaves
}

/// How far a point is from the way from `a` to `b`.
fn distance(a: [f32; 2], b: [f32; 2], point: [f32; 2]) -> f32 {
    let (way, off) = ([b[0] - a[0], b[1] - a[1]], [point[0] - a[0], point[1] - a[1]]);
    let length = way[0] * way[0] + way[1] * way[1];
    let share = if length > 0.0 { (way[0] * off[0] + way[1] * off[1]) / length } else { 0.0 };
    let share = share.clamp(0.0, 1.0);
    (off[0] - share * way[0]).hypot(off[1] - share * way[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::Grid;

    /// Two by two tiles of 2 x 2 tokens over 80 x 80 pixels, then the whole after a class token.
    fn tiled() -> Geometry {
        let grid = Grid { rows: 2, cols: 2 };
        let tile = |row: usize, col: usize| {
            let (x, y) = (40.0 * col as f32, 40.0 * row as f32);
            View { place: Place::Tile { row, col }, rect: [x, y, x + 40.0, y + 40.0], grid, lead: 0 }
        };
        let whole = View { place: Place::Whole, rect: [0.0, 0.0, 80.0, 80.0], grid, lead: 1 };
        let views = vec![tile(0, 0), tile(0, 1), tile(1, 0), tile(1, 1), whole];
        Geometry { source: (80, 80), rows: 2, cols: 2, views }
    }

    /// One view of 4 x 4 tokens, padded above and below: the first and the last row lie beyond the image.
    fn padded() -> Geometry {
        let grid = Grid { rows: 4, cols: 4 };
        let view = View { place: Place::Whole, rect: [0.0, -20.0, 80.0, 60.0], grid, lead: 0 };
        Geometry { source: (80, 40), rows: 0, cols: 0, views: vec![view] }
    }

    fn set(numbers: &[usize]) -> BTreeSet<usize> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn tiles_are_one_lattice_and_the_whole_another() {
        let geometry = tiled();
        let tiles = Shown::of(&geometry, Sight::Tiles);
        assert_eq!(tiles.lattices.len(), 1);
        assert_eq!(tiles.lattices[0].numbers, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        assert_eq!(tiles.at([0.6, 0.1]), Some(4));
        assert_eq!(tiles.rect(4), Some([0.5, 0.0, 0.75, 0.25]));
        assert_eq!(
            (tiles.beside(1, 0, 1), tiles.beside(2, 1, 0), tiles.beside(0, -1, 0)),
            (Some(4), Some(8), None)
        );
        let whole = Shown::of(&geometry, Sight::Whole);
        assert_eq!((whole.at([0.9, 0.9]), whole.numbers().count(), whole.index(17)), (Some(20), 4, Some(0)));
        assert_eq!(whole.at([0.9, 1.0]), None);
        let alone = Shown::of(&geometry, Sight::View(3));
        assert_eq!((alone.at([0.1, 0.1]), alone.frame), (Some(12), [40.0, 40.0, 80.0, 80.0]));
    }

    #[test]
    fn a_stroke_takes_every_patch_on_its_way() {
        let shown = Shown::of(&padded(), Sight::View(0));
        assert_eq!(shown.stroke([0.1, 0.1], [0.9, 0.9], 1.0), [0, 5, 10, 15]);
        assert_eq!(shown.stroke([0.05, 0.3], [0.95, 0.3], 1.0), [4, 5, 6, 7]);
        assert_eq!(shown.stroke([0.3, 0.3], [0.3, 0.3], 1.0), [5], "a press is a stroke");
        assert_eq!(shown.stroke([0.375, 0.375], [0.375, 0.375], 2.2), [1, 4, 5, 6, 9]);
        assert_eq!(shown.stroke([0.375, 0.375], [0.375, 0.375], 3.0).len(), 9);
        assert_eq!(shown.boxed([0.6, 0.3], [0.3, 0.2]), [1, 2, 5, 6]);
    }

    #[test]
    fn what_lies_beyond_the_image_is_not_painted() {
        let shown = Shown::of(&padded(), Sight::Tiles);
        assert_eq!(shown.boxed([-9.0, -9.0], [9.0, 9.0]), [4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(shown.stroke([0.1, -0.9], [0.1, 1.9], 1.0), [4, 8]);
    }

    #[test]
    fn borders_run_around_sets_and_not_around_patches() {
        let shown = Shown::of(&tiled(), Sight::Tiles);
        // Four patches in a square that lies in all four tiles.
        let middle = set(&[3, 6, 9, 12]);
        let mut border = shown.border(&middle);
        border.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let expected = [
            [0.25, 0.25, 0.25, 0.75],
            [0.25, 0.25, 0.75, 0.25],
            [0.25, 0.75, 0.75, 0.75],
            [0.75, 0.25, 0.75, 0.75],
        ];
        assert_eq!(border, expected);
        assert_eq!(shown.areas(&middle), [[0.25, 0.25, 0.75, 0.75]]);
        assert_eq!(shown.areas(&set(&[0, 1, 2])), [[0.0, 0.0, 0.5, 0.25], [0.0, 0.25, 0.25, 0.5]]);
        assert!(shown.border(&set(&[17])).is_empty(), "the whole view's are not shown");
    }

    #[test]
    fn rings_grow_across_tiles() {
        let shown = Shown::of(&tiled(), Sight::Tiles);
        assert_eq!(shown.grown(&set(&[3]), 1), set(&[0, 1, 4, 2, 3, 6, 8, 9, 12]));
        assert_eq!(shown.grown(&set(&[0]), 9).len(), 16);
        assert_eq!(shown.grown(&set(&[5]), 0), set(&[5]));
    }
}
