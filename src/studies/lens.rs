//! Logit lens: the residual stream after any layer, read through the final norm and the head.
//!
//! nostalgebraist's method as used on visual tokens by Neo et al. (arXiv 2410.07149). The input is
//! the stream *before* the final norm, also for the last layer, so nothing is normed twice. Works on a
//! kept run, one layer at a time, some rows at a time: `[positions, vocabulary]` never exists.

use burn::tensor::{Int, Tensor, TensorData};
use serde::Serialize;

use crate::{engine::{answer::Baseline, decoding::{DecodingError, host, log_softmax, top}, load::{Engine, RunError, Seen}}, progress::Cancel, spec::sets::{Scope, Set, SetError}};

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

impl Engine {
    /// The rows of a kept run that a set names; `answer` means the generated positions.
    ///
    /// # Errors
    /// [`RunError::Choice`] when there is no such set, or none of it ran.
    pub fn positions(
        &self,
        baseline: &Baseline,
        set: &Set,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Vec<usize>, RunError> {
        let named = set.patch_sets().collect();
        let (prompt, seed) = (&baseline.prompt, baseline.spec.seed);
        let mut unheard = |_: usize, _: usize| {};
        let uncut = Some(baseline.uncut(&mut unheard));
        let patches = self.patch_sets(prompt, images, &named, seed, uncut, cancel)?;
        let scope = Scope {
            spans: &prompt.spans(),
            patches: &patches,
            max_new: baseline.trace.answer.len(),
            n_layers: self.info.n_layers,
            n_heads: self.info.n_heads,
        };
        let fail = |source| RunError::Choice { what: format!("positions `{set}`"), source };
        let members = set.resolve(&scope, false).map_err(fail)?;
        let rows: Vec<usize> = (0..baseline.n_rows()).filter(|&p| members.contains(p)).collect();
        if rows.is_empty() {
            let there = "the last token of an answer is predicted and never looked from".to_string();
            return Err(fail(SetError::Empty { set: set.to_string(), there }));
        }
        Ok(rows)
    }

    /// Reads a kept run layer by layer, from the lowest; `on_layer` gets each as soon as it is read.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Needs`] without residuals, [`RunError::Spec`] for a position without a
    /// row.
    pub fn lens(
        &self,
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
            let resid = self.resid_pre(baseline, layer + 1, cancel)?;
            let mut readings = Vec::with_capacity(lens.positions.len());
            for positions in lens.positions.chunks(CHUNK) {
                cancel.check().map_err(DecodingError::from)?;
                let index: Vec<i32> = positions.iter().map(|&p| p as i32).collect();
                let index: Tensor<1, Int> =
                    Tensor::from_data(TensorData::new(index, [positions.len()]), &self.vlm.device);
                let logits = host(self.vlm.decoder.unembed(resid.clone().select(0, index)))?;
                let rows = logits.chunks(self.info.vocabulary).zip(positions);
                readings.extend(rows.map(|(logits, &position)| reading(logits, position, lens)));
            }
            on_layer(LensLayer { layer, readings });
        }
        Ok(())
    }
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
