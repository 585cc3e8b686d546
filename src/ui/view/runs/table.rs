//! Runs as data for others: a table of tokens, a chart of what the cut did to each, and tensors.
//!
//! The numbers are those on screen. Tensors: `logprob.A` `[tokens]`, and so on by the run's letter.

use std::fmt::Write as _;

use crate::{
    spec::span::Span,
    trace::{
        figure::{Align, Figure, Ink, Mark},
        offer::Offer,
        table::{Table, Value},
        tensors::NamedTensor,
        tokens::AnswerToken,
    },
    ui::{
        store::{
            run::ScoredToken,
            selection::{BASELINE, CUT},
            store::Store,
        },
        view::{
            runs::compare,
            runs::tint::{self, FULL_CHANGE},
        },
        widgets::word::shown,
    },
    worker::protocol::Slot,
};

/// Candidates that the table lists.
const LISTED: usize = 5;

/// A table of all tokens, a chart of the compared pair, and tensors.
pub fn offers(store: &Store) -> Vec<Offer> {
    let slots: Vec<Slot> = [BASELINE, CUT].into_iter().chain(store.runs.kept()).collect();
    let slots: Vec<Slot> =
        slots.into_iter().filter(|slot| !store.runs.lane(*slot).tokens().is_empty()).collect();
    if slots.is_empty() {
        return Vec::new();
    }
    let mut offers = vec![Offer::Table(table(store, &slots))];
    offers.extend(figure(store).map(Offer::Figure));
    let tensors = slots.iter().flat_map(|slot| tensors(store, *slot)).collect();
    offers.push(Offer::Tensors { name: "runs".to_string(), tensors });
    offers
}

fn table(store: &Store, slots: &[Slot]) -> Table {
    let mut columns: Vec<String> = [
        "run",
        "cuts",
        "token",
        "position",
        "id",
        "text",
        "log probability (nats)",
        "probability",
        "entropy (nats)",
    ]
    .map(String::from)
    .to_vec();
    columns.push(format!("attention to the image, {}", tint::place(store)));
    columns.extend(["change of log probability (nats)", "KL (nats)", "likelier tokens"].map(String::from));
    for n in 1..=LISTED {
        columns.extend([format!("candidate {n}"), format!("log probability of candidate {n} (nats)")]);
    }
    let mut table = Table { name: "runs".to_string(), columns, rows: Vec::new() };
    for &slot in slots {
        let effects = effects_on(store, slot);
        for (at, (token, _)) in store.runs.lane(slot).tokens().into_iter().enumerate() {
            table.rows.push(row(store, slot, at, token, effects.get(at)));
        }
    }
    table
}

/// What the compared cut did to the tokens of a run.
fn effects_on(store: &Store, slot: Slot) -> &[ScoredToken] {
    match compare::pair(store).filter(|pair| pair.base == slot) {
        Some(pair) => compare::effects(store, pair),
        None => &[],
    }
}

fn row(
    store: &Store,
    slot: Slot,
    at: usize,
    token: &AnswerToken,
    scored: Option<&ScoredToken>,
) -> Vec<Value> {
    let lane = store.runs.lane(slot);
    let (layer, head) = store.selection.looked_at();
    let cuts = lane.view().map(|run| run.experiment.intervention.to_string()).unwrap_or_default();
    let share = lane.row(at).map(|(row, _)| row.flow.share(layer, head, Span::Visual));
    let effect = scored.map(|scored| scored.effect);
    let mut row = vec![
        Value::Text(store.runs.name(slot)),
        Value::Text(cuts),
        whole(at),
        whole(token.position),
        Value::Whole(i64::from(token.id)),
        Value::Text(token.text.clone()),
        Value::Number(token.logprob),
        Value::Number(token.logprob.exp()),
        number(token.entropy),
        number(share),
        number(effect.map(|effect| effect.delta)),
        number(effect.map(|effect| effect.kl)),
        effect.map_or(Value::Nothing, |effect| whole(effect.rank)),
    ];
    for n in 0..LISTED {
        let candidate = token.top.get(n);
        row.push(candidate.map_or(Value::Nothing, |c| Value::Text(c.text.clone())));
        row.push(number(candidate.map(|c| c.logprob)));
    }
    row
}

fn whole(number: usize) -> Value {
    i64::try_from(number).map_or(Value::Nothing, Value::Whole)
}

fn number(value: Option<f32>) -> Value {
    value.map_or(Value::Nothing, Value::Number)
}

/// One bar a token of the uncut answer: what the cut did to it.
fn figure(store: &Store) -> Option<Figure> {
    let pair = compare::pair(store)?;
    let effects = compare::effects(store, pair);
    if effects.is_empty() {
        return None;
    }
    let mut title = format!("Change of log probability under {}", store.runs.name(pair.other));
    if let Some(run) = store.runs.lane(pair.other).view() {
        _ = write!(title, ": {}", run.experiment.intervention);
    }
    Some(bars(title, effects))
}

/// Bars from the middle: a fall to the left, a rise to the right. The scale is that of the largest, or of the bars on
/// screen where that is more.
fn bars(title: String, effects: &[ScoredToken]) -> Figure {
    const ROW: f32 = 16.0;
    const TOP: f32 = 44.0;
    const WIDTH: f32 = 520.0;
    const FALL: [u8; 4] = [190, 50, 30, 255];
    const RISE: [u8; 4] = [20, 100, 180, 255];
    let (zero, half) = (300.0, 150.0);
    let largest = effects.iter().map(|scored| scored.effect.delta.abs()).filter(|d| d.is_finite());
    let full = largest.fold(FULL_CHANGE, f32::max);
    let height = TOP + ROW * effects.len() as f32 + 8.0;
    let text = |at, text: String, align, ink| Mark::Text { at, text, size: 11.0, align, ink, bold: false };
    let mut marks = vec![
        Mark::Text {
            at: [10.0, 14.0],
            text: title.clone(),
            size: 12.0,
            align: Align::Start,
            ink: Ink::Text,
            bold: true,
        },
        text([zero - half, 32.0], compare::coarse(-full), Align::Middle, Ink::Weak),
        text([zero, 32.0], "0".to_string(), Align::Middle, Ink::Weak),
        text([zero + half, 32.0], format!("{} nats", compare::coarse(full)), Align::Middle, Ink::Weak),
    ];
    for x in [zero - half, zero, zero + half] {
        let points = vec![[x, TOP - 4.0], [x, height - 4.0]];
        marks.push(Mark::Line { points, ink: Ink::Faint, width: 1.0, dashed: false });
    }
    for (at, scored) in effects.iter().enumerate() {
        let y = TOP + ROW * at as f32;
        let delta = scored.effect.delta;
        let middle = y + ROW / 2.0;
        marks.push(text([140.0, middle], shown(&scored.token).trim().to_string(), Align::End, Ink::Text));
        marks.push(text([WIDTH - 8.0, middle], compare::change(delta), Align::End, Ink::Weak));
        if delta.is_finite() {
            let end = zero + half * delta / full;
            let rect = [zero.min(end), y + 3.0, zero.max(end), y + ROW - 3.0];
            let fill = Some(Ink::Rgba(if delta < 0.0 { FALL } else { RISE }));
            marks.push(Mark::Rect { rect, fill, border: None });
        }
    }
    Figure { marks, ..Figure::new([WIDTH, height], title) }
}

/// What a run holds, token by token.
fn tensors(store: &Store, slot: Slot) -> Vec<NamedTensor> {
    let name = store.runs.name(slot);
    let tokens = store.runs.lane(slot).tokens();
    let mut tensors = vec![vector(format!("logprob.{name}"), tokens.iter().map(|(token, _)| token.logprob))];
    // A part would be read as all of it.
    let entropies: Option<Vec<f32>> = tokens.iter().map(|(token, _)| token.entropy).collect();
    tensors.extend(entropies.map(|all| vector(format!("entropy.{name}"), all)));
    let scored = store.runs.lane(slot).view().map_or(&[][..], |run| &run.scored);
    if !scored.is_empty() {
        tensors.push(vector(format!("delta.{name}"), scored.iter().map(|scored| scored.effect.delta)));
        tensors.push(vector(format!("kl.{name}"), scored.iter().map(|scored| scored.effect.kl)));
    }
    tensors
}

fn vector(name: String, values: impl IntoIterator<Item = f32>) -> NamedTensor {
    let values: Vec<f32> = values.into_iter().collect();
    NamedTensor { name, shape: vec![values.len()], values: values.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::report::Effect;

    #[test]
    fn bars_keep_to_their_scale() {
        let scored = |delta: f32| ScoredToken {
            token: AnswerToken {
                position: 0,
                id: 0,
                text: " a".to_string(),
                span: Span::Answer,
                logprob: 0.0,
                entropy: None,
                top: Vec::new(),
                end: false,
                partial: false,
            },
            effect: Effect { baseline: 0.0, logprob: delta, delta, rank: 0, kl: 0.0 },
            row: None,
        };
        let ends = |deltas: &[f32]| -> Vec<[f32; 2]> {
            let effects: Vec<ScoredToken> = deltas.iter().map(|delta| scored(*delta)).collect();
            let rects = bars(String::new(), &effects).marks.into_iter();
            rects
                .filter_map(|mark| match mark {
                    Mark::Rect { rect, .. } => Some([rect[0], rect[2]]),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(ends(&[-2.0, 4.0]), [[225.0, 300.0], [300.0, 450.0]]);
        assert_eq!(ends(&[-8.0, f32::NEG_INFINITY, 2.0]), [[150.0, 300.0], [300.0, 337.5]]);
    }

    #[test]
    fn nothing_is_offered_where_nothing_is() {
        assert!(offers(&Store::default()).is_empty());
    }
}
