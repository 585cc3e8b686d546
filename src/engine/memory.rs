//! How much a run holds at a time, and whether it may.
//!
//! Knows the sizes of a model and of an experiment; `spec::record` knows what they come to.

use std::collections::BTreeSet;

use crate::{
    engine::{error::RunError, load::Engine, see::Seen},
    spec::{
        experiment::Experiment,
        record::{Extent, Held, Memory},
    },
};

/// What a run on a prompt of so many positions holds at most.
pub fn memory(
    engine: &Engine,
    experiment: &Experiment,
    images: &[&Seen],
    n_prompt: usize,
    held: Held,
) -> Memory {
    let text = &engine.vlm.config.text;
    let answer = experiment.length().min(engine.info.context.saturating_sub(n_prompt)).max(1);
    let added: BTreeSet<usize> =
        images.iter().flat_map(|seen| &seen.added).map(|(layer, _)| *layer).collect();
    let extent = Extent {
        layers: text.n_layers,
        heads: text.n_heads,
        kv_heads: text.n_kv_heads,
        head_dim: text.head_dim,
        width: text.width,
        vocabulary: text.vocabulary,
        weight_bytes: engine.vlm.dtype.burn().size(),
        added: added.len(),
        prompt: n_prompt,
        answer,
    };
    experiment.record.memory(&extent, held)
}

/// Refuses a run that would hold more than it may.
///
/// # Errors
/// [`RunError::Memory`].
pub fn allow(
    engine: &Engine,
    experiment: &Experiment,
    images: &[&Seen],
    n_prompt: usize,
    held: Held,
) -> Result<(), RunError> {
    let (memory, limit) = (memory(engine, experiment, images, n_prompt, held), experiment.record.limit);
    if memory.total() > limit { Err(RunError::Memory { memory, limit }) } else { Ok(()) }
}
