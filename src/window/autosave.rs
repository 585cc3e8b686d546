//! The session as it is, written every few seconds, so that nothing is lost when the program is killed.
//!
//! A thread of its own writes, and a file is whole or absent. A normal end takes it away; what is found at the start was
//! left by a window that came to no such end. One window at a time writes: a second one keeps nothing. Knows files and
//! gathered sessions; not what is in them.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use egui::Context;

use crate::{files::output::write_file, window::session::Gathered};

/// The folder inside that of the program.
const FOLDER: &str = "autosave";

/// The session of this window.
const PRESENT: &str = "autosave.json";

/// The session of the window before, which came to no normal end.
pub const LEFT: &str = "recovered.json";

/// What one window holds.
const LOCK: &str = "lock";

/// Between two savings.
const BETWEEN: Duration = Duration::from_secs(10);

/// What the thread is told.
enum Job {
    /// Write this.
    Save(Box<Gathered>),
    /// The window closes as it should. `all`: images that lie in no file of their own go, too.
    End { all: bool },
}

/// What the thread tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The session of a window that came to no normal end.
    Found(PathBuf),
    /// Why nothing is kept.
    Failed(String),
}

/// See the module.
#[derive(Debug)]
pub struct Autosave {
    jobs: Sender<Job>,
    told: Receiver<Told>,
    thread: Option<JoinHandle<()>>,
    /// Something changed since the last saving.
    changed: bool,
    /// The user did something: what the window does by itself at its start is not worth keeping.
    touched: bool,
    next: Option<Instant>,
}

impl Autosave {
    /// Begins in the program's folder.
    pub fn begin(state: &Path, ctx: &Context) -> Self {
        let (jobs, inbox) = channel();
        let (outbox, told) = channel();
        let (folder, ctx) = (state.join(FOLDER), ctx.clone());
        let tell = move |what: Told| {
            // The window may have closed.
            let _ = outbox.send(what);
            ctx.request_repaint();
        };
        let thread = thread::spawn(move || match hold(&folder) {
            Ok(Some(_lock)) => work(&folder, &inbox, &tell),
            Ok(None) => log::info!("another window keeps its session in {}", folder.display()),
            Err(error) => tell(Told::Failed(format!(
                "The session is not kept while the window is open: {} ({error}).",
                folder.display()
            ))),
        });
        Autosave { jobs, told, thread: Some(thread), changed: false, touched: false, next: None }
    }

    /// What was told since this was last asked.
    pub fn poll(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    /// The user did something.
    pub fn touch(&mut self) {
        (self.touched, self.changed) = (true, true);
    }

    /// A run came to its end: that is kept at once.
    pub fn ended(&mut self) {
        (self.changed, self.next) = (true, None);
    }

    /// Saves where that is due.
    pub fn tick(&mut self, ctx: &Context, now: Instant, gather: impl FnOnce() -> Option<Gathered>) {
        if !(self.touched && self.changed) {
            return;
        }
        if let Some(next) = self.next.filter(|next| *next > now) {
            ctx.request_repaint_after(next - now);
            return;
        }
        (self.changed, self.next) = (false, Some(now + BETWEEN));
        if let Some(gathered) = gather() {
            // Fails where nothing is kept.
            let _ = self.jobs.send(Job::Save(Box::new(gathered)));
        }
    }

    /// The window closes as it should: nothing is left. `restored`: what was left by another window was opened, and may
    /// be in use.
    pub fn end(&mut self, restored: bool) {
        let _ = self.jobs.send(Job::End { all: !restored });
        if let Some(thread) = self.thread.take() {
            // It writes one small file at most.
            let _ = thread.join();
        }
    }
}

/// Takes hold of the folder; `None` where another window has it.
fn hold(folder: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(folder)?;
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        // Not every file system has locks: then nobody knows of others.
        Err(fs::TryLockError::Error(_)) => Ok(Some(lock)),
    }
}

fn work(folder: &Path, inbox: &Receiver<Job>, tell: &impl Fn(Told)) {
    let (present, left) = (folder.join(PRESENT), folder.join(LEFT));
    if present.is_file() {
        // Where that cannot be done it is offered next time.
        let _ = fs::rename(&present, &left);
    }
    if left.is_file() {
        tell(Told::Found(left.clone()));
    }
    let mut failed = false;
    while let Ok(job) = inbox.recv() {
        // Of several that wait, the last says all.
        match inbox.try_iter().last().unwrap_or(job) {
            Job::End { all } => return clear(folder, all),
            Job::Save(gathered) => {
                let text = gathered.text(folder, true);
                let saved = text.and_then(|text| {
                    write_file(&present, text.as_bytes()).map_err(|error| error.to_string())
                });
                if let Err(why) = saved
                    && !std::mem::replace(&mut failed, true)
                {
                    tell(Told::Failed(format!("The session is not kept while the window is open: {why}.")));
                }
            }
        }
    }
}

/// Takes away what a window leaves.
fn clear(folder: &Path, all: bool) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pasted = name.starts_with("pasted-") && name.ends_with(".png");
        if name == PRESENT || name == LEFT || all && pasted {
            // What stays is offered next time, and does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        checkpoint::weights::WeightDtype,
        spec::{experiment::Experiment, picture::ImageSource},
        studies::session::Session,
        window::session::gathered,
    };

    fn asked() -> Gathered {
        let bytes = {
            let mut png = std::io::Cursor::new(Vec::new());
            image::RgbImage::new(2, 2).write_to(&mut png, image::ImageFormat::Png).unwrap();
            png.into_inner()
        };
        let pasted = ImageSource::Bytes(bytes.into(), "pasted image".to_string());
        gathered("/models/m".into(), WeightDtype::F32, vec![Experiment::ask(pasted, "what ?", 4)])
    }

    fn wait(autosave: &Autosave) -> Told {
        autosave.told.recv_timeout(Duration::from_secs(20)).expect("something is told")
    }

    fn until(file: &Path, there: bool) {
        let begun = Instant::now();
        while file.is_file() != there {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}: {there}", file.display());
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_killed_window_leaves_is_offered_and_what_a_closed_one_leaves_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ctx = Context::default();
        let (present, left) = (dir.path().join(FOLDER).join(PRESENT), dir.path().join(FOLDER).join(LEFT));
        let mut first = Autosave::begin(dir.path(), &ctx);
        first.tick(&ctx, Instant::now(), || panic!("nothing changed"));
        first.ended();
        first.tick(&ctx, Instant::now(), || panic!("nobody did anything"));
        first.touch();
        first.tick(&ctx, Instant::now(), || Some(asked()));
        until(&present, true);
        let whole = Session::read(&present).unwrap();
        assert_eq!((whole.entries.len(), whole.model.as_path()), (1, Path::new("/models/m")));
        first.touch();
        first.tick(&ctx, Instant::now(), || panic!("not so soon"));
        // Killed: its thread ends, and nothing is taken away.
        let thread = first.thread.take().unwrap();
        drop(first);
        thread.join().unwrap();

        let mut second = Autosave::begin(dir.path(), &ctx);
        assert_eq!(wait(&second), Told::Found(left.clone()));
        assert!(!present.is_file() && Session::read(&left).is_ok());
        // Two at a time: the other neither offers nor writes.
        let mut third = Autosave::begin(dir.path(), &ctx);
        assert!(third.told.recv_timeout(Duration::from_secs(20)).is_err(), "its thread ends in silence");
        third.end(false);
        assert!(left.is_file());
        second.end(true);
        assert!(!left.is_file() && dir.path().join(FOLDER).join("pasted-1.png").is_file());
        Autosave::begin(dir.path(), &ctx).end(false);
        assert!(!dir.path().join(FOLDER).join("pasted-1.png").is_file());
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let mut autosave = Autosave::begin(&file, &Context::default());
        assert!(matches!(wait(&autosave), Told::Failed(why) if why.contains("not kept")));
        autosave.end(false);
    }
}
