//! One word of an answer, with the stripe of its attention to the image under it.
//!
//! Knows how a word looks; not what it is a word of.

use egui::{FontFamily, FontId, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2};

use crate::{spec::span::Span, trace::tokens::AnswerToken, ui::theme};

/// How a word looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Maps show it.
    pub selected: bool,
    /// A click pinned it.
    pub pinned: bool,
    /// The other answer lacks it.
    pub changed: bool,
    /// It is of the run that was asked for.
    pub fresh: bool,
    /// Its attention to the image, 0 to 1.
    pub share: Option<f32>,
}

/// A token as people read it, with the blank before it.
pub fn shown(token: &AnswerToken) -> &str {
    match token.end {
        true => " end",
        // A part of the character that the next token carries.
        false if token.partial && token.text.trim().is_empty() => "·",
        false if token.text.trim().is_empty() => " ·",
        false => token.text.as_str(),
    }
}

/// Draws it.
pub fn word(ui: &mut Ui, token: &AnswerToken, look: &Look) -> Response {
    let text = shown(token);
    let visuals = ui.visuals().clone();
    let mut color = if look.changed { theme::cut_color(&visuals) } else { visuals.text_color() };
    if token.end || !look.fresh {
        color = color.gamma_multiply(0.55);
    }
    let font = FontId::new(17.0, FontFamily::Proportional);
    // The leading blank of a token is the gap before it, and no part of what lights up.
    let lead = if text.starts_with(' ') { 5.0 } else { 0.0 };
    let ink = ui.painter().layout_no_wrap(text.trim_start().to_string(), font, color);
    let size = vec2(ink.size().x + lead + 4.0, ink.size().y + 8.0);
    // No stop of the Tab key: the answer as a whole is one.
    let (rect, response) = ui.allocate_exact_size(size, Sense::CLICK | Sense::HOVER);
    let body = Rect::from_min_max(rect.min + vec2(lead, 0.0), rect.max);
    let painter = ui.painter();
    let accent = theme::accent(&visuals);
    if look.changed {
        painter.rect_filled(body, 3.0, theme::cut_color(&visuals).gamma_multiply(0.16));
    }
    if look.selected {
        painter.rect_filled(body, 3.0, accent.gamma_multiply(0.22));
    }
    if look.pinned {
        painter.rect_stroke(body, 3.0, Stroke::new(1.5, accent), StrokeKind::Inside);
    }
    painter.galley(body.min + vec2(2.0, 2.0), ink, color);
    if let Some(share) = look.share {
        stripe(ui, body, share);
    }
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, look.selected, text.trim()));
    response
}

fn stripe(ui: &Ui, body: Rect, share: f32) {
    let (left, right) = (body.left_bottom() + vec2(2.0, -4.0), body.right_bottom() + vec2(-2.0, -1.5));
    let track = Rect::from_min_max(left, right);
    ui.painter().rect_filled(track, 1.0, ui.visuals().weak_text_color().gamma_multiply(0.25));
    let mut bar = track;
    bar.set_width(track.width() * share.clamp(0.0, 1.0));
    ui.painter().rect_filled(bar, 1.0, theme::span_color(Span::Visual));
}
