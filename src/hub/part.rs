//! A file on its way: what came so far, on disk, and its sum.
//!
//! What is there already, from a download that was cut short, is read once for its sum, and gone on with.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{hub::error::HubError, progress::Cancel};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// See the module.
pub struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    /// Bytes that are there.
    pub length: u64,
}

impl Part {
    /// Opens it, with what is there of it.
    ///
    /// # Errors
    /// [`HubError::Io`] or [`HubError::Cancelled`].
    pub fn open(path: PathBuf, cancel: &Cancel) -> Result<Self, HubError> {
        // What is no file of its own is not written into: a link would lead elsewhere.
        if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
            fs::remove_file(&path).map_err(HubError::io(&path))?;
        }
        let file = File::options().create(true).append(true).read(true).open(&path);
        let file = file.map_err(HubError::io(&path))?;
        let (mut hasher, mut length) = (Sha256::new(), 0);
        let mut reader = BufReader::with_capacity(PIECE, &file);
        loop {
            cancel.check()?;
            let piece = reader.fill_buf().map_err(HubError::io(&path))?;
            if piece.is_empty() {
                break;
            }
            hasher.update(piece);
            let read = piece.len();
            length += read as u64;
            reader.consume(read);
        }
        Ok(Part { path, file, hasher, length })
    }

    /// Bytes that would be there if it were opened.
    pub fn length_of(path: &Path) -> u64 {
        fs::symlink_metadata(path).ok().filter(|found| found.is_file()).map_or(0, |found| found.len())
    }

    /// Adds what came.
    ///
    /// # Errors
    /// [`HubError::Io`].
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::io(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what came.
    ///
    /// # Errors
    /// [`HubError::Io`].
    pub fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io(&self.path))?;
        (self.hasher, self.length) = (Sha256::new(), 0);
        Ok(())
    }

    /// Whether this is the file that was listed: by its length, and its SHA-256 where one is known.
    ///
    /// # Errors
    /// [`HubError::Length`] or [`HubError::Sum`].
    pub fn verify(&self, name: &str, size: u64, sha256: Option<&str>) -> Result<(), HubError> {
        let file = name.to_string();
        if self.length != size {
            return Err(HubError::Length { file, expected: size, found: self.length });
        }
        let found: String = self.hasher.clone().finalize().iter().map(|b| format!("{b:02x}")).collect();
        match sha256.filter(|expected| *expected != found) {
            Some(expected) => Err(HubError::Sum { file, expected: expected.to_string(), found }),
            None => Ok(()),
        }
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// [`HubError::Io`].
    pub fn finish(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(HubError::io(&self.path))?;
        drop(self.file);
        fs::rename(&self.path, blob).map_err(HubError::io(blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::sum;

    #[test]
    fn a_file_goes_on_from_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, blob) = (dir.path().join("x.incomplete"), dir.path().join("x"));
        let whole: Vec<u8> = (0..3 * PIECE + 5).map(|n| n as u8).collect();
        let sum = sum::of_bytes(&whole);
        fs::write(&path, &whole[..2 * PIECE + 3]).unwrap();
        assert_eq!(Part::length_of(&path), 2 * PIECE as u64 + 3);
        let mut part = Part::open(path.clone(), &Cancel::default()).unwrap();
        assert_eq!(part.length, 2 * PIECE as u64 + 3);
        let size = whole.len() as u64;
        assert!(matches!(part.verify("x", size, Some(&sum)), Err(HubError::Length { .. })));
        part.add(&whole[2 * PIECE + 3..]).unwrap();
        part.verify("x", size, Some(&sum)).unwrap();
        assert!(matches!(part.verify("x", size, Some("00")), Err(HubError::Sum { .. })));
        part.restart().unwrap();
        part.add(&whole).unwrap();
        part.verify("x", size, Some(&sum)).unwrap();
        part.finish(&blob).unwrap();
        assert_eq!((fs::read(&blob).unwrap(), path.exists()), (whole, false));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("x.incomplete"), dir.path().join("other"));
        fs::write(&other, "kept").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert_eq!(Part::length_of(&path), 0);
        Part::open(path, &Cancel::default()).unwrap().add(b"new").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }
}
