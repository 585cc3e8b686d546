//! Maps of patches: one coloured rectangle a patch, over an image or many small maps side by side.
//!
//! A map's numbers are those of a [`PatternRow`], `[layers, heads, keys]`: attention, or anything else that there
//! is one of a layer, head and key, such as a difference of two runs or an effect. What is not a number is not
//! drawn: a patch without a value yet leaves the ground as it is.
//!
//! `heatmap_pipeline` and `shaders/heatmap.wgsl` draw them, a grid of patches at a time; [`value`],
//! [`Map::smooth_value`] and [`Map::share`] compute the same numbers on the CPU, for tooltips, ranges and files.
//! Where the adapter cannot read storage buffers in a vertex shader, plain rectangles are drawn.
//!
//! Knows rows and rectangles; nothing of runs or of views.

use std::{ops::Range, sync::Arc};

use eframe::egui_wgpu::{self, RenderState};
use egui::{Color32, Mesh, Pos2, Rect, Ui, emath::GuiRounding as _, pos2};

use crate::{
    device::shared::ResidentRow,
    trace::{palette::Colormap, pattern::PatternRow},
    ui::{
        theme,
        widgets::{
            heatmap_pipeline::{self, Block, Cell, Numbers, Picture},
            lines::Lines,
        },
    },
};

/// Steps a side into which the CPU divides a patch whose numbers are interpolated.
const SMOOTH_STEPS: u32 = 4;

/// The number of `layer` for `key`: of one head, or the mean of all, summed in the shader's order. What the row
/// does not have is not a number.
pub fn value(row: &PatternRow, layer: usize, head: Option<usize>, key: usize) -> f32 {
    if layer >= row.n_layers || head.is_some_and(|head| head >= row.n_heads) || key >= row.n_keys {
        return f32::NAN;
    }
    let of = |head: usize| {
        let at = (layer * row.n_heads + head) * row.n_keys + key;
        row.data.get(at).copied().unwrap_or(f32::NAN)
    };
    match head {
        Some(head) => of(head),
        None => (0..row.n_heads).fold(0.0, |sum, head| sum + of(head)) / row.n_heads as f32,
    }
}

/// Where one patch lies and which key position it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// `[x0, y0, x1, y1]` as shares of the image. May reach beyond it: what lies beyond is not drawn.
    pub rect: [f32; 4],
    /// Absolute position of its visual token.
    pub key: u32,
    /// Key of the first patch of its grid.
    grid_key: u32,
    /// Its row and column.
    cell: [u32; 2],
    /// Rows and columns of the grid.
    grid: [u32; 2],
}

impl Patch {
    /// A patch that has no neighbours: it has one colour, smooth or not.
    pub fn new(rect: [f32; 4], key: usize) -> Self {
        Patch { rect, key: key as u32, grid_key: key as u32, cell: [0; 2], grid: [1; 2] }
    }

    /// A patch at row and column `cell` of a grid of these rows and columns, whose keys run row by row from
    /// `first_key` without a gap. One that is at no such place has no neighbours.
    pub fn in_grid(rect: [f32; 4], key: usize, cell: (u32, u32), grid: (u32, u32), first_key: usize) -> Self {
        let patch = Patch {
            grid_key: first_key as u32,
            cell: cell.into(),
            grid: grid.into(),
            ..Patch::new(rect, key)
        };
        let there = cell.0 < grid.0 && cell.1 < grid.1 && patch.beside(0, 0) == key;
        if there { patch } else { Patch::new(rect, key) }
    }

    /// The keys of its grid.
    fn keys(&self) -> Range<usize> {
        let first = self.grid_key as usize;
        first..first + self.n_grid()
    }

    /// Patches of its grid.
    fn n_grid(&self) -> usize {
        self.grid[0] as usize * self.grid[1] as usize
    }

    /// Key of a neighbour; at the border of the grid, of the patch that lies at the border.
    fn beside(&self, down: i32, right: i32) -> usize {
        let [row, col] = self.cell;
        let [rows, cols] = self.grid;
        let row = row.saturating_add_signed(down).min(rows.saturating_sub(1));
        let col = col.saturating_add_signed(right).min(cols.saturating_sub(1));
        self.grid_key as usize + row as usize * cols as usize + col as usize
    }

    /// The part of it that lies on the image.
    fn on_image(&self) -> [f32; 4] {
        self.rect.map(|edge| edge.clamp(0.0, 1.0))
    }

    /// What the shader draws, which begins with this patch, has this size, and ends at `to`.
    fn block(&self, size: [u32; 2], to: &Patch) -> Block {
        let ([x0, y0, ..], [.., x1, y1]) = (self.rect, to.rect);
        let Patch { grid_key, cell, grid, .. } = *self;
        Block { rect: [x0, y0, x1, y1], first: cell, size, grid, grid_key, pad: 0 }
    }
}

/// What the shader draws at once: whole grids, and every other patch by itself.
fn blocks(patches: &[Patch]) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut rest = patches;
    while let Some(first) = rest.first() {
        let whole = rest.get(..first.n_grid()).filter(|grid| divide_evenly(grid));
        let (size, block) = whole.map_or(([1; 2], &rest[..1]), |whole| (first.grid, whole));
        blocks.push(first.block(size, block.last().unwrap_or(first)));
        rest = &rest[block.len()..];
    }
    blocks
}

/// Whether these are the patches of one grid in order, and all of a size.
fn divide_evenly(patches: &[Patch]) -> bool {
    let (Some(first), Some(last)) = (patches.first(), patches.last()) else { return false };
    let ([x0, y0, ..], [.., x1, y1]) = (first.rect, last.rect);
    let [rows, cols] = first.grid;
    let (w, h) = ((x1 - x0) / cols as f32, (y1 - y0) / rows as f32);
    (0u32..).zip(patches).all(|(at, patch)| {
        let [row, col] = [at / cols, at % cols];
        let (x, y) = (x0 + w * col as f32, y0 + h * row as f32);
        let off = std::iter::zip(patch.rect, [x, y, x + w, y + h]).map(|(edge, even)| (edge - even).abs());
        let same = (patch.grid_key, patch.grid, patch.cell) == (first.grid_key, first.grid, [row, col]);
        same && off.fold(0.0, f32::max) <= 1e-3 * w.min(h)
    })
}

/// A map, ready to draw. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Map {
    /// The row.
    pub row: PatternRow,
    /// The same numbers on the window's device, if they are there.
    pub resident: Option<ResidentRow>,
    /// Patches to colour.
    pub patches: Arc<[Patch]>,
    /// Layer.
    pub layer: usize,
    /// Head, or the mean.
    pub head: Option<usize>,
    /// Values at the two ends of the colour map. Those of the diverging map lie equally far from zero; where they
    /// are the same, every number has the colour of its middle.
    pub range: (f32, f32),
    /// Colours.
    pub colormap: Colormap,
    /// What a place between the ends is raised to before it is coloured, 1: linear. The diverging map has none.
    pub gamma: f32,
    /// Whether the numbers between the middles of neighbouring patches of a grid are interpolated.
    pub smooth: bool,
    /// Opacity, the same for every value: what lies under it never changes what a colour means.
    pub opacity: f32,
    /// What every key would get if attention were spread evenly over all that could be seen, where the numbers
    /// are attention.
    pub uniform: Option<f32>,
    /// Tells maps that are on screen together apart: their view chooses it.
    pub slot: u64,
}

impl Map {
    /// The number behind patch `at`.
    pub fn value(&self, at: usize) -> f32 {
        let of = |patch: &Patch| value(&self.row, self.layer, self.head, patch.key as usize);
        self.patches.get(at).map_or(f32::NAN, of)
    }

    /// The number at a place within patch `at`, from `u` 0 at its left to 1 at its right and `v` 0 at its top to 1
    /// at its bottom, as a smooth map has it: interpolated between the middles of the patches around. Beyond the
    /// border of the grid, and where a neighbour has no number, it is the patch's own.
    pub fn smooth_value(&self, at: usize, u: f32, v: f32) -> f32 {
        let own = self.value(at);
        let Some(patch) = self.patches.get(at).filter(|_| !own.is_nan()) else { return own };
        let (x, y) = (u.clamp(0.0, 1.0) - 0.5, v.clamp(0.0, 1.0) - 0.5);
        let (right, down) = (if x > 0.0 { 1 } else { -1 }, if y > 0.0 { 1 } else { -1 });
        let beside = |down: i32, right: i32| {
            let there = value(&self.row, self.layer, self.head, patch.beside(down, right));
            if there.is_nan() { own } else { there }
        };
        let mix = |a: f32, b: f32, t: f32| a * (1.0 - t) + b * t;
        let level = mix(own, beside(0, right), x.abs());
        let other = mix(beside(down, 0), beside(down, right), x.abs());
        mix(level, other, y.abs())
    }

    /// Where on the colour map `value` lies, 0 to 1: between its two ends, gamma included.
    pub fn share(&self, value: f32) -> f32 {
        let (low, high) = self.ends(self.range);
        self.colormap.with_gamma((value - low) / (high - low).max(1e-30), self.gamma)
    }

    /// Draws it over the image at `rect`.
    pub fn paint(self, ui: &Ui, rect: Rect, on_gpu: bool) {
        let whole = [0.0, 0.0, 1.0, 1.0];
        let cell = GridCell { rect: whole, layer: self.layer, head: self.head, high: self.range.1 };
        MapGrid { cells: Arc::from([cell]), map: self }.paint(ui, rect, on_gpu);
    }

    /// The ends of the colours as they are drawn: a diverging map of nothing but zeros has the middle's.
    fn ends(&self, (low, high): (f32, f32)) -> (f32, f32) {
        if self.colormap.is_diverging() && high <= low { (low - 1.0, low + 1.0) } else { (low, high) }
    }

    /// The colour of a number.
    fn color(&self, value: f32) -> Color32 {
        theme::map_color(self.colormap, self.share(value)).gamma_multiply(self.opacity)
    }

    /// Draws it into `mesh` at `rect`.
    fn add_to(&self, mesh: &mut Mesh, rect: Rect) {
        let place = |x: f32, y: f32| pos2(rect.left() + x * rect.width(), rect.top() + y * rect.height());
        for (at, patch) in self.patches.iter().enumerate() {
            let value = self.value(at);
            let [x0, y0, x1, y1] = patch.on_image();
            if value.is_nan() || x0 >= x1 || y0 >= y1 {
                continue;
            }
            if self.smooth && patch.n_grid() > 1 {
                self.add_smooth(mesh, at, patch, place);
            } else {
                mesh.add_colored_rect(Rect::from_min_max(place(x0, y0), place(x1, y1)), self.color(value));
            }
        }
    }

    /// Divides a patch into steps with a colour at every corner.
    fn add_smooth(&self, mesh: &mut Mesh, at: usize, patch: &Patch, place: impl Fn(f32, f32) -> Pos2) {
        let [x0, y0, x1, y1] = patch.on_image();
        let [left, top, right, bottom] = patch.rect;
        let first = mesh.vertices.len() as u32;
        let side = SMOOTH_STEPS + 1;
        for i in 0..side * side {
            let (down, across) = (i / side, i % side);
            let x = x0 + (x1 - x0) * across as f32 / SMOOTH_STEPS as f32;
            let y = y0 + (y1 - y0) * down as f32 / SMOOTH_STEPS as f32;
            let value = self.smooth_value(at, (x - left) / (right - left), (y - top) / (bottom - top));
            mesh.colored_vertex(place(x, y), self.color(value));
            if down > 0 && across > 0 {
                let corner = first + i;
                mesh.add_triangle(corner - side - 1, corner - side, corner - 1);
                mesh.add_triangle(corner - side, corner - 1, corner);
            }
        }
    }
}

/// One map of a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridCell {
    /// `[x0, y0, x1, y1]` as shares of the rectangle that the grid is painted into.
    pub rect: [f32; 4],
    /// Layer.
    pub layer: usize,
    /// Head, or the mean.
    pub head: Option<usize>,
    /// Value at the upper end of its colours. The lower end is that of the grid's map, or, for diverging colours,
    /// as far below zero.
    pub high: f32,
}

/// Many small maps of one row, drawn in one pass. The caller gives the cells that can be seen, no others.
#[derive(Clone, Debug)]
pub struct MapGrid {
    /// What all of them share: its layer and head are those of none.
    pub map: Map,
    /// The maps.
    pub cells: Arc<[GridCell]>,
}

impl MapGrid {
    /// Draws it into `rect`, which may reach beyond what can be seen.
    pub fn paint(self, ui: &Ui, rect: Rect, on_gpu: bool) {
        let seen = rect.intersect(ui.clip_rect()).round_to_pixels(ui.pixels_per_point());
        let keys = self.keys();
        if !seen.is_positive() || self.cells.is_empty() || keys.is_empty() {
            return;
        }
        if on_gpu {
            // egui cuts a callback's rectangle off at the window's edge: what is drawn would shrink with it.
            let share = |at: Pos2| (at - seen.min) / seen.size();
            let (from, to) = (share(rect.min), share(rect.max));
            let frame = ui.ctx().cumulative_frame_nr();
            let picture = self.picture(frame, [from.x, from.y, to.x, to.y], keys);
            ui.painter().add(egui_wgpu::Callback::new_paint_callback(seen, picture));
            return;
        }
        let mut mesh = Mesh::default();
        for cell in self.cells.iter() {
            let [x0, y0, x1, y1] = cell.rect;
            let at = |x: f32, y: f32| pos2(rect.left() + x * rect.width(), rect.top() + y * rect.height());
            let (layer, head, range) = (cell.layer, cell.head, self.range_of(cell));
            let map = Map { layer, head, range, ..self.map.clone() };
            map.add_to(&mut mesh, Rect::from_min_max(at(x0, y0), at(x1, y1)));
        }
        ui.painter().add(mesh);
    }

    /// Values at the ends of a cell's colours.
    fn range_of(&self, cell: &GridCell) -> (f32, f32) {
        // Numbers with a sign have nought in the middle.
        let low = if self.map.colormap.is_diverging() { -cell.high } else { self.map.range.0 };
        (low, cell.high)
    }

    /// The keys that the grids of its patches have in the row; there may be none.
    fn keys(&self) -> Range<usize> {
        let keys = self.map.patches.iter().map(Patch::keys);
        let keys = keys.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        keys.start..keys.end.min(self.map.row.n_keys)
    }

    /// What the pipeline draws.
    fn picture(self, frame: u64, place: [f32; 4], keys: Range<usize>) -> Picture {
        let cells = (0..).zip(self.cells.iter()).map(|(at, cell)| self.cell(at, cell)).collect();
        let maps = self.cells.iter().map(|cell| (cell.layer, cell.head)).collect();
        let Map { row, resident, patches, colormap, gamma, smooth, opacity, slot, .. } = self.map;
        let numbers = match resident {
            Some(resident) => Numbers::Resident { row: resident, n_keys: row.n_keys },
            None => Numbers::Lines(Lines { row, keys, maps }),
        };
        let blocks = blocks(&patches);
        Picture { slot, frame, colormap, gamma, opacity, smooth, place, numbers, blocks, cells }
    }

    /// Cell number `at`, as the shader has it: where the row is uploaded, line `at` holds its numbers.
    fn cell(&self, at: u32, cell: &GridCell) -> Cell {
        let row = &self.map.row;
        let there = cell.layer < row.n_layers && cell.head.is_none_or(|head| head < row.n_heads);
        let (line, n_lines) = match (&self.map.resident, cell.head) {
            _ if !there => (0, 0),
            (None, _) => (at, 1),
            (Some(_), Some(head)) => ((cell.layer * row.n_heads + head) as u32, 1),
            (Some(_), None) => ((cell.layer * row.n_heads) as u32, row.n_heads as u32),
        };
        let (low, high) = self.map.ends(self.range_of(cell));
        Cell { rect: cell.rect, line, n_lines, low, high }
    }
}

/// Puts what draws maps into the window's renderer. Returns whether the adapter can run it.
pub fn install(state: &RenderState) -> bool {
    heatmap_pipeline::install(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n_layers: usize, n_heads: usize, n_keys: usize) -> PatternRow {
        let data: Vec<f32> = (0..n_layers * n_heads * n_keys).map(|i| i as f32).collect();
        PatternRow { n_layers, n_heads, n_keys, data: Arc::new(data) }
    }

    /// A map of 2 x 3 patches whose keys follow upon 4 others.
    fn map(row: PatternRow) -> Map {
        let patch = |i: u32| {
            let (down, right) = (i / 3, i % 3);
            let (x, y) = (right as f32 / 3.0, down as f32 / 2.0);
            let rect = [x, y, x + 1.0 / 3.0, y + 0.5];
            Patch::in_grid(rect, 4 + i as usize, (down, right), (2, 3), 4)
        };
        Map {
            row,
            resident: None,
            patches: (0..6).map(patch).collect(),
            layer: 0,
            head: None,
            range: (0.0, 16.0),
            colormap: Colormap::Inferno,
            gamma: 1.0,
            smooth: true,
            opacity: 1.0,
            uniform: None,
            slot: 0,
        }
    }

    #[test]
    fn value_is_one_head_or_the_mean() {
        let row = row(2, 3, 4);
        assert_eq!(value(&row, 1, Some(2), 3), 23.0);
        assert_eq!(value(&row, 0, None, 1), (1.0 + 5.0 + 9.0) / 3.0);
        for (layer, head, key) in [(2, None, 0), (0, Some(3), 0), (0, None, 4)] {
            assert!(value(&row, layer, head, key).is_nan(), "layer {layer}, head {head:?}, key {key}");
        }
    }

    #[test]
    fn smooth_numbers_are_the_patches_own_in_their_middles_and_mixed_between() {
        let mut map = map(row(1, 1, 10));
        for at in 0..6 {
            assert_eq!(map.smooth_value(at, 0.5, 0.5), map.value(at));
        }
        assert_eq!(map.smooth_value(0, 1.0, 0.5), 4.5, "half way to the right");
        assert_eq!(map.smooth_value(1, 0.0, 0.5), 4.5, "the same from the other side");
        assert_eq!(map.smooth_value(0, 0.5, 1.0), 5.5, "half way down");
        assert_eq!(map.smooth_value(0, 1.0, 1.0), (4.0 + 5.0 + 7.0 + 8.0) / 4.0);
        assert_eq!(map.smooth_value(0, 0.0, 0.0), 4.0, "no neighbour beyond the border");
        assert_eq!(map.smooth_value(5, 1.0, 1.0), 9.0);
        let mut data = map.row.data.to_vec();
        data[5] = f32::NAN;
        map.row.data = Arc::new(data);
        assert_eq!(map.smooth_value(0, 1.0, 0.5), 4.0, "a neighbour without a number counts for nothing");
        assert!(map.smooth_value(1, 0.9, 0.5).is_nan());
        assert!(map.value(6).is_nan(), "no such patch");
        map.patches = Arc::from([Patch::new([0.0, 0.0, 1.0, 1.0], 6)]);
        assert_eq!(map.smooth_value(0, 1.0, 1.0), 6.0, "a patch without a grid");
    }

    #[test]
    fn whole_grids_are_drawn_at_once_and_other_patches_alone() {
        let whole = map(row(1, 1, 10)).patches;
        let sizes = |patches: &[Patch]| blocks(patches).iter().map(|b| b.size).collect::<Vec<_>>();
        let other = Patch::new([0.0, 0.0, 0.5, 0.5], 40);
        let mixed: Vec<Patch> = [other].into_iter().chain(whole.iter().copied()).chain([other]).collect();
        assert_eq!(sizes(&mixed), [[1, 1], [2, 3], [1, 1]]);
        let drawn = blocks(&whole)[0];
        assert_eq!((drawn.first, drawn.grid, drawn.grid_key), ([0, 0], [2, 3], 4));
        assert!(
            std::iter::zip(drawn.rect, [0.0, 0.0, 1.0, 1.0]).all(|(a, b): (f32, f32)| (a - b).abs() < 1e-6)
        );
        // A part of a grid, one in another order, and one of unequal patches.
        assert_eq!(sizes(&whole[..5]), [[1, 1]; 5]);
        assert_eq!(blocks(&whole[..5])[4].first, [1, 1]);
        let turned: Vec<Patch> = whole.iter().rev().copied().collect();
        assert_eq!(sizes(&turned), [[1, 1]; 6]);
        let mut unequal = whole.to_vec();
        unequal[1].rect[0] += 0.1;
        assert_eq!(sizes(&unequal), [[1, 1]; 6]);
        assert!(blocks(&[]).is_empty());
        // Keys that do not run on: no neighbours.
        let astray = Patch::in_grid([0.0; 4], 9, (0, 1), (2, 3), 4);
        assert_eq!(astray, Patch::new([0.0; 4], 9));
        assert_eq!(Patch::in_grid([0.0; 4], 9, (0, 0), (0, 0), 9), Patch::new([0.0; 4], 9));
    }

    #[test]
    fn shares_have_gamma_but_for_the_diverging_map() {
        let mut map = map(row(1, 1, 10));
        map.gamma = 0.5;
        assert_eq!([-1.0, 0.0, 4.0, 16.0, 20.0].map(|v| map.share(v)), [0.0, 0.0, 0.5, 1.0, 1.0]);
        map.colormap = Colormap::Diverging;
        map.range = (-16.0, 16.0);
        assert_eq!([-16.0, -8.0, 0.0, 16.0].map(|v| map.share(v)), [0.0, 0.25, 0.5, 1.0]);
        map.range = (0.0, 0.0);
        assert_eq!(map.share(0.0), 0.5, "no difference anywhere is the middle's colour");
    }

    #[test]
    fn cells_say_which_lines_and_ends_are_theirs() {
        let cell = |layer, head, high| GridCell { rect: [0.0, 0.0, 1.0, 1.0], layer, head, high };
        let cells = [cell(1, None, 3.0), cell(0, Some(2), 9.0), cell(2, None, 1.0), cell(0, Some(3), 1.0)];
        let mut grid = MapGrid { map: map(row(2, 3, 12)), cells: Arc::from(cells) };
        assert_eq!(grid.keys(), 4..10);
        let on_device = |grid: &MapGrid| {
            let cells = (0..).zip(grid.cells.iter()).map(|(at, cell)| grid.cell(at, cell));
            cells.map(|cell| (cell.line, cell.n_lines, cell.low, cell.high)).collect::<Vec<_>>()
        };
        let none = (0, 0, 0.0, 1.0);
        assert_eq!(on_device(&grid), [(0, 1, 0.0, 3.0), (1, 1, 0.0, 9.0), none, none]);
        grid.map.colormap = Colormap::Diverging;
        grid.map.range = (-9.0, 9.0);
        assert_eq!(on_device(&grid)[..2], [(0, 1, -3.0, 3.0), (1, 1, -9.0, 9.0)]);
        grid.map.row.n_keys = 3;
        assert!(grid.keys().is_empty(), "no patch has a number");
    }
}
