//! Logit lens: the residual stream after any layer, read through the final norm and the head.
//!
//! nostalgebraist's method as used on visual tokens by Neo et al. (arXiv 2410.07149). The input is
//! the stream *before* the final norm, also for the last layer, so nothing is normed twice, and before deepstack
//! features are added to it, where a model (Qwen3-VL) does so. Works on a
//! kept run, one layer at a time, some rows at a time: `[positions, vocabulary]` never exists.

use burn::tensor::Tensor;

use crate::{
    engine::{
        baseline::Baseline,
        decoding::{DecodingError, host},
        error::RunError,
        folder::ModelFolder,
        inside::resid_post,
        load::Engine,
        logits::{log_softmax, top},
        place::Place,
    },
    model::nn::index,
    progress::Cancel,
    spec::{sets::SetError, study::LensAt},
    trace::{
        finding::{LensPage, LensReading},
        tokens::Candidate,
    },
};

/// Rows whose logits exist at one time: those of one step.
const TOGETHER: usize = 64;

/// What to read.
#[derive(Clone, Debug)]
pub struct Lens {
    /// Absolute positions of the kept run's rows; one at least.
    pub positions: Vec<usize>,
    /// `[layers]`.
    pub layers: Vec<bool>,
    /// Tokens listed a position.
    pub top: usize,
    /// A token whose rank and probability are wanted.
    pub chosen: Option<u32>,
}

impl Lens {
    /// What a study asks for.
    ///
    /// # Errors
    /// [`RunError`]: a layer that there is not, or a word that the model has no token for.
    pub fn of(folder: &ModelFolder, at: &LensAt) -> Result<Lens, RunError> {
        let fail =
            |source: SetError| RunError::Choice { what: format!("the lens's layers {}", at.layers), source };
        let layers = at.layers.resolve("layer", folder.text().n_layers).map_err(fail)?;
        let followed = at.word.as_deref().map(|word| followed(folder, word)).transpose()?;
        let chosen = followed.map(|followed| followed.id);
        Ok(Lens { positions: at.positions.clone(), layers, top: at.top, chosen })
    }
}

/// The token by which a word is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its id.
    pub id: u32,
    /// Whether it is the whole word, and not the first of several.
    pub whole: bool,
}

/// The token that stands for a word as it stands inside a sentence: its first.
///
/// # Errors
/// [`RunError::Needs`] when the vocabulary has none.
pub fn followed(folder: &ModelFolder, word: &str) -> Result<Followed, RunError> {
    match folder.prompts.word_ids(word)[..] {
        [] => {
            let needs = format!("a word of the model's vocabulary, which has no token for `{word}`");
            Err(RunError::Needs { what: "the lens", needs })
        }
        [id, ref more @ ..] => Ok(Followed { id, whole: more.is_empty() }),
    }
}

/// Reads a kept run layer by layer, from the lowest; `on_layer` gets each, whole, as soon as it is read.
///
/// # Errors
/// [`RunError`], as [`Reader`]'s.
pub fn lens(
    engine: &Engine,
    baseline: &Baseline,
    lens: &Lens,
    cancel: &Cancel,
    on_layer: &mut dyn FnMut(LensPage),
) -> Result<(), RunError> {
    let mut reader = Reader::new(baseline, lens.clone())?;
    let mut readings = Vec::with_capacity(lens.positions.len());
    while let Some(page) = reader.step(engine, baseline, cancel)? {
        readings.extend(page.readings);
        if readings.len() == lens.positions.len() {
            on_layer(LensPage { layer: page.layer, readings: std::mem::take(&mut readings) });
        }
    }
    Ok(())
}

/// A reading under way, some positions of one layer a step.
#[derive(Debug)]
pub struct Reader {
    lens: Lens,
    /// Those to read, ascending.
    layers: Vec<usize>,
    done: usize,
    /// Output of the layer that is being read: `[rows, width]`.
    resid: Option<(usize, Tensor<2>)>,
}

impl Reader {
    /// Before the first step.
    ///
    /// # Errors
    /// [`RunError::Spec`] for a position without a row; [`RunError::Needs`] without any.
    pub fn new(baseline: &Baseline, lens: Lens) -> Result<Reader, RunError> {
        if lens.positions.is_empty() {
            return Err(RunError::Needs { what: "the lens", needs: "a position to read at".to_string() });
        }
        let rows = baseline.n_rows();
        if let Some(&found) = lens.positions.iter().find(|&&p| p >= rows) {
            let expected = format!("below {rows}, the rows that ran (the last token of an answer has none)");
            return Err(RunError::Spec { what: "a position", found, expected });
        }
        let wanted = lens.layers.iter().enumerate().filter(|(_, wanted)| **wanted);
        let layers = wanted.map(|(layer, _)| layer).collect();
        Ok(Reader { lens, layers, done: 0, resid: None })
    }

    /// Reads the next positions, layer by layer; `None` when all is read.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Needs`] without residuals. A cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        baseline: &Baseline,
        cancel: &Cancel,
    ) -> Result<Option<LensPage>, RunError> {
        let Some(&layer) = self.layers.get(self.done / self.parts()) else { return Ok(None) };
        cancel.check().map_err(DecodingError::from)?;
        let resid = match &self.resid {
            Some((at, resid)) if *at == layer => resid.clone(),
            _ => resid_post(engine, baseline, layer, cancel)?,
        };
        self.resid = Some((layer, resid.clone()));
        let positions =
            self.lens.positions.chunks(TOGETHER).nth(self.done % self.parts()).unwrap_or_default();
        let logits = host(engine.vlm.decoder.unembed(resid.select(0, index(positions, &engine.vlm.device))))?;
        Place::Logits.check(&engine.vlm, &logits)?;
        let rows = logits.chunks(engine.info.vocabulary).zip(positions);
        let readings =
            rows.map(|(logits, &position)| self.reading(&engine.folder, logits, position)).collect();
        self.done += 1;
        Ok(Some(LensPage { layer, readings }))
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        (self.done, self.layers.len() * self.parts())
    }

    /// Steps a layer.
    fn parts(&self) -> usize {
        self.lens.positions.len().div_ceil(TOGETHER)
    }

    fn reading(&self, folder: &ModelFolder, logits: &[f32], position: usize) -> LensReading {
        let logprobs = log_softmax(logits);
        let candidate = |(id, logprob): (usize, f32)| Candidate {
            id: id as u32,
            text: folder.prompts.token_text(id as u32),
            logprob,
        };
        let chosen = self.lens.chosen.and_then(|id| {
            let own = *logprobs.get(id as usize)?;
            Some((logprobs.iter().filter(|&&other| other > own).count(), own.exp()))
        });
        let top = top(&logprobs, self.lens.top).into_iter().map(candidate).collect();
        LensReading { position, top, chosen }
    }
}
