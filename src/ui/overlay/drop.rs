//! What to do with a file that is held over the window.

use egui::{Align2, Context, FontId, Id, LayerId, Order};

use crate::ui::theme;

/// Draws the hint while a file is held over the window.
pub fn drop_hint(ctx: &Context) {
    if ctx.input(|i| i.raw.hovered_files.is_empty()) {
        return;
    }
    let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
    let rect = ctx.content_rect();
    painter.rect_filled(rect, 0.0, theme::shade());
    let text = "Drop an image or a model folder";
    painter.text(rect.center(), Align2::CENTER_CENTER, text, FontId::proportional(24.0), theme::ON_DARK);
}
