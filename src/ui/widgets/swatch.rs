//! A span's colour with words beside it: a piece of a legend.

use egui::{Response, RichText, Sense, TextStyle, Ui, WidgetText, vec2};

use crate::{spec::span::Span, ui::theme};

/// Side of the square.
const SIDE: f32 = 9.0;

/// A small square in the colour of a span.
pub fn swatch(ui: &mut Ui, span: Span) {
    let (rect, _) = ui.allocate_exact_size(vec2(SIDE, SIDE), Sense::hover());
    ui.painter().rect_filled(rect, 2.0, theme::span_color(span));
}

/// The square and its words; a wrapped line breaks before both, never between them.
pub fn entry(ui: &mut Ui, span: Span, words: String) -> Response {
    let gap = ui.spacing().item_spacing.x;
    let text = WidgetText::from(RichText::new(words.as_str()).small());
    let text = text.into_galley(ui, None, f32::INFINITY, TextStyle::Small).size().x;
    if ui.available_size_before_wrap().x < SIDE + gap + text {
        ui.end_row();
    }
    swatch(ui, span);
    let response = ui.label(RichText::new(words).small());
    ui.add_space(3.0);
    response
}
