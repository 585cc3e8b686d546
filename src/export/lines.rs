//! Tables as JSON lines: one object a row, on disk as soon as it is known.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::export::error::ExportError;

/// A file of JSON lines, being written.
#[derive(Debug)]
pub struct Lines {
    file: PathBuf,
    out: File,
}

impl Lines {
    /// Begins an empty file.
    ///
    /// # Errors
    /// [`ExportError`], naming the file.
    pub fn create(file: &Path) -> Result<Self, ExportError> {
        let failed = |source| ExportError::Write { file: file.to_path_buf(), source };
        Ok(Lines { file: file.to_path_buf(), out: File::create(file).map_err(failed)? })
    }

    /// Adds one JSON object a line, all of them in one go: what comes later, and whatever ends the program,
    /// leaves them whole.
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
        let failed = |source| ExportError::Write { file: self.file.clone(), source };
        self.out.write_all(text.as_bytes()).map_err(failed)
    }
}
