//! The part of a kept run's answer that a study is about, and what an intervention does to it.
//!
//! Effects are changes of natural log probability, summed over the tokens of the phrase.

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, resume::effects, see::Seen},
    progress::Cancel,
    spec::{experiment::Intervention, sets::SetError, span::Span},
};

/// Some tokens of an answer.
#[derive(Clone, Debug)]
pub struct Phrase {
    /// Places in the answer, ascending; each once.
    pub tokens: Vec<usize>,
}

impl Phrase {
    /// These tokens of an answer, or all of them where none is named.
    ///
    /// # Errors
    /// [`RunError::Choice`]: a token that there is not. [`RunError::Needs`] for an answer without any.
    pub fn new(baseline: &Baseline, tokens: &[usize]) -> Result<Phrase, RunError> {
        let len = baseline.trace.answer.len();
        if len == 0 {
            let needs = "an answer of a token at least".to_string();
            return Err(RunError::Needs { what: "an effect", needs });
        }
        if let Some(&found) = tokens.iter().find(|&&token| token >= len) {
            let source = SetError::OutOfRange { what: "answer token".to_string(), found, len };
            return Err(RunError::Choice { what: "the effect on a phrase".to_string(), source });
        }
        let mut tokens = if tokens.is_empty() { (0..len).collect() } else { tokens.to_vec() };
        tokens.sort_unstable();
        tokens.dedup();
        Ok(Phrase { tokens })
    }

    /// What an intervention does to its log probability, in nats.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn delta(
        &self,
        engine: &Engine,
        baseline: &Baseline,
        intervention: &Intervention,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<f32, RunError> {
        let effects = effects(engine, baseline, intervention, images, cancel)?;
        Ok(self.tokens.iter().filter_map(|&token| effects.get(token)).map(|effect| effect.delta).sum())
    }
}

/// Refuses a run without an image.
///
/// # Errors
/// [`RunError::Needs`].
pub fn needs_image(baseline: &Baseline, what: &'static str) -> Result<(), RunError> {
    match baseline.prompt.tokens.iter().any(|token| token.span == Span::Visual) {
        true => Ok(()),
        false => Err(RunError::Needs { what, needs: "an image in the conversation".to_string() }),
    }
}
