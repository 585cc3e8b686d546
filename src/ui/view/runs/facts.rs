//! A word in numbers: a line for the one that is selected, and what the tooltip of a word tells.
//!
//! Knows runs and the selection.

use std::ops::RangeInclusive;

use egui::{Align2, Label, Rect, RichText, Sense, TextStyle, Ui, pos2, vec2};

use crate::{
    spec::span::Span,
    trace::tokens::{AnswerToken, said},
    ui::{
        store::{
            run::{RowView, ScoredToken},
            store::Store,
        },
        theme,
        view::{runs::compare, runs::tint},
        widgets::{number, word::shown},
    },
    worker::protocol::Slot,
};

/// Candidates that a tooltip lists.
const LISTED: usize = 6;

/// What is selected, in a line; `None` where nothing is there.
pub fn line(store: &Store) -> Option<String> {
    let (slot, tokens) = store.selection.subject();
    let lane = store.runs.lane(slot);
    if let [at] = tokens[..] {
        let token = lane.token(at)?;
        return Some(of_token(store, token, lane.row(at).map(|(row, _)| row.as_ref())));
    }
    let subject = store.subject()?;
    let mean = subject.mean?;
    let (layer, head) = store.selection.looked_at();
    let share = subject.flow.share(layer, head, Span::Visual);
    let what = match tokens.len() {
        0 => format!("whole answer, {} tokens", mean.rows),
        n => format!("{n} tokens “{}”", said(tokens.iter().filter_map(|&at| lane.token(at)))),
    };
    Some(format!(
        "{what}: {} ± {} (SD over tokens) on the image in {}",
        number::percent(share),
        number::percent(mean.deviation(layer, head, Span::Visual)),
        tint::place(store),
    ))
}

fn of_token(store: &Store, token: &AnswerToken, row: Option<&RowView>) -> String {
    let (layer, head) = store.selection.looked_at();
    let looked = match row {
        Some(row) => {
            let share = number::percent(row.flow.share(layer, head, Span::Visual));
            format!("{share} on the image in {}", tint::place(store))
        }
        None => "its attention is not kept".to_string(),
    };
    let others = token.top.iter().filter(|c| c.id != token.id).take(3);
    let others: Vec<String> =
        others.map(|c| format!("{} {}", c.text.trim(), number::percent(c.logprob.exp()))).collect();
    let others = if others.is_empty() { String::new() } else { format!(", else {}", others.join(", ")) };
    format!(
        "row {} predicts “{}”, position {}: {looked}; probability {}{others}",
        token.position.saturating_sub(1),
        shown(token).trim(),
        token.position,
        number::probability(token.logprob),
    )
}

/// What the tooltip of a word tells.
pub struct Word<'a> {
    /// Its run.
    pub slot: Slot,
    /// Its tokens, of which the last carries it.
    pub tokens: RangeInclusive<usize>,
    /// What a cut does to it, and the letter of the run under that cut.
    pub effect: Option<(&'a ScoredToken, &'a str)>,
    /// How much it looked at the patches that words are tinted by.
    pub on_patches: Option<f32>,
}

impl Word<'_> {
    /// Draws it.
    pub fn show(&self, ui: &mut Ui, store: &Store) {
        let lane = store.runs.lane(self.slot);
        let Some(token) = lane.token(*self.tokens.end()) else { return };
        let row = lane.row(*self.tokens.end()).map(|(row, _)| row);
        ui.horizontal(|ui| {
            ui.label(RichText::new(format!("“{}”", shown(token).trim())).strong());
            ui.label(RichText::new(format!("run {}", store.runs.name(self.slot))).small().weak());
        });
        let small = |ui: &mut Ui, text: String| ui.add(Label::new(RichText::new(text).small()).wrap());
        let ids: Vec<String> =
            self.tokens.clone().filter_map(|at| lane.token(at)).map(|token| token.id.to_string()).collect();
        let ids = format!("{} {}", if ids.len() == 1 { "id" } else { "ids" }, ids.join(", "));
        let predicted = token.position.saturating_sub(1);
        small(ui, format!("{ids} · position {} · predicted by row {predicted}", token.position));
        small(ui, format!("probability {}", number::probability(token.logprob)));
        if let Some(entropy) = token.entropy {
            small(ui, format!("entropy {} nats", number::short(entropy)));
        }
        let (layer, head) = store.selection.looked_at();
        if let Some(row) = row {
            let share = number::percent(row.flow.share(layer, head, Span::Visual));
            small(ui, format!("{share} on the image in {}", tint::place(store)));
        }
        if let Some(share) = self.on_patches {
            small(ui, format!("{} on the marked patches", number::percent(share)));
        }
        if let Some((scored, run)) = self.effect {
            small(ui, under_cut(scored, run));
        }
        candidates(ui, token);
    }
}

/// Before and after, in words.
fn under_cut(scored: &ScoredToken, run: &str) -> String {
    let effect = &scored.effect;
    let rank = match effect.rank {
        0 => "the likeliest".to_string(),
        1 => "1 token is likelier".to_string(),
        n => format!("{n} tokens are likelier"),
    };
    format!(
        "under {run}: log probability {:.2}, before {:.2} ({} nats); {rank}; KL {} nats",
        effect.logprob,
        effect.baseline,
        compare::change(effect.delta),
        number::short(effect.kl.max(0.0)),
    )
}

/// The likeliest tokens at the place of one, each with its probability as a bar.
fn candidates(ui: &mut Ui, token: &AnswerToken) {
    for candidate in token.top.iter().take(LISTED) {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width().min(270.0), 15.0), Sense::hover());
        let probability = candidate.logprob.exp();
        let visuals = ui.visuals();
        let color = if candidate.id == token.id { visuals.text_color() } else { visuals.weak_text_color() };
        let font = TextStyle::Small.resolve(ui.style());
        let (left, right) = (rect.left() + 110.0, rect.right() - 62.0);
        let painter = ui.painter().with_clip_rect(ui.clip_rect().intersect(rect));
        let text = candidate.text.trim();
        let text = if text.is_empty() { "·" } else { text };
        let named = painter.with_clip_rect(
            painter.clip_rect().intersect(Rect::from_min_max(rect.min, pos2(left - 4.0, rect.bottom()))),
        );
        named.text(rect.left_center(), Align2::LEFT_CENTER, text, font.clone(), color);
        let full = Rect::from_min_max(pos2(left, rect.top() + 4.0), pos2(right, rect.bottom() - 4.0));
        painter.rect_filled(full, 1.0, visuals.weak_text_color().gamma_multiply(0.2));
        let mut bar = full;
        bar.set_width(full.width() * probability.clamp(0.0, 1.0));
        painter.rect_filled(bar, 1.0, theme::accent(visuals));
        painter.text(rect.right_center(), Align2::RIGHT_CENTER, number::percent(probability), font, color);
    }
}
