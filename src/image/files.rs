//! The images of a folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Endings of the formats that can be opened, in lower case.
pub const ENDINGS: [&str; 11] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pnm"];

/// The image files of a folder, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn image_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let kind = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if kind.is_some_and(|kind| ENDINGS.contains(&kind.as_str())) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
