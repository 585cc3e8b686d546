//! Many interventions on one kept run, scored together: their rows go through the weights in one pass.
//!
//! What each does to the kept answer's tokens, to the bit what `resume::effects` gives one by one. Nothing is
//! recorded, and no new answer is generated. Knows kept runs and interventions; not what they are for.

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, resume::effects, see::Seen},
    progress::Cancel,
    spec::experiment::Intervention,
};

/// What an intervention does to one token of a kept answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// Its natural log probability under the intervention.
    pub logprob: f32,
    /// By how much that is more than it was.
    pub delta: f32,
    /// How many tokens are likelier under the intervention: above 0, a greedy answer would part from the kept one here.
    pub rank: usize,
}

/// One list an intervention, in order: one entry a token of the kept answer. `on` hears of how many are done.
///
/// # Errors
/// [`RunError`]; also when cancelled.
pub fn score(
    engine: &Engine,
    baseline: &Baseline,
    interventions: &[Intervention],
    images: &[&Seen],
    cancel: &Cancel,
    on: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<Scored>>, RunError> {
    let mut all = Vec::with_capacity(interventions.len());
    for intervention in interventions {
        let effects = effects(engine, baseline, intervention, images, cancel)?;
        all.push(
            effects.iter().map(|e| Scored { logprob: e.logprob, delta: e.delta, rank: e.rank }).collect(),
        );
        on(all.len());
    }
    Ok(all)
}
