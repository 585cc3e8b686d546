//! What is drawn over a picture and its map: what the model never saw, borders of patches, what is locked, painted,
//! known or pointed at.
//!
//! Knows the selection and what is known of an image; nothing of numbers.

use std::collections::BTreeSet;

use egui::{Painter, Rect, Stroke, StrokeKind, Ui, vec2};

use crate::{
    trace::geometry::Geometry,
    ui::{
        store::store::Store,
        theme,
        widgets::{
            hatch::hatch,
            lattice::{Shown, Sight, shares},
            outline::{Outline, PictureKey, at, lines, on},
        },
    },
    worker::protocol::ImageView,
};

/// Patches narrower than this many points have no grid: it would hide them.
const GRID_FROM: f32 = 4.0;

/// What is marked on a picture.
#[derive(Debug)]
pub struct Marked<'a> {
    /// Which picture.
    pub key: PictureKey,
    /// What it shows, where.
    pub shown: &'a Shown,
    /// The image.
    pub view: &'a ImageView,
    /// The patch with the largest number.
    pub peak: Option<[f32; 4]>,
    /// Visual tokens that the map leaves out.
    pub sinks: Vec<usize>,
}

/// What is costly to remake every frame.
#[derive(Debug, Default)]
pub struct Marks {
    locked: Outline,
    painted: Outline,
    grown: Outline,
}

impl Marks {
    /// Draws all that is marked.
    pub fn draw(&mut self, ui: &Ui, image: Rect, marked: &Marked<'_>, store: &Store) {
        let painter = ui.painter();
        unseen(painter, image, marked);
        if store.map.grid {
            grid(painter, image, marked.shown);
        }
        if store.map.marks {
            known(painter, image, marked);
        }
        self.painted(ui, image, marked, store);
        self.locked.follow(marked.key, &store.selection.patches, 0, marked.shown);
        self.locked.draw(painter, image, theme::accent(ui.visuals()));
        for rect in marked.sinks.iter().filter_map(|number| marked.shown.rect(*number)) {
            let middle = on(rect, image).center();
            painter.circle_filled(middle, 3.0, theme::AROUND);
            painter.circle_filled(middle, 2.0, theme::ON_DARK);
        }
        if let Some(peak) = marked.peak.filter(|_| store.map.marks) {
            peak_cross(painter, on(peak, image));
        }
        if let Some(rect) = store.selection.patch.and_then(|number| marked.shown.rect(number)) {
            framed(painter, on(rect, image));
        }
    }

    /// What the brush painted is hatched; how far it grows is a second border.
    fn painted(&mut self, ui: &Ui, image: Rect, marked: &Marked<'_>, store: &Store) {
        let Some(painted) = store.cut.painted() else { return };
        let color = theme::cut_color(ui.visuals());
        self.painted.follow(marked.key, painted, 0, marked.shown);
        self.painted.hatch(ui.painter(), image, 8.0, Stroke::new(1.0, color.gamma_multiply(0.7)));
        self.painted.draw(ui.painter(), image, color);
        if store.cut.rings > 0 {
            self.grown.follow(marked.key, painted, store.cut.rings, marked.shown);
            self.grown.draw(ui.painter(), image, color.gamma_multiply(0.7));
        }
    }
}

/// Frames a patch so that it is seen on any ground.
pub fn framed(painter: &Painter, place: Rect) {
    painter.rect_stroke(place, 0.0, Stroke::new(2.0, theme::ON_DARK), StrokeKind::Outside);
    painter.rect_stroke(place.expand(2.0), 0.0, Stroke::new(1.0, theme::AROUND), StrokeKind::Outside);
}

/// A thin cross where the pointer is on another image; `cursor` as shares of the source image.
pub fn cross(ui: &Ui, image: Rect, marked: &Marked<'_>, cursor: [f32; 2]) {
    let (w, h) = marked.view.geometry.source;
    let [x, y] = [cursor[0] * w as f32, cursor[1] * h as f32];
    let [x, y, ..] = shares([x, y, x, y], marked.shown.frame);
    if !(0.0..=1.0).contains(&x) || !(0.0..=1.0).contains(&y) {
        return;
    }
    let middle = at([x, y], image);
    for (width, color) in [(2.5, theme::AROUND.gamma_multiply(0.5)), (1.0, theme::ON_DARK)] {
        ui.painter().hline(image.x_range(), middle.y, Stroke::new(width, color));
        ui.painter().vline(middle.x, image.y_range(), Stroke::new(width, color));
    }
}

/// The part of an image that the model saw, as shares of a picture of it.
pub fn seen(geometry: &Geometry, shown: &Shown) -> [f32; 4] {
    shares(geometry.seen(), shown.frame)
}

/// Hatches what the model never saw: it is no part of what any number here is about.
fn unseen(painter: &Painter, image: Rect, marked: &Marked<'_>) {
    if matches!(marked.key.1, Sight::View(_)) {
        return;
    }
    let seen = on(seen(&marked.view.geometry, marked.shown), image);
    let clip = painter.clip_rect();
    for part in around(image, seen) {
        // Zoomed, a part is larger than the window: lines are drawn where they are seen.
        let part = part.intersect(clip);
        if part.width() >= 0.5 && part.height() >= 0.5 {
            painter.rect_filled(part, 0.0, theme::shade());
            hatch(painter, part, 9.0, Stroke::new(1.0, theme::ON_DARK.gamma_multiply(0.7)));
        }
    }
}

/// What lies around a rectangle within another, as four that do not overlap.
fn around(whole: Rect, inner: Rect) -> [Rect; 4] {
    let part = |x0: f32, y0: f32, x1: f32, y1: f32| Rect::from_min_max((x0, y0).into(), (x1, y1).into());
    [
        part(whole.left(), whole.top(), whole.right(), inner.top()),
        part(whole.left(), inner.bottom(), whole.right(), whole.bottom()),
        part(whole.left(), inner.top(), inner.left(), inner.bottom()),
        part(inner.right(), inner.top(), whole.right(), inner.bottom()),
    ]
}

fn grid(painter: &Painter, image: Rect, shown: &Shown) {
    let first = shown.numbers().next().and_then(|number| shown.rect(number));
    let size = first.map_or(vec2(0.0, 0.0), |rect| on(rect, image).size());
    if size.min_elem() >= GRID_FROM {
        lines(painter, image, &shown.grid(), Stroke::new(2.0, theme::AROUND.gamma_multiply(0.25)));
        lines(painter, image, &shown.grid(), Stroke::new(1.0, theme::ON_DARK.gamma_multiply(0.35)));
    }
}

/// The masks of objects that are known to be on the image.
fn known(painter: &Painter, image: Rect, marked: &Marked<'_>) {
    for object in marked.view.objects.iter().flatten() {
        let outline: Vec<[f32; 4]> =
            object.outline.iter().map(|line| shares(*line, marked.shown.frame)).collect();
        lines(painter, image, &outline, Stroke::new(3.0, theme::AROUND.gamma_multiply(0.6)));
        lines(painter, image, &outline, Stroke::new(1.2, theme::ON_DARK));
    }
}

fn peak_cross(painter: &Painter, patch: Rect) {
    let (middle, arm) = (patch.center(), (patch.size().min_elem() / 2.0).clamp(4.0, 9.0));
    for (width, color) in [(3.5, theme::AROUND), (1.5, theme::ON_DARK)] {
        let stroke = Stroke::new(width, color);
        painter.line_segment([middle - vec2(arm, arm), middle + vec2(arm, arm)], stroke);
        painter.line_segment([middle - vec2(arm, -arm), middle + vec2(arm, -arm)], stroke);
    }
}

/// The objects that a visual token shows, by name.
pub fn objects_at(view: &ImageView, number: usize) -> BTreeSet<&str> {
    let known = view.objects.iter().flatten();
    known.filter(|object| object.patches.contains(&number)).map(|object| object.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;

    #[test]
    fn what_lies_around_covers_the_rest_once() {
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(10.0, 10.0));
        let inner = Rect::from_min_max(pos2(2.0, 3.0), pos2(7.0, 8.0));
        let parts = around(whole, inner);
        let area: f32 = parts.iter().map(|part| part.area()).sum();
        assert_eq!(area, whole.area() - inner.area());
        assert!(parts.iter().all(|part| !part.shrink(0.1).intersects(inner.shrink(0.1))));
        assert!(around(whole, whole).iter().all(|part| part.area() == 0.0));
    }
}
