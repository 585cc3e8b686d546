//! `trace.json` and `trace.safetensors`.
//!
//! `pattern` is `[layers, heads, answer, positions]`, row `s` the one that predicted answer token `s`,
//! 0 where it cannot see; of the layers, heads and answer rows that trace.json lists under `recorded`. `flow` is `[layers, answer, spans]`, spans in the order of
//! [`Span::ALL`](crate::span::Span::ALL). Both float32.

use std::{collections::HashMap, fs, path::Path};

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::ExportError;
use crate::{interp::flow, span::Span, trace::Trace};

/// Writes both files into `dir`, which is made if need be.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn write(trace: &Trace, dir: &Path) -> Result<(), ExportError> {
    let made = |source| ExportError::Write { file: dir.to_path_buf(), source };
    fs::create_dir_all(dir).map_err(made)?;
    let file = dir.join("trace.json");
    let text = serde_json::to_string_pretty(&summary(trace))
        .map_err(|e| ExportError::Encode { file: file.clone(), why: e.to_string() })?;
    fs::write(&file, text).map_err(|source| ExportError::Write { file, source })?;
    write_tensors(trace, dir)
}

/// The contents of `trace.json`.
pub fn summary(trace: &Trace) -> Value {
    let t = &trace.timing;
    json!({
        "model": trace.model,
        "device": trace.device,
        "dtype": trace.dtype,
        "prompt": trace.prompt,
        "answer": trace.answer,
        "answer_text": trace.answer_text(),
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

fn write_tensors(trace: &Trace, dir: &Path) -> Result<(), ExportError> {
    let file = dir.join("trace.safetensors");
    let encode =
        |e: safetensors::SafeTensorError| ExportError::Encode { file: file.clone(), why: e.to_string() };
    let (layers, heads) = (trace.kept.layers.len(), trace.kept.heads.len());
    let (answer, positions) = (trace.pattern.len(), trace.n_positions());
    let pattern = bytes(&pattern(trace));
    let flow = bytes(&flow::of_trace(trace));
    let views = [
        (
            "pattern",
            TensorView::new(Dtype::F32, vec![layers, heads, answer, positions], &pattern).map_err(encode)?,
        ),
        ("flow", TensorView::new(Dtype::F32, vec![layers, answer, Span::ALL.len()], &flow).map_err(encode)?),
    ];
    let spans = Span::ALL.map(Span::name).join(",");
    let metadata =
        HashMap::from([("spans".to_string(), spans), ("sha256".to_string(), trace.model.sha256.clone())]);
    safetensors::serialize_to_file(views, Some(metadata), &file).map_err(encode)
}

/// `[layers, heads, answer, positions]`, zeros past each row's keys.
pub fn pattern(trace: &Trace) -> Vec<f32> {
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
