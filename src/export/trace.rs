//! `trace.json` and `trace.safetensors`. docs/formats.md has every key; [`open`](crate::export::open) reads
//! both back.
//!
//! `pattern` is `[layers, heads, answer, positions]`, row `s` the one that predicted answer token `s`,
//! 0 where it cannot see; of the layers, heads and answer rows that trace.json lists under `recorded`.
//! `flow` is `[layers, answer, spans]`, spans in the order of [`Span::ALL`](crate::spec::span::Span::ALL).
//! Under an intervention both are those of the new answer; `baseline.pattern` is that of the uncut one,
//! `forced.pattern` that of the uncut answer under the intervention. All float32.

use std::{collections::HashMap, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    export::error::ExportError,
    spec::span::Span,
    studies::compression::Compression,
    trace::{
        flow,
        report::{Outcome, Report},
        run::Trace,
        words::{self, Word},
    },
};

/// The name that trace.json of this layout carries.
pub const FORMAT: &str = "sightline-trace-2";

/// What was asked for beside the runs themselves.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Further tensors: name, shape, values.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// Phrases looked for, and where they stand.
    pub found: Vec<(String, Vec<Word>)>,
    /// Contexts that were shortened.
    pub compression: Vec<Compression>,
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

/// Compares two traces, token by token as far as both go.
pub fn difference(a: &Trace, b: &Trace) -> Difference {
    let logprobs = a.answer.iter().zip(&b.answer).map(|(a, b)| (a.logprob - b.logprob).abs());
    let rows = a.rows().zip(b.rows());
    let attention = rows.flat_map(|((_, a), (_, b))| {
        a.data.iter().zip(b.data.iter()).map(|(a, b)| (a - b).abs()).collect::<Vec<f32>>()
    });
    Difference {
        same_tokens: a.ids() == b.ids(),
        logprob: logprobs.fold(0.0, f32::max),
        attention: attention.fold(0.0, f32::max),
    }
}

/// Writes both files into `dir`, which is made if need be. `difference` is that to a run from scratch.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn write(
    report: &Report,
    difference: Option<Difference>,
    extra: &Extra,
    dir: &Path,
) -> Result<(), ExportError> {
    let made = |source| ExportError::Write { file: dir.to_path_buf(), source };
    fs::create_dir_all(dir).map_err(made)?;
    let file = dir.join("trace.json");
    let mut summary = summary(&report.answer);
    if let Some(outcome) = &report.outcome {
        summary["baseline"] = json!({
            "answer": report.baseline().answer,
            "answer_text": report.baseline().answer_text(),
            "stop": report.baseline().stop,
        });
        summary["intervention"] = intervention(report, outcome, difference);
    }
    let phrase = |(phrase, words): &(String, Vec<Word>)| json!({ "phrase": phrase, "found": words });
    summary["phrases"] = extra.found.iter().map(phrase).collect();
    summary["compression"] = json!(extra.compression);
    let text = serde_json::to_string_pretty(&summary)
        .map_err(|e| ExportError::Encode { file: file.clone(), why: e.to_string() })?;
    fs::write(&file, text).map_err(|source| ExportError::Write { file, source })?;
    write_tensors(report, extra, dir)
}

/// What an intervention did.
fn intervention(report: &Report, outcome: &Outcome, difference: Option<Difference>) -> Value {
    let forced = outcome.forced.answer.iter().zip(&outcome.effects).zip(&outcome.common.0);
    let tokens = forced.map(|((token, effect), shared)| {
        json!({
            "position": token.position, "id": token.id, "text": token.text,
            "effect": effect, "top": token.top, "in_new_answer": shared,
        })
    });
    json!({
        "seed": report.experiment.seed,
        "start": outcome.start,
        "forced": tokens.collect::<Vec<_>>(),
        "forced_knockouts": outcome.forced.knockouts,
        "new_in_answer": outcome.common.1.iter().map(|shared| !shared).collect::<Vec<bool>>(),
        "control": outcome.control,
        "from_scratch": difference,
    })
}

/// The contents of `trace.json` that every run has.
fn summary(trace: &Trace) -> Value {
    let t = &trace.timing;
    json!({
        "format": FORMAT,
        "images": trace.images,
        "model": trace.model,
        "device": trace.device,
        "dtype": trace.dtype,
        "prompt": trace.prompt,
        "answer": trace.answer,
        "answer_text": trace.answer_text(),
        "words": words::words(&words::answer(trace)),
        "stop": trace.stop,
        "recorded": trace.kept,
        "knockouts": trace.knockouts,
        "spans": Span::ALL.map(Span::name),
        "timing": {
            "load": t.load.as_secs_f64(),
            "encode": t.encode.as_secs_f64(),
            "prefill": t.prefill.as_secs_f64(),
            "decode": t.decode.as_secs_f64(),
            "decode_steps": t.decode_steps,
            "decode_tokens_per_second": t.tokens_per_second(),
        },
    })
}

fn write_tensors(report: &Report, extra: &Extra, dir: &Path) -> Result<(), ExportError> {
    let file = dir.join("trace.safetensors");
    let encode =
        |e: safetensors::SafeTensorError| ExportError::Encode { file: file.clone(), why: e.to_string() };
    let trace = &report.answer;
    let (layers, heads) = (trace.kept.layers.len(), trace.kept.heads.len());
    let shape = |t: &Trace| vec![layers, heads, t.pattern.len(), t.n_positions()];
    let mut tensors = vec![
        ("pattern".to_string(), shape(trace), pattern(trace)),
        ("flow".to_string(), vec![layers, trace.pattern.len(), Span::ALL.len()], flow::of_trace(trace)),
    ];
    if let Some(outcome) = &report.outcome {
        let uncut = report.baseline();
        tensors.push(("baseline.pattern".to_string(), shape(uncut), pattern(uncut)));
        tensors.push(("forced.pattern".to_string(), shape(&outcome.forced), pattern(&outcome.forced)));
    }
    tensors.extend(extra.tensors.iter().cloned());
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> =
        tensors.into_iter().map(|(name, shape, values)| (name, shape, bytes(&values))).collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(encode)?));
    }
    let spans = Span::ALL.map(Span::name).join(",");
    let metadata =
        HashMap::from([("spans".to_string(), spans), ("sha256".to_string(), trace.model.sha256.clone())]);
    safetensors::serialize_to_file(views, Some(metadata), &file).map_err(encode)
}

/// `[layers, heads, answer, positions]`, zeros past each row's keys.
fn pattern(trace: &Trace) -> Vec<f32> {
    let positions = trace.n_positions();
    let (layers, heads) = (trace.kept.layers.len(), trace.kept.heads.len());
    let rows: Vec<_> = trace.rows().map(|(_, row)| row).collect();
    let mut out = Vec::with_capacity(layers * heads * rows.len() * positions);
    for layer in 0..layers {
        for head in 0..heads {
            for row in &rows {
                out.extend_from_slice(row.head(layer, head));
                out.resize(out.len() + positions - row.n_keys, 0.0);
            }
        }
    }
    out
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
