//! A saved trace, opened again: everything that it takes to draw it, without the model.

use std::{io, path::Path, time::Duration};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::{
    export::{
        error::ExportError,
        folder::{TENSORS, TRACE},
        trace::{FLOW, FORMAT},
    },
    files::{input, output::was_stopped},
    spec::{record::Kept, span::Span},
    statistics::finite::all_finite,
    trace::{
        flow::SpanFlow,
        geometry::{Geometry, View},
        pattern::{PatternRow, StoredRow},
        run::{KnockoutReport, ModelInfo, Stop, Timing, Trace},
        tokens::{AnswerToken, Cell, PromptToken, VisualRef},
    },
};

/// The part of trace.json that a trace is made of.
#[derive(Deserialize)]
struct Saved {
    format: String,
    model: ModelInfo,
    device: String,
    dtype: String,
    images: Vec<Geometry>,
    prompt: Vec<PromptToken>,
    answer: Vec<AnswerToken>,
    recorded: Kept,
    knockouts: Vec<KnockoutReport>,
    stop: Stop,
    timing: Seconds,
    /// Absent in files of before.
    flow_rows: Option<[usize; Span::COUNT]>,
}

/// Times in seconds.
#[derive(Deserialize)]
struct Seconds {
    load: f64,
    encode: f64,
    prefill: f64,
    decode: f64,
    decode_steps: usize,
}

/// Reads the answer that a folder's trace.json and trace.safetensors hold.
///
/// # Errors
/// [`ExportError::Read`]: a file that is missing, of another layout, or does not fit the other.
pub fn open(dir: &Path) -> Result<Trace, ExportError> {
    let (json, tensors) = (dir.join(TRACE), dir.join(TENSORS));
    let bad = |file: &Path, why: String| ExportError::Read { file: file.to_path_buf(), why };
    let unread = |e: io::Error| match e.kind() == io::ErrorKind::NotFound && was_stopped(dir) {
        true => "is not there: the run that wrote this folder was stopped before it was done".to_string(),
        false => format!("cannot be read ({e})"),
    };
    let text = input::read_text(&json).map_err(|e| bad(&json, unread(e)))?;
    let saved: Saved = serde_json::from_str(&text).map_err(|e| bad(&json, format!("is no trace ({e})")))?;
    if saved.format != FORMAT {
        return Err(bad(&json, format!("has format `{}`, expected `{FORMAT}`", saved.format)));
    }
    fits(&saved).map_err(|why| bad(&json, why))?;
    let bytes = input::read(&tensors).map_err(|e| bad(&tensors, unread(e)))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| bad(&tensors, format!("not a complete safetensors file ({e})")))?;
    let pattern = rows(&file, &saved).map_err(|why| bad(&tensors, why))?;
    let flow = flow(&file, &saved).map_err(|why| bad(&tensors, why))?;
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or_default();
    let Seconds { load, encode, prefill, decode, decode_steps } = saved.timing;
    Ok(Trace {
        model: saved.model,
        device: saved.device,
        dtype: saved.dtype,
        images: saved.images,
        prompt: saved.prompt,
        answer: saved.answer,
        kept: saved.recorded,
        pattern,
        flow,
        knockouts: saved.knockouts,
        stop: saved.stop,
        timing: Timing {
            load: seconds(load),
            encode: seconds(encode),
            prefill: seconds(prefill),
            decode: seconds(decode),
            decode_steps,
        },
    })
}

/// Whether the parts of a trace.json belong together: what is drawn is looked up by these places.
fn fits(saved: &Saved) -> Result<(), String> {
    let stated = saved.prompt.iter().map(|t| t.position).chain(saved.answer.iter().map(|t| t.position));
    if let Some((place, position)) = stated.enumerate().find(|(place, position)| place != position) {
        return Err(format!("token {place} says that its position is {position}"));
    }
    if saved.recorded.rows.iter().any(|&s| s >= saved.answer.len()) {
        return Err("`recorded` lists rows of an answer that is not so long".to_string());
    }
    let model = &saved.model;
    for (what, kept, n) in
        [("layers", &saved.recorded.layers, model.n_layers), ("heads", &saved.recorded.heads, model.n_heads)]
    {
        if let Some(wrong) = kept.iter().find(|&&k| k >= n) {
            return Err(format!("`recorded` lists {wrong} among {n} {what}"));
        }
    }
    if saved.knockouts.iter().any(|k| k.pairs.len() != model.n_layers) {
        return Err("`knockouts` count pairs in another number of layers than the model has".to_string());
    }
    let positions = saved.prompt.len() + saved.answer.len();
    if saved.flow_rows.iter().flatten().any(|&rows| rows > positions) {
        return Err(format!("`flow_rows` counts more rows than there are positions, {positions}"));
    }
    let visual = saved.prompt.iter().filter_map(|token| Some((token.position, token.visual?)));
    let mut shown = saved.images.iter().enumerate().flat_map(|(image, geometry)| {
        let views = geometry.views.iter().enumerate();
        views.flat_map(move |(view, v)| cells(*v).map(move |cell| VisualRef { image, view, cell }))
    });
    // The tokens set the pace: a grid may claim to have no end.
    for (position, found) in visual {
        if shown.next() != Some(found) {
            return Err(format!("the visual token at {position} is not the next one of `images`"));
        }
    }
    match shown.next() {
        Some(VisualRef { image, .. }) => {
            Err(format!("image {image} of `images` has more visual tokens than `prompt`"))
        }
        None => Ok(()),
    }
}

/// The places of a view's visual tokens, however many it claims.
fn cells(view: View) -> impl Iterator<Item = Option<Cell>> {
    let lead = (0..view.lead).map(|_| None);
    let rows = (0..view.grid.rows).take_while(move |_| view.grid.cols > 0);
    lead.chain(rows.flat_map(move |row| (0..view.grid.cols).map(move |col| Some(Cell { row, col }))))
}

/// The values of a tensor that must have this shape.
fn values(file: &SafeTensors<'_>, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = file.tensor(name).map_err(|e| format!("has no {name} ({e})"))?;
    if tensor.shape() != expected {
        let found = tensor.shape();
        return Err(format!("`{name}` has shape {found:?}, expected {expected:?} by trace.json"));
    }
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("`{name}` is {}, expected {}", tensor.dtype(), Dtype::F32));
    }
    let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    if !all_finite(&values) {
        return Err(format!("`{name}` holds NaN or an infinity"));
    }
    Ok(values)
}

/// What each span reads from each, if trace.json says of how many rows.
fn flow(file: &SafeTensors<'_>, saved: &Saved) -> Result<Option<SpanFlow>, String> {
    let Some(rows) = saved.flow_rows else { return Ok(None) };
    let n_layers = saved.model.n_layers;
    let data = values(file, FLOW, &[n_layers, Span::COUNT, Span::COUNT])?;
    Ok(Some(SpanFlow { n_layers, rows, data }))
}

/// The rows of `pattern`, `[layers, heads, answer, positions]`, each cut to the keys that it could see.
fn rows(file: &SafeTensors<'_>, saved: &Saved) -> Result<Vec<StoredRow>, String> {
    let kept = &saved.recorded;
    let (n_layers, n_heads, n_rows) = (kept.layers.len(), kept.heads.len(), kept.rows.len());
    let positions = saved.prompt.len() + saved.answer.len();
    let values = values(file, "pattern", &[n_layers, n_heads, n_rows, positions])?;
    let row = |(at, &s): (usize, &usize)| {
        let n_keys = saved.prompt.len() + s;
        let mut data = Vec::with_capacity(n_layers * n_heads * n_keys);
        for head in 0..n_layers * n_heads {
            let from = (head * n_rows + at) * positions;
            data.extend_from_slice(&values[from..from + n_keys]);
        }
        StoredRow::Full(PatternRow { n_layers, n_heads, n_keys, data: data.into() })
    };
    Ok(kept.rows.iter().enumerate().map(row).collect())
}
