//! The inference thread: [`Request`] in, [`Event`] out, latest wins.
//!
//! Owns the loaded model. Knows nothing of egui: it is handed a `wake` callback that asks for a
//! repaint. Everything that crosses the channel is plain data, except [`Event::Token`]'s
//! `resident`, which keeps attention on the GPU when the model runs on the window's own device.
//!
//! A request supersedes what it makes pointless: a new run the older ones of its lane (baselines are
//! one lane, cut runs the other), a new image or model every run. Superseded work that has not begun
//! is dropped; work that runs is stopped between two layers.
//!
//! The uncut run about the current image and prompt is kept: a cut run starts from it, at its lowest
//! layer, and answers with new numbers in a fraction of a run's time.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use image::RgbImage;

use crate::{checkpoint::weights::WeightDtype, device::{open::Compute, shared as gpu, shared::ResidentRow}, engine::{answer::Baseline, load::{Engine, RunEvent, Seen}}, image::{process as model_image, process::ImageError}, progress::Cancel, spec::{experiment::{Intervention, RunSpec}, knockout::Knockout}, trace::run::{AnswerToken, ModelInfo, PatternRow, PromptToken, Stop, Trace}};

/// Names a run, so that late events of a superseded one can be told apart. Grows.
pub type RunId = u64;

/// What the window asks for.
#[derive(Debug)]
pub enum Request {
    /// Load another model folder; the image is kept.
    LoadModel(PathBuf),
    /// Take this image from now on.
    OpenImage(ImageSource),
    /// Answer a prompt about the current image.
    Run {
        /// Name of the run.
        id: RunId,
        /// What to run.
        ask: Ask,
    },
    /// Stop the run or the encoding that goes on, and forget what waits. A run's partial trace arrives
    /// as [`Event::Done`]; an image that was not encoded is encoded when next asked about.
    Cancel,
}

/// What supersedes what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    /// Loading a model.
    Model,
    /// Opening an image.
    Image,
    /// An uncut run.
    Baseline,
    /// A run with knockouts.
    Cut,
}

impl Request {
    fn lane(&self) -> Option<Lane> {
        match self {
            Request::LoadModel(_) => Some(Lane::Model),
            Request::OpenImage(_) => Some(Lane::Image),
            Request::Run { ask, .. } if ask.knockouts.is_empty() => Some(Lane::Baseline),
            Request::Run { .. } => Some(Lane::Cut),
            Request::Cancel => None,
        }
    }

    /// Whether work of `lane` is pointless once this is asked for.
    fn supersedes(&self, lane: Lane) -> bool {
        match self {
            Request::Cancel => matches!(lane, Lane::Baseline | Lane::Cut),
            Request::LoadModel(_) => true,
            Request::OpenImage(_) => lane != Lane::Model,
            Request::Run { .. } => self.lane() == Some(lane),
        }
    }

    /// Whether work of `lane` that has begun stops: a cancelled image stays open, only not encoded.
    fn stops(&self, lane: Lane) -> bool {
        self.supersedes(lane) || matches!((self, lane), (Request::Cancel, Lane::Image))
    }
}

/// Where an image comes from. Decoding happens on the worker.
#[derive(Clone, Debug)]
pub enum ImageSource {
    /// A file.
    Path(PathBuf),
    /// A dropped or bundled file's bytes, and its name.
    Bytes(Arc<[u8]>, String),
}

/// One question to the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The user's text.
    pub prompt: String,
    /// Cuts in force; empty for the baseline.
    pub knockouts: Vec<Knockout>,
    /// Longest answer.
    pub max_new: usize,
}

/// What the worker tells.
#[derive(Debug)]
pub enum Event {
    /// Something long is going on: a short phrase and, when known, the share done; 1 ends it.
    Progress(String, Option<f32>),
    /// A model is ready.
    Model {
        /// What it is.
        info: ModelInfo,
        /// Where it runs, in words.
        device: String,
        /// Weights that were accepted and not used, by key.
        unused: Vec<String>,
    },
    /// The current image, as opened and as the model sees it.
    Image(ImageView),
    /// A run began; its prompt is known.
    Started {
        /// Name of the run.
        id: RunId,
        /// Prompt positions.
        prompt: Vec<PromptToken>,
        /// Words of the prompt that the tokenizer does not know.
        unknown_words: Vec<String>,
    },
    /// One more answer token.
    Token {
        /// Name of the run.
        id: RunId,
        /// The token.
        token: AnswerToken,
        /// The attention that predicted it.
        row: PatternRow,
        /// The same numbers where they lie on the window's device, if they do.
        resident: Option<ResidentRow>,
    },
    /// A run ended, or was cancelled.
    Done {
        /// Name of the run.
        id: RunId,
        /// Everything.
        trace: Box<Trace>,
    },
    /// Something went wrong; everything that was there before still is.
    Failed {
        /// The run, when it was one.
        id: Option<RunId>,
        /// What was wrong, where, and what to do.
        error: String,
    },
}

/// An opened image and how the model sees it.
#[derive(Clone, Debug)]
pub struct ImageView {
    /// Name to show.
    pub name: String,
    /// Upright, on white.
    pub pixels: Arc<RgbImage>,
    /// What was done to it, in words: "640x427 -> 192x192 (shortest edge, centre crop)".
    pub geometry: String,
    /// For each visual token of this image, in prompt order: the rectangle of `pixels` that it
    /// holds, `[x0, y0, x1, y1]` in source pixels.
    pub patches: Vec<[f32; 4]>,
    /// For each visual token: whether it belongs to a tile (false) or to the global view (true).
    pub global: Vec<bool>,
}

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
    /// Starts the thread. `wake` is called after every event.
    pub fn spawn(compute: Compute, dtype: WeightDtype, wake: impl Fn() + Send + 'static) -> Self {
        let (requests, inbox) = channel();
        let (outbox, events) = channel();
        let running = Running::default();
        let mut thread = Thread {
            inbox,
            pending: VecDeque::new(),
            running: running.clone(),
            compute,
            dtype,
            engine: None,
            image: None,
            seen: None,
            baseline: None,
            tell: Box::new(move |event| {
                // The window may have closed in between; then nobody needs to know.
                let _ = outbox.send(event);
                wake();
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
            && request.stops(*lane)
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

struct Thread {
    inbox: Receiver<Request>,
    pending: VecDeque<Request>,
    running: Running,
    compute: Compute,
    dtype: WeightDtype,
    engine: Option<Engine>,
    /// The current image, by name.
    image: Option<(String, Arc<RgbImage>)>,
    /// The current image as the current model sees it.
    seen: Option<Seen>,
    /// The uncut run about `seen` that cut runs start from.
    baseline: Option<Baseline>,
    tell: Box<dyn Fn(Event) + Send>,
}

impl Thread {
    /// Until the window is gone.
    fn work(&mut self) {
        loop {
            if self.pending.is_empty() {
                match self.inbox.recv() {
                    Ok(request) => self.enqueue(request),
                    Err(_) => return,
                }
            }
            self.drain();
            let Some(request) = self.pending.pop_front() else { continue };
            let Some(lane) = request.lane() else { continue };
            let cancel = Cancel::default();
            *lock(&self.running) = Some((lane, cancel.clone()));
            // What was sent before the flag could be seen is in the inbox by now.
            if self.drain() && Request::Cancel.stops(lane) {
                cancel.cancel();
            }
            if !self.pending.iter().any(|later| later.supersedes(lane)) {
                self.serve(request, &cancel);
            }
            *lock(&self.running) = None;
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
        self.pending.retain(|waiting| !waiting.lane().is_some_and(|lane| request.supersedes(lane)));
        if request.lane().is_some() {
            self.pending.push_back(request);
        }
    }

    /// A panic in a driver or a library must not take the window's data with it.
    fn serve(&mut self, request: Request, cancel: &Cancel) {
        let id = match &request {
            Request::Run { id, .. } => Some(*id),
            _ => None,
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| match request {
            Request::LoadModel(dir) => self.load(&dir, cancel),
            Request::OpenImage(source) => self.open(source, cancel),
            Request::Run { id, ask } => self.run(id, &ask, cancel),
            Request::Cancel => Ok(()),
        }));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("the model stopped unexpectedly: {}", words.unwrap_or("no reason given"))
            }
        };
        // What was stopped on purpose is no failure.
        if cancel.is_cancelled() && id.is_none() {
            (self.tell)(Event::Progress("stopped".to_string(), Some(1.0)));
        } else {
            (self.tell)(Event::Failed { id, error });
        }
    }

    fn load(&mut self, dir: &Path, cancel: &Cancel) -> Result<(), String> {
        (self.tell)(Event::Progress(format!("loading {}", dir.display()), None));
        let engine = Engine::load(dir, &self.compute, self.dtype).map_err(|e| e.to_string())?;
        let info = engine.info.clone();
        let unused = engine.vlm.unused.clone();
        self.engine = Some(engine);
        (self.seen, self.baseline) = (None, None);
        (self.tell)(Event::Model { info, device: self.compute.description.clone(), unused });
        if let Some((name, image)) = self.image.clone() {
            self.see(name, image, cancel)?;
        }
        Ok(())
    }

    fn open(&mut self, source: ImageSource, cancel: &Cancel) -> Result<(), String> {
        (self.tell)(Event::Progress("opening image".to_string(), None));
        let (name, image) = decode(source).map_err(|e| e.to_string())?;
        self.see(name, Arc::new(image), cancel)
    }

    /// Makes an image the current one; the one before stays when this fails.
    fn see(&mut self, name: String, image: Arc<RgbImage>, cancel: &Cancel) -> Result<(), String> {
        let Some(engine) = &self.engine else {
            return Err("no model is loaded: open a model folder first".to_string());
        };
        let processed = engine.process(&image).map_err(|e| e.to_string())?;
        let (patches, global) = engine.patches(&processed);
        (self.tell)(Event::Image(ImageView {
            name: name.clone(),
            pixels: image.clone(),
            geometry: processed.describe(),
            patches,
            global,
        }));
        self.image = Some((name, image));
        (self.seen, self.baseline) = (None, None);
        let tell = &self.tell;
        let seen = engine.see(processed, cancel, &mut |done, total| {
            let what = format!("encoding image, tile {done} of {total}");
            tell(Event::Progress(what, Some(done as f32 / total as f32)));
        });
        self.seen = Some(seen.map_err(|e| e.to_string())?);
        Ok(())
    }

    fn run(&mut self, id: RunId, ask: &Ask, cancel: &Cancel) -> Result<(), String> {
        if self.seen.is_none()
            && let Some((name, image)) = self.image.clone()
        {
            self.see(name, image, cancel)?;
        }
        let engine = self.engine.as_ref().ok_or("no model is loaded: open a model folder first")?;
        let seen = self.seen.as_ref().ok_or("no image is open: open one first")?;
        let spec = RunSpec::ask(&ask.prompt, ask.max_new);
        let tell = &self.tell;
        let mut on = |event: RunEvent<'_>| match event {
            RunEvent::Prompt(prompt) => tell(Event::Started {
                id,
                prompt: prompt.tokens.clone(),
                unknown_words: engine.prompts.unknown_words(&ask.prompt),
            }),
            RunEvent::Gradients { done, total } => {
                tell(Event::Progress("integrated gradients".to_string(), Some(done as f32 / total as f32)));
            }
            RunEvent::Prefilled(_) => tell(Event::Progress("answering".to_string(), None)),
            RunEvent::Token { token, row, resident } => {
                // The window's runs record everything.
                if let Some(row) = row {
                    let resident = resident.and_then(gpu::resident);
                    tell(Event::Token { id, token: token.clone(), row: row.clone(), resident });
                }
            }
        };
        tell(Event::Progress("reading the prompt".to_string(), None));
        let images = [seen];
        if ask.knockouts.is_empty() {
            let baseline = engine.keep(&spec, &images, cancel, &mut on).map_err(|e| e.to_string())?;
            let trace = Box::new(baseline.trace.clone());
            self.baseline = Some(baseline);
            (self.tell)(Event::Done { id, trace });
            return Ok(());
        }
        let fits = |b: &Baseline| b.spec == spec && b.trace.stop != Stop::Cancelled;
        let held = self.baseline.take().filter(fits);
        let baseline = match held {
            Some(baseline) => baseline,
            None => engine.keep(&spec, &images, cancel, &mut |_| {}).map_err(|e| e.to_string())?,
        };
        if baseline.trace.stop == Stop::Cancelled {
            // Stopped before the cut's own answer began.
            let trace = Trace { answer: Vec::new(), pattern: Vec::new(), ..baseline.trace };
            (self.tell)(Event::Done { id, trace: Box::new(trace) });
            return Ok(());
        }
        let intervention = Intervention { knockouts: ask.knockouts.clone(), ablations: Vec::new() };
        let outcome = engine.intervene(&baseline, &intervention, &images, cancel, &mut on);
        self.baseline = Some(baseline);
        let trace = Box::new(outcome.map_err(|e| e.to_string())?.free);
        (self.tell)(Event::Done { id, trace });
        Ok(())
    }
}

fn decode(source: ImageSource) -> Result<(String, RgbImage), ImageError> {
    match source {
        ImageSource::Path(path) => {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
            Ok((name.unwrap_or_else(|| path.display().to_string()), model_image::open(&path)?))
        }
        ImageSource::Bytes(bytes, name) => Ok((name.clone(), model_image::decode(&bytes, &name)?)),
    }
}
