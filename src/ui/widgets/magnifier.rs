//! A lens: a few patches around the pointer, large, with their numbers written in them.
//!
//! Stands in a corner of the image's room, away from the pointer; what it shows is outlined on the image. Knows maps and
//! lattices; not what numbers measure.

use egui::{Align2, Color32, FontId, Painter, Rect, TextureId, Ui, pos2, vec2};

use crate::{
    trace::palette::Colormap,
    ui::{
        theme,
        widgets::{
            heatmap::Map,
            lattice::Shown,
            marks::framed,
            number,
            outline::{on, place_of},
        },
    },
};

/// Patches from the middle to the border.
const REACH: isize = 3;

/// Cells narrower than this many points hold no number.
const READABLE: f32 = 30.0;

/// What a lens shows.
#[derive(Clone, Copy, Debug)]
pub struct Lens<'a> {
    /// The visual token in its middle.
    pub middle: usize,
    /// The picture's tokens.
    pub shown: &'a Shown,
    /// The picture, zoomed.
    pub image: Rect,
    /// What lies under the map.
    pub ground: Option<TextureId>,
    /// The map.
    pub map: &'a Map,
}

/// One patch of the lens.
struct Cell {
    rect: [f32; 4],
    value: Option<f32>,
}

/// Draws the lens into a corner of `room`. `value`: the number of a visual token.
pub fn magnify(ui: &Ui, room: Rect, lens: Lens<'_>, value: impl Fn(usize) -> Option<f32>) {
    let cells = cells(lens, value);
    let all = cells.iter().map(|cell| cell.rect);
    let union = |a: [f32; 4], b: [f32; 4]| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])];
    let Some(window) = all.reduce(union) else { return };
    let from = on(window, lens.image);
    framed(&ui.painter().with_clip_rect(room.intersect(ui.clip_rect())), from);
    let size = (room.size().min_elem() * 0.55).min(340.0);
    let scale = size / from.size().max_elem().max(1e-3);
    // Where the pointer is not.
    let right = from.center().x < room.center().x;
    let below = from.center().y < room.center().y;
    let size = from.size() * scale;
    let x = if right { room.right() - size.x - 6.0 } else { room.left() + 6.0 };
    let y = if below { room.bottom() - size.y - 6.0 } else { room.top() + 6.0 };
    let place = Rect::from_min_size(pos2(x, y), size);
    let painter = ui.painter().with_clip_rect(place.expand(4.0).intersect(ui.clip_rect()));
    painter.rect_filled(place, 0.0, ui.visuals().extreme_bg_color);
    // As large as the whole picture would be, so that the window lies in its place.
    let share = |x: f32, y: f32| place.min - vec2(x, y) * lens.image.size() * scale;
    let whole = Rect::from_min_size(share(window[0], window[1]), lens.image.size() * scale);
    if let Some(ground) = lens.ground {
        // Only what is seen of it: the whole is larger than the window by far.
        let seen = whole.intersect(place);
        let (from, to) = (place_of(seen.min, whole), place_of(seen.max, whole));
        let part = Rect::from_min_max(pos2(from[0], from[1]), pos2(to[0], to[1]));
        painter.image(ground, seen, part, Color32::WHITE);
    }
    for cell in &cells {
        draw(&painter, on(cell.rect, whole), cell, lens.map);
    }
    if let Some(middle) = lens.shown.rect(lens.middle) {
        framed(&painter, on(middle, whole).shrink(2.0));
    }
    framed(&painter, place);
}

/// The patch in the middle and those around it.
fn cells(lens: Lens<'_>, value: impl Fn(usize) -> Option<f32>) -> Vec<Cell> {
    let steps = (-REACH..=REACH).flat_map(|down| (-REACH..=REACH).map(move |right| (down, right)));
    let cell = |(down, right)| {
        let number = lens.shown.beside(lens.middle, down, right)?;
        Some(Cell { rect: lens.shown.rect(number)?, value: value(number) })
    };
    steps.filter_map(cell).collect()
}

fn draw(painter: &Painter, place: Rect, cell: &Cell, map: &Map) {
    let Some(value) = cell.value else { return };
    let color = theme::map_color(map.colormap, map.share(value));
    painter.rect_filled(place, 0.0, color.gamma_multiply(map.opacity));
    if place.width() < READABLE {
        return;
    }
    let text = match map.colormap {
        Colormap::Diverging => number::signed(value),
        _ => number::short(value),
    };
    let font = FontId::proportional((place.width() / 4.2).clamp(8.5, 13.0));
    for (by, color) in [(vec2(1.0, 1.0), theme::AROUND), (vec2(0.0, 0.0), theme::ON_DARK)] {
        painter.text(place.center() + by, Align2::CENTER_CENTER, &text, font.clone(), color);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        trace::{
            geometry::{Geometry, Grid, Place, View},
            pattern::PatternRow,
        },
        ui::widgets::{heatmap::Patch, lattice::Sight},
    };

    #[test]
    fn a_lens_ends_at_the_border_of_the_grid() {
        let grid = Grid { rows: 12, cols: 12 };
        let view = View { place: Place::Whole, rect: [0.0, 0.0, 120.0, 120.0], grid, lead: 0 };
        let geometry = Geometry { source: (120, 120), rows: 0, cols: 0, views: vec![view] };
        let shown = Shown::of(&geometry, Sight::Tiles);
        let map = Map {
            row: PatternRow { n_layers: 1, n_heads: 1, n_keys: 0, data: Arc::new(Vec::new()) },
            resident: None,
            patches: Vec::<Patch>::new().into(),
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
        let of = |middle: usize| {
            let lens = Lens { middle, shown: &shown, image: Rect::ZERO, ground: None, map: &map };
            cells(lens, |number| Some(number as f32))
        };
        let inside = of(5 * 12 + 6);
        assert_eq!((inside.len(), inside[0].value, inside[48].value), (49, Some(27.0), Some(105.0)));
        assert_eq!(of(0).len(), 16);
    }
}
