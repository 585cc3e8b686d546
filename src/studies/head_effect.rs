//! The effect of heads: how much a phrase depends on every head's view of the image.
//!
//! `answer -> visual` is cut in one head of one layer at a time, and the uncut answer scored.

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, see::Seen},
    progress::Cancel,
    spec::study::HeadEffect,
    studies::phrase::{Phrase, needs_image},
    trace::finding::{Finding, HeadFound},
};

/// The effects of heads under way.
#[derive(Debug)]
pub struct HeadEffects {
    study: HeadEffect,
    phrase: Phrase,
    n_layers: usize,
    n_heads: usize,
    done: usize,
}

impl HeadEffects {
    /// Before the first head.
    ///
    /// # Errors
    /// [`RunError`]: a token that there is not, or no image.
    pub fn new(engine: &Engine, baseline: &Baseline, study: &HeadEffect) -> Result<HeadEffects, RunError> {
        needs_image(baseline, "the effect of heads")?;
        let phrase = Phrase::new(baseline, &study.tokens)?;
        let (n_layers, n_heads) = (engine.info.n_layers, engine.info.n_heads);
        Ok(HeadEffects { study: study.clone(), phrase, n_layers, n_heads, done: 0 })
    }

    /// Cuts the next head, layer by layer; `None` when all is done.
    ///
    /// # Errors
    /// [`RunError`]; a cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Option<Finding>, RunError> {
        let (layer, head) = (self.done / self.n_heads, self.done % self.n_heads);
        if layer >= self.n_layers {
            return Ok(None);
        }
        let intervention = self.study.intervention(layer, head);
        let delta = self.phrase.delta(engine, baseline, &intervention, images, cancel)?;
        self.done += 1;
        Ok(Some(Finding::Head(HeadFound { layer, head, delta })))
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        (self.done, self.n_layers * self.n_heads)
    }
}
