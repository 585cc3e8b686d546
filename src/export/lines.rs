//! Tables as JSON lines: one object a row.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use serde::Serialize;

use crate::export::error::ExportError;

/// Writes one JSON object a line.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn write<T: Serialize>(rows: &[T], file: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { file: file.to_path_buf(), source };
    let mut out = BufWriter::new(File::create(file).map_err(failed)?);
    for row in rows {
        let line = serde_json::to_string(row)
            .map_err(|e| ExportError::Encode { file: file.to_path_buf(), why: e.to_string() })?;
        writeln!(out, "{line}").map_err(failed)?;
    }
    out.flush().map_err(failed)
}
