//! A saved trace, opened again: everything that it takes to draw it, without the model.
//!
//! `pattern`, `baseline.pattern` and `forced.pattern` are `[layers, heads, answer, positions]`.

use std::{
    io, iter,
    path::{Path, PathBuf},
    time::Duration,
};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::{
    export::{
        error::ExportError,
        folder::{SESSION, TENSORS, TRACE},
        trace::{FLOW, FORCED_FLOW, FORMAT, UNCUT_FLOW},
    },
    files::{input, output::was_stopped},
    spec::{experiment::Experiment, record::Kept, span::Span},
    statistics::finite::all_finite,
    studies::session::Session,
    trace::{
        flow::SpanFlow,
        geometry::{Geometry, View},
        pattern::{PatternRow, StoredRow},
        report::{Control, Effect, Outcome, Start},
        run::{KnockoutReport, ModelInfo, Stop, Timing, Trace},
        tokens::{AnswerToken, Candidate, Cell, PromptToken, VisualRef},
    },
};

/// What a run left in its folder.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The answer that was asked for: under the intervention, if there was one.
    pub answer: Trace,
    /// The uncut answer beside it. Its times are not known any more.
    pub uncut: Option<Trace>,
    /// What the intervention did to the uncut answer; there where `uncut` is.
    pub outcome: Option<Outcome>,
    /// The question's text.
    pub question: String,
    /// What was run, and of which model; `None` where session.json is not there, or is of another run.
    pub session: Option<SavedSession>,
}

/// What session.json tells of a run.
#[derive(Clone, Debug)]
pub struct SavedSession {
    /// What was run.
    pub experiment: Experiment,
    /// The model's folder.
    pub model: PathBuf,
}

impl Saved {
    /// The files of its images, in order; fewer where some are not known.
    pub fn pictures(&self) -> impl Iterator<Item = &Path> {
        let images = self.session.iter().flat_map(|session| &session.experiment.images);
        images.filter_map(|picture| picture.image.file())
    }
}

/// The part of trace.json that a trace is made of.
#[derive(Deserialize)]
struct Written {
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

/// The part that tells of an intervention.
#[derive(Deserialize)]
struct Intervened {
    baseline: Option<Uncut>,
    intervention: Option<Intervention>,
}

/// The uncut answer.
#[derive(Deserialize)]
struct Uncut {
    answer: Vec<AnswerToken>,
    stop: Stop,
}

/// What was done to it.
#[derive(Deserialize)]
struct Intervention {
    start: Option<Start>,
    forced: Vec<Forced>,
    forced_knockouts: Vec<KnockoutReport>,
    new_in_answer: Vec<bool>,
    control: Option<Control>,
}

/// A token of the uncut answer as the intervention scores it.
#[derive(Deserialize)]
struct Forced {
    id: u32,
    effect: Effect,
    entropy: Option<f32>,
    top: Vec<Candidate>,
    in_new_answer: bool,
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
    let Files { json, tensors } = Files::read(dir)?;
    let tensors = Tensors::of(&tensors).map_err(|why| bad(&dir.join(TENSORS), why))?;
    answer(dir, &json, &tensors)
}

/// Reads all of a run that can be drawn: its answer, under an intervention the uncut one and what became of it, and
/// what was asked, as session.json says if it is there and of this run.
///
/// # Errors
/// As [`open`]. A session that cannot be used is none.
pub fn everything(dir: &Path) -> Result<Saved, ExportError> {
    let Files { json, tensors } = Files::read(dir)?;
    let tensors = Tensors::of(&tensors).map_err(|why| bad(&dir.join(TENSORS), why))?;
    let answer = answer(dir, &json, &tensors)?;
    let file = dir.join(TRACE);
    let told: Intervened =
        serde_json::from_str(&json).map_err(|e| bad(&file, format!("is no trace ({e})")))?;
    let (uncut, outcome) = match (told.baseline, told.intervention) {
        (Some(uncut), Some(intervention)) => {
            let uncut = uncut_of(&answer, uncut, &tensors).map_err(|e| e.of(dir))?;
            let outcome = outcome_of(&answer, &uncut, intervention, &tensors).map_err(|e| e.of(dir))?;
            (Some(uncut), Some(outcome))
        }
        (None, None) => (None, None),
        _ => return Err(bad(&file, "has only one of `baseline` and `intervention`".to_string())),
    };
    let session = session_of(dir, &answer);
    let asked = session.as_ref().map(|session| session.experiment.question());
    let question = asked.unwrap_or_else(|| question_of(&answer));
    Ok(Saved { answer, uncut, outcome, question, session })
}

/// A run's files, read.
struct Files {
    json: String,
    tensors: Vec<u8>,
}

impl Files {
    fn read(dir: &Path) -> Result<Self, ExportError> {
        let (json, tensors) = (dir.join(TRACE), dir.join(TENSORS));
        let unread = |e: io::Error| match e.kind() == io::ErrorKind::NotFound && was_stopped(dir) {
            true => "is not there: the run that wrote this folder was stopped before it was done".to_string(),
            false => format!("cannot be read ({e})"),
        };
        Ok(Files {
            json: input::read_text(&json).map_err(|e| bad(&json, unread(e)))?,
            tensors: input::read(&tensors).map_err(|e| bad(&tensors, unread(e)))?,
        })
    }
}

fn bad(file: &Path, why: String) -> ExportError {
    ExportError::Read { file: file.to_path_buf(), why }
}

/// What is wrong, and in which of the two files.
enum Wrong {
    Trace(String),
    Tensors(String),
}

impl Wrong {
    fn of(self, dir: &Path) -> ExportError {
        match self {
            Wrong::Trace(why) => bad(&dir.join(TRACE), why),
            Wrong::Tensors(why) => bad(&dir.join(TENSORS), why),
        }
    }
}

fn answer(dir: &Path, json: &str, tensors: &Tensors<'_>) -> Result<Trace, ExportError> {
    let file = dir.join(TRACE);
    let written: Written =
        serde_json::from_str(json).map_err(|e| bad(&file, format!("is no trace ({e})")))?;
    if written.format != FORMAT {
        return Err(bad(&file, format!("has format `{}`, expected `{FORMAT}`", written.format)));
    }
    fits(&written).map_err(|why| bad(&file, why))?;
    let (prompt, answer) = (written.prompt.len(), written.answer.len());
    let pattern = tensors.rows("pattern", &written.recorded, prompt, answer);
    let pattern = pattern.map_err(|why| bad(&dir.join(TENSORS), why))?;
    let flow = tensors.flow(FLOW, written.model.n_layers, written.flow_rows);
    let flow = flow.map_err(|why| bad(&dir.join(TENSORS), why))?;
    let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or_default();
    let Seconds { load, encode, prefill, decode, decode_steps } = written.timing;
    Ok(Trace {
        model: written.model,
        device: written.device,
        dtype: written.dtype,
        images: written.images,
        prompt: written.prompt,
        answer: written.answer,
        kept: written.recorded,
        pattern,
        flow,
        knockouts: written.knockouts,
        stop: written.stop,
        timing: Timing {
            load: seconds(load),
            encode: seconds(encode),
            prefill: seconds(prefill),
            decode: seconds(decode),
            decode_steps,
        },
    })
}

/// The uncut answer beside another one.
fn uncut_of(answer: &Trace, uncut: Uncut, tensors: &Tensors<'_>) -> Result<Trace, Wrong> {
    let stated = uncut.answer.iter().map(|token| token.position);
    if let Some((place, position)) = (answer.prompt.len()..).zip(stated).find(|(place, at)| place != at) {
        return Err(Wrong::Trace(format!(
            "token {place} of `baseline` says that its position is {position}"
        )));
    }
    let (prompt, said) = (answer.prompt.len(), uncut.answer.len());
    let stored = tensors.n_rows("baseline.pattern").map_err(Wrong::Tensors)?;
    let kept = kept_of(&answer.kept, answer.answer.len(), said, stored);
    let pattern = match kept.rows.len() == stored {
        true => tensors.rows("baseline.pattern", &kept, prompt, said).map_err(Wrong::Tensors)?,
        false => Vec::new(),
    };
    let kept = if kept.rows.len() == stored { kept } else { Kept { rows: Vec::new(), ..kept } };
    // Both have the prompt's rows, and each those of its own answer but for the last token.
    let rows = answer.flow.as_ref().map(|flow| {
        let mut rows = flow.rows;
        let given = answer.prompt.iter().filter(|token| token.span == Span::Answer).count();
        rows[Span::Answer.index()] = given + said.saturating_sub(1);
        rows
    });
    let flow = tensors.flow(UNCUT_FLOW, answer.model.n_layers, rows).map_err(Wrong::Tensors)?;
    Ok(Trace {
        answer: uncut.answer,
        kept,
        pattern,
        flow,
        knockouts: Vec::new(),
        stop: uncut.stop,
        timing: Timing::default(),
        ..answer.clone()
    })
}

/// What is held of an uncut answer of `said` tokens with `stored` rows: the rows that are held of the other answer,
/// of `other` tokens, as far as both go, since both were recorded alike. Of further ones all or none are; where only
/// some are, it is not known which, and none is named.
fn kept_of(recorded: &Kept, other: usize, said: usize, stored: usize) -> Kept {
    let mut rows: Vec<usize> = recorded.rows.iter().copied().filter(|&row| row < said).collect();
    if rows.len() + said.saturating_sub(other) == stored {
        rows.extend(other..said);
    }
    Kept { rows, ..recorded.clone() }
}

/// What an intervention did to an uncut answer.
fn outcome_of(
    answer: &Trace,
    uncut: &Trace,
    intervention: Intervention,
    tensors: &Tensors<'_>,
) -> Result<Outcome, Wrong> {
    let Intervention { start, forced, forced_knockouts, new_in_answer, control } = intervention;
    if !forced.iter().map(|token| token.id).eq(uncut.answer.iter().map(|token| token.id)) {
        return Err(Wrong::Trace("`forced` is another answer than `baseline`".to_string()));
    }
    if new_in_answer.len() != answer.answer.len() {
        return Err(Wrong::Trace("`new_in_answer` is of an answer of another length".to_string()));
    }
    if forced_knockouts.iter().any(|k| k.pairs.len() != answer.model.n_layers) {
        let why = "`forced_knockouts` count pairs in another number of layers than the model has";
        return Err(Wrong::Trace(why.to_string()));
    }
    let pattern = match uncut.kept.rows.is_empty() {
        true => Vec::new(),
        false => {
            let rows = tensors.rows("forced.pattern", &uncut.kept, uncut.prompt.len(), uncut.answer.len());
            rows.map_err(Wrong::Tensors)?
        }
    };
    let rows = uncut.flow.as_ref().map(|flow| flow.rows);
    let flow = tensors.flow(FORCED_FLOW, answer.model.n_layers, rows).map_err(Wrong::Tensors)?;
    let scored = iter::zip(&uncut.answer, &forced).map(|(token, forced)| AnswerToken {
        logprob: forced.effect.logprob,
        top: forced.top.clone(),
        entropy: forced.entropy,
        ..token.clone()
    });
    Ok(Outcome {
        start,
        forced: Trace {
            answer: scored.collect(),
            pattern,
            flow,
            knockouts: forced_knockouts,
            stop: if start.is_some() { Stop::Forced } else { uncut.stop },
            ..uncut.clone()
        },
        effects: forced.iter().map(|token| token.effect).collect(),
        common: (
            forced.iter().map(|token| token.in_new_answer).collect(),
            new_in_answer.iter().map(|new| !new).collect(),
        ),
        control,
    })
}

/// What a folder's session says of an answer, if there is one, and it is of this run.
fn session_of(dir: &Path, answer: &Trace) -> Option<SavedSession> {
    let session = Session::read(&dir.join(SESSION)).ok()?;
    let ids = answer.ids();
    let entry = session.entries.into_iter().find(|entry| {
        let numbers = entry.numbers.iter().flat_map(|numbers| &numbers.answer);
        entry.numbers.is_some() && numbers.map(|(id, _)| *id).eq(ids.iter().copied())
    })?;
    Some(SavedSession { experiment: entry.experiment, model: session.model })
}

/// The question as its tokens have it.
fn question_of(trace: &Trace) -> String {
    let asked = trace.prompt.iter().filter(|token| token.span == Span::Question);
    asked.map(|token| token.text.as_str()).collect::<String>().trim().to_string()
}

/// Whether the parts of a trace.json belong together: what is drawn is looked up by these places.
fn fits(written: &Written) -> Result<(), String> {
    let stated = written.prompt.iter().map(|t| t.position).chain(written.answer.iter().map(|t| t.position));
    if let Some((place, position)) = stated.enumerate().find(|(place, position)| place != position) {
        return Err(format!("token {place} says that its position is {position}"));
    }
    if written.recorded.rows.iter().any(|&s| s >= written.answer.len()) {
        return Err("`recorded` lists rows of an answer that is not so long".to_string());
    }
    let model = &written.model;
    for (what, kept, n) in [
        ("layers", &written.recorded.layers, model.n_layers),
        ("heads", &written.recorded.heads, model.n_heads),
    ] {
        if let Some(wrong) = kept.iter().find(|&&k| k >= n) {
            return Err(format!("`recorded` lists {wrong} among {n} {what}"));
        }
    }
    if written.knockouts.iter().any(|k| k.pairs.len() != model.n_layers) {
        return Err("`knockouts` count pairs in another number of layers than the model has".to_string());
    }
    let positions = written.prompt.len() + written.answer.len();
    if written.flow_rows.iter().flatten().any(|&rows| rows > positions) {
        return Err(format!("`flow_rows` counts more rows than there are positions, {positions}"));
    }
    let visual = written.prompt.iter().filter_map(|token| Some((token.position, token.visual?)));
    let mut shown = written.images.iter().enumerate().flat_map(|(image, geometry)| {
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

/// A file of tensors.
struct Tensors<'a>(SafeTensors<'a>);

impl<'a> Tensors<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes);
        Ok(Tensors(file.map_err(|e| format!("not a complete safetensors file ({e})"))?))
    }

    /// How many rows one of its patterns has.
    fn n_rows(&self, name: &str) -> Result<usize, String> {
        let tensor = self.0.tensor(name).map_err(|e| format!("has no {name} ({e})"))?;
        match tensor.shape() {
            &[_, _, rows, _] => Ok(rows),
            other => {
                Err(format!("`{name}` has shape {other:?}, expected [layers, heads, answer, positions]"))
            }
        }
    }

    /// The values of one that must have this shape.
    fn values(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.0.tensor(name).map_err(|e| format!("has no {name} ({e})"))?;
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

    /// What each span reads from each, where it is known of how many rows.
    fn flow(
        &self,
        name: &str,
        n_layers: usize,
        rows: Option<[usize; Span::COUNT]>,
    ) -> Result<Option<SpanFlow>, String> {
        let Some(rows) = rows else { return Ok(None) };
        let data = self.values(name, &[n_layers, Span::COUNT, Span::COUNT])?;
        Ok(Some(SpanFlow { n_layers, rows, data }))
    }

    /// The rows of one of its patterns, of a prompt and an answer of so many tokens, each cut to the keys that it
    /// could see.
    fn rows(&self, name: &str, kept: &Kept, prompt: usize, answer: usize) -> Result<Vec<StoredRow>, String> {
        let (n_layers, n_heads, n_rows) = (kept.layers.len(), kept.heads.len(), kept.rows.len());
        let positions = prompt + answer;
        let values = self.values(name, &[n_layers, n_heads, n_rows, positions])?;
        let row = |(at, &s): (usize, &usize)| {
            let n_keys = prompt + s;
            let mut data = Vec::with_capacity(n_layers * n_heads * n_keys);
            for head in 0..n_layers * n_heads {
                let from = (head * n_rows + at) * positions;
                data.extend_from_slice(&values[from..from + n_keys]);
            }
            StoredRow::Full(PatternRow { n_layers, n_heads, n_keys, data: data.into() })
        };
        Ok(kept.rows.iter().enumerate().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_uncut_answer_are_named_where_they_are_known() {
        let of = |rows: &[usize], other: usize, said: usize, stored: usize| {
            let recorded = Kept { layers: vec![1], heads: vec![0], rows: rows.to_vec() };
            kept_of(&recorded, other, said, stored).rows
        };
        assert_eq!(of(&[0, 1, 2], 3, 5, 5), [0, 1, 2, 3, 4], "all of them");
        assert_eq!(of(&[0, 1, 2, 3], 4, 2, 2), [0, 1], "the uncut answer is shorter");
        assert_eq!(of(&[1, 2], 3, 5, 2), [1, 2], "none of the further ones");
        assert_eq!(of(&[0, 2], 3, 6, 5), [0, 2, 3, 4, 5], "all of the further ones");
        assert_ne!(of(&[0], 2, 6, 3).len(), 3, "some of the further ones");
        assert!(of(&[], 3, 4, 0).is_empty());
    }
}
