//! What becomes of a file that is held over the window.

use egui::{Align2, Context, FontId, Id, LayerId, Order, vec2};

use crate::ui::theme;

/// What can be dropped, and what it becomes.
const HINT: [&str; 2] = [
    "Drop an image, a model folder, a session or a saved run",
    "A picture named “mask…”, or in a folder “masks”, marks an object of the image on show",
];

/// Draws the hint while a file is held over the window.
pub fn drop_hint(ctx: &Context) {
    if ctx.input(|i| i.raw.hovered_files.is_empty()) {
        return;
    }
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    let rect = ctx.content_rect();
    painter.rect_filled(rect, 0.0, theme::shade());
    for (line, (text, size)) in HINT.into_iter().zip([24.0, 15.0]).enumerate() {
        let at = rect.center() + vec2(0.0, 36.0 * line as f32);
        painter.text(at, Align2::CENTER_CENTER, text, FontId::proportional(size), theme::ON_DARK);
    }
}
