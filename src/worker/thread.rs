//! The inference thread: requests in, events out, latest wins.
//!
//! Owns the loaded model, the images that it has encoded, and the uncut runs that interventions start from.
//! It is handed a `wake` callback that asks for a repaint. Every long step is told as progress, and stops
//! when it is superseded or cancelled; what was there before stays.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use image::RgbImage;

use crate::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{open::Compute, shared},
    engine::{
        baseline::Baseline,
        error::{EngineError, RunError},
        event::{RunEvent, Told},
        load::Engine,
        see::Seen,
    },
    image::{open, plan::Processed},
    progress::{Cancel, Progress, Stage},
    spec::{
        experiment::Experiment,
        picture::{ImageSource, Picture},
    },
    trace::run::Stop,
    worker::{
        objects::known_objects,
        protocol::{Event, ImageView, ModelView, PICTURE_SIDE, Request, Row, RunId, ToldRow},
        queue::{Lane, Queue},
    },
};

/// How many images stay encoded, and how many uncut runs stay at hand.
const HELD: usize = 4;

/// The window's end of the thread.
pub struct Worker {
    requests: Sender<Request>,
    events: Receiver<Event>,
    running: Running,
}

/// What the thread is at, shared so that a request can stop it.
type Running = Arc<Mutex<Option<(Lane, Cancel)>>>;

fn lock(running: &Running) -> MutexGuard<'_, Option<(Lane, Cancel)>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Starts the thread. `wake` is called after every event, and told whether it [streams](Event::streams).
    pub fn spawn(compute: Compute, dtype: WeightDtype, wake: impl Fn(bool) + Send + 'static) -> Self {
        let (requests, inbox) = channel();
        let (outbox, events) = channel();
        let running = Running::default();
        let mut thread = Thread {
            inbox,
            queue: Queue::default(),
            running: running.clone(),
            compute,
            dtype,
            engine: None,
            current: None,
            images: Vec::new(),
            baselines: Vec::new(),
            tell: Box::new(move |event| {
                let streams = event.streams();
                // The window may have closed in between; then nobody needs to know.
                let _ = outbox.send(event);
                wake(streams);
            }),
        };
        thread::spawn(move || thread.work());
        Worker { requests, events, running }
    }

    /// Asks for something; stops what it supersedes.
    pub fn send(&self, request: Request) {
        // Holding the lock, the thread cannot take the request up and be stopped by it.
        let running = lock(&self.running);
        if let Some((lane, cancel)) = running.as_ref()
            && request.supersedes(*lane)
        {
            cancel.cancel();
        }
        // Only fails when the thread is gone, which it is not while `self` lives.
        let _ = self.requests.send(request);
    }

    /// The next event, if there is one.
    pub fn poll(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event, waited for; `None` when the thread ended. For callers without a window.
    pub fn wait(&self) -> Option<Event> {
        self.events.recv().ok()
    }
}

/// An opened image; encoded once it is asked about.
struct Held {
    source: ImageSource,
    pixels: Arc<RgbImage>,
    processed: Arc<Processed>,
    seen: Option<Seen>,
}

struct Thread {
    inbox: Receiver<Request>,
    queue: Queue,
    running: Running,
    compute: Compute,
    dtype: WeightDtype,
    engine: Option<Engine>,
    /// The image on show.
    current: Option<(ImageSource, Arc<RgbImage>)>,
    /// Images as the current model sees them, the last used last.
    images: Vec<Held>,
    /// Uncut runs of the current model, the last used last.
    baselines: Vec<Baseline>,
    tell: Box<dyn Fn(Event) + Send>,
}

/// Why a request was not served.
enum Failure {
    Stopped,
    Error(String),
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if error.is_cancelled() { Failure::Stopped } else { Failure::Error(error.to_string()) }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        if error.is_cancelled() { Failure::Stopped } else { Failure::Error(error.to_string()) }
    }
}

impl From<&str> for Failure {
    fn from(error: &str) -> Self {
        Failure::Error(error.to_string())
    }
}

impl Thread {
    /// Until the window is gone.
    fn work(&mut self) {
        loop {
            if self.queue.is_empty() {
                match self.inbox.recv() {
                    Ok(request) => self.enqueue(request),
                    Err(_) => return,
                }
            }
            self.drain();
            let Some(request) = self.queue.pop() else { continue };
            let Some(lane) = request.lane() else { continue };
            let cancel = Cancel::default();
            *lock(&self.running) = Some((lane, cancel.clone()));
            // What was sent before the flag could be seen is in the inbox by now.
            if self.drain() || self.queue.supersedes(lane) {
                cancel.cancel();
            }
            self.serve(request, &cancel);
            *lock(&self.running) = None;
            if self.queue.is_empty() {
                (self.tell)(Event::Idle);
            }
        }
    }

    /// Whether a [`Request::Cancel`] was among what came.
    fn drain(&mut self) -> bool {
        let mut cancelled = false;
        while let Ok(request) = self.inbox.try_recv() {
            cancelled |= matches!(request, Request::Cancel);
            self.enqueue(request);
        }
        cancelled
    }

    fn enqueue(&mut self, request: Request) {
        for dropped in self.queue.push(request) {
            (self.tell)(Event::Stopped { id: id_of(&dropped) });
        }
    }

    /// A panic in a driver or a library must not take the window's data with it.
    fn serve(&mut self, request: Request, cancel: &Cancel) {
        let id = id_of(&request);
        let outcome = catch_unwind(AssertUnwindSafe(|| match request {
            _ if cancel.is_cancelled() => Err(Failure::Stopped),
            Request::LoadModel(dir) => self.load(&dir, cancel),
            Request::OpenImage(source) => self.open(source, cancel),
            Request::Run { id, experiment, .. } => self.run(id, &experiment, cancel),
            Request::Cancel => Ok(()),
        }));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(Failure::Stopped)) => return (self.tell)(Event::Stopped { id }),
            Ok(Err(Failure::Error(error))) => error,
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("the model stopped unexpectedly: {}", words.unwrap_or("no reason given"))
            }
        };
        (self.tell)(Event::Failed { id, error });
    }

    /// Loads a model; the one before stays until this one is whole.
    fn load(&mut self, dir: &Path, cancel: &Cancel) -> Result<(), Failure> {
        (self.tell)(Event::Progress(Progress::begun(Stage::Load)));
        let tell = &self.tell;
        let mut told = Rarely::default();
        let mut on = |progress| told.tell(progress, tell);
        let engine = Engine::load(dir, &self.compute, self.dtype, cancel, &mut on)?;
        let (info, unused) = (engine.info.clone(), engine.vlm.unused.clone());
        self.engine = Some(engine);
        self.images.clear();
        self.baselines.clear();
        let device = self.compute.description.clone();
        let bundled = same_folder(dir, &bundled::model());
        (self.tell)(Event::Model(ModelView { info, device, unused, folder: dir.to_path_buf(), bundled }));
        if let Some((source, pixels)) = self.current.clone() {
            self.announce(source, pixels)?;
            self.encode_last(cancel)?;
        }
        Ok(())
    }

    /// Opens an image and makes it the current one; the one before stays when this fails.
    fn open(&mut self, source: ImageSource, cancel: &Cancel) -> Result<(), Failure> {
        (self.tell)(Event::Progress(Progress::begun(Stage::Open)));
        let pixels = Arc::new(open::read(&source).map_err(RunError::from)?);
        cancel.check().map_err(|_| Failure::Stopped)?;
        self.announce(source.clone(), pixels.clone())?;
        self.current = Some((source, pixels));
        self.encode_last(cancel)
    }

    /// Says how the model sees an image, and holds it as the last used.
    fn announce(&mut self, source: ImageSource, pixels: Arc<RgbImage>) -> Result<(), Failure> {
        let held = self.held(source, pixels)?;
        let geometry = held.processed.geometry.clone();
        (self.tell)(Event::Image(ImageView {
            source: held.source.clone(),
            picture: drawable(&held.pixels),
            objects: known_objects(&held.source, &geometry),
            geometry,
            description: held.processed.describe(),
        }));
        self.images.retain(|other| other.source != held.source);
        self.images.push(held);
        if self.images.len() > HELD {
            self.images.remove(0);
        }
        Ok(())
    }

    fn held(&self, source: ImageSource, pixels: Arc<RgbImage>) -> Result<Held, Failure> {
        let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
        let processed = Arc::new(engine.folder.process(&pixels)?);
        Ok(Held { source, pixels, processed, seen: None })
    }

    /// Encodes the image that was used last, if it is not.
    fn encode_last(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        let (Some(engine), Some(held)) = (&self.engine, self.images.last_mut()) else { return Ok(()) };
        if held.seen.is_none() {
            let tell = &self.tell;
            let seen = engine.see(&held.processed, cancel, &mut |p| tell(Event::Progress(p)))?;
            held.seen = Some(seen);
        }
        Ok(())
    }

    /// An experiment's image, encoded; opened in silence if it is not at hand.
    fn look(&mut self, picture: &Picture, cancel: &Cancel) -> Result<Seen, Failure> {
        let at = match self.images.iter().position(|held| held.source == picture.image) {
            Some(at) => at,
            None => {
                (self.tell)(Event::Progress(Progress::begun(Stage::Open)));
                let pixels = Arc::new(open::read(&picture.image).map_err(RunError::from)?);
                let held = self.held(picture.image.clone(), pixels)?;
                if self.images.len() == HELD {
                    self.images.remove(0);
                }
                self.images.push(held);
                self.images.len() - 1
            }
        };
        let last = self.images.len() - 1;
        self.images[at..].rotate_left(1);
        self.encode_last(cancel)?;
        let mut seen = self.images[last].seen.clone().ok_or(NO_MODEL)?;
        if let Some(object) = &picture.object {
            seen.mark_from(object)?;
        }
        Ok(seen)
    }

    fn run(&mut self, id: RunId, experiment: &Experiment, cancel: &Cancel) -> Result<(), Failure> {
        if self.engine.is_none() {
            return Err(NO_MODEL.into());
        }
        let mut seen = Vec::with_capacity(experiment.images.len());
        for picture in &experiment.images {
            seen.push(self.look(picture, cancel)?);
        }
        let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
        let images: Vec<&Seen> = seen.iter().collect();
        let tell = &self.tell;
        let words = engine.folder.prompts.unknown_words(&experiment.question());
        let mut on = |event: RunEvent<'_>| forward(id, &words, event, tell);
        let base = experiment.uncut();
        // An uncut run is told token by token; one that an intervention needs first is not.
        let held = match experiment.intervention.is_empty() {
            true => None,
            false => take(&mut self.baselines, |held| same_run(&held.experiment, &base)),
        };
        let (baseline, report) = match held {
            Some(baseline) => {
                let report = engine.run_from(&baseline, experiment, &images, cancel, &mut on);
                (baseline, report)
            }
            None => {
                let (baseline, report) = engine.run(experiment, &images, cancel, &mut on)?;
                (baseline, Ok(report))
            }
        };
        if baseline.trace.stop != Stop::Cancelled {
            self.baselines.retain(|held| !same_run(&held.experiment, &baseline.experiment));
            self.baselines.push(baseline);
            if self.baselines.len() > HELD {
                self.baselines.remove(0);
            }
        }
        let report = report?;
        if report.answer.stop == Stop::Cancelled && report.answer.answer.is_empty() {
            return Err(Failure::Stopped);
        }
        (self.tell)(Event::Done { id, end: Box::new((&report).into()) });
        Ok(())
    }
}

const NO_MODEL: &str = "no model is loaded: open a model folder first";

/// Whether two uncut runs are the same, wherever their objects are marked.
fn same_run(a: &Experiment, b: &Experiment) -> bool {
    let without_marks = |experiment: &Experiment| {
        let mut experiment = experiment.clone();
        experiment.images.iter_mut().for_each(|picture| picture.object = None);
        experiment
    };
    without_marks(a) == without_marks(b)
}

/// Whether two paths lead to one folder.
fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// An image, shrunk where it is too large to be drawn: here, since it takes long for the largest.
fn drawable(pixels: &Arc<RgbImage>) -> Arc<RgbImage> {
    let (w, h) = pixels.dimensions();
    if w.max(h) <= PICTURE_SIDE {
        return pixels.clone();
    }
    let scale = f64::from(PICTURE_SIDE) / f64::from(w.max(h));
    let fit = |n: u32| ((f64::from(n) * scale).round() as u32).clamp(1, PICTURE_SIDE);
    Arc::new(image::imageops::thumbnail(pixels.as_ref(), fit(w), fit(h)))
}

fn id_of(request: &Request) -> Option<RunId> {
    match request {
        Request::Run { id, .. } => Some(*id),
        _ => None,
    }
}

fn take<T>(from: &mut Vec<T>, wanted: impl Fn(&T) -> bool) -> Option<T> {
    let at = from.iter().position(wanted)?;
    Some(from.remove(at))
}

/// Hands on what a run tells.
fn forward(id: RunId, unknown_words: &[String], event: RunEvent<'_>, tell: &(dyn Fn(Event) + Send)) {
    let told = match event {
        RunEvent::Prompt(prompt) => {
            Event::Started { id, prompt: prompt.tokens.clone(), unknown_words: unknown_words.to_vec() }
        }
        RunEvent::Progress(progress) => Event::Progress(progress),
        RunEvent::Start(start) => Event::Scoring { id, start },
        RunEvent::Scored { token, effect, row } => {
            let row = row.map(|pattern| Row { pattern: pattern.clone(), resident: None });
            Event::Scored { id, token: token.clone(), effect: *effect, row }
        }
        RunEvent::Token { token, row } => {
            let row = match row {
                Told::Nothing => ToldRow::Nothing,
                Told::AsScored => ToldRow::AsScored,
                Told::New { row, resident } => {
                    let resident = resident.and_then(shared::resident);
                    ToldRow::New(Row { pattern: row.clone(), resident })
                }
            };
            Event::Token { id, token: token.clone(), row }
        }
    };
    tell(told);
}

/// Tells of progress a hundred times at most.
#[derive(Default)]
struct Rarely {
    told: u64,
}

impl Rarely {
    fn tell(&mut self, progress: Progress, tell: &(dyn Fn(Event) + Send)) {
        let share = progress.done * 100 / progress.total.unwrap_or(1).max(1);
        if share > self.told {
            self.told = share;
            tell(Event::Progress(progress));
        }
    }
}
