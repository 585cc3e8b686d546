//! Both answers, word by word. Hover previews a word, a click pins it.
//!
//! The stripe under a word is its attention to the image in the selected layer. Words that the cut
//! changed stand out in both answers; words that are not up to date are dim.

use egui::{Label, Rect, RichText, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2};

use crate::{spec::{knockout::Knockout, span::Span}, trace::{diff, run::{AnswerToken, Stop}}, ui::{layout::{Draft, section}, store::{runs::{Row, View}, selection::Which, state::{Action, State}}, theme}};

/// Draws the panel.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
    let (baseline, cut) = (state.runs.baseline.tokens(), state.runs.cut.tokens());
    let ids = |tokens: &[(&AnswerToken, bool)]| tokens.iter().map(|(t, _)| t.id).collect::<Vec<_>>();
    // Half an answer differs from a whole one in nothing but its end.
    let comparable = !cut.is_empty() && !state.runs.baseline.busy();
    let (kept, kept_cut) = diff::common(&ids(&baseline), &ids(&cut));

    section(ui, "Answer", |ui| {
        if state.runs.has_cut() {
            for which in [Which::Cut, Which::Baseline] {
                let text = format!("maps of {}", which.name());
                if ui.selectable_label(state.selection.which == which, text).clicked() {
                    actions.push(Action::Show(which));
                }
            }
        }
    });
    let mut hovered = None;
    let changed: Vec<bool> = kept.iter().map(|k| comparable && !k).collect();
    strip(ui, state, draft, actions, Which::Baseline, &changed, &mut hovered);
    if state.runs.has_cut() {
        ui.add_space(4.0);
        let lane = &state.runs.cut;
        let knockouts = lane.view().map_or(String::new(), |v| list(&v.ask.knockouts));
        ui.horizontal(|ui| {
            ui.label(RichText::new("Under the cut").strong().color(theme::cut_color(ui.visuals())));
            ui.add(Label::new(RichText::new(knockouts).small().monospace()).truncate());
            if lane.busy() {
                ui.label(RichText::new("recomputing…").small().color(theme::stale_color(ui.visuals())));
            }
        });
        let changed: Vec<bool> = kept_cut.iter().map(|k| comparable && !k).collect();
        strip(ui, state, draft, actions, Which::Cut, &changed, &mut hovered);
        if comparable && !lane.busy() {
            let n = changed.iter().filter(|c| **c).count();
            let lost = kept.iter().filter(|k| !**k).count();
            let text = match (n, lost) {
                (0, 0) => "The answer did not change.".to_string(),
                _ => format!("{n} of {} tokens are new, {lost} of {} are gone.", kept_cut.len(), kept.len()),
            };
            ui.label(RichText::new(text).small());
        }
    }
    facts(ui, state);
    if hovered != state.selection.hovered {
        actions.push(Action::Hover(hovered));
    }
}

/// Knockouts as text.
pub fn list(knockouts: &[Knockout]) -> String {
    knockouts.iter().map(Knockout::to_string).collect::<Vec<_>>().join("; ")
}

fn strip(
    ui: &mut Ui,
    state: &State,
    draft: &mut Draft,
    actions: &mut Vec<Action>,
    which: Which,
    changed: &[bool],
    hovered: &mut Option<(Which, usize)>,
) {
    let lane = state.runs.lane(which);
    let tokens = lane.tokens();
    if tokens.is_empty() {
        let text = match lane.busy() || state.busy() {
            true => "…",
            false => "no answer yet",
        };
        ui.label(RichText::new(text).weak());
        return;
    }
    let (shown_which, shown) = state.selection.shown();
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing = vec2(0.0, 3.0);
        for (at, (token, fresh)) in tokens.iter().enumerate() {
            let share = match (lane.view(), lane.row(at)) {
                (Some(view), Some((row, _))) => Some(image_share(state, view, row)),
                _ => None,
            };
            let look = Look {
                selected: shown_which == which && shown == Some(at),
                pinned: state.selection.which == which && state.selection.pinned == Some(at),
                changed: changed.get(at).copied().unwrap_or(false),
                fresh: *fresh,
                share,
            };
            let response = word(ui, token, &look);
            draft.place(format!("{}[{at}]", which.name()), response.rect);
            if response.hovered() {
                *hovered = Some((which, at));
            }
            if response.clicked() {
                actions.push(Action::Pin(which, at));
            }
        }
    });
    if let Some(outcome) = lane.done().filter(|_| !lane.busy()).and_then(|v| v.outcome.as_ref()) {
        let why = match outcome.stop {
            Stop::End | Stop::Forced => None,
            Stop::MaxNew => Some("stopped at the longest answer allowed"),
            Stop::Context => Some("stopped: the context is full"),
            Stop::Cancelled => Some("cancelled"),
        };
        if let Some(why) = why {
            ui.label(RichText::new(why).small().weak());
        }
    }
}

struct Look {
    selected: bool,
    pinned: bool,
    changed: bool,
    fresh: bool,
    share: Option<f32>,
}

fn word(ui: &mut Ui, token: &AnswerToken, look: &Look) -> egui::Response {
    let text = match token.end {
        true => " end",
        false if token.text.trim().is_empty() => " ·",
        false => token.text.as_str(),
    };
    let visuals = ui.visuals().clone();
    let mut color = visuals.text_color();
    if look.changed {
        color = theme::cut_color(&visuals);
    }
    if token.end || !look.fresh {
        color = color.gamma_multiply(0.55);
    }
    let font = egui::FontId::new(17.0, egui::FontFamily::Proportional);
    let galley = ui.painter().layout_no_wrap(text.to_string(), font, color);
    // The leading blank of a token is the gap before it, and no part of what lights up.
    let lead = match text.starts_with(' ') {
        true => 5.0,
        false => 0.0,
    };
    let ink = ui.painter().layout_no_wrap(
        text.trim_start().to_string(),
        galley.job.sections[0].format.font_id.clone(),
        color,
    );
    let size = vec2(ink.size().x + lead + 4.0, ink.size().y + 8.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let body = Rect::from_min_max(rect.min + vec2(lead, 0.0), rect.max);
    let painter = ui.painter();
    if look.changed {
        painter.rect_filled(body, 3.0, theme::cut_color(&visuals).gamma_multiply(0.16));
    }
    if look.selected {
        painter.rect_filled(body, 3.0, theme::accent(&visuals).gamma_multiply(0.22));
    }
    if look.pinned {
        painter.rect_stroke(body, 3.0, Stroke::new(1.5, theme::accent(&visuals)), StrokeKind::Inside);
    }
    painter.galley(body.min + vec2(2.0, 2.0), ink, color);
    if let Some(share) = look.share {
        let track =
            Rect::from_min_max(body.left_bottom() + vec2(2.0, -4.0), body.right_bottom() + vec2(-2.0, -1.5));
        painter.rect_filled(track, 1.0, visuals.weak_text_color().gamma_multiply(0.25));
        let mut bar = track;
        bar.set_width(track.width() * share.clamp(0.0, 1.0));
        painter.rect_filled(bar, 1.0, theme::span_color(Span::Visual));
    }
    response.widget_info(|| WidgetInfo::selected(egui::Role::Button, true, look.selected, text.trim()));
    response
}

/// Attention to the image in the selected layer and head.
fn image_share(state: &State, view: &View, row: &Row) -> f32 {
    let pattern = &row.pattern;
    let layer = state.selection.layer.min(pattern.n_layers.saturating_sub(1));
    match state.selection.head.filter(|&h| h < pattern.n_heads) {
        None => row.flow.get(layer).map_or(0.0, |shares| shares[Span::Visual.index()]),
        Some(head) => {
            let keys = pattern.head(layer, head).iter().enumerate();
            keys.filter(|(key, _)| view.span(*key) == Span::Visual).map(|(_, p)| p).sum()
        }
    }
}

/// The word on show in numbers, on a line of its own: a tooltip would cover the chart.
fn facts(ui: &mut Ui, state: &State) {
    let (which, shown) = state.selection.shown();
    let lane = state.runs.lane(which);
    let word = shown.and_then(|at| Some((lane.tokens().get(at)?.0, lane.view()?, lane.row(at)?.0)));
    let Some((token, view, row)) = word else {
        ui.label(RichText::new("Hover a word to see where it looked; click to pin it.").small().weak());
        return;
    };
    let percent = |p: f32| format!("{:.1} %", p * 100.0);
    let others = token.top.iter().filter(|c| c.id != token.id).take(4);
    let others: Vec<String> =
        others.map(|c| format!("{} {}", c.text.trim(), percent(c.logprob.exp()))).collect();
    let text = format!(
        "position {}: {} on the image in layer {}; probability {}{}",
        token.position,
        percent(image_share(state, view, row)),
        state.selection.layer,
        percent(token.logprob.exp()),
        match others.is_empty() {
            true => String::new(),
            false => format!(", else {}", others.join(", ")),
        },
    );
    ui.add(Label::new(RichText::new(&text).small()).truncate()).on_hover_text(text);
}
