//! The Hugging Face cache, as Python's huggingface_hub lays it out, so that both share what either has fetched.
//!
//! ```text
//! models--ORG--NAME/blobs/SUM           what files hold: SHA-256 of large ones, git's sum of small ones
//! models--ORG--NAME/blobs/SUM.incomplete
//! models--ORG--NAME/refs/REVISION       the commit that a branch stood at
//! models--ORG--NAME/snapshots/COMMIT/*  a model's folder: links to blobs
//! .locks/models--ORG--NAME/SUM.lock     held by whoever fetches it
//! ```
//!
//! Nothing is read through a link that leads out of the model's own folder.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{
    files::{error::WriteError, input, output::write_file},
    hub::{
        error::HubError,
        id::{HubId, is_commit},
        names,
    },
};

/// Largest index of weight files that is read.
const MAX_INDEX: u64 = 64 << 20;

/// The cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// How much of a model is in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// All of it.
    Whole,
    /// Some of it: a download goes on from there.
    Part,
    /// Nothing.
    Nothing,
}

impl Held {
    /// In a word, to show.
    pub fn word(self) -> &'static str {
        match self {
            Held::Whole => "yes",
            Held::Part => "in part",
            Held::Nothing => "no",
        }
    }
}

impl Cache {
    /// That of this user: HF_HUB_CACHE, or `hub` in HF_HOME, or in ~/.cache/huggingface.
    pub fn of_user() -> Self {
        Cache { root: hf_hub::resolve_cache_dir() }
    }

    /// One in a folder.
    pub fn at(root: PathBuf) -> Self {
        Cache { root }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A model's part of it.
    pub fn repository(&self, id: &HubId) -> Repository {
        let folder = format!("models--{}--{}", id.owner, id.name);
        Repository { locks: self.root.join(".locks").join(&folder), dir: self.root.join(folder) }
    }

    /// The folder of a model whose settings and weights are all there; `None` where something is missing.
    ///
    /// # Errors
    /// [`HubError::Outside`], [`HubError::Index`] or [`HubError::Io`].
    pub fn whole(&self, id: &HubId) -> Result<Option<PathBuf>, HubError> {
        let repository = self.repository(id);
        let Some(commit) = repository.commit(id.revision())? else { return Ok(None) };
        let snapshot = repository.snapshot(&commit);
        if !snapshot.is_dir() {
            return Ok(None);
        }
        repository.check(&snapshot)?;
        Ok(is_whole(&snapshot)?.then_some(snapshot))
    }

    /// How much of a model is there.
    pub fn held(&self, id: &HubId) -> Held {
        match self.whole(id) {
            Ok(Some(_)) => Held::Whole,
            _ if self.repository(id).has_blobs() => Held::Part,
            _ => Held::Nothing,
        }
    }
}

/// A model's part of the cache.
#[derive(Clone, Debug)]
pub struct Repository {
    dir: PathBuf,
    locks: PathBuf,
}

impl Repository {
    /// Where the contents of a file lie.
    pub fn blob(&self, sum: &str) -> PathBuf {
        self.dir.join("blobs").join(sum)
    }

    /// Where they lie while they come.
    pub fn part(&self, sum: &str) -> PathBuf {
        self.dir.join("blobs").join(format!("{sum}.incomplete"))
    }

    /// A model's folder at a commit.
    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// The commit that a revision stood at when it was fetched.
    pub fn commit(&self, revision: &str) -> Result<Option<String>, HubError> {
        if is_commit(revision) {
            return Ok(Some(revision.to_string()));
        }
        let file = self.dir.join("refs").join(revision);
        match input::read_text(&file) {
            Ok(text) => Ok(Some(text.trim().to_string()).filter(|commit| is_commit(commit))),
            Err(e) if e.kind() == io::ErrorKind::NotFound || file.is_dir() => Ok(None),
            Err(source) => Err(HubError::Io { file, source }),
        }
    }

    /// Makes its folders, and sees that they are where they seem to be.
    pub fn make(&self) -> Result<(), HubError> {
        let within = |name: &str| -> Result<(), HubError> {
            let folder = self.dir.join(name);
            fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
            let (own, real) = (real(&self.dir)?, real(&folder)?);
            if real == own.join(name) {
                Ok(())
            } else {
                Err(HubError::Outside { file: folder, target: real })
            }
        };
        within("blobs")?;
        within("snapshots")?;
        within("refs")?;
        fs::create_dir_all(&self.locks).map_err(HubError::io(&self.locks))
    }

    /// The file that whoever fetches a blob holds locked.
    pub fn lock_file(&self, sum: &str) -> Result<File, HubError> {
        let file = self.locks.join(format!("{sum}.lock"));
        let open = File::options().create(true).truncate(false).write(true).open(&file);
        open.map_err(HubError::io(file))
    }

    /// Notes at which commit a revision stands, once all of it is there.
    pub fn note(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let file = self.dir.join("refs").join(revision);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let other = |e: WriteError| HubError::Io { file: file.clone(), source: io::Error::other(e) };
        write_file(&file, commit.as_bytes()).map_err(other)
    }

    /// Puts a blob into a snapshot under a file's name: a relative link, as Python makes it.
    pub fn link(&self, commit: &str, name: &str, sum: &str) -> Result<(), HubError> {
        let (blob, file) = (self.blob(sum), self.snapshot(commit).join(name));
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        }
        let there = fs::canonicalize(&file).ok();
        if there.is_some() && there == fs::canonicalize(&blob).ok() {
            return Ok(());
        }
        if fs::symlink_metadata(&file).is_ok() {
            fs::remove_file(&file).map_err(HubError::io(&file))?;
        }
        let up = "../".repeat(name.split('/').count() + 1);
        link(&blob, Path::new(&format!("{up}blobs/{sum}")), &file).map_err(HubError::io(file))
    }

    /// Refuses a snapshot in which something leads out of the model's own blobs.
    fn check(&self, snapshot: &Path) -> Result<(), HubError> {
        let own = real(&self.dir)?;
        let (place, blobs) = (real(snapshot)?, own.join("blobs"));
        if !place.starts_with(own.join("snapshots")) {
            return Err(HubError::Outside { file: snapshot.to_path_buf(), target: place });
        }
        let mut folders = vec![snapshot.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).map_err(HubError::io(&folder))? {
                let entry = entry.map_err(HubError::io(&folder))?;
                let file = entry.path();
                if entry.file_type().map_err(HubError::io(&file))?.is_dir() {
                    folders.push(file);
                    continue;
                }
                // A link to a blob that is gone, or still on its way, leads nowhere, and nothing is read there.
                let Ok(target) = fs::canonicalize(&file) else { continue };
                if !(target.starts_with(&blobs) || target.starts_with(&place)) {
                    return Err(HubError::Outside { file, target });
                }
            }
        }
        Ok(())
    }

    fn has_blobs(&self) -> bool {
        let entries = fs::read_dir(self.dir.join("blobs"));
        entries.is_ok_and(|mut entries| entries.next().is_some())
    }
}

fn real(place: &Path) -> Result<PathBuf, HubError> {
    fs::canonicalize(place).map_err(HubError::io(place))
}

#[cfg(unix)]
fn link(_blob: &Path, relative: &Path, file: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, file)
}

/// Where links need a privilege, a second name or a copy does.
#[cfg(not(unix))]
fn link(blob: &Path, _relative: &Path, file: &Path) -> io::Result<()> {
    fs::hard_link(blob, file).or_else(|_| fs::copy(blob, file).map(|_| ()))
}

/// Whether a snapshot has its settings, and the weights that its indices name, or some where there is no index.
fn is_whole(snapshot: &Path) -> Result<bool, HubError> {
    if !snapshot.join("config.json").is_file() {
        return Ok(false);
    }
    let entries = fs::read_dir(snapshot).map_err(HubError::io(snapshot))?;
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    if snapshot.join("model.safetensors").is_file() {
        return Ok(true);
    }
    let mut indices = names.iter().filter(|name| name.ends_with(".safetensors.index.json")).peekable();
    if indices.peek().is_none() {
        return Ok(names.iter().any(|name| names::is_weights(name) && snapshot.join(name).is_file()));
    }
    for index in indices {
        let shards = shards(&snapshot.join(index))?;
        if !shards.iter().all(|shard| snapshot.join(shard).is_file()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The files that an index names.
fn shards(index: &Path) -> Result<Vec<String>, HubError> {
    let fail = |why: String| HubError::Index { file: index.to_path_buf(), why };
    let size = input::size(index).map_err(HubError::io(index))?;
    if size > MAX_INDEX {
        return Err(fail(format!("it is {size} bytes long; an index has at most {MAX_INDEX}")));
    }
    let text = input::read_text(index).map_err(HubError::io(index))?;
    let json: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not valid JSON ({e})")))?;
    let map = json.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| fail("has no `weight_map` object".to_string()))?;
    let mut shards = Vec::new();
    for (key, name) in map {
        match name.as_str() {
            Some(name) if names::wrong(name).is_none() && !name.contains('/') => {
                shards.push(name.to_string())
            }
            _ => return Err(fail(format!("`{key}` is in {name}, expected the name of a file beside it"))),
        }
    }
    shards.sort();
    shards.dedup();
    Ok(shards)
}

/// The model and commit whose folder in a cache a path is, by its names alone.
pub fn id_of_snapshot(path: &Path) -> Option<HubId> {
    let commit = path.file_name()?.to_str().filter(|name| is_commit(name))?;
    let snapshots = path.parent().filter(|folder| folder.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let (owner, name) = repository.strip_prefix("models--")?.split_once("--")?;
    format!("{owner}/{name}@{commit}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn id() -> HubId {
        "org/name".parse().unwrap()
    }

    /// A model of two small files and one of weights, as Python lays it out.
    fn laid_out(root: &Path) -> Repository {
        let repository = Cache::at(root.to_path_buf()).repository(&id());
        repository.make().unwrap();
        for (name, sum) in [("config.json", "aa"), ("model.safetensors", "bb")] {
            fs::write(repository.blob(sum), name).unwrap();
            repository.link(COMMIT, name, sum).unwrap();
        }
        repository.note("main", COMMIT).unwrap();
        repository
    }

    #[test]
    fn a_model_is_found_by_branch_and_by_commit_and_is_whole_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().to_path_buf());
        assert_eq!((cache.whole(&id()).unwrap(), cache.held(&id())), (None, Held::Nothing));
        let repository = laid_out(dir.path());
        let snapshot = repository.snapshot(COMMIT);
        assert_eq!(fs::read_to_string(dir.path().join("models--org--name/refs/main")).unwrap(), COMMIT);
        for id in [id(), id().at(COMMIT)] {
            assert_eq!(cache.whole(&id).unwrap(), Some(snapshot.clone()));
        }
        assert_eq!(cache.whole(&"org/name@other".parse().unwrap()).unwrap(), None);
        fs::remove_file(repository.blob("bb")).unwrap();
        assert_eq!((cache.whole(&id()).unwrap(), cache.held(&id())), (None, Held::Part));
    }

    #[test]
    fn weights_in_pieces_are_whole_when_every_piece_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let repository = laid_out(dir.path());
        let (cache, snapshot) = (Cache::at(dir.path().to_path_buf()), repository.snapshot(COMMIT));
        fs::remove_file(snapshot.join("model.safetensors")).unwrap();
        let index = snapshot.join("model.safetensors.index.json");
        fs::write(&index, r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#).unwrap();
        fs::write(snapshot.join("m-1.safetensors"), "").unwrap();
        assert_eq!(cache.whole(&id()).unwrap(), None);
        fs::write(snapshot.join("m-2.safetensors"), "").unwrap();
        assert!(cache.whole(&id()).unwrap().is_some());
        for outside in ["../../../x", "/etc/passwd", "a\\b"] {
            fs::write(&index, serde_json::json!({"weight_map": {"a": outside}}).to_string()).unwrap();
            let error = cache.whole(&id()).unwrap_err().to_string();
            assert!(error.contains("index.json") && error.contains("beside it"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_models_own_folder_are_refused() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        let repository = laid_out(dir.path());
        let (cache, snapshot) = (Cache::at(dir.path().to_path_buf()), repository.snapshot(COMMIT));
        for target in ["../../../secret", "../../refs/main", "/etc/hostname"] {
            symlink(target, snapshot.join("tokenizer.json")).unwrap();
            if snapshot.join("tokenizer.json").exists() {
                let error = cache.whole(&id()).unwrap_err();
                assert!(matches!(error, HubError::Outside { .. }), "{error}");
            }
            fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
        }
        assert!(cache.whole(&id()).unwrap().is_some());
        // A folder of blobs that lies elsewhere is written into no more than it is read from.
        let (blobs, elsewhere) = (dir.path().join("models--org--name/blobs"), dir.path().join("elsewhere"));
        fs::rename(&blobs, &elsewhere).unwrap();
        symlink(&elsewhere, &blobs).unwrap();
        assert!(matches!(repository.make(), Err(HubError::Outside { .. })));
        assert!(matches!(cache.whole(&id()), Err(HubError::Outside { .. })));
    }

    #[test]
    fn a_link_leads_from_any_depth() {
        let dir = tempfile::tempdir().unwrap();
        let repository = laid_out(dir.path());
        let name = "additional_chat_templates/tool.jinja";
        for sum in ["aa", "bb", "bb"] {
            repository.link(COMMIT, name, sum).unwrap();
            let read = fs::read(repository.snapshot(COMMIT).join(name)).unwrap();
            assert_eq!(read, fs::read(repository.blob(sum)).unwrap());
        }
    }

    #[test]
    fn the_folder_of_a_model_tells_its_name() {
        let path = Path::new("/x/models--org--a-name/snapshots").join(COMMIT);
        assert_eq!(id_of_snapshot(&path).unwrap().to_string(), format!("org/a-name@{COMMIT}"));
        for other in ["/x/models--org--a-name/snapshots/main", "/x/y", "/models--a/snapshots", ""] {
            assert_eq!(id_of_snapshot(Path::new(other)), None);
        }
    }
}
