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

/// What a span is, in a sentence.
pub fn meaning(span: Span) -> &'static str {
    match span {
        Span::Bos => "The beginning-of-sequence token, where idle attention gathers",
        Span::System => "Template text, system text, the model's earlier answers",
        Span::Markers => "Tokens around tiles, rows and images",
        Span::Visual => "Image patches",
        Span::Question => "The user's text of all turns",
        Span::Last => "The last prompt position: it predicts the first word of the answer",
        Span::Answer => "What the answer was given to begin with, and words already said",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_turns_count_as_is_said() {
        assert!(meaning(Span::Question).contains("of all turns"));
        assert!(meaning(Span::System).contains("the model's earlier answers"));
    }
}
