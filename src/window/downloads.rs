//! Models that are opened by name: found in the cache, or fetched on a thread of their own once the user agrees.
//!
//! One at a time: another one takes the place of that which comes, whose files stay and are gone on with later. Knows
//! the hub and threads; not how any of it is shown.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use egui::Context;

use crate::{
    device::room,
    hub::{
        cache::Cache,
        control::Control,
        download::{Hub, State},
        error::HubError,
        id::HubId,
        place::Place,
        table,
    },
    model::families::registry,
    ui::store::models::{Fetch, Models, Row, Stage},
};

/// How often the window is told how far a download is.
const RATE: Duration = Duration::from_millis(100);

/// What became of it.
pub enum Outcome {
    /// The model's folder.
    Folder(PathBuf),
    /// Why it cannot be had.
    Failed(String),
}

/// What a thread tells. The number is that of the model that was asked for.
enum Told {
    Rows(Vec<Row>, Option<u64>),
    Stage(u64, Stage),
    Ended(u64, Outcome),
}

/// The window's side.
pub struct Downloads {
    told: (Sender<Told>, Receiver<Told>),
    /// Number of the model that was asked for last.
    last: u64,
    control: Control,
    agree: Option<Sender<()>>,
}

impl Default for Downloads {
    fn default() -> Self {
        Downloads { told: channel(), last: 0, control: Control::default(), agree: None }
    }
}

impl Downloads {
    /// Looks which models of the table are in the cache.
    pub fn look(&self, ctx: &Context) {
        let (told, ctx) = (self.told.0.clone(), ctx.clone());
        thread::spawn(move || {
            let cache = Cache::of_user();
            let row = |known: table::Known| {
                let held = known.hub_id().map(|id| cache.held(&id))?;
                Some(Row { known, held })
            };
            let rows = table::known().into_iter().filter_map(row).collect();
            // The window may have closed meanwhile.
            let _ = told.send(Told::Rows(rows, room::left()));
            ctx.request_repaint();
        });
    }

    /// Begins to open a model: a folder, or a name of the hub.
    pub fn open(&mut self, ctx: &Context, name: PathBuf, models: &mut Models) {
        self.stop(models);
        self.last += 1;
        self.control = Control::default();
        let (agree, agreed) = channel();
        self.agree = Some(agree);
        models.fetch = Some(Fetch { name: name.display().to_string(), stage: Stage::Asked(None) });
        let work = Work {
            number: self.last,
            told: self.told.0.clone(),
            ctx: ctx.clone(),
            control: self.control.clone(),
        };
        thread::spawn(move || {
            let outcome = match work.folder(&name, &agreed) {
                Ok(Some(folder)) => Outcome::Folder(folder),
                // Nobody wants it any more.
                Ok(None) | Err(HubError::Cancelled(_)) => return,
                Err(error) => Outcome::Failed(error.to_string()),
            };
            work.tell(Told::Ended(work.number, outcome));
        });
    }

    /// The user agrees to fetch what was planned.
    pub fn agree(&mut self) {
        if let Some(agree) = self.agree.take() {
            // A thread that ended meanwhile has told why.
            let _ = agree.send(());
        }
    }

    /// Lets it rest, or go on.
    pub fn pause(&self, rests: bool, models: &mut Models) {
        self.control.pause(rests);
        if let Some(Fetch { stage: Stage::Comes { paused, .. }, .. }) = &mut models.fetch {
            *paused = rests;
        }
    }

    /// Stops it; what came stays.
    pub fn stop(&mut self, models: &mut Models) {
        self.control.cancel.cancel();
        (self.agree, models.fetch) = (None, None);
    }

    /// Takes in what threads told. Returns what became of the model that was asked for last.
    pub fn poll(&mut self, models: &mut Models) -> Option<Outcome> {
        while let Ok(told) = self.told.1.try_recv() {
            match told {
                Told::Rows(rows, free) => (models.rows, models.free) = (rows, free),
                Told::Stage(number, stage) if number == self.last => {
                    models.fetch.iter_mut().for_each(|fetch| fetch.stage = stage.clone());
                }
                Told::Ended(number, outcome) if number == self.last && models.fetch.is_some() => {
                    models.fetch = None;
                    return Some(outcome);
                }
                Told::Stage(..) | Told::Ended(..) => {}
            }
        }
        None
    }
}

/// A thread's side.
struct Work {
    number: u64,
    told: Sender<Told>,
    ctx: Context,
    control: Control,
}

impl Work {
    fn tell(&self, told: Told) {
        // The window may have closed meanwhile.
        let _ = self.told.send(told);
        self.ctx.request_repaint();
    }

    /// The model's folder; `None` where the user does not agree to fetch it.
    fn folder(&self, name: &Path, agreed: &Receiver<()>) -> Result<Option<PathBuf>, HubError> {
        let cache = Cache::of_user();
        match Place::of(name).here(&cache)? {
            Ok(folder) => Ok(Some(folder)),
            Err(id) => self.fetch(cache, &id, agreed),
        }
    }

    fn fetch(&self, cache: Cache, id: &HubId, agreed: &Receiver<()>) -> Result<Option<PathBuf>, HubError> {
        let hub = Hub::open(cache)?;
        let note = &mut |note: &str| {
            self.tell(Told::Stage(self.number, Stage::Asked(Some(note.to_string()))));
        };
        let plan = hub.plan(id, &self.control, note)?;
        self.tell(Told::Stage(self.number, Stage::Planned(plan.clone())));
        if agreed.recv().is_err() {
            return Ok(None);
        }
        let look = |folder: &Path| registry::open(folder).map(|_| ()).map_err(|e| e.to_string());
        let mut last: Option<(Instant, Option<String>)> = None;
        let tell = &mut |state: &State| {
            let is_news =
                |(at, note): &(Instant, Option<String>)| at.elapsed() >= RATE || *note != state.note;
            if last.as_ref().is_none_or(is_news) {
                last = Some((Instant::now(), state.note.clone()));
                let stage = Stage::Comes { state: state.clone(), paused: self.control.is_paused() };
                self.tell(Told::Stage(self.number, stage));
            }
        };
        hub.fetch(&plan, &self.control, &look, tell).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_opened_and_what_nobody_waits_for_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut downloads, mut models, ctx) = (Downloads::default(), Models::default(), Context::default());
        let outcome = |downloads: &mut Downloads, models: &mut Models| {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(20) {
                if let Some(outcome) = downloads.poll(models) {
                    return Some(outcome);
                }
                thread::sleep(Duration::from_millis(5));
            }
            None
        };
        downloads.open(&ctx, dir.path().to_path_buf(), &mut models);
        assert!(matches!(models.fetch, Some(Fetch { stage: Stage::Asked(None), .. })));
        let Some(Outcome::Folder(folder)) = outcome(&mut downloads, &mut models) else { panic!("no folder") };
        assert_eq!((folder.as_path(), models.fetch.is_none()), (dir.path(), true));
        // The second takes the place of the first, whatever that comes to.
        downloads.open(&ctx, PathBuf::from("/nowhere/at/all"), &mut models);
        downloads.open(&ctx, dir.path().to_path_buf(), &mut models);
        let Some(Outcome::Folder(folder)) = outcome(&mut downloads, &mut models) else { panic!("no folder") };
        assert_eq!(folder, dir.path());
        downloads.look(&ctx);
        let begun = Instant::now();
        while models.rows.is_empty() && begun.elapsed() < Duration::from_secs(20) {
            assert!(downloads.poll(&mut models).is_none());
        }
        assert_eq!(models.rows.len(), table::known().len());
    }
}
