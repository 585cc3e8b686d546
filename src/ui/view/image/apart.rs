//! Every view of an image by itself, as it enters the encoder: resized, cropped and padded, with its own map.
//!
//! Tiles stand as they lie on the image, the view of the whole beside or below them. All maps have one range. Knows
//! geometry; nothing of what the pointer does.

use egui::{Align2, Rect, TextStyle, Ui, Vec2, pos2, vec2};

use crate::{
    trace::geometry::{Geometry, Place},
    ui::{
        frame::Frame,
        store::{images::Held, store::Store},
        view::{image::words::view_name, map::Kept},
        widgets::{
            heatmap::Map,
            picture::{Drawn, Picture, Pointed},
            zoom::fit,
        },
    },
};

/// Room between two views.
const GAP: f32 = 10.0;

/// Room for what stands over a view.
const LABEL: f32 = 17.0;

/// Views narrower than this many points have no label.
const LABELLED: f32 = 64.0;

/// Where views stand: rows and columns of places, and the place of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Arranged {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Row and column of every view.
    pub places: Vec<(usize, usize)>,
}

/// Places for all views of an image. `beside`: whether those of the whole stand beside the tiles, not below.
pub fn arranged(geometry: &Geometry, beside: bool) -> Arranged {
    let (rows, cols) = (geometry.rows, geometry.cols);
    let mut wholes = 0;
    let mut place = |place: Place| match place {
        Place::Tile { row, col } => (row, col),
        Place::Whole => {
            wholes += 1;
            if beside { (wholes - 1, cols) } else { (rows, wholes - 1) }
        }
    };
    let places: Vec<(usize, usize)> = geometry.views.iter().map(|view| place(view.place)).collect();
    let rows = places.iter().map(|(row, _)| row + 1).max().unwrap_or(0);
    let cols = places.iter().map(|(_, col)| col + 1).max().unwrap_or(0);
    Arranged { rows, cols, places }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Apart {
    pictures: Vec<Picture>,
    maps: Vec<Option<Map>>,
}

impl Apart {
    /// A view's picture, as it was drawn last.
    pub fn picture(&self, view: usize) -> Option<&Picture> {
        self.pictures.get(view)
    }

    /// A view's map, as it was drawn last.
    pub fn map(&self, view: usize) -> Option<&Map> {
        self.maps.get(view)?.as_ref()
    }

    /// Whether some number of some map lies beyond the ends of the colours.
    pub fn beyond(&self) -> bool {
        let all = self.pictures.iter().zip(&self.maps);
        all.into_iter()
            .any(|(picture, map)| map.as_ref().is_some_and(|map| picture.values().beyond(map.range)))
    }

    /// Draws all views into `room`. Returns the one that pointer or keys are at.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        room: Rect,
        held: &Held,
        kept: &mut Kept,
        store: &Store,
        frame: &mut Frame,
    ) -> Option<(usize, Pointed)> {
        let geometry = &held.view.geometry;
        let n = held.view.views.len().min(geometry.views.len());
        self.pictures.resize_with(n, Picture::default);
        self.maps = (0..n).map(|view| kept.view_map(store, view)).collect();
        let views = places(ui, room, held);
        let mut active = None;
        for (view, (picture, place)) in self.pictures.iter_mut().zip(views).enumerate() {
            let map = self.maps.get(view).cloned().flatten();
            let drawn = Drawn { held, map, numbers: None };
            let pointed = picture.show_view(ui, place, view, &drawn, store, frame);
            label(ui, pointed.image, held, view);
            let response = &pointed.response;
            let here = response.hovered() || response.is_pointer_button_down_on();
            // What the pointer is at goes before what has the focus.
            if here || active.is_none() && response.has_focus() {
                active = Some((view, pointed));
            }
        }
        active
    }
}

/// Where every view is drawn: as large as they fit, those of the whole beside the tiles or below them.
fn places(ui: &Ui, room: Rect, held: &Held) -> Vec<Rect> {
    let sizes = held.view.views.iter().map(|view| vec2(view.width() as f32, view.height() as f32));
    let size = sizes.reduce(Vec2::max).unwrap_or(vec2(1.0, 1.0));
    let label = if room.width() > 2.0 * LABELLED { LABEL } else { 0.0 };
    let scale = |arranged: &Arranged| {
        let (cols, rows) = (arranged.cols.max(1) as f32, arranged.rows.max(1) as f32);
        let each = vec2(room.width() / cols - GAP, room.height() / rows - GAP - label);
        fit(size, each.max(vec2(8.0, 8.0)))
    };
    let (beside, below) = (arranged(&held.view.geometry, true), arranged(&held.view.geometry, false));
    let chosen = if scale(&beside).x >= scale(&below).x { beside } else { below };
    let each = scale(&chosen);
    let corner = |(row, col): &(usize, usize)| {
        let x = room.left() + *col as f32 * (each.x + GAP);
        let y = room.top() + label + *row as f32 * (each.y + GAP + label);
        Rect::from_min_size(pos2(x, y), each).intersect(room.intersect(ui.max_rect()))
    };
    chosen.places.iter().map(corner).collect()
}

fn label(ui: &Ui, image: Rect, held: &Held, view: usize) {
    let Some(pixels) = held.view.views.get(view).filter(|_| image.width() >= LABELLED) else { return };
    let name = match view_name(&held.view.geometry, view) {
        name if name.is_empty() => "as it enters the encoder".to_string(),
        name => name,
    };
    let text = format!("{name} · {} x {}", pixels.width(), pixels.height());
    let font = TextStyle::Small.resolve(ui.style());
    let over = Rect::from_min_max(pos2(image.left(), image.top() - LABEL), image.right_top());
    let painter = ui.painter().with_clip_rect(over.intersect(ui.clip_rect()));
    painter.text(over.left_center(), Align2::LEFT_CENTER, text, font, ui.visuals().weak_text_color());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::{Grid, View};

    #[test]
    fn tiles_stand_as_they_lie_and_the_whole_beside_or_below() {
        let view = |place| View { place, rect: [0.0; 4], grid: Grid { rows: 1, cols: 1 }, lead: 0 };
        let tile = |row, col| view(Place::Tile { row, col });
        let views = vec![tile(0, 0), tile(0, 1), tile(1, 0), tile(1, 1), view(Place::Whole)];
        let geometry = Geometry { source: (1, 1), rows: 2, cols: 2, views };
        let beside = arranged(&geometry, true);
        assert_eq!((beside.rows, beside.cols), (2, 3));
        assert_eq!(beside.places, [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]);
        let below = arranged(&geometry, false);
        assert_eq!((below.rows, below.cols, below.places[4]), (3, 2, (2, 0)));
        let single = Geometry { source: (1, 1), rows: 0, cols: 0, views: vec![view(Place::Whole)] };
        assert_eq!(arranged(&single, true), Arranged { rows: 1, cols: 1, places: vec![(0, 0)] });
    }
}
