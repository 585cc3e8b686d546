//! The study over images on show, and the folder that the next one goes through.
//!
//! It outlives runs, images and models: what it measured stays until another one begins. Knows what was measured;
//! nothing of how it is drawn.

use std::path::{Path, PathBuf};

use crate::{
    studies::survey::{
        kind::Kind,
        record::{Header, Measured},
    },
    trace::run::ModelInfo,
    ui::store::studies::State,
    worker::protocol::{RunId, Survey},
};

/// Studies that one image by itself says something in.
pub const OF_ONE_IMAGE: [&str; 5] = ["windows", "effect", "share", "lens", "heads"];

/// A folder of images, as far as it is to be known before a study goes through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    /// The folder.
    pub dir: PathBuf,
    /// How many images it has.
    pub images: usize,
    /// Whether the pixels of objects on them are known.
    pub objects: bool,
}

/// What the user chose of a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyChoice {
    /// Which one, by its name.
    pub kind: &'static str,
    /// Of a folder, at most so many images.
    pub limit: Option<usize>,
    /// Whether a folder's images are all asked the question in force, instead of what the folder asks.
    pub asks: bool,
}

/// A study over images.
#[derive(Debug)]
pub struct SurveyRun {
    /// Its name.
    pub id: RunId,
    /// Which study it is.
    pub kind: &'static Kind,
    /// What was asked for.
    pub survey: Survey,
    /// The model.
    pub model: ModelInfo,
    /// Files of all its images, in order; none before they are known.
    pub images: Vec<PathBuf>,
    /// What it measured so far.
    pub measured: Vec<Measured>,
    /// Of what these are the measurements; known once all are.
    pub header: Option<Box<Header>>,
    /// How far it is.
    pub state: State,
}

impl SurveyRun {
    /// Images done, and images in all; 0 of 0 before they are known.
    pub fn steps(&self) -> (usize, usize) {
        (self.measured.len(), self.images.len())
    }

    /// The file of an image, by its name.
    pub fn file(&self, name: &str) -> Option<&Path> {
        let named = |file: &&PathBuf| file.file_name().is_some_and(|of| of.to_string_lossy() == name);
        self.images.iter().find(named).map(PathBuf::as_path)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Surveys {
    last: Option<SurveyRun>,
    /// The folder that the next one goes through; `None`: the image on show.
    pub folder: Option<ImageFolder>,
}

impl Surveys {
    /// The one on show.
    pub fn get(&self) -> Option<&SurveyRun> {
        self.last.as_ref()
    }

    /// The one that goes on.
    pub fn running(&self) -> Option<&SurveyRun> {
        self.last.as_ref().filter(|run| run.state == State::Running)
    }

    /// Takes up a new one, in the place of the last.
    pub fn begin(&mut self, id: RunId, kind: &'static Kind, survey: Survey, model: ModelInfo) {
        let (images, measured, header, state) = (Vec::new(), Vec::new(), None, State::Running);
        self.last = Some(SurveyRun { id, kind, survey, model, images, measured, header, state });
    }

    /// The last one again, from where it stopped, under another name. Returns what is to be asked for.
    pub fn go_on(&mut self, id: RunId) -> Option<Survey> {
        let run = self.last.as_mut()?;
        (run.id, run.state) = (id, State::Running);
        let done = run.measured.iter().map(|one| one.image.clone()).collect();
        Some(Survey { done, ..run.survey.clone() })
    }

    fn by_id(&mut self, id: RunId) -> Option<&mut SurveyRun> {
        self.last.as_mut().filter(|run| run.id == id)
    }

    /// Its images are known.
    pub fn begun(&mut self, id: RunId, images: Vec<PathBuf>) {
        if let Some(run) = self.by_id(id) {
            run.images = images;
        }
    }

    /// One more image is measured.
    pub fn measured(&mut self, id: RunId, measured: Measured) {
        if let Some(run) = self.by_id(id) {
            run.measured.push(measured);
        }
    }

    /// All images are measured.
    pub fn done(&mut self, id: RunId, header: Box<Header>) {
        if let Some(run) = self.by_id(id) {
            (run.header, run.state) = (Some(header), State::Whole);
        }
    }

    /// It was given up.
    pub fn dropped(&mut self, id: RunId) {
        if let Some(run) = self.by_id(id).filter(|run| run.state == State::Running) {
            run.state = State::Dropped;
        }
    }

    /// It cannot go on. Returns whether there is such a one.
    pub fn failed(&mut self, id: RunId, why: &str) -> bool {
        self.by_id(id).map(|run| run.state = State::Failed(why.to_string())).is_some()
    }
}
