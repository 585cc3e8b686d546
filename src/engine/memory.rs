//! How much a run holds at a time, and whether it may.
//!
//! Knows the sizes of a model and of an experiment; `spec::record` knows what they come to.

use std::collections::BTreeSet;

use crate::{
    engine::{error::RunError, folder::ModelFolder, load::Engine, see::Seen},
    spec::{
        experiment::Experiment,
        record::{Extent, Held, Memory},
    },
};

/// A model on a prompt: the sizes that a run has.
#[derive(Clone, Copy, Debug)]
pub struct Sizes<'a> {
    /// The model.
    pub folder: &'a ModelFolder,
    /// Bytes of a number in its KV cache.
    pub cache_bytes: usize,
    /// Layers after which features of the images are added.
    pub added: usize,
    /// Prompt positions.
    pub n_prompt: usize,
}

impl<'a> Sizes<'a> {
    /// Those of a loaded model and encoded images.
    pub fn of(engine: &'a Engine, images: &[&Seen], n_prompt: usize) -> Self {
        let added: BTreeSet<usize> =
            images.iter().flat_map(|seen| &seen.added).map(|(layer, _)| *layer).collect();
        let cache_bytes = engine.vlm.decoder.cache_dtype().size();
        Sizes { folder: &engine.folder, cache_bytes, added: added.len(), n_prompt }
    }

    /// What a run holds at most.
    pub fn memory(&self, experiment: &Experiment, held: Held) -> Memory {
        let text = self.folder.text();
        let answer = experiment.length().min(text.context.saturating_sub(self.n_prompt)).max(1);
        let extent = Extent {
            layers: text.n_layers,
            heads: text.n_heads,
            kv_heads: text.n_kv_heads,
            head_dim: text.head_dim,
            width: text.width,
            vocabulary: text.vocabulary,
            weight_bytes: self.cache_bytes,
            added: self.added,
            top: experiment.top,
            prompt: self.n_prompt,
            answer,
        };
        experiment.record.memory(&extent, held)
    }

    /// Refuses a run that would hold more than it may.
    ///
    /// # Errors
    /// [`RunError::Memory`].
    pub fn allow(&self, experiment: &Experiment, held: Held) -> Result<(), RunError> {
        let (memory, limit) = (self.memory(experiment, held), experiment.record.limit);
        if memory.total() > limit { Err(RunError::Memory { memory, limit }) } else { Ok(()) }
    }
}
