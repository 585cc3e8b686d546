//! The border of an object's pixels, as lines.
//!
//! Lines run along the edges of pixels: `[x0, y0, x1, y1]` in pixels of the picture, left to right or top to bottom.
//! Knows nothing of files, patches or models.

/// Most cells along a side that are looked at: of a larger picture every so-manyth pixel stands for those around it.
const CELLS: u32 = 1024;
/// Most lines: a border that is rougher is drawn coarser.
const LINES: usize = 50_000;

/// The border between what is inside and what is not, in as few lines as rows and columns allow; the picture's edge is
/// a border too. Exact where the picture is not large, nor its border very rough; else in steps of several pixels.
pub fn outline(width: u32, height: u32, inside: impl Fn(u32, u32) -> bool) -> Vec<[f32; 4]> {
    let mut step = width.max(height).div_ceil(CELLS).max(1);
    loop {
        let lines = Cells::new(width, height, step, &inside).border();
        if lines.len() <= LINES || step >= width.max(height) {
            return lines;
        }
        step = step.saturating_mul(2);
    }
}

/// A picture in squares of `step` pixels.
struct Cells {
    size: (u32, u32),
    step: u32,
    rows: u32,
    cols: u32,
    /// Row by row.
    inside: Vec<bool>,
}

impl Cells {
    fn new(width: u32, height: u32, step: u32, inside: &impl Fn(u32, u32) -> bool) -> Cells {
        let (rows, cols) = (height.div_ceil(step), width.div_ceil(step));
        let middle = |cell: u32, side: u32| (cell * step + step / 2).min(side - 1);
        let cells = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        let inside = cells.map(|(row, col)| inside(middle(col, width), middle(row, height))).collect();
        Cells { size: (width, height), step, rows, cols, inside }
    }

    /// Whether a cell is inside; what lies beside the picture is not. Counted from 1.
    fn at(&self, row: u32, col: u32) -> bool {
        let within = (1..=self.rows).contains(&row) && (1..=self.cols).contains(&col);
        within && self.inside[(row as usize - 1) * self.cols as usize + col as usize - 1]
    }

    fn border(&self) -> Vec<[f32; 4]> {
        let x = |col: u32| col.saturating_mul(self.step).min(self.size.0) as f32;
        let y = |row: u32| row.saturating_mul(self.step).min(self.size.1) as f32;
        let mut lines = Vec::new();
        for row in 0..=self.rows {
            let parts = |col: u32| self.at(row, col + 1) != self.at(row + 1, col + 1);
            along(self.cols, parts, |from, to| lines.push([x(from), y(row), x(to), y(row)]));
        }
        for col in 0..=self.cols {
            let parts = |row: u32| self.at(row + 1, col) != self.at(row + 1, col + 1);
            along(self.rows, parts, |from, to| lines.push([x(col), y(from), x(col), y(to)]));
        }
        lines
    }
}

/// Tells the first and the one past the last of every run of `0..n` for which something holds.
fn along(n: u32, holds: impl Fn(u32) -> bool, mut tell: impl FnMut(u32, u32)) {
    let mut from = None;
    for at in 0..n {
        match (holds(at), from) {
            (true, None) => from = Some(at),
            (false, Some(first)) => {
                tell(first, at);
                from = None;
            }
            _ => {}
        }
    }
    if let Some(first) = from {
        tell(first, n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_merged_along_rows_and_columns() {
        // An L of three pixels.
        let found = outline(4, 3, |x, y| (x == 1 && y < 2) || (x == 2 && y == 1));
        assert_eq!(
            found,
            [
                [1.0, 0.0, 2.0, 0.0],
                [2.0, 1.0, 3.0, 1.0],
                [1.0, 2.0, 3.0, 2.0],
                [1.0, 0.0, 1.0, 2.0],
                [2.0, 0.0, 2.0, 1.0],
                [3.0, 1.0, 3.0, 2.0],
            ]
        );
        assert!(outline(4, 3, |_, _| false).is_empty());
        assert!(outline(0, 0, |_, _| true).is_empty());
        let all = outline(4, 3, |_, _| true);
        assert_eq!(all.len(), 4, "the picture's edge: {all:?}");
        assert!(all.contains(&[4.0, 0.0, 4.0, 3.0]));
    }

    #[test]
    fn a_hole_has_a_border_of_its_own() {
        let ring = outline(3, 3, |x, y| (x, y) != (1, 1));
        assert_eq!(ring.len(), 8);
        assert!(ring.contains(&[1.0, 1.0, 2.0, 1.0]) && ring.contains(&[2.0, 1.0, 2.0, 2.0]));
    }

    #[test]
    fn a_large_picture_is_looked_at_in_steps() {
        let looked = std::cell::Cell::new(0u32);
        let found = outline(60_000, 1_000, |x, _| {
            looked.set(looked.get() + 1);
            x < 30_000
        });
        assert!(looked.get() <= CELLS * CELLS);
        assert_eq!(found.len(), 4);
        let right = found.iter().map(|line| line[2]).fold(0.0, f32::max);
        assert!((right - 30_000.0).abs() <= 59.0, "{right}");
    }

    #[test]
    fn the_roughest_border_has_an_end() {
        let found = outline(1_000, 1_000, |x, y| (x * 7919 + y * 104_729 + x * y) % 3 == 0);
        assert!(found.len() <= LINES, "{}", found.len());
    }
}
