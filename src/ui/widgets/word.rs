//! One word of an answer: its ink, what tints it, and the two thin marks under it.
//!
//! Knows how a word looks, and which tokens are one word to a reader; not what it is a word of.

use egui::{Color32, FontFamily, FontId, Rect, Stroke, StrokeKind, Ui, pos2, vec2};

use crate::{
    spec::span::Span,
    trace::tokens::AnswerToken,
    ui::{
        theme,
        widgets::word_flow::{FlowLook, Piece},
    },
};

/// How a word looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// Maps show it.
    pub selected: bool,
    /// A click pinned it.
    pub pinned: bool,
    /// The other answer lacks it.
    pub changed: bool,
    /// It ends the answer.
    pub end: bool,
    /// It is of the run that was asked for.
    pub fresh: bool,
    /// What it is tinted with.
    pub tint: Option<Color32>,
    /// Its attention to the image, 0 to 1: a stripe under it.
    pub share: Option<f32>,
    /// What a cut does to it, -1 to 1: a bar under that.
    pub effect: Option<f32>,
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

/// The words of an answer: a character that is split over several tokens is one, and its last token carries it.
pub fn pieces<'a>(tokens: impl IntoIterator<Item = &'a AnswerToken>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // The first token of a character that is still to come, and what is said so far.
    let mut open: Option<(usize, String)> = None;
    let mut n = 0;
    for (at, token) in tokens.into_iter().enumerate() {
        n = at + 1;
        if token.partial {
            open.get_or_insert_with(|| (at, String::new())).1.push_str(&token.text);
            continue;
        }
        let breaks = token.text.contains('\n');
        match open.take() {
            Some((first, text)) if !token.end => {
                pieces.push(Piece { text: text + &token.text, first, last: at, breaks });
                continue;
            }
            Some((first, text)) => pieces.push(unfinished(first, text, at - 1)),
            None => {}
        }
        pieces.push(Piece { text: shown(token).to_string(), first: at, last: at, breaks });
    }
    if let Some((first, text)) = open {
        pieces.push(unfinished(first, text, n - 1));
    }
    pieces
}

/// A character whose rest has not come, or never will.
fn unfinished(first: usize, mut text: String, last: usize) -> Piece {
    if text.trim().is_empty() {
        text.push('·');
    }
    Piece { text, first, last, breaks: false }
}

/// How answers flow: rows that leave room for both marks whether they are drawn or not, so that nothing moves.
pub fn answer_look() -> FlowLook {
    FlowLook { font: FontId::new(17.0, FontFamily::Proportional), row: 33.0, body: 30.0, lead: 5.0, pad: 2.0 }
}

/// Draws one at its place.
pub fn paint(ui: &Ui, body: Rect, text: &str, look: &Look) {
    let visuals = ui.visuals();
    let (accent, cut) = (theme::accent(visuals), theme::cut_color(visuals));
    let mut color = if look.changed { cut } else { visuals.text_color() };
    if look.end || !look.fresh {
        color = color.gamma_multiply(0.55);
    }
    let painter = ui.painter();
    let ground = match look.tint {
        Some(tint) => Some(tint),
        None => look.changed.then(|| cut.gamma_multiply(0.16)),
    };
    if let Some(ground) = ground {
        painter.rect_filled(body, 3.0, ground);
    }
    if look.selected && look.tint.is_none() {
        painter.rect_filled(body, 3.0, accent.gamma_multiply(0.22));
    }
    if look.pinned || look.selected {
        let width = if look.pinned { 1.5 } else { 0.75 };
        painter.rect_stroke(body, 3.0, Stroke::new(width, accent), StrokeKind::Inside);
    }
    let ink = painter.layout_no_wrap(text.to_string(), answer_look().font, Color32::PLACEHOLDER);
    painter.galley(body.min + vec2(answer_look().pad, 1.0), ink, color);
    if let Some(share) = look.share {
        stripe(ui, body, share);
    }
    if let Some(effect) = look.effect {
        bar(ui, body, effect);
    }
}

/// A line under the word, `top` points above its lower edge.
fn track(body: Rect, top: f32, height: f32) -> Rect {
    let y = body.bottom() - top;
    Rect::from_min_max(pos2(body.left() + 2.0, y), pos2(body.right() - 2.0, y + height))
}

fn stripe(ui: &Ui, body: Rect, share: f32) {
    let track = track(body, 7.0, 2.5);
    ui.painter().rect_filled(track, 1.0, ui.visuals().weak_text_color().gamma_multiply(0.25));
    let mut bar = track;
    bar.set_width(track.width() * share.clamp(0.0, 1.0));
    ui.painter().rect_filled(bar, 1.0, theme::span_color(Span::Visual));
}

fn bar(ui: &Ui, body: Rect, effect: f32) {
    let mut bar = track(body, 3.5, 3.0);
    bar.set_width(bar.width() * effect.abs().clamp(0.0, 1.0));
    let visuals = ui.visuals();
    let color = if effect < 0.0 { theme::cut_color(visuals) } else { theme::accent(visuals) };
    ui.painter().rect_filled(bar, 1.0, color);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, partial: bool) -> AnswerToken {
        AnswerToken {
            position: 0,
            id: 0,
            text: text.to_string(),
            span: Span::Answer,
            logprob: 0.0,
            entropy: None,
            top: Vec::new(),
            end: false,
            partial,
        }
    }

    fn told(tokens: &[AnswerToken]) -> Vec<(String, usize, usize)> {
        pieces(tokens).into_iter().map(|piece| (piece.text, piece.first, piece.last)).collect()
    }

    #[test]
    fn a_character_of_several_tokens_is_one_word_that_its_last_carries() {
        let tokens =
            [token(" a", false), token("", true), token("", true), token("猫", false), token(".", false)];
        let expected = [(" a".to_string(), 0, 0), ("猫".to_string(), 1, 3), (".".to_string(), 4, 4)];
        assert_eq!(told(&tokens), expected);
        // The rest has not come yet, or never will.
        assert_eq!(told(&tokens[..3]), [(" a".to_string(), 0, 0), ("·".to_string(), 1, 2)]);
        // A token may end one character and begin another.
        assert_eq!(told(&[token(" x", true), token("é", false)]), [(" xé".to_string(), 0, 1)]);
    }

    #[test]
    fn blanks_and_line_breaks_are_seen() {
        let all = pieces(&[token("\n", false), token(" b", false)]);
        assert_eq!((all[0].text.as_str(), all[0].breaks, all[1].breaks), (" ·", true, false));
    }
}
