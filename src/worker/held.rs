//! What the thread keeps at hand of the current model: images as it sees them, the mask that was read last, and kept
//! runs.
//!
//! Knows the engine; not what was asked of the thread.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use image::RgbImage;

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, see::Seen},
    image::{open, plan::Processed},
    progress::{Cancel, Progress, Stage},
    spec::{
        experiment::Experiment,
        picture::{ImageSource, Picture},
    },
    trace::run::Stop,
};

/// How many images stay encoded, and how many uncut runs stay at hand.
const HELD: usize = 4;

/// An opened image; encoded once it is asked about.
pub struct Held {
    /// Where it comes from.
    pub source: ImageSource,
    /// As it is.
    pub pixels: Arc<RgbImage>,
    /// As the model's encoder takes it.
    pub processed: Processed,
    seen: Option<Seen>,
}

impl Held {
    /// An opened image, not encoded yet.
    ///
    /// # Errors
    /// [`RunError`]: the model has no use for it.
    pub fn new(engine: &Engine, source: ImageSource, pixels: Arc<RgbImage>) -> Result<Held, RunError> {
        let processed = engine.folder.process(&pixels)?;
        Ok(Held { source, pixels, processed, seen: None })
    }
}

/// See the module. The last used come last.
#[derive(Default)]
pub struct Shelf {
    images: Vec<Held>,
    /// Those that interventions start from.
    uncut: Vec<Arc<Baseline>>,
    /// The last that something was done to.
    cut: Option<Arc<Baseline>>,
    /// An image, and the mask that was read of it last.
    mask: Option<(ImageSource, PathBuf)>,
}

impl Shelf {
    /// Forgets everything: another model sees nothing alike.
    pub fn clear(&mut self) {
        *self = Shelf::default();
    }

    /// Holds an image as the last used.
    pub fn hold(&mut self, held: Held) {
        self.images.retain(|other| other.source != held.source);
        self.images.push(held);
        if self.images.len() > HELD {
            self.images.remove(0);
        }
    }

    /// An image, if it is held.
    pub fn image(&self, source: &ImageSource) -> Option<&Held> {
        self.images.iter().find(|held| held.source == *source)
    }

    /// Remembers a mask of an image.
    pub fn mark(&mut self, source: ImageSource, mask: PathBuf) {
        self.mask = Some((source, mask));
    }

    /// The mask that was read last, where it is one of this image.
    pub fn mask(&self, image: &Path) -> Option<&Path> {
        let (source, mask) = self.mask.as_ref()?;
        (source.file() == Some(image)).then_some(mask.as_path())
    }

    /// Encodes the image that was used last, if it is not.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn encode_last(
        &mut self,
        engine: &Engine,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<(), RunError> {
        if let Some(held) = self.images.last_mut()
            && held.seen.is_none()
        {
            held.seen = Some(engine.see(&held.processed, cancel, tell)?);
        }
        Ok(())
    }

    /// Images as the model sees them, with their objects marked; those that are not at hand are opened and encoded.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn look(
        &mut self,
        engine: &Engine,
        pictures: &[Picture],
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Seen>, RunError> {
        pictures.iter().map(|picture| self.look_at(engine, picture, cancel, tell)).collect()
    }

    fn look_at(
        &mut self,
        engine: &Engine,
        picture: &Picture,
        cancel: &Cancel,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Seen, RunError> {
        let held = match self.images.iter().position(|held| held.source == picture.image) {
            Some(at) => self.images.remove(at),
            None => {
                tell(Progress::begun(Stage::Open));
                let pixels = Arc::new(open::read(&picture.image)?);
                Held::new(engine, picture.image.clone(), pixels)?
            }
        };
        self.hold(held);
        self.encode_last(engine, cancel, tell)?;
        let seen = self.images.last().and_then(|held| held.seen.clone());
        let needs = || RunError::Needs { what: "a run", needs: "an encoded image".to_string() };
        let mut seen = seen.ok_or_else(needs)?;
        if let Some(object) = &picture.object {
            seen.mark_from(object)?;
        }
        Ok(seen)
    }

    /// A run that is kept, whatever was marked where it was uncut.
    pub fn kept(&mut self, wanted: &Experiment) -> Option<Arc<Baseline>> {
        if !wanted.intervention.is_empty() {
            return self.cut.clone().filter(|held| held.experiment == *wanted);
        }
        let at = self.uncut.iter().position(|held| same_run(&held.experiment, wanted))?;
        let held = self.uncut.remove(at);
        self.uncut.push(held.clone());
        Some(held)
    }

    /// A run that is kept of the conversation that goes on with this question: the one that knows most of it.
    pub fn before(&self, wanted: &Experiment) -> Option<Arc<Baseline>> {
        let begins = self.uncut.iter().filter(|held| wanted.goes_on_from(&held.experiment));
        begins.max_by_key(|held| held.experiment.turns.len()).cloned()
    }

    /// Keeps a run that came to its end, as the last used.
    pub fn keep(&mut self, baseline: Arc<Baseline>) {
        if baseline.trace.stop == Stop::Cancelled {
            return;
        }
        if !baseline.experiment.intervention.is_empty() {
            self.cut = Some(baseline);
            return;
        }
        self.uncut.retain(|held| !same_run(&held.experiment, &baseline.experiment));
        self.uncut.push(baseline);
        if self.uncut.len() > HELD {
            self.uncut.remove(0);
        }
    }
}

/// Whether two uncut runs are the same, wherever their objects are marked.
fn same_run(a: &Experiment, b: &Experiment) -> bool {
    let without_marks = |experiment: &Experiment| {
        let mut experiment = experiment.clone();
        experiment.images.iter_mut().for_each(|picture| picture.object = None);
        experiment
    };
    without_marks(a) == without_marks(b)
}
