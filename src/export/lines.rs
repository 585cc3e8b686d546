//! Tables as JSON lines: one object a row, on disk as soon as it is known.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{export::error::ExportError, files::error::WriteError};

/// A file of JSON lines, being written by one run alone. Until there is a row, what an earlier run wrote stays.
#[derive(Debug)]
pub struct Lines {
    file: PathBuf,
    out: File,
    /// Not so of pipes and devices: they hold nothing, and many may write into them.
    is_regular: bool,
    /// Whether it was made for this.
    is_new: bool,
    begun: bool,
}

impl Lines {
    /// Takes hold of a file, which is made if need be.
    ///
    /// # Errors
    /// [`ExportError::Write`]: it cannot be written, or another run is at it.
    pub fn create(file: &Path) -> Result<Self, ExportError> {
        let refused = |source| WriteError::Refused { file: file.to_path_buf(), source };
        let is_new = !file.exists();
        let out = OpenOptions::new().write(true).create(true).truncate(false).open(file).map_err(refused)?;
        let is_regular = out.metadata().map_err(refused)?.is_file();
        if is_regular && let Err(TryLockError::WouldBlock) = out.try_lock() {
            return Err(WriteError::Busy { place: file.to_path_buf() }.into());
        }
        Ok(Lines { file: file.to_path_buf(), out, is_regular, is_new, begun: false })
    }

    /// Adds one JSON object a line, all of them in one go: what comes later, and whatever ends the program,
    /// leaves them whole. A reader of a pipe who goes away has what he wanted: that is no error.
    ///
    /// # Errors
    /// [`ExportError`], naming the file.
    pub fn write<T: Serialize>(&mut self, rows: &[T]) -> Result<(), ExportError> {
        let mut text = String::new();
        for row in rows {
            let line = serde_json::to_string(row)
                .map_err(|e| ExportError::Encode { file: self.file.clone(), why: e.to_string() })?;
            text.push_str(&line);
            text.push('\n');
        }
        match self.begin().and_then(|()| self.out.write_all(text.as_bytes())) {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(WriteError::Refused { file: self.file.clone(), source: e }.into())
            }
            _ => Ok(()),
        }
    }

    /// Takes away what an earlier run wrote.
    fn begin(&mut self) -> io::Result<()> {
        if self.is_regular && !self.begun {
            self.out.set_len(0)?;
        }
        self.begun = true;
        Ok(())
    }
}

impl Drop for Lines {
    /// A file that was made for nothing goes again.
    fn drop(&mut self) {
        if self.is_new && !self.begun {
            let _ = fs::remove_file(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_there_is_something_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lines.jsonl");
        drop(Lines::create(&file).unwrap());
        assert!(!file.exists(), "made for nothing");
        fs::write(&file, "of an earlier run, which was longer").unwrap();
        let mut lines = Lines::create(&file).unwrap();
        assert!(fs::read_to_string(&file).unwrap().starts_with("of an earlier run"));
        let busy = Lines::create(&file).unwrap_err().to_string();
        assert!(busy.contains("another run"), "{busy}");
        lines.write(&[1, 2]).unwrap();
        lines.write(&[3]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\n2\n3\n");
        drop(lines);
        assert_eq!(fs::read_to_string(&file).unwrap(), "1\n2\n3\n");
        for wrong in [dir.path(), &file.join("below")] {
            let error = Lines::create(wrong).unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
    }
}
