//! A strip of layers that doubles as a range with two handles.
//!
//! Each cell is coloured by a number of its layer (attention to the image). Drag a handle, or the
//! span between the two; each handle is a Tab stop of its own and follows Left and Right. Knows
//! layers as numbers only.

use egui::{
    Color32, CursorIcon, EventFilter, Id, Key, Pos2, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use crate::ui::widgets::hatch::hatch;

/// What the strip shows.
pub struct RangeStrip<'a> {
    /// One number a layer, 0 to 1.
    pub values: &'a [f32],
    /// Colour of a number.
    pub color: &'a dyn Fn(f32) -> Color32,
    /// First and last layer of the range.
    pub range: (usize, usize),
    /// Whether the range is in force.
    pub active: bool,
    /// Layer on show.
    pub layer: usize,
    /// Colour of the handles and of the range when in force.
    pub accent: Color32,
}

/// What the user did to the strip.
pub struct RangeResponse {
    /// The new range, when it changed.
    pub range: Option<(usize, usize)>,
    /// The whole strip, hovered or not.
    pub strip: Response,
    /// The two handles.
    pub handles: [Rect; 2],
}

/// Where a drag of the middle began.
#[derive(Clone, Copy)]
struct Grip {
    range: (usize, usize),
    layer: isize,
}

/// `range` with its low end at `to`: inside the layers, never past the high end.
pub fn with_low(range: (usize, usize), to: isize) -> (usize, usize) {
    (to.clamp(0, range.1 as isize) as usize, range.1)
}

/// `range` with its high end at `to`: inside `n` layers, never before the low end.
pub fn with_high(range: (usize, usize), to: isize, n: usize) -> (usize, usize) {
    (range.0, to.clamp(range.0 as isize, n as isize - 1) as usize)
}

/// `range` moved by `by` as a whole, inside `n` layers.
pub fn moved(range: (usize, usize), by: isize, n: usize) -> (usize, usize) {
    let by = by.clamp(-(range.0 as isize), n as isize - 1 - range.1 as isize);
    (range.0.saturating_add_signed(by), range.1.saturating_add_signed(by))
}

/// The pointer's look over handles and over the span between them.
fn point_at(ui: &Ui, handles: &[Response; 2], middle: &Response) {
    if handles.iter().any(|h| h.hovered() || h.dragged()) {
        ui.ctx().set_cursor_icon(CursorIcon::ResizeHorizontal);
    } else if middle.dragged() {
        ui.ctx().set_cursor_icon(CursorIcon::Grabbing);
    } else if middle.hovered() {
        ui.ctx().set_cursor_icon(CursorIcon::Grab);
    }
}

impl RangeStrip<'_> {
    /// Draws the strip into `rect`, whose width is divided evenly among the layers.
    pub fn show(self, ui: &mut Ui, id: Id, rect: Rect) -> RangeResponse {
        let n = self.values.len().max(1);
        let cell = rect.width() / n as f32;
        let edge = |layer: usize| rect.left() + layer as f32 * cell;
        let (low, high) = (self.range.0.min(n - 1), self.range.1.min(n - 1));
        let mut range = (low, high);

        let strip = ui.interact(rect, id, Sense::hover());
        let between = Rect::from_x_y_ranges(edge(low)..=edge(high + 1), rect.y_range());
        let middle = ui.interact(between, id.with("middle"), Sense::DRAG | Sense::HOVER);
        let handle_rect =
            |x: f32| Rect::from_center_size(pos2(x, rect.center().y), vec2(11.0, rect.height() + 8.0));
        let rects = [handle_rect(edge(low)), handle_rect(edge(high + 1))];
        let handles = [
            ui.interact(rects[0], id.with("low"), Sense::click_and_drag()),
            ui.interact(rects[1], id.with("high"), Sense::click_and_drag()),
        ];

        // The edge between two cells that is nearest to the pointer.
        let nearest = |at: Pos2| ((at.x - rect.left()) / cell).round() as isize;
        // On a slow machine a whole drag can fall between two frames: its end counts too.
        let pulled = |r: &Response| r.interact_pointer_pos().filter(|_| r.dragged() || r.drag_stopped());
        if let Some(at) = pulled(&handles[0]) {
            range = with_low(range, nearest(at));
        }
        if let Some(at) = pulled(&handles[1]) {
            range = with_high(range, nearest(at) - 1, n);
        }
        if let Some(at) = middle.interact_pointer_pos() {
            let layer = ((at.x - rect.left()) / cell).floor() as isize;
            if middle.drag_started() {
                ui.data_mut(|d| d.insert_temp(id, Grip { range, layer }));
            }
            if let Some(grip) = ui.data(|d| d.get_temp::<Grip>(id)).filter(|_| pulled(&middle).is_some()) {
                range = moved(grip.range, layer - grip.layer, n);
            }
        }
        for (handle, is_low) in handles.iter().zip([true, false]) {
            if handle.clicked() || handle.drag_started() {
                handle.request_focus();
            }
            if handle.has_focus() {
                let arrows = EventFilter { horizontal_arrows: true, ..Default::default() };
                ui.memory_mut(|m| m.set_focus_lock_filter(handle.id, arrows));
                let by = ui.input(|i| {
                    i.num_presses(Key::ArrowRight) as isize - i.num_presses(Key::ArrowLeft) as isize
                });
                range = match is_low {
                    true => with_low(range, range.0 as isize + by),
                    false => with_high(range, range.1 as isize + by, n),
                };
            }
            let value = if is_low { range.0 } else { range.1 };
            let name = if is_low { "first cut layer" } else { "last cut layer" };
            handle.widget_info(|| WidgetInfo {
                value: Some(value as f64),
                ..WidgetInfo::labeled(Role::Slider, ui.is_enabled(), name)
            });
        }
        point_at(ui, &handles, &middle);
        self.paint(ui, rect, range, &handles);
        RangeResponse { range: (range != self.range).then_some(range), strip, handles: rects }
    }

    fn paint(&self, ui: &Ui, rect: Rect, range: (usize, usize), handles: &[Response; 2]) {
        let painter = ui.painter();
        let cell = rect.width() / self.values.len().max(1) as f32;
        let edge = |layer: usize| rect.left() + layer as f32 * cell;
        for (layer, &value) in self.values.iter().enumerate() {
            let x = edge(layer)..=edge(layer + 1);
            painter.rect_filled(Rect::from_x_y_ranges(x, rect.y_range()), 0.0, (self.color)(value));
        }
        let strength = if self.active { 1.0 } else { 0.45 };
        let accent = self.accent.gamma_multiply(strength);
        let inside = Rect::from_x_y_ranges(edge(range.0)..=edge(range.1 + 1), rect.y_range());
        if self.active {
            // Blocked: hatched, so that the colours below stay readable.
            hatch(painter, inside, 7.0, Stroke::new(1.0, accent));
        }
        painter.rect_stroke(inside, 0.0, Stroke::new(2.0, accent), StrokeKind::Middle);
        let marker = edge(self.layer) + cell / 2.0;
        let up = rect.bottom() + 2.0;
        painter.add(egui::Shape::convex_polygon(
            vec![pos2(marker, up), pos2(marker - 4.5, up + 6.0), pos2(marker + 4.5, up + 6.0)],
            ui.visuals().text_color(),
            Stroke::NONE,
        ));
        for (handle, x) in handles.iter().zip([edge(range.0), edge(range.1 + 1)]) {
            let hot = handle.hovered() || handle.dragged() || handle.has_focus();
            let body = Rect::from_center_size(
                pos2(x, rect.center().y),
                vec2(if hot { 9.0 } else { 7.0 }, rect.height() + 6.0),
            );
            painter.rect_filled(
                body,
                2.0,
                self.accent.gamma_multiply(if hot { 1.0 } else { strength.max(0.7) }),
            );
            if handle.has_focus() {
                painter.rect_stroke(
                    body.expand(2.0),
                    3.0,
                    Stroke::new(1.5, ui.visuals().text_color()),
                    StrokeKind::Outside,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_stay_inside_and_in_order() {
        assert_eq!(with_low((2, 5), -3), (0, 5));
        assert_eq!(with_low((2, 5), 9), (5, 5));
        assert_eq!(with_high((2, 5), 99, 8), (2, 7));
        assert_eq!(with_high((2, 5), 0, 8), (2, 2));
        assert_eq!(with_high((0, 0), -1, 8), (0, 0));
    }

    #[test]
    fn moving_keeps_the_width() {
        assert_eq!(moved((2, 5), 1, 8), (3, 6));
        assert_eq!(moved((2, 5), 9, 8), (4, 7));
        assert_eq!(moved((2, 5), -9, 8), (0, 3));
        assert_eq!(moved((0, 7), 3, 8), (0, 7));
    }
}
