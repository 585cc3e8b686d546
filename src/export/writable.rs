//! Whether there will be a place for what a long job gives, asked before the job is done.
//!
//! Nothing is left behind: what is made to find out is taken away again.

use std::{
    fs::{self, OpenOptions},
    path::Path,
};

use crate::export::error::ExportError;

/// Whether files can be written into a folder, which is made if need be when they are.
///
/// # Errors
/// [`ExportError::Write`], naming the folder.
pub fn folder(dir: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { file: dir.to_path_buf(), source };
    // Of the folders above it, the first that is there stays.
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    let probe = dir.join(format!(".sightline-{}", std::process::id()));
    let written = fs::create_dir_all(dir)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&probe))
        .and_then(|_| fs::remove_file(&probe));
    // Only empty folders go: another program may have found its place there meanwhile.
    missing.iter().for_each(|made| _ = fs::remove_dir(made));
    written.map_err(failed)
}

/// Whether a file can be written; what it holds stays.
///
/// # Errors
/// [`ExportError::Write`], naming the file.
pub fn file(file: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { file: file.to_path_buf(), source };
    // Opening a pipe or a device may wait for somebody, or be heard.
    if fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(());
    }
    let is_new = !file.exists();
    OpenOptions::new().append(true).create(true).open(file).map_err(failed)?;
    if is_new {
        fs::remove_file(file).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        folder(&deep).unwrap();
        file(&dir.path().join("new.jsonl")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let old = dir.path().join("old");
        fs::write(&old, "kept").unwrap();
        file(&old).unwrap();
        folder(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "kept");
        for wrong in [folder(&old), folder(&old.join("below")), file(dir.path()), file(&deep.join("x"))] {
            assert!(wrong.unwrap_err().to_string().contains("cannot be written"));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
