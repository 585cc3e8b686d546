//! Runs the experiments of a session again, on their own images or on others, and compares the numbers.

use std::path::PathBuf;

use crate::{
    checkpoint::weights::WeightDtype,
    engine::{
        check::Foreseen,
        error::RunError,
        folder::ModelFolder,
        load::Engine,
        see::{Framed, Seen},
    },
    progress::Cancel,
    spec::experiment::Experiment,
    studies::{
        images::moved_to,
        session::{Changed, Session, TOLERANCE, read_by},
    },
    trace::report::Report,
};

/// One experiment that was run again, or why it could not be.
#[derive(Debug)]
pub struct Replayed {
    /// Which entry of the session.
    pub entry: usize,
    /// On which image.
    pub image: PathBuf,
    /// What came out.
    pub outcome: Result<Report, ReplayError>,
    /// The largest difference to the entry's numbers, in nats, where it has some for this image.
    pub difference: Option<f32>,
}

/// Why an experiment could not be run again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It would be run on something else.
    #[error(transparent)]
    Changed(#[from] Changed),
    /// The run failed. Boxed: it is much larger than the rest.
    #[error(transparent)]
    Run(Box<RunError>),
}

impl From<RunError> for ReplayError {
    fn from(error: RunError) -> Self {
        ReplayError::Run(error.into())
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs in all.
    pub total: usize,
    /// Of these, how many gave other numbers.
    pub differ: usize,
    /// And how many could not be run.
    pub failed: usize,
}

/// Refuses a session of which nothing can be run, as far as it is known before weights are read.
///
/// # Errors
/// [`ReplayError`], of the first run, where none can be made.
pub fn check(
    folder: &ModelFolder,
    dtype: WeightDtype,
    session: &Session,
    others: Option<&[PathBuf]>,
) -> Result<(), ReplayError> {
    let (changed, mut first) = (session.changed(), None);
    for stored in &session.entries {
        let own = own_image(&stored.experiment);
        for image in others.unwrap_or(&own) {
            let experiment = moved_to(&stored.experiment, image);
            let sound = check_files(&experiment, &changed);
            match sound.and_then(|()| Ok(check_run(folder, dtype, &experiment)?)) {
                Ok(()) => return Ok(()),
                Err(e) => _ = first.get_or_insert(e),
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Refuses an experiment that would be run on something else than the session was made with.
fn check_files(experiment: &Experiment, changed: &[Changed]) -> Result<(), ReplayError> {
    let read = read_by(experiment);
    match changed.iter().find(|changed| read.contains(&changed.file)) {
        Some(changed) => Err(changed.clone().into()),
        None => Ok(()),
    }
}

fn check_run(folder: &ModelFolder, dtype: WeightDtype, experiment: &Experiment) -> Result<(), RunError> {
    let look = |picture| folder.frame(picture);
    let framed: Vec<Framed> = experiment.images.iter().map(look).collect::<Result<_, RunError>>()?;
    let images: Vec<&Framed> = framed.iter().collect();
    Foreseen::new(folder, dtype, experiment, &images).map(|_| ())
}

/// The image that replays of an experiment begin with, if it is a file.
fn own_image(experiment: &Experiment) -> Vec<PathBuf> {
    let file = experiment.images.first().and_then(|picture| picture.image.file());
    file.map(PathBuf::from).into_iter().collect()
}

/// Runs every entry on `others`, or on its own image. One bad image among many loses nothing of the rest.
pub fn replay(
    engine: &Engine,
    session: &Session,
    others: Option<&[PathBuf]>,
    cancel: &Cancel,
    on: &mut dyn FnMut(Replayed),
) -> Tally {
    let (changed, mut tally) = (session.changed(), Tally::default());
    for (entry, stored) in session.entries.iter().enumerate() {
        let own = own_image(&stored.experiment);
        for image in others.unwrap_or(&own) {
            let experiment = moved_to(&stored.experiment, image);
            let sound = check_files(&experiment, &changed);
            let outcome = sound.and_then(|()| Ok(run(engine, &experiment, cancel)?));
            let expected = stored.numbers.as_ref().filter(|_| own.contains(image));
            let difference = match (&outcome, expected) {
                (Ok(report), Some(expected)) => Some(expected.difference(&report.numbers())),
                _ => None,
            };
            tally.total += 1;
            tally.failed += usize::from(outcome.is_err());
            // No number is no agreement either.
            tally.differ += usize::from(difference.is_some_and(|d| d.is_nan() || d > TOLERANCE));
            on(Replayed { entry, image: image.clone(), outcome, difference });
        }
    }
    tally
}

fn run(engine: &Engine, experiment: &Experiment, cancel: &Cancel) -> Result<Report, RunError> {
    let look = |picture| Ok(engine.look(picture, cancel, &mut |_| {})?.1);
    let seen: Vec<Seen> = experiment.images.iter().map(look).collect::<Result<_, RunError>>()?;
    let images: Vec<&Seen> = seen.iter().collect();
    Ok(engine.run(experiment, &images, cancel, &mut |_| {})?.1)
}
