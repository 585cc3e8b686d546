//! Events of the worker in, requests out.
//!
//! Knows the two ends; not what either does.

use crate::{
    ui::store::store::Store,
    window::log,
    worker::{
        protocol::{Event, Request, RunId},
        thread::Worker,
    },
};

/// What the window needs of a worker. Tests put a made-up one in its place.
pub trait Link {
    /// Asks for something.
    fn send(&self, request: Request);
    /// The next event, if there is one.
    fn poll(&self) -> Option<Event>;
}

impl Link for Worker {
    fn send(&self, request: Request) {
        Worker::send(self, request);
    }

    fn poll(&self) -> Option<Event> {
        Worker::poll(self)
    }
}

/// The window's side of a link.
pub struct Pump {
    link: Box<dyn Link>,
}

impl Pump {
    /// Over a link.
    pub fn new(link: Box<dyn Link>) -> Self {
        Pump { link }
    }

    /// Asks for all of it, in order.
    pub fn send(&self, requests: Vec<Request>) {
        for request in requests {
            ::log::debug!("request {request:?}");
            self.link.send(request);
        }
    }

    /// Takes in everything that the worker has sent. Returns whether a run, or a study, came to its end.
    pub fn drain(&self, store: &mut Store) -> bool {
        let mut ended = false;
        while let Some(event) = self.link.poll() {
            ended |= matches!(event, Event::Done { .. } | Event::Studied { .. });
            let done = match &event {
                Event::Done { id, .. } => store.runs.slot_of(*id),
                Event::Studied { id, whole } => {
                    let study = store.studies.running().find(|run| run.id == *id);
                    if let Some(run) = study {
                        log::study(&format!("{} of {}", run.study.kind().name(), run.base_name), *whole);
                    }
                    survey(store, *id, false);
                    None
                }
                Event::SurveyDone { id, .. } => {
                    survey(store, *id, true);
                    None
                }
                Event::Failed { error, .. } => {
                    ::log::warn!("failed: {error}");
                    None
                }
                _ => None,
            };
            let requests = store.event(event);
            if let Some(slot) = done {
                log::answer(store, slot);
            }
            self.send(requests);
        }
        ended
    }
}

/// Logs the end of a study over images, if it is one.
fn survey(store: &Store, id: RunId, whole: bool) {
    if let Some(run) = store.surveys.running().filter(|run| run.id == id) {
        log::study(&format!("{} over {} images", run.kind.name, run.images.len()), whole);
    }
}
