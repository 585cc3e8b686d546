//! Sets of patches on a picture: their borders, and light hatching over them.
//!
//! Lines and rectangles are shares of the picture. A set is turned into few long lines once, not patch by patch every
//! frame. Knows lattices; not what a set means.

use std::collections::BTreeSet;

use egui::{Color32, Painter, Pos2, Rect, Stroke, pos2, vec2};

use crate::ui::{
    theme,
    widgets::lattice::{Shown, Sight},
};

/// Which picture: its serial number, and what it shows.
pub type PictureKey = (u64, Sight);

/// The border of a set, and the rectangles that it is made of.
#[derive(Debug, Default)]
pub struct Outline {
    of: Option<(PictureKey, BTreeSet<usize>, usize)>,
    border: Vec<[f32; 4]>,
    areas: Vec<[f32; 4]>,
}

impl Outline {
    /// Follows a set, grown by so many rings; costs next to nothing where both are what they were.
    pub fn follow(&mut self, key: PictureKey, set: &BTreeSet<usize>, rings: usize, shown: &Shown) {
        let same = |of: &(PictureKey, BTreeSet<usize>, usize)| of.0 == key && of.2 == rings && of.1 == *set;
        if self.of.as_ref().is_some_and(same) {
            return;
        }
        let grown = if rings == 0 || set.is_empty() { set.clone() } else { shown.grown(set, rings) };
        (self.border, self.areas) = (shown.border(&grown), shown.areas(&grown));
        self.of = Some((key, set.clone(), rings));
    }

    /// Draws the border.
    pub fn draw(&self, painter: &Painter, image: Rect, color: Color32) {
        lines(painter, image, &self.border, Stroke::new(3.5, theme::AROUND.gamma_multiply(0.6)));
        lines(painter, image, &self.border, Stroke::new(1.6, color));
    }

    /// Hatches the set, `apart` points from line to line: one pattern over all of it.
    pub fn hatch(&self, painter: &Painter, image: Rect, apart: f32, stroke: Stroke) {
        let seen = painter.clip_rect().intersect(image);
        for area in &self.areas {
            let area = on(*area, image).intersect(seen);
            if area.is_positive() {
                hatched(painter, area, apart, stroke);
            }
        }
    }
}

/// A rectangle of a picture on screen.
pub fn on([x0, y0, x1, y1]: [f32; 4], image: Rect) -> Rect {
    Rect::from_min_max(at([x0, y0], image), at([x1, y1], image))
}

/// A place on a picture on screen.
pub fn at([x, y]: [f32; 2], image: Rect) -> Pos2 {
    image.min + vec2(x, y) * image.size()
}

/// The place on a picture that a point of the screen shows.
pub fn place_of(point: Pos2, image: Rect) -> [f32; 2] {
    let share = (point - image.min) / image.size().max(vec2(1e-3, 1e-3));
    [share.x, share.y]
}

/// Draws lines of a picture, but for those that cannot be seen.
pub fn lines(painter: &Painter, image: Rect, lines: &[[f32; 4]], stroke: Stroke) {
    let seen = painter.clip_rect().expand(stroke.width);
    for &[x0, y0, x1, y1] in lines {
        let (from, to) = (at([x0, y0], image), at([x1, y1], image));
        if seen.intersects(Rect::from_two_pos(from, to)) {
            painter.line_segment([from, to], stroke);
        }
    }
}

/// Slanted lines that meet those of every other rectangle.
fn hatched(painter: &Painter, area: Rect, apart: f32, stroke: Stroke) {
    let first = ((area.left() + area.top()) / apart).ceil() as i32;
    let last = ((area.right() + area.bottom()) / apart).floor() as i32;
    for sum in (first..=last).map(|line| line as f32 * apart) {
        let (left, right) = (area.left().max(sum - area.bottom()), area.right().min(sum - area.top()));
        if left < right {
            painter.line_segment([pos2(left, sum - left), pos2(right, sum - right)], stroke);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Geometry, Grid, Place, View};

    #[test]
    fn an_outline_follows_its_set_its_rings_and_its_picture() {
        let grid = Grid { rows: 3, cols: 3 };
        let view = View { place: Place::Whole, rect: [0.0, 0.0, 30.0, 30.0], grid, lead: 0 };
        let geometry = Geometry { source: (30, 30), rows: 0, cols: 0, views: vec![view] };
        let shown = Shown::of(&geometry, Sight::Tiles);
        let mut outline = Outline::default();
        let set = BTreeSet::from([4]);
        outline.follow((1, Sight::Tiles), &set, 0, &shown);
        let third = 1.0 / 3.0;
        assert_eq!((outline.border.len(), outline.areas.len()), (4, 1));
        assert!((outline.areas[0][0] - third).abs() < 1e-6);
        outline.follow((1, Sight::Tiles), &set, 1, &shown);
        assert_eq!(outline.areas, [[0.0, 0.0, 1.0, 1.0]]);
        outline.follow((1, Sight::Tiles), &BTreeSet::new(), 1, &shown);
        assert!(outline.border.is_empty() && outline.areas.is_empty());
    }

    #[test]
    fn a_place_on_screen_and_back() {
        let image = Rect::from_min_max(pos2(10.0, 20.0), pos2(110.0, 70.0));
        assert_eq!(at([0.25, 0.5], image), pos2(35.0, 45.0));
        assert_eq!(place_of(pos2(35.0, 45.0), image), [0.25, 0.5]);
        assert_eq!(on([0.0, 0.0, 0.5, 1.0], image), Rect::from_min_max(image.min, pos2(60.0, 70.0)));
    }
}
