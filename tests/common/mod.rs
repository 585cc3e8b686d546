//! What the integration tests share.
#![allow(dead_code, clippy::unwrap_used)]

pub mod program;

use std::{
    fs,
    path::{Path, PathBuf},
};

use sightline::device::{self, Compute, DeviceChoice};
use tempfile::TempDir;

/// A folder under tests/fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A fixture's files in a folder that may be changed.
pub fn copy_of(name: &str) -> TempDir {
    copy_of_folder(&fixture(name))
}

/// A folder's files in a folder that may be changed.
pub fn copy_of_folder(folder: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// The wgpu device, or `None`, said aloud, where there is no adapter. `SIGHTLINE_REQUIRE_GPU=1`
/// makes that a failure.
pub fn gpu() -> Option<Compute> {
    match device::open(DeviceChoice::Gpu) {
        Ok(compute) => Some(compute),
        Err(error) => {
            let required = std::env::var("SIGHTLINE_REQUIRE_GPU").is_ok_and(|v| v == "1");
            assert!(!required, "SIGHTLINE_REQUIRE_GPU=1, but {error}");
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}
