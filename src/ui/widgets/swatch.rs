//! A small square in the colour of a span.

use egui::{Sense, Ui, vec2};

use crate::{spec::span::Span, ui::theme};

/// Draws it.
pub fn swatch(ui: &mut Ui, span: Span) {
    let (rect, _) = ui.allocate_exact_size(vec2(9.0, 9.0), Sense::hover());
    ui.painter().rect_filled(rect, 2.0, theme::span_color(span));
}
