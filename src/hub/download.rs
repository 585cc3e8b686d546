//! A model's files, from the hub into the cache: what is missing, then one file after the other, going on from what is
//! there.
//!
//! A revision is resolved to a commit once, and nothing but that commit is fetched. Small files come first, so that a
//! model that cannot be used is known before its weights are fetched. Blocks its caller, who has a thread for it.

use std::{
    collections::BTreeSet,
    env,
    fs::{self, TryLockError},
    path::PathBuf,
    time::Duration,
};

use futures_util::StreamExt as _;
use hf_hub::HFClient;
use tokio::runtime::{Builder, Runtime};

use crate::{
    hub::{
        api::{self, Described, Remote, fault},
        cache::{Cache, Repository},
        control::Control,
        error::HubError,
        id::{HubId, is_commit},
        names,
        part::Part,
        patience::{Again, Patience, Watched, rest, watched},
    },
    spec::record::gigabytes,
};

/// The variable that forbids the network, if one does: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE.
pub fn offline() -> Option<&'static str> {
    let is_on = |name: &&str| {
        let value = env::var(name).unwrap_or_default();
        ["1", "on", "yes", "true"].iter().any(|on| value.eq_ignore_ascii_case(on))
    };
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(is_on)
}

/// What is to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The model.
    pub id: HubId,
    /// The commit that its revision stands at.
    pub commit: String,
    /// Its licence, as its card states it.
    pub licence: Option<String>,
    /// Its files, in the order in which they are fetched.
    pub files: Vec<Remote>,
    /// Bytes of all of them.
    pub size: u64,
    /// Bytes that are not in the cache yet.
    pub missing: u64,
    /// Where they go.
    pub cache: PathBuf,
}

impl Plan {
    /// What it costs and under which licence it stands, line by line.
    pub fn lines(&self) -> [String; 2] {
        let licence = self.licence.as_deref();
        [
            format!(
                "{} at commit {}: {} in {} files, {} of it to fetch into {}",
                self.id,
                self.commit,
                gigabytes(self.size),
                self.files.len(),
                gigabytes(self.missing),
                self.cache.display()
            ),
            format!("licence: {}", licence.unwrap_or("its card states none; see the model's page")),
        ]
    }
}

/// How far one file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its name in the model.
    pub name: String,
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are there.
    pub done: u64,
}

/// How far a download is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its files, in the order in which they are fetched.
    pub files: Vec<FileState>,
    /// What it waits for, where it waits.
    pub note: Option<String>,
}

impl State {
    /// Bytes that are there, and bytes in all.
    pub fn total(&self) -> (u64, u64) {
        self.files.iter().fold((0, 0), |(done, size), file| (done + file.done, size + file.size))
    }
}

/// The hub, as the environment names it: HF_ENDPOINT, HF_TOKEN or the file that `hf auth login` wrote.
#[derive(Debug)]
pub struct Hub {
    client: HFClient,
    cache: Cache,
    runtime: Runtime,
}

impl Hub {
    /// Sets up what speaks to it; nothing is asked yet.
    ///
    /// # Errors
    /// [`HubError::Setup`].
    pub fn open(cache: Cache) -> Result<Self, HubError> {
        let agent = concat!("sightline/", env!("CARGO_PKG_VERSION"));
        let client = HFClient::builder().user_agent(agent).retry_max_attempts(0).build();
        let client = client.map_err(|e| HubError::Setup(e.to_string()))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| HubError::Setup(e.to_string()))?;
        Ok(Hub { client, cache, runtime })
    }

    /// Asks what a model consists of. `tell` hears what is waited for.
    ///
    /// # Errors
    /// [`HubError`]: it cannot be had.
    pub fn plan(&self, id: &HubId, control: &Control, tell: &mut dyn FnMut(&str)) -> Result<Plan, HubError> {
        if let Some(variable) = offline() {
            let cache = self.cache.root().to_path_buf();
            return Err(HubError::Offline { id: id.clone(), cache, variable });
        }
        let described = self.runtime.block_on(self.describe(id, control, tell))?;
        self.planned(id, described)
    }

    async fn describe(
        &self,
        id: &HubId,
        control: &Control,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Described, HubError> {
        let ask = async || api::head(&self.client, id).await;
        let (commit, licence, sums) = self.persist(id, control, tell, ask).await?;
        let endpoint = self.client.endpoint();
        let at = commit.clone().unwrap_or_default();
        let tree = match is_commit(&at) {
            true => self.persist(id, control, tell, async || api::tree(&self.client, id, &at).await).await?,
            false => Vec::new(),
        };
        api::described(id, endpoint, commit, licence, &sums, tree)
    }

    /// Asks until there is an answer, or no patience left.
    async fn persist<T>(
        &self,
        id: &HubId,
        control: &Control,
        tell: &mut dyn FnMut(&str),
        ask: impl AsyncFn() -> hf_hub::HFResult<T>,
    ) -> Result<T, HubError> {
        let mut patience = Patience::default();
        let mut told = None;
        loop {
            rest(control).await?;
            let again = match watched(control, ask()).await? {
                Watched::Done(Ok(answer)) => return Ok(answer),
                Watched::Done(Err(error)) => fault(id, self.client.endpoint(), None, error)?,
                Watched::Idle => silent(),
                Watched::Paused => continue,
            };
            let wait = self.next(id, &mut patience, &again)?;
            // The same again is no news.
            let note = waiting(&again);
            if told.as_ref() != Some(&note) {
                tell(&note);
                told = Some(note);
            }
            Patience::wait(control, wait).await?;
        }
    }

    /// How long to wait before the next try.
    fn next(&self, id: &HubId, patience: &mut Patience, again: &Again) -> Result<Duration, HubError> {
        patience.next(again).ok_or_else(|| {
            let (id, endpoint) = (id.clone(), self.client.endpoint().to_string());
            match again.after {
                Some(after) => HubError::TooOften { id, endpoint, seconds: after.as_secs() },
                None => HubError::Unreachable { id, endpoint, why: again.why.clone() },
            }
        })
    }

    /// Chooses the files that are needed: small ones first.
    fn planned(&self, id: &HubId, described: Described) -> Result<Plan, HubError> {
        let Described { commit, licence, files } = described;
        let wanted = names::wanted(files.iter().map(|file| file.name.as_str()));
        if !wanted.iter().any(|name| names::is_weights(name)) {
            let others = names::other_weights(files.iter().map(|file| file.name.as_str()));
            return Err(HubError::NoWeights { id: id.clone(), others });
        }
        let wanted = files.iter().filter(|file| wanted.contains(file.name.as_str()));
        let mut files: Vec<Remote> = wanted.cloned().collect();
        files.sort_by(|a, b| {
            (names::is_weights(&a.name), &a.name).cmp(&(names::is_weights(&b.name), &b.name))
        });
        let repository = self.cache.repository(id);
        let mut known = BTreeSet::new();
        let unique = files.iter().filter(|file| known.insert(&file.sum));
        let missing = unique.map(|file| file.size - there(&repository, file)).sum();
        let size = files.iter().map(|file| file.size).sum();
        let cache = self.cache.root().to_path_buf();
        Ok(Plan { id: id.clone(), commit, licence, files, size, missing, cache })
    }

    /// Fetches what a plan says, and returns the model's folder. `look` is given that folder when all but the weights
    /// is there, and may refuse it. `tell` hears how far it is, after every piece.
    ///
    /// # Errors
    /// [`HubError`]; what came so far stays.
    pub fn fetch(
        &self,
        plan: &Plan,
        control: &Control,
        look: &dyn Fn(&std::path::Path) -> Result<(), String>,
        tell: &mut dyn FnMut(&State),
    ) -> Result<PathBuf, HubError> {
        let repository = self.cache.repository(&plan.id);
        repository.make()?;
        self.allow(plan)?;
        let snapshot = repository.snapshot(&plan.commit);
        let files = plan.files.iter().map(|file| FileState {
            name: file.name.clone(),
            size: file.size,
            done: there(&repository, file),
        });
        let state = State { files: files.collect(), note: None };
        let mut fetch = Fetch { hub: self, plan, repository: &repository, control, state, tell };
        let mut looked = false;
        for (at, file) in plan.files.iter().enumerate() {
            if !looked && names::is_weights(&file.name) {
                looked = true;
                look(&snapshot).map_err(|why| HubError::Unfit { id: plan.id.clone(), why })?;
            }
            self.runtime.block_on(fetch.file(at))?;
        }
        let whole = self.cache.whole(&plan.id.at(&plan.commit))?;
        let whole = whole.ok_or_else(|| HubError::Answer {
            id: plan.id.clone(),
            endpoint: self.client.endpoint().to_string(),
            why: "it lists no config.json, or not all files of weights that its index names".to_string(),
        })?;
        // Only now: until then the branch is what it was, and what was whole stays in use.
        repository.note(plan.id.revision(), &plan.commit)?;
        Ok(whole)
    }

    /// Refuses what there is no room for.
    fn allow(&self, plan: &Plan) -> Result<(), HubError> {
        let place = self.cache.root().to_path_buf();
        // Where the system does not tell, the disk itself will.
        let Ok(available) = fs4::available_space(&place) else { return Ok(()) };
        if plan.missing > available {
            return Err(HubError::Space { place, needed: plan.missing, available });
        }
        Ok(())
    }
}

/// Bytes of a file that are in the cache, of its blob or of the part of it that came.
fn there(repository: &Repository, file: &Remote) -> u64 {
    match is_there(repository, file) {
        true => file.size,
        false => Part::length_of(&repository.part(&file.sum)).min(file.size),
    }
}

/// Whether a file's blob is in the cache.
fn is_there(repository: &Repository, file: &Remote) -> bool {
    let found = fs::symlink_metadata(repository.blob(&file.sum));
    found.is_ok_and(|found| found.is_file() && found.len() == file.size)
}

fn silent() -> Again {
    Again { why: "nothing came for 30 s".to_string(), after: None }
}

fn waiting(again: &Again) -> String {
    match again.after {
        Some(after) => {
            format!("{}; trying again in {:.0} s, as the hub asks", again.why, after.as_secs_f32())
        }
        None => format!("{}; trying again a few times", again.why),
    }
}

/// A download that goes on.
struct Fetch<'a> {
    hub: &'a Hub,
    plan: &'a Plan,
    repository: &'a Repository,
    control: &'a Control,
    state: State,
    tell: &'a mut dyn FnMut(&State),
}

/// Why a stream of pieces came to no end.
enum Cut {
    Paused,
    Again(Again),
}

impl Fetch<'_> {
    /// Fetches one file, and links it.
    async fn file(&mut self, at: usize) -> Result<(), HubError> {
        let (file, repository) = (&self.plan.files[at], self.repository);
        if !is_there(repository, file) {
            let lock = self.lock(&file.sum).await?;
            // Who held it may have fetched it.
            if !is_there(repository, file) {
                self.fetch(at).await?;
            }
            drop(lock);
        }
        self.state.files[at].done = file.size;
        (self.tell)(&self.state);
        repository.link(&self.plan.commit, &file.name, &file.sum)
    }

    /// Waits until no other program fetches the same.
    async fn lock(&mut self, sum: &str) -> Result<fs::File, HubError> {
        let lock = self.repository.lock_file(sum)?;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    self.note(Some("another program is fetching this file".to_string()));
                    Patience::wait(self.control, Duration::from_millis(200)).await?;
                }
                Err(TryLockError::Error(e)) => {
                    log::debug!("this disk has no locks ({e}): going on without one");
                    break;
                }
            }
        }
        self.note(None);
        Ok(lock)
    }

    async fn fetch(&mut self, at: usize) -> Result<(), HubError> {
        let file = &self.plan.files[at];
        let place = self.repository.part(&file.sum);
        let mut part = Part::open(place.clone(), &self.control.cancel)?;
        if part.length > file.size {
            part.restart()?;
        }
        let sha256 = file.is_sha256.then_some(file.sum.as_str());
        self.receive(at, &mut part).await?;
        if let Err(damaged) = part.verify(&file.name, file.size, sha256) {
            // What was there from an earlier time may be to blame: all of it, once more.
            log::warn!("{damaged}: fetching it again");
            part.restart()?;
            self.receive(at, &mut part).await?;
            if let Err(error) = part.verify(&file.name, file.size, sha256) {
                part.restart()?;
                return Err(error);
            }
        }
        part.finish(&self.repository.blob(&file.sum))
    }

    /// Receives what is missing, over as many connections as it takes.
    async fn receive(&mut self, at: usize, part: &mut Part) -> Result<(), HubError> {
        let mut patience = Patience::default();
        while part.length < self.plan.files[at].size {
            let before = part.length;
            let again = match self.pieces(at, part).await? {
                None => continue,
                Some(Cut::Again(again)) => again,
                Some(Cut::Paused) => {
                    self.note(Some("paused".to_string()));
                    rest(self.control).await?;
                    self.note(None);
                    continue;
                }
            };
            if part.length > before {
                patience.renew();
            }
            let wait = self.hub.next(&self.plan.id, &mut patience, &again)?;
            log::debug!("{}: {}", self.plan.files[at].name, again.why);
            self.note(Some(waiting(&again)));
            Patience::wait(self.control, wait).await?;
            self.note(None);
        }
        Ok(())
    }

    /// Receives over one connection; `None` when all of it came.
    async fn pieces(&mut self, at: usize, part: &mut Part) -> Result<Option<Cut>, HubError> {
        let (plan, control, client) = (self.plan, self.control, &self.hub.client);
        let file = &plan.files[at];
        let model = client.model(plan.id.owner.as_str(), plan.id.name.as_str());
        let range = (part.length > 0).then_some(part.length..file.size);
        let asked = model.download_file_stream().filename(file.name.as_str()).revision(plan.commit.as_str());
        let (length, mut stream) = match watched(control, asked.maybe_range(range).send()).await? {
            Watched::Done(Ok(answer)) => answer,
            Watched::Done(Err(error)) if api::status(&error) == Some(416) => {
                return Err(wrong_length(file, part.length));
            }
            Watched::Done(Err(error)) => {
                let again = fault(&plan.id, client.endpoint(), Some(file.name.as_str()), error)?;
                return Ok(Some(Cut::Again(again)));
            }
            Watched::Idle => return Ok(Some(Cut::Again(silent()))),
            Watched::Paused => return Ok(Some(Cut::Paused)),
        };
        match length {
            // A server that does not know parts sends all of it.
            Some(length) if length == file.size => part.restart()?,
            Some(length) if length != file.size - part.length => {
                return Err(wrong_length(file, part.length + length));
            }
            _ => {}
        }
        loop {
            let piece = match watched(control, stream.next()).await? {
                Watched::Done(Some(Ok(piece))) => piece,
                Watched::Done(Some(Err(error))) => {
                    let again = fault(&plan.id, client.endpoint(), Some(file.name.as_str()), error)?;
                    return Ok(Some(Cut::Again(again)));
                }
                Watched::Done(None) if part.length < file.size => {
                    let why = format!("the connection ended after {} of {} bytes", part.length, file.size);
                    return Ok(Some(Cut::Again(Again { why, after: None })));
                }
                Watched::Done(None) => return Ok(None),
                Watched::Idle => return Ok(Some(Cut::Again(silent()))),
                Watched::Paused => return Ok(Some(Cut::Paused)),
            };
            if part.length + piece.len() as u64 > file.size {
                let found = part.length + piece.len() as u64;
                part.restart()?;
                return Err(wrong_length(file, found));
            }
            part.add(&piece)?;
            self.state.files[at].done = part.length;
            (self.tell)(&self.state);
        }
    }

    fn note(&mut self, note: Option<String>) {
        if self.state.note != note {
            self.state.note = note;
            (self.tell)(&self.state);
        }
    }
}

fn wrong_length(file: &Remote, found: u64) -> HubError {
    HubError::Length { file: file.name.clone(), expected: file.size, found }
}
