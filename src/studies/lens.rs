//! Logit lens: the residual stream after any layer, read through the final norm and the head.
//!
//! nostalgebraist's method as used on visual tokens by Neo et al. (arXiv 2410.07149). The input is
//! the stream *before* the final norm, also for the last layer, so nothing is normed twice. Works on a
//! kept run, one layer at a time, some rows at a time: `[positions, vocabulary]` never exists.

use serde::Serialize;

use crate::{
    engine::{
        baseline::Baseline,
        decoding::{DecodingError, host},
        error::RunError,
        inside::resid_pre,
        load::Engine,
        logits::{log_softmax, top},
        place::Place,
    },
    model::nn::index,
    progress::Cancel,
};

/// Rows whose logits exist at one time.
const CHUNK: usize = 32;

/// What one layer would say at some positions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LensLayer {
    /// Decoder layer; the reading is of its output.
    pub layer: usize,
    /// One a position, in the order asked for.
    pub readings: Vec<Reading>,
}

/// What one layer would say at one position.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// Absolute position.
    pub position: usize,
    /// Likeliest tokens, best first: id and probability.
    pub top: Vec<(u32, f32)>,
    /// Of the chosen token: how many are likelier, and its probability.
    pub chosen: Option<(usize, f32)>,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct Lens {
    /// Absolute positions of the kept run's rows.
    pub positions: Vec<usize>,
    /// `[layers]`.
    pub layers: Vec<bool>,
    /// Tokens listed a position.
    pub top: usize,
    /// A token whose rank and probability are wanted.
    pub chosen: Option<u32>,
}

/// Reads a kept run layer by layer, from the lowest; `on_layer` gets each as soon as it is read.
///
/// # Errors
/// [`RunError`]; [`RunError::Needs`] without residuals, [`RunError::Spec`] for a position without a
/// row.
pub fn lens(
    engine: &Engine,
    baseline: &Baseline,
    lens: &Lens,
    cancel: &Cancel,
    on_layer: &mut dyn FnMut(LensLayer),
) -> Result<(), RunError> {
    let rows = baseline.n_rows();
    if let Some(&found) = lens.positions.iter().find(|&&p| p >= rows) {
        let expected = format!("below {rows}, the rows that ran (the last token of an answer has none)");
        return Err(RunError::Spec { what: "a position", found, expected });
    }
    for (layer, _) in lens.layers.iter().enumerate().filter(|(_, wanted)| **wanted) {
        let resid = resid_pre(engine, baseline, layer + 1, cancel)?;
        let mut readings = Vec::with_capacity(lens.positions.len());
        for positions in lens.positions.chunks(CHUNK) {
            cancel.check().map_err(DecodingError::from)?;
            let places = index(positions, &engine.vlm.device);
            let logits = host(engine.vlm.decoder.unembed(resid.clone().select(0, places)))?;
            Place::Logits.check(&engine.vlm, &logits)?;
            let rows = logits.chunks(engine.info.vocabulary).zip(positions);
            readings.extend(rows.map(|(logits, &position)| reading(logits, position, lens)));
        }
        on_layer(LensLayer { layer, readings });
    }
    Ok(())
}

fn reading(logits: &[f32], position: usize, lens: &Lens) -> Reading {
    let logprobs = log_softmax(logits);
    let probability = |(id, logprob): (usize, f32)| (id as u32, logprob.exp());
    let chosen = lens.chosen.and_then(|id| {
        let own = *logprobs.get(id as usize)?;
        Some((logprobs.iter().filter(|&&other| other > own).count(), own.exp()))
    });
    Reading { position, top: top(&logprobs, lens.top).into_iter().map(probability).collect(), chosen }
}
