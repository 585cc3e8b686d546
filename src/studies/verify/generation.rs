//! Greedy answers, free-running and given, with and without a cut.
//!
//! Row `s` of an answer is the one that predicts its token `s`. Logits are `[S, V]`, patterns
//! `[S, L, H, T + S - 1]` with zeros past each row's keys. The end token ends nothing.

use crate::{
    engine::{
        decoding::{Decoding, Row, Rows, host},
        logits::{argmax, log_softmax, top},
    },
    spec::knockout::Cut,
    statistics::finite::larger,
    studies::verify::{
        case::Case,
        compare::{NATS, RELATIVE, distance, largest, magnitude},
        report::VerifyError,
    },
};

/// An answer of ours.
#[derive(Default)]
pub(super) struct Generated {
    /// `[S]`.
    pub(super) tokens: Vec<u32>,
    /// `[S, V]`.
    pub(super) logits: Vec<f32>,
    /// `[S]`: of each token.
    logprob: Vec<f32>,
    /// `[S]`.
    rows: Vec<Row>,
}

/// Greedy decoding from the prompt, free-running, checked under `prefix`.
pub(super) fn generation(
    case: &mut Case<'_>,
    prefix: &str,
    prompt: &Rows,
    cut: Option<&Cut>,
) -> Result<Generated, VerifyError> {
    let tokens = format!("{prefix}.tokens");
    let want = case.get(&tokens)?;
    let steps = want.values.len();
    let cuts: Vec<Cut> = cut.cloned().into_iter().collect();
    let rows = case.len + steps;
    case.fits(&tokens, if steps == 0 { 0 } else { rows })?;
    let mut decoding = Decoding::new(case.vlm, &cuts, rows, case.cancel)?;
    let mut generated = Generated::default();
    let mut next = prompt.clone();
    for _ in 0..steps {
        let row = decoding.rows(next, 1)?.remove(0);
        let token = argmax(&row.logits) as u32;
        next = decoding.text(case.vlm.decoder.embed(&[token]));
        generated.tokens.push(token);
        generated.logits.extend(&row.logits);
        generated.logprob.push(log_softmax(&row.logits)[token as usize]);
        generated.rows.push(row);
    }
    let differing = want.values.iter().zip(&generated.tokens).filter(|(a, b)| **a != f64::from(**b)).count();
    case.push(&tokens, differing as f64, 0.0, String::new());
    case.relative(&format!("{prefix}.logits"), &generated.logits)?;
    if case.find(&format!("{prefix}.logprob")).is_some() {
        case.absolute(&format!("{prefix}.logprob"), &generated.logprob, NATS)?;
    }
    let patterns = padded(case, &generated.rows)?;
    case.generated_pattern(&format!("{prefix}.attn"), &patterns, steps, cut)?;
    if cut.is_some() {
        case.push(&format!("{prefix}.blocked_mass"), blocked_mass(&decoding), 0.0, String::new());
    }
    Ok(generated)
}

/// The largest value that was left on a blocked pair.
pub(super) fn blocked_mass(decoding: &Decoding<'_>) -> f64 {
    decoding.proof().map(|(_, mass)| f64::from(mass)).fold(0.0, larger)
}

/// `[S, L, H, T + S - 1]` with zeros past each row's keys.
fn padded(case: &Case<'_>, rows: &[Row]) -> Result<Vec<f32>, VerifyError> {
    let keys = case.len + rows.len() - 1;
    let mut out = Vec::new();
    for (s, row) in rows.iter().enumerate() {
        let Some(pattern) = &row.pattern else {
            return Err(case.unfit("gen.attn", format!("row {s} was not recorded")));
        };
        let n = pattern.dims()[2];
        for head in host(pattern.clone())?.chunks(n) {
            out.extend_from_slice(head);
            out.extend(std::iter::repeat_n(0.0, keys - n));
        }
    }
    Ok(out)
}

/// Prefill and decode against one forward over everything.
pub(super) fn one_pass(case: &mut Case<'_>, prompt: &Rows, generated: &Generated) -> Result<(), VerifyError> {
    let logits = teacher(case, prompt, &generated.tokens, &[])?;
    let want = &case.get("gen.logits")?.values;
    let tolerance = RELATIVE * magnitude(want);
    case.push("gen.logits", distance(&logits, want), tolerance, "one forward over all rows".to_string());
    Ok(())
}

/// `[S, V]`: logits at every answer row, the answer given.
pub(super) fn teacher(
    case: &Case<'_>,
    prompt: &Rows,
    tokens: &[u32],
    cuts: &[Cut],
) -> Result<Vec<f32>, VerifyError> {
    // The last token is predicted, and predicts nothing.
    let Some((_, given)) = tokens.split_last() else { return Ok(Vec::new()) };
    let mut rows = prompt.clone();
    if !given.is_empty() {
        rows = rows.then_text(case.vlm.decoder.embed(given));
    }
    let mut decoding = Decoding::new(case.vlm, cuts, case.len + given.len(), case.cancel)?;
    let rows = decoding.rows(rows, tokens.len())?;
    Ok(rows.into_iter().flat_map(|r| r.logits).collect())
}

/// Smallest margin between the two best logits, against the number in reference.json.
pub(super) fn margin(case: &mut Case<'_>, name: &str, generated: &Generated, want: Option<f64>) {
    let Some(want) = want else { return };
    // Several knockouts of a generation would each compare the baseline's.
    if case.has(name) {
        return;
    }
    let margin = |row: &Row| {
        let best = top(&row.logits, 2);
        f64::from(best[0].1 - best[best.len() - 1].1)
    };
    let ours = generated.rows.iter().map(margin).fold(f64::INFINITY, f64::min);
    let tolerance = RELATIVE * largest(&generated.logits);
    case.push(name, (ours - want).abs(), tolerance, "reference.json".to_string());
}
