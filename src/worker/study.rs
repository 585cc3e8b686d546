//! Studies that were asked for: begun on a kept run when their turn comes, and taken a step at a time; one over images
//! after all others.
//!
//! Knows what is at hand (`held`) and which study is which; not when there is time for a step.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    engine::{baseline::Baseline, decoding::DecodingError, error::RunError, load::Engine, see::Seen},
    progress::{Cancel, Cancelled},
    spec::{experiment::Experiment, picture::ImageSource, study::Study},
    studies::{
        steps::{Steps, check_base},
        survey::error::SurveyError,
    },
    trace::{finding::Finding, run::Stop},
    worker::{
        held::Shelf,
        protocol::{Request, RunId, Survey},
        queue::Lane,
        survey::{self, Way},
    },
};

/// A study that was asked for.
pub struct Job {
    /// Its name.
    pub id: RunId,
    work: Work,
    /// Another model was asked for since.
    model_follows: bool,
    /// An image was asked for since.
    image_follows: bool,
}

/// What a study is about.
enum Work {
    /// A run.
    Run(Box<OfRun>),
    /// Images.
    Images(Box<Way>),
}

/// A study of a run.
struct OfRun {
    /// What it is about, with nothing that would only take time.
    base: Experiment,
    study: Study,
    begun: Option<Begun>,
}

/// What a study under way holds, whatever else is forgotten meanwhile.
struct Begun {
    baseline: Arc<Baseline>,
    seen: Vec<Seen>,
    steps: Steps,
}

/// What came of a step.
pub enum Stepped {
    /// The run that it is about is at hand.
    Begun,
    /// Something was found; steps done, and in all.
    Found(Finding, (usize, usize)),
    /// Everything is.
    Whole,
    /// Of a study over images.
    Images(survey::Stepped),
}

/// Why a step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A study of a run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A study over images.
    #[error(transparent)]
    Images(#[from] SurveyError),
}

impl StepError {
    /// Whether it was told to stop; then it can be taken again.
    pub fn is_cancelled(&self) -> bool {
        match self {
            StepError::Run(e) => e.is_cancelled(),
            StepError::Images(e) => e.is_cancelled(),
        }
    }
}

impl Job {
    /// A study of a run.
    pub fn new(id: RunId, base: Experiment, study: Study) -> Job {
        // The control is a study by itself.
        let base = Experiment { control: 0, ..base };
        Job::of(id, Work::Run(Box::new(OfRun { base, study, begun: None })))
    }

    /// A study over images.
    pub fn over(id: RunId, survey: Survey) -> Job {
        Job::of(id, Work::Images(Box::new(Way::new(survey))))
    }

    fn of(id: RunId, work: Work) -> Job {
        Job { id, work, model_follows: false, image_follows: false }
    }

    /// The lane of its steps.
    pub fn lane(&self) -> Lane {
        match &self.work {
            Work::Run(of) => Lane::Study(self.id, of.study.kind()),
            Work::Images(_) => Lane::Survey(self.id),
        }
    }

    /// Whether it is of a model that is gone, now that one was loaded. One that was asked for while it was on its way
    /// is about the new one.
    pub fn is_of_the_model_before(&self) -> bool {
        self.model_follows
    }

    /// Whether it is of an image that is gone, now that this one was opened.
    pub fn is_of_another_image(&self, opened: &ImageSource) -> bool {
        let Work::Run(of) = &self.work else { return false };
        self.image_follows && of.base.images.iter().all(|picture| picture.image != *opened)
    }

    /// Takes its next step.
    ///
    /// # Errors
    /// [`StepError`]; a cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        shelf: &mut Shelf,
        cancel: &Cancel,
    ) -> Result<Stepped, StepError> {
        match &mut self.work {
            Work::Run(of) => Ok(of.step(engine, shelf, cancel)?),
            Work::Images(way) => Ok(Stepped::Images(way.step(engine, |image| shelf.mask(image), cancel)?)),
        }
    }
}

impl OfRun {
    fn step(&mut self, engine: &Engine, shelf: &mut Shelf, cancel: &Cancel) -> Result<Stepped, RunError> {
        let Some(Begun { baseline, seen, steps }) = &mut self.begun else {
            self.begun = Some(self.begin(engine, shelf, cancel)?);
            return Ok(Stepped::Begun);
        };
        let images: Vec<&Seen> = seen.iter().collect();
        let found = steps.step(engine, baseline, &images, cancel)?;
        Ok(found.map_or(Stepped::Whole, |finding| Stepped::Found(finding, steps.steps())))
    }

    /// Sees its images and takes its run up, or runs it.
    fn begin(&self, engine: &Engine, shelf: &mut Shelf, cancel: &Cancel) -> Result<Begun, RunError> {
        check_base(&self.base, &self.study)?;
        let seen = shelf.look(engine, &self.base.images, cancel, &mut |_| {})?;
        let images: Vec<&Seen> = seen.iter().collect();
        let baseline = match shelf.kept(&self.base) {
            Some(baseline) => baseline,
            None => {
                let baseline = Arc::new(engine.keep(&self.base, &images, cancel, &mut |_| {})?);
                if baseline.trace.stop == Stop::Cancelled {
                    return Err(DecodingError::from(Cancelled).into());
                }
                shelf.keep(baseline.clone());
                baseline
            }
        };
        let steps = Steps::new(engine, &baseline, &images, &self.study)?;
        Ok(Begun { baseline, seen, steps })
    }
}

/// Those that were asked for and are not at their end: each has its turn.
#[derive(Default)]
pub struct Jobs(VecDeque<Job>);

impl Jobs {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lane of the one whose turn it is.
    pub fn turn(&self) -> Option<Lane> {
        self.0.front().map(Job::lane)
    }

    /// Takes out the one whose turn it is.
    pub fn take(&mut self) -> Option<Job> {
        self.0.pop_front()
    }

    /// Adds one behind all others; but one over images stays behind every study of a run.
    pub fn push(&mut self, job: Job) {
        let images = |job: &Job| matches!(job.work, Work::Images(_));
        let first = self.0.iter().position(images).filter(|_| !images(&job));
        self.0.insert(first.unwrap_or(self.0.len()), job);
    }

    /// Puts one back whose turn it still is.
    pub fn put_back(&mut self, job: Job) {
        match job.work {
            Work::Run(_) => self.0.push_front(job),
            // A study of a run may have come meanwhile.
            Work::Images(_) => self.push(job),
        }
    }

    /// Takes note of what was asked for after all of them.
    pub fn follow(&mut self, request: &Request) {
        for job in &mut self.0 {
            job.model_follows |= matches!(request, Request::LoadModel(_));
            job.image_follows |= matches!(request, Request::OpenImage(_));
        }
    }

    /// Gives up those that are not to be kept; returns their names.
    pub fn give_up(&mut self, mut pointless: impl FnMut(&Job) -> bool) -> Vec<RunId> {
        let (gone, kept): (VecDeque<Job>, VecDeque<Job>) =
            std::mem::take(&mut self.0).into_iter().partition(|job| pointless(job));
        self.0 = kept;
        gone.into_iter().map(|job| job.id).collect()
    }
}
