//! A study of one answer under way, a step at a time: whoever takes the steps can do other things in between.
//!
//! Knows which file does which study; not who asks, nor what is done with the findings.

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, see::Seen},
    progress::Cancel,
    spec::{
        experiment::Experiment,
        study::{Study, StudyKind},
    },
    studies::{
        compression::Compressing,
        edge_effect::EdgeEffects,
        effect_map::EffectMap,
        head_effect::HeadEffects,
        lens::{Lens, Reader},
    },
    trace::finding::Finding,
};

/// A study of a kept run under way.
#[derive(Debug)]
pub struct Steps(Kind);

#[derive(Debug)]
enum Kind {
    Patches(EffectMap),
    Edges(EdgeEffects),
    Heads(HeadEffects),
    // It keeps what it reads.
    Lens(Box<Reader>),
    Compress(Compressing),
}

impl Steps {
    /// Before the first step of a study; all that it asks for is checked.
    ///
    /// # Errors
    /// [`RunError`], naming what there is not.
    pub fn new(
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        study: &Study,
    ) -> Result<Steps, RunError> {
        check_base(&baseline.experiment, study)?;
        Ok(Steps(match study {
            Study::Patches(study) => Kind::Patches(EffectMap::new(engine, baseline, images, study)?),
            Study::Edges(study) => Kind::Edges(EdgeEffects::new(engine, baseline, study)?),
            Study::Heads(study) => Kind::Heads(HeadEffects::new(engine, baseline, study)?),
            Study::Lens(at) => Kind::Lens(Box::new(Reader::new(baseline, Lens::of(&engine.folder, at)?)?)),
            Study::Compress(study) => Kind::Compress(Compressing::new(engine, baseline, images, study)?),
        }))
    }

    /// Takes the next step; `None` when all is found. The run and the images are those of the first step.
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
        match &mut self.0 {
            Kind::Patches(study) => study.step(engine, baseline, images, cancel),
            Kind::Edges(study) => study.step(engine, baseline, images, cancel),
            Kind::Heads(study) => study.step(engine, baseline, images, cancel),
            Kind::Lens(reader) => Ok(reader.step(engine, baseline, cancel)?.map(Finding::Lens)),
            Kind::Compress(study) => {
                Ok(study.step(engine, baseline, images, cancel)?.map(Finding::Compressed))
            }
        }
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        match &self.0 {
            Kind::Patches(study) => study.steps(),
            Kind::Edges(study) => study.steps(),
            Kind::Heads(study) => study.steps(),
            Kind::Lens(reader) => reader.steps(),
            Kind::Compress(study) => study.steps(),
        }
    }
}

/// Refuses a run that a study cannot be about: only the lens reads one that something was done to.
///
/// # Errors
/// [`RunError::Needs`].
pub fn check_base(base: &Experiment, study: &Study) -> Result<(), RunError> {
    if study.kind() == StudyKind::Lens || base.intervention.is_empty() {
        return Ok(());
    }
    let needs = "an uncut answer: ask for it about the run without cuts and ablations".to_string();
    Err(RunError::Needs { what: study.kind().name(), needs })
}
