//! Buttons with a picture: an eye that opens and closes (whether something is in force), a bin (takes it away).
//!
//! Painted, since fonts need not have them. Knows nothing of what they are about.

use egui::{Rect, Response, Role, Sense, Shape, Stroke, StrokeKind, Ui, WidgetInfo, pos2, vec2};

use crate::ui::theme;

/// Size of the place that can be clicked.
const SIZE: [f32; 2] = [24.0, 20.0];

/// The place of a button, lit under the pointer.
fn place(ui: &mut Ui) -> (Rect, Response) {
    let (rect, response) = ui.allocate_exact_size(SIZE.into(), Sense::click());
    if response.hovered() || response.has_focus() {
        let visuals = ui.style().interact(&response);
        ui.painter().rect_filled(rect, visuals.corner_radius, visuals.weak_bg_fill);
    }
    (rect, response)
}

/// An eye; `name` is what screen readers call it.
pub fn eye(ui: &mut Ui, open: bool, name: &str) -> Response {
    let (rect, response) = place(ui);
    response.widget_info(|| WidgetInfo::selected(Role::CheckBox, ui.is_enabled(), open, name));
    let color = if open { theme::accent(ui.visuals()) } else { ui.visuals().weak_text_color() };
    let (centre, half) = (rect.center(), vec2(8.0, 5.0));
    let stroke = Stroke::new(1.5, color);
    // Two lids, each an arc through the corners.
    let lid = |side: f32| {
        let at = |step: u8| {
            let x = f32::from(step) / 8.0 - 1.0;
            pos2(centre.x + x * half.x, centre.y + side * half.y * (1.0 - x * x))
        };
        Shape::line((0..=16).map(at).collect(), stroke)
    };
    ui.painter().add(lid(1.0));
    if open {
        ui.painter().add(lid(-1.0));
        ui.painter().circle_filled(centre, 2.5, color);
    }
    response
}

/// A bin; `name` is what screen readers call it.
pub fn bin(ui: &mut Ui, name: &str) -> Response {
    let (rect, response) = place(ui);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), name));
    let stroke = Stroke::new(1.3, ui.style().interact(&response).fg_stroke.color);
    let at = |x: f32, y: f32| rect.center() + vec2(x, y);
    let painter = ui.painter();
    painter.rect_stroke(Rect::from_min_max(at(-3.5, -3.0), at(3.5, 6.0)), 1.0, stroke, StrokeKind::Middle);
    painter.line_segment([at(-5.5, -3.5), at(5.5, -3.5)], stroke);
    painter.line_segment([at(-1.5, -5.5), at(1.5, -5.5)], stroke);
    painter.line_segment([at(0.0, -0.5), at(0.0, 3.5)], stroke);
    response
}
