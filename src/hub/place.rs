//! Where a model is, as people say it: a folder, or a name of the hub.
//!
//! A folder that exists wins over a name that reads alike.

use std::path::{Path, PathBuf};

use crate::hub::{
    cache::{Cache, id_of_snapshot},
    error::HubError,
    id::HubId,
};

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// On the hub, and perhaps in the cache.
    Hub(HubId),
}

impl Place {
    /// What a text means. A folder of the cache that is not there, as sessions of other machines name it, is the
    /// model and commit that it would hold. What is neither is a folder that does not exist: whoever opens it says so.
    pub fn of(text: &Path) -> Self {
        if text.exists() {
            return Place::Folder(text.to_path_buf());
        }
        let name = text.to_str().and_then(|text| text.parse().ok());
        match name.or_else(|| id_of_snapshot(text)) {
            Some(id) => Place::Hub(id),
            None => Place::Folder(text.to_path_buf()),
        }
    }

    /// The folder, as far as it is on this machine: `Err` with the name where it is not, or not whole.
    ///
    /// # Errors
    /// [`HubError`]: what is in the cache leads out of it, or cannot be read.
    pub fn here(&self, cache: &Cache) -> Result<Result<PathBuf, HubId>, HubError> {
        match self {
            Place::Folder(folder) => Ok(Ok(folder.clone())),
            Place::Hub(id) => Ok(cache.whole(id)?.ok_or_else(|| id.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_exists_wins_over_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("models--a--b/snapshots").join("0a".repeat(20));
        let id = Place::Hub(HubId { owner: "a".into(), name: "b".into(), revision: Some("0a".repeat(20)) });
        assert_eq!(Place::of(&there), id);
        std::fs::create_dir_all(&there).unwrap();
        assert_eq!(Place::of(&there), Place::Folder(there.clone()));
        assert_eq!(Place::of(Path::new("a/b@v1")), Place::Hub("a/b@v1".parse().unwrap()));
        // `src/hub` exists where tests run.
        assert_eq!(Place::of(Path::new("src/hub")), Place::Folder("src/hub".into()));
        for nowhere in ["/nowhere/at/all", "nowhere", "./a/b", "a/b/c"] {
            assert_eq!(Place::of(Path::new(nowhere)), Place::Folder(nowhere.into()), "{nowhere}");
        }
    }
}
