//! `trace.json` and `trace.safetensors`. docs/formats.md has every key; [`open`](crate::export::open) reads
//! both back.
//!
//! `pattern` is `[layers, heads, answer, positions]`, row `s` the one that predicted answer token `s`,
//! 0 where it cannot see; of the layers, heads and answer rows that trace.json lists under `recorded`.
//! `flow` is `[layers, answer, spans]`, spans in the order of [`Span::ALL`](crate::spec::span::Span::ALL); `flow.spans` is
//! `[layers, query spans, key spans]`, of every layer, all heads and all rows that ran.
//! Under an intervention all are those of the new answer; `baseline.pattern` and `baseline.flow.spans` are those of the
//! uncut one, `forced.pattern` that of the uncut answer under the intervention. All float32.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    export::{
        error::ExportError,
        folder::{TENSORS, TRACE},
        tensors::{self, Tensor},
    },
    files::output::Output,
    spec::{record::Kept, span::Span},
    statistics::finite::largest,
    studies::session::TOLERANCE,
    trace::{
        finding::{Compression, Effects},
        geometry::Geometry,
        report::{Control, Effect, Outcome, Report, Start},
        run::{KnockoutReport, ModelInfo, Stop, Trace},
        tokens::{AnswerToken, Candidate, PromptToken},
        words::{self, Word},
    },
};

/// The name that trace.json of this layout carries.
pub const FORMAT: &str = "sightline-trace-2";

/// The tensor that holds what each span reads from each.
pub const FLOW: &str = "flow.spans";
/// The tensor of the same of the uncut answer under an intervention.
pub const UNCUT_FLOW: &str = "baseline.flow.spans";
/// That of the uncut answer as the intervention scores it.
pub const FORCED_FLOW: &str = "forced.flow.spans";

/// What was asked for beside the runs themselves.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Further tensors: name, shape, values.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// Phrases looked for, and where they stand.
    pub found: Vec<(String, Vec<Word>)>,
    /// Contexts that were shortened.
    pub compression: Vec<Compression>,
    /// What the uncut answer depends on.
    pub effects: Option<Effects>,
}

impl Extra {
    /// Adds a tensor, row-major.
    pub fn tensor(&mut self, name: String, shape: Vec<usize>, values: Vec<f32>) {
        self.tensors.push((name, shape, values));
    }

    /// Adds the whole pattern of one layer and head as `square.LAYER.HEAD`, `[rows, rows]`.
    pub fn square(&mut self, layer: usize, head: usize, values: Vec<f32>) {
        let rows = values.len().isqrt();
        self.tensor(format!("square.{layer}.{head}"), vec![rows, rows], values);
    }
}

/// How far two runs of the same spec lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Whether they say the same.
    pub same_tokens: bool,
    /// Largest difference of a token's log probability, in nats.
    pub logprob: f32,
    /// Largest difference of an attention value.
    pub attention: f32,
}

impl Difference {
    /// What half precision, in storage or in the weights, may come to.
    const HALF: f32 = 0.05;

    /// Whether both are the same run, but for rounding: within [`TOLERANCE`], or, where `half` precision plays a
    /// part, what that may come to.
    pub fn holds(&self, half: bool) -> bool {
        // A difference that is no number is no agreement.
        let within = |d: f32| d <= if half { Self::HALF } else { TOLERANCE };
        self.same_tokens && within(self.logprob) && within(self.attention)
    }
}

/// Compares two traces, token by token as far as both go.
pub fn difference(a: &Trace, b: &Trace) -> Difference {
    let logprobs = a.answer.iter().zip(&b.answer).map(|(a, b)| (a.logprob - b.logprob).abs());
    let rows = a.rows().zip(b.rows());
    let attention = rows.flat_map(|((_, a), (_, b))| {
        a.data.iter().zip(b.data.iter()).map(|(a, b)| (a - b).abs()).collect::<Vec<f32>>()
    });
    Difference { same_tokens: a.ids() == b.ids(), logprob: largest(logprobs), attention: largest(attention) }
}

/// Writes both files into a run's folder. `difference` is that to a run from scratch.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn write(
    report: &Report,
    difference: Option<Difference>,
    extra: &Extra,
    out: &Output,
) -> Result<(), ExportError> {
    if !report.numbers().is_finite() {
        return Err(not_finite(out, TRACE, "the log probabilities or effects"));
    }
    let tensors = tensors(report, extra);
    if let Some(tensor) = tensors.iter().find(|tensor| !tensor.values.all_finite()) {
        return Err(not_finite(out, TENSORS, &tensor.name));
    }
    let summary = summary(report, difference, extra);
    let mut file = out.create(TRACE)?;
    serde_json::to_writer_pretty(&mut file, &summary)
        .map_err(|e| ExportError::Encode { file: out.place(TRACE), why: e.to_string() })?;
    file.finish()?;
    let spans = Span::ALL.map(Span::name).join(",");
    let metadata = [("spans", spans.as_str()), ("sha256", report.answer.model.sha256.as_str())];
    tensors::write(tensors, &metadata, TENSORS, out)
}

fn not_finite(out: &Output, name: &str, what: &str) -> ExportError {
    let why = format!("NaN or an infinity is among {what}");
    ExportError::Encode { file: out.place(name), why }
}

/// `trace.json`. Answers are borrowed: with many candidates they are large, and a copy would double them.
#[derive(Serialize)]
struct Summary<'a> {
    format: &'static str,
    images: &'a [Geometry],
    model: &'a ModelInfo,
    device: &'a str,
    dtype: &'a str,
    prompt: &'a [PromptToken],
    answer: &'a [AnswerToken],
    answer_text: String,
    words: Vec<Word>,
    stop: Stop,
    recorded: &'a Kept,
    knockouts: &'a [KnockoutReport],
    spans: [&'static str; Span::COUNT],
    #[serde(skip_serializing_if = "Option::is_none")]
    flow_rows: Option<[usize; Span::COUNT]>,
    timing: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<Uncut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intervention: Option<Intervention<'a>>,
    phrases: Vec<Value>,
    compression: &'a [Compression],
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<&'a Effects>,
}

/// The uncut answer beside that of an intervention.
#[derive(Serialize)]
struct Uncut<'a> {
    answer: &'a [AnswerToken],
    answer_text: String,
    stop: Stop,
}

/// What an intervention did.
#[derive(Serialize)]
struct Intervention<'a> {
    seed: u64,
    start: Option<Start>,
    forced: Vec<Forced<'a>>,
    forced_knockouts: &'a [KnockoutReport],
    new_in_answer: Vec<bool>,
    control: &'a Option<Control>,
    from_scratch: Option<Difference>,
}

/// A token of the uncut answer as the intervention scores it.
#[derive(Serialize)]
struct Forced<'a> {
    position: usize,
    id: u32,
    text: &'a str,
    effect: &'a Effect,
    #[serde(skip_serializing_if = "Option::is_none")]
    entropy: Option<f32>,
    top: &'a [Candidate],
    in_new_answer: bool,
}

fn summary<'a>(report: &'a Report, difference: Option<Difference>, extra: &'a Extra) -> Summary<'a> {
    let trace = &report.answer;
    let t = &trace.timing;
    let uncut = |_| {
        let uncut = report.baseline();
        Uncut { answer: &uncut.answer, answer_text: uncut.answer_text(), stop: uncut.stop }
    };
    let phrase = |(phrase, words): &(String, Vec<Word>)| json!({ "phrase": phrase, "found": words });
    Summary {
        format: FORMAT,
        images: &trace.images,
        model: &trace.model,
        device: &trace.device,
        dtype: &trace.dtype,
        prompt: &trace.prompt,
        answer: &trace.answer,
        answer_text: trace.answer_text(),
        words: words::words(&words::answer(trace)),
        stop: trace.stop,
        recorded: &trace.kept,
        knockouts: &trace.knockouts,
        spans: Span::ALL.map(Span::name),
        flow_rows: trace.flow.as_ref().map(|flow| flow.rows),
        timing: json!({
            "load": t.load.as_secs_f64(),
            "encode": t.encode.as_secs_f64(),
            "prefill": t.prefill.as_secs_f64(),
            "decode": t.decode.as_secs_f64(),
            "decode_steps": t.decode_steps,
            "decode_tokens_per_second": t.tokens_per_second(),
        }),
        baseline: report.outcome.as_ref().map(uncut),
        intervention: report.outcome.as_ref().map(|outcome| intervention(report, outcome, difference)),
        phrases: extra.found.iter().map(phrase).collect(),
        compression: &extra.compression,
        effects: extra.effects.as_ref(),
    }
}

fn intervention<'a>(
    report: &Report,
    outcome: &'a Outcome,
    from_scratch: Option<Difference>,
) -> Intervention<'a> {
    let forced = outcome.forced.answer.iter().zip(&outcome.effects).zip(&outcome.common.0);
    let forced = forced.map(|((token, effect), &in_new_answer)| Forced {
        position: token.position,
        id: token.id,
        text: &token.text,
        effect,
        entropy: token.entropy,
        top: &token.top,
        in_new_answer,
    });
    Intervention {
        seed: report.experiment.seed,
        start: outcome.start,
        forced: forced.collect(),
        forced_knockouts: &outcome.forced.knockouts,
        new_in_answer: outcome.common.1.iter().map(|shared| !shared).collect(),
        control: &outcome.control,
        from_scratch,
    }
}

/// Every tensor that a report is written as.
fn tensors<'a>(report: &'a Report, extra: &'a Extra) -> Vec<Tensor<'a>> {
    let trace = &report.answer;
    let shape = vec![trace.kept.layers.len(), trace.pattern.len(), Span::ALL.len()];
    let mut tensors = vec![Tensor::pattern("pattern", trace), Tensor::whole("flow", shape, trace.shares())];
    tensors.extend(Tensor::flow(FLOW, trace));
    if let Some(outcome) = &report.outcome {
        tensors.push(Tensor::pattern("baseline.pattern", report.baseline()));
        tensors.push(Tensor::pattern("forced.pattern", &outcome.forced));
        tensors.extend(Tensor::flow(UNCUT_FLOW, report.baseline()));
        tensors.extend(Tensor::flow(FORCED_FLOW, &outcome.forced));
    }
    for (name, shape, values) in &extra.tensors {
        tensors.push(Tensor::whole(name, shape.clone(), values));
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_no_number_is_no_agreement() {
        let same = Difference { same_tokens: true, logprob: 0.0, attention: 0.0 };
        assert!(same.holds(false) && same.holds(true));
        let rounded = Difference { logprob: 0.01, ..same };
        assert!(!rounded.holds(false) && rounded.holds(true));
        for broken in [
            Difference { same_tokens: false, ..same },
            Difference { logprob: f32::NAN, ..same },
            Difference { attention: f32::NAN, ..same },
            Difference { logprob: f32::INFINITY, ..same },
        ] {
            assert!(!broken.holds(false) && !broken.holds(true), "{broken:?}");
        }
    }
}
