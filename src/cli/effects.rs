//! What the uncut answer depends on: the options of `run` that take things away one after the other.

use std::collections::BTreeSet;

use sightline::{
    engine::{baseline::Baseline, error::RunError, folder::ModelFolder},
    export::trace as data,
    progress::Cancel,
    spec::{
        sets::Numbers,
        span::Span,
        study::{EdgeEffect, HeadEffect, PatchEffect, Study, Taking},
    },
    studies::steps::Steps,
    trace::{
        finding::{BlocksFound, EdgesFound, Effects, Finding},
        run::ModelInfo,
    },
};

use crate::cli::{bar::bar, model::named, numbers, subject::Opened};

#[derive(Debug, Default, clap::Args)]
#[group(skip)]
pub struct EffectArgs {
    /// Also take every block of patches away in turn, and tell what that does to the log probability of the uncut
    /// answer: blocks of SIDE x SIDE patches first, then of half the side, down to single patches.
    #[arg(long, value_name = "SIDE", value_parser = numbers::count)]
    effect_map: Option<usize>,
    /// How a block is taken away: cut (nothing outside it may look at it) or mean (it is overwritten with the mean
    /// visual embedding); cut if left out.
    #[arg(long, value_name = "HOW", requires = "effect_map", value_parser = named(&Taking::ALL))]
    effect_by: Option<Taking>,
    /// Layers in which a block is cut; all if left out.
    #[arg(long, value_name = "LAYERS", requires = "effect_map", value_parser = numbers::numbers)]
    effect_layers: Option<Numbers>,
    /// Also cut what every span reads from every other, in a window of WIDTH layers around every layer.
    #[arg(long, value_name = "WIDTH", value_parser = numbers::window)]
    edge_effects: Option<usize>,
    /// Also cut "answer -> visual" in every head of every layer by itself.
    #[arg(long)]
    head_effects: bool,
    /// Answer tokens whose log probabilities are summed, by number from 0, e.g. "1" or "0-3"; all if left out.
    #[arg(long, value_name = "LIST", value_parser = numbers::numbers)]
    effect_tokens: Option<Numbers>,
}

impl EffectArgs {
    /// Whether anything is to be taken away.
    fn any(&self) -> bool {
        self.effect_map.is_some() || self.edge_effects.is_some() || self.head_effects
    }

    /// Refuses options that would change nothing.
    pub fn check(&self) -> Result<(), String> {
        if self.effect_tokens.is_some() && !self.any() {
            return Err("--effect-tokens has no effect where nothing is taken away: add --effect-map, --edge-effects or --head-effects, or leave it out".to_string());
        }
        if self.effect_layers.is_some() && self.effect_by == Some(Taking::Mean) {
            return Err("--effect-layers has no effect with --effect-by mean, which overwrites blocks before the first layer: leave one out".to_string());
        }
        Ok(())
    }

    /// Refuses layers, and tokens of an answer as long as it may be, that there are not.
    pub fn foresee(&self, folder: &ModelFolder, max_new: usize) -> Result<(), RunError> {
        if let Some(layers) = &self.effect_layers {
            let fail = |source| RunError::Choice { what: format!("--effect-layers {layers}"), source };
            layers.resolve("layer", folder.text().n_layers).map_err(fail)?;
        }
        self.tokens(max_new).map(|_| ())
    }

    /// The tokens that count, of so many.
    fn tokens(&self, len: usize) -> Result<Vec<usize>, RunError> {
        let wanted = self.effect_tokens.clone().unwrap_or_default();
        let fail = |source| RunError::Choice { what: format!("--effect-tokens {wanted}"), source };
        let members = wanted.resolve("answer token", len).map_err(fail)?;
        Ok((0..len).filter(|&token| members[token]).collect())
    }

    fn studies(&self, tokens: &[usize]) -> Vec<Study> {
        let tokens = || tokens.to_vec();
        let map = self.effect_map.map(|coarsest| {
            let (how, layers) = (self.effect_by.unwrap_or_default(), self.layers());
            Study::Patches(PatchEffect { tokens: tokens(), how, layers, coarsest })
        });
        let edges = self.edge_effects.map(|width| Study::Edges(EdgeEffect { tokens: tokens(), width }));
        let heads = self.head_effects.then(|| Study::Heads(HeadEffect { tokens: tokens() }));
        [map, edges, heads].into_iter().flatten().collect()
    }

    fn layers(&self) -> Numbers {
        self.effect_layers.clone().unwrap_or_default()
    }

    /// Finds out what was asked for, of the uncut run, and leaves it where it will be written.
    pub fn find(
        &self,
        opened: &Opened,
        baseline: &Baseline,
        cancel: &Cancel,
        extra: &mut data::Extra,
    ) -> Result<(), RunError> {
        if !self.any() {
            return Ok(());
        }
        let tokens = self.tokens(baseline.trace.answer.len())?;
        let mut effects = Effects { tokens, ..Effects::default() };
        let (mut blocks, mut edges) = (Vec::new(), Vec::new());
        for study in self.studies(&effects.tokens) {
            for finding in found(opened, baseline, &study, cancel)? {
                match finding {
                    Finding::Block(block) => blocks.push(block),
                    Finding::Agreement(agreement) => effects.agreement.push(agreement),
                    Finding::Edge(edge) => edges.push(edge),
                    Finding::Head(head) => effects.heads.push(head),
                    Finding::Lens(_) | Finding::Compressed(_) => {}
                }
            }
        }
        effects.blocks = self.effect_map.map(|coarsest| BlocksFound {
            coarsest,
            how: self.effect_by.unwrap_or_default(),
            layers: self.layers().to_string(),
            found: blocks,
        });
        effects.edges = self.edge_effects.map(|width| EdgesFound { width, found: edges });
        let visual = opened.seen.first().map_or(0, |seen| seen.geometry.n_tokens());
        for (name, shape, values) in tensors(&effects, visual, &opened.engine.info) {
            extra.tensor(name, shape, values);
        }
        extra.effects = Some(effects);
        Ok(())
    }
}

/// All findings of a study.
fn found(
    opened: &Opened,
    baseline: &Baseline,
    study: &Study,
    cancel: &Cancel,
) -> Result<Vec<Finding>, RunError> {
    let (engine, images) = (&opened.engine, opened.seen());
    let mut steps = Steps::new(engine, baseline, &images, study)?;
    let (_, all) = steps.steps();
    let bar = bar(all as u64, study.kind().name());
    let mut found = Vec::with_capacity(all);
    while let Some(finding) = steps.step(engine, baseline, &images, cancel)? {
        found.push(finding);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(found)
}

/// The same numbers as tensors, 0 where there is none: name, shape, values. `visual`: tokens of the first image.
fn tensors(effects: &Effects, visual: usize, model: &ModelInfo) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut tensors = Vec::new();
    let blocks = effects.blocks.as_ref().map_or(&[][..], |blocks| blocks.found.as_slice());
    for side in blocks.iter().map(|block| block.side).collect::<BTreeSet<usize>>() {
        let mut values = vec![0.0; visual];
        for block in blocks.iter().filter(|block| block.side == side) {
            block.patches.iter().for_each(|&patch| values[patch] = block.delta);
        }
        tensors.push((format!("effect.patches.{side}"), vec![visual], values));
    }
    if let Some(edges) = &effects.edges {
        let shape = vec![model.n_layers, Span::COUNT, Span::COUNT];
        let mut values = vec![0.0; shape.iter().product()];
        for edge in &edges.found {
            let row = edge.layer * Span::COUNT + edge.query.index();
            values[row * Span::COUNT + edge.key.index()] = edge.delta;
        }
        tensors.push(("effect.edges".to_string(), shape, values));
    }
    if !effects.heads.is_empty() {
        let shape = vec![model.n_layers, model.n_heads];
        tensors.push((
            "effect.heads".to_string(),
            shape,
            effects.heads.iter().map(|head| head.delta).collect(),
        ));
    }
    tensors
}
