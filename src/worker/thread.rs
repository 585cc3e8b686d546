//! The inference thread: requests in, events out, latest wins.
//!
//! Owns the loaded model, what is kept of it (`held`), and the studies that go on when nothing else does (`study`).
//! It is handed a `wake` callback that asks for a repaint. Every long step is told as progress, and stops
//! when it is superseded or cancelled; what was there before stays.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
};

use image::RgbImage;

use crate::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{
        address::Address,
        open::{self as device, Compute},
        remote::{self, RemoteError},
    },
    engine::{
        error::{EngineError, RunError},
        event::RunEvent,
        load::Engine,
        see::Seen,
    },
    image::open,
    progress::{Cancel, Progress, Stage},
    spec::{experiment::Experiment, picture::ImageSource},
    trace::run::Stop,
    worker::{
        held::{Held, Shelf},
        hold::Hold,
        objects::marked_object,
        protocol::{Connection, Event, ModelView, Request, RunId},
        queue::{Lane, Queue},
        study::{Job, Jobs, StepError, Stepped},
        survey,
        tell::{Rarely, forward},
        views::image_view,
    },
};

/// The window's end of the thread.
pub struct Worker {
    requests: Sender<Request>,
    events: Receiver<Event>,
    running: Running,
    hold: Arc<Hold>,
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
        let (running, hold) = (Running::default(), Arc::<Hold>::default());
        let mut thread = Thread {
            inbox,
            queue: Queue::default(),
            jobs: Jobs::default(),
            busy: false,
            alone: false,
            running: running.clone(),
            hold: hold.clone(),
            here: compute,
            place: None,
            elsewhere: None,
            dtype,
            engine: None,
            current: None,
            shelf: Shelf::default(),
            tell: Box::new(move |event| {
                let streams = event.streams();
                // The window may have closed in between; then nobody needs to know.
                let _ = outbox.send(event);
                wake(streams);
            }),
        };
        thread::spawn(move || thread.work());
        Worker { requests, events, running, hold }
    }

    /// Asks for something; stops what it supersedes.
    pub fn send(&self, request: Request) {
        if let Request::Hold(rests) = request {
            // Whatever the thread is at has to see it.
            return self.hold.set(rests);
        }
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

impl Drop for Worker {
    fn drop(&mut self) {
        // Nobody is left to let go.
        self.hold.set(false);
    }
}

struct Thread {
    inbox: Receiver<Request>,
    queue: Queue,
    jobs: Jobs,
    /// Something was done since it was told that nothing goes on.
    busy: bool,
    /// The window is gone.
    alone: bool,
    running: Running,
    hold: Arc<Hold>,
    /// This machine's device.
    here: Compute,
    /// Where else models are to run.
    place: Option<Address>,
    /// The last device that was connected for that.
    elsewhere: Option<Compute>,
    dtype: WeightDtype,
    engine: Option<Engine>,
    /// The image on show.
    current: Option<(ImageSource, Arc<RgbImage>)>,
    /// What is kept of the current model.
    shelf: Shelf,
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

impl From<StepError> for Failure {
    fn from(error: StepError) -> Self {
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
            if self.queue.is_empty() && self.jobs.is_empty() {
                if std::mem::take(&mut self.busy) {
                    (self.tell)(Event::Idle);
                }
                match self.inbox.recv() {
                    Ok(request) => self.enqueue(request),
                    Err(_) => return,
                }
            }
            self.drain();
            match self.queue.pop() {
                Some(request) => self.next(request),
                None if self.alone => return,
                None => self.study(),
            }
        }
    }

    /// Serves a request that waited.
    fn next(&mut self, request: Request) {
        let Some(lane) = request.lane() else { return };
        self.busy = true;
        let cancel = Cancel::default();
        *lock(&self.running) = Some((lane, cancel.clone()));
        // What was sent before the flag could be seen is in the inbox by now.
        if self.drain() || self.queue.supersedes(lane) {
            cancel.cancel();
        }
        self.serve(request, &cancel);
        *lock(&self.running) = None;
    }

    /// Takes one step of the study whose turn it is, unless something else came meanwhile.
    fn study(&mut self) {
        let Some(lane) = self.jobs.turn() else { return };
        self.busy = true;
        let cancel = Cancel::default();
        *lock(&self.running) = Some((lane, cancel.clone()));
        // As in `next`; what came may have taken the study away, too.
        self.drain();
        if self.queue.is_empty()
            && self.jobs.turn() == Some(lane)
            && let Some(job) = self.jobs.take()
        {
            self.step(job, &cancel);
        }
        *lock(&self.running) = None;
    }

    fn step(&mut self, mut job: Job, cancel: &Cancel) {
        let id = job.id;
        let outcome = guarded(|| {
            let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
            Ok(job.step(engine, &mut self.shelf, cancel)?)
        });
        match outcome {
            Ok(Stepped::Begun) | Err(Failure::Stopped) => self.jobs.put_back(job),
            Ok(Stepped::Found(finding, steps)) => {
                (self.tell)(Event::Found { id, finding, steps });
                self.jobs.push(job);
            }
            Ok(Stepped::Whole) => (self.tell)(Event::Studied { id, whole: true }),
            Ok(Stepped::Images(stepped)) => self.images(job, stepped),
            Err(Failure::Error(error)) => self.failed(Some(id), error),
        }
    }

    /// Tells what came of a step of a study over images.
    fn images(&mut self, job: Job, stepped: survey::Stepped) {
        let id = job.id;
        let event = match stepped {
            survey::Stepped::Begun(images) => Event::SurveyBegun { id, images },
            survey::Stepped::Image(measured) => Event::SurveyImage { id, measured: Box::new(measured) },
            survey::Stepped::Whole(header) => {
                return (self.tell)(Event::SurveyDone { id, header });
            }
        };
        (self.tell)(event);
        self.jobs.push(job);
    }

    /// Gives up studies that are pointless.
    fn give_up(&mut self, pointless: impl FnMut(&Job) -> bool) {
        for id in self.jobs.give_up(pointless) {
            (self.tell)(Event::Studied { id, whole: false });
        }
    }

    /// Whether a [`Request::Cancel`] was among what came.
    fn drain(&mut self) -> bool {
        let mut cancelled = false;
        loop {
            match self.inbox.try_recv() {
                Ok(request) => {
                    cancelled |= matches!(request, Request::Cancel);
                    self.enqueue(request);
                }
                Err(ended) => {
                    self.alone |= ended == TryRecvError::Disconnected;
                    return cancelled;
                }
            }
        }
    }

    fn enqueue(&mut self, request: Request) {
        match request {
            // They take studies away only once they are there.
            Request::LoadModel(_) | Request::OpenImage(_) => self.jobs.follow(&request),
            _ => self.give_up(|job| request.supersedes(job.lane())),
        }
        match request {
            Request::Study { id, base, study } => return self.jobs.push(Job::new(id, *base, *study)),
            Request::Survey { id, survey } => return self.jobs.push(Job::over(id, *survey)),
            Request::Place(place) => return self.place = place,
            _ => {}
        }
        for dropped in self.queue.push(request) {
            (self.tell)(Event::Stopped { id: id_of(&dropped) });
        }
    }

    fn serve(&mut self, request: Request, cancel: &Cancel) {
        let id = id_of(&request);
        let loads = matches!(request, Request::LoadModel(_));
        let outcome = guarded(|| match request {
            _ if cancel.is_cancelled() => Err(Failure::Stopped),
            Request::LoadModel(dir) => self.load(&dir, cancel),
            Request::OpenImage(source) => self.open(source, cancel),
            Request::Mark(file) => self.mark(&file),
            Request::Run { id, experiment, .. } => self.run(id, &experiment, cancel),
            // They never wait.
            Request::Place(_)
            | Request::Cancel
            | Request::Hold(_)
            | Request::Study { .. }
            | Request::Survey { .. }
            | Request::Drop(_) => Ok(()),
        });
        match outcome {
            Ok(()) => {}
            Err(Failure::Stopped) => (self.tell)(Event::Stopped { id }),
            // What the model before lies on matters no more.
            Err(Failure::Error(error)) if loads => (self.tell)(Event::Failed { id, error }),
            Err(Failure::Error(error)) => self.failed(id, error),
        }
    }

    /// Tells of a failure: where the model lies elsewhere and the connection broke, of that.
    fn failed(&self, id: Option<RunId>, error: String) {
        let device = self.engine.as_ref().map(|engine| &engine.vlm.device);
        let lost = device.and_then(|device| remote::check(device).err());
        if lost.is_some() {
            (self.tell)(Event::Connection(Connection::Down));
        }
        (self.tell)(Event::Failed { id, error: lost.map_or(error, |lost| lost.to_string()) });
    }

    /// Where the next model goes: here, or over a connection that stands, made anew where it broke.
    fn compute(&mut self, cancel: &Cancel) -> Result<Compute, Failure> {
        let Some(place) = &self.place else { return Ok(self.here.clone()) };
        let stands = |compute: &&Compute| {
            remote::address_of(&compute.device).as_ref() == Some(place)
                && remote::check(&compute.device).is_ok()
        };
        if let Some(compute) = self.elsewhere.as_ref().filter(stands) {
            return Ok(compute.clone());
        }
        (self.tell)(Event::Connection(Connection::Calling));
        let called = device::elsewhere(place, cancel);
        let state = if called.is_ok() { Connection::Up } else { Connection::Down };
        (self.tell)(Event::Connection(state));
        let compute = called.map_err(|error| match error {
            RemoteError::Cancelled(_) => Failure::Stopped,
            error => Failure::Error(error.to_string()),
        })?;
        Ok(self.elsewhere.insert(compute).clone())
    }

    /// Loads a model; the one before stays until this one is whole.
    fn load(&mut self, dir: &Path, cancel: &Cancel) -> Result<(), Failure> {
        (self.tell)(Event::Progress(Progress::begun(Stage::Load)));
        let compute = self.compute(cancel)?;
        let tell = &self.tell;
        let mut told = Rarely::default();
        let mut on = |progress| told.tell(progress, tell);
        let engine = Engine::load(dir, &compute, self.dtype, cancel, &mut on)?;
        let info = engine.info.clone();
        let (unused, dtype, formats) = (engine.vlm.unused.clone(), engine.vlm.dtype, engine.vlm.dtype_text());
        self.engine = Some(engine);
        self.shelf.clear();
        self.give_up(Job::is_of_the_model_before);
        let device = compute.description;
        let bundled = same_folder(dir, &bundled::model());
        let folder = dir.to_path_buf();
        (self.tell)(Event::Model(ModelView { info, device, dtype, formats, unused, folder, bundled }));
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
        self.give_up(|job| job.is_of_another_image(&source));
        self.current = Some((source, pixels));
        self.encode_last(cancel)
    }

    /// Says how the model sees an image, and holds it as the last used.
    fn announce(&mut self, source: ImageSource, pixels: Arc<RgbImage>) -> Result<(), Failure> {
        let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
        let held = Held::new(engine, source, pixels)?;
        (self.tell)(Event::Image(image_view(&engine.folder.processor, &held)));
        self.shelf.hold(held);
        Ok(())
    }

    fn encode_last(&mut self, cancel: &Cancel) -> Result<(), Failure> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let tell = &self.tell;
        Ok(self.shelf.encode_last(engine, cancel, &mut |progress| tell(Event::Progress(progress)))?)
    }

    /// Reads a mask of the image on show.
    fn mark(&mut self, file: &Path) -> Result<(), Failure> {
        let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
        let (source, pixels) = self.current.clone().ok_or(NO_IMAGE)?;
        // It may not have been asked about for long.
        if self.shelf.image(&source).is_none() {
            self.shelf.hold(Held::new(engine, source.clone(), pixels)?);
        }
        let held = self.shelf.image(&source).ok_or(NO_IMAGE)?;
        let object = marked_object(file, &held.processed.geometry)?;
        self.shelf.mark(source.clone(), file.to_path_buf());
        (self.tell)(Event::Marked { source, object });
        Ok(())
    }

    fn run(&mut self, id: RunId, experiment: &Experiment, cancel: &Cancel) -> Result<(), Failure> {
        let engine = self.engine.as_ref().ok_or(NO_MODEL)?;
        let (tell, hold) = (&self.tell, &self.hold);
        let mut told = |progress| tell(Event::Progress(progress));
        let seen = self.shelf.look(engine, &experiment.images, cancel, &mut told)?;
        let images: Vec<&Seen> = seen.iter().collect();
        let words = engine.folder.prompts.unknown_words(&experiment.question());
        let mut is_scored = false;
        let mut on = |event: RunEvent<'_>| {
            is_scored |= matches!(event, RunEvent::Start(_));
            let begins = matches!(event, RunEvent::Progress(Progress { stage: Stage::Decode, .. }));
            if is_scored && begins {
                hold.wait(cancel);
            }
            forward(id, &words, event, tell);
        };
        // An uncut run is told token by token; one that an intervention needs first is not.
        let held = match experiment.intervention.is_empty() {
            true => None,
            false => self.shelf.kept(&experiment.uncut()),
        };
        let (baseline, report) = match held {
            Some(baseline) => {
                let report = engine.run_from(&baseline, experiment, &images, cancel, &mut on);
                (baseline, report)
            }
            None => {
                let before = self.shelf.before(experiment);
                let (baseline, report) =
                    engine.run_after(before.as_deref(), experiment, &images, cancel, &mut on)?;
                (Arc::new(baseline), Ok(report))
            }
        };
        self.shelf.keep(baseline);
        let report = report?;
        if report.answer.stop == Stop::Cancelled && report.answer.answer.is_empty() {
            return Err(Failure::Stopped);
        }
        (self.tell)(Event::Done { id, end: Box::new((&report).into()) });
        Ok(())
    }
}

const NO_MODEL: &str = "no model is loaded: open a model folder first";
const NO_IMAGE: &str = "no image is open: open the one that the mask belongs to first";

/// A panic in a driver or a library must not take the window's data with it.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Failure::Error(format!("the model stopped unexpectedly: {words}")))
    })
}

/// Whether two paths lead to one folder.
fn same_folder(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn id_of(request: &Request) -> Option<RunId> {
    match request {
        Request::Run { id, .. } => Some(*id),
        _ => None,
    }
}
