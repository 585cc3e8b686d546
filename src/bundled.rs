//! What ships with the program: a small model, sample scenes, and where they are found.
//!
//! The folders are read from disk, like any other model and image: beside the executable when
//! installed, else in the source tree that it was built from.

use std::path::PathBuf;

/// The question asked at the first start.
pub const PROMPT: &str = "describe this image.";

/// Longest answer at the first start, in tokens.
pub const MAX_NEW: usize = 64;

/// Questions of the kinds that the bundled model was trained on.
pub const QUESTIONS: [&str; 5] = [
    PROMPT,
    "is there a duck?",
    "what is at the top left?",
    "how many objects are there?",
    "what is the background?",
];

/// The folder of everything bundled.
pub fn assets() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("assets")));
    match beside {
        Some(dir) if dir.is_dir() => dir,
        _ => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets"),
    }
}

/// The bundled model's folder.
pub fn model() -> PathBuf {
    assets().join("model")
}

/// The sample scenes: a folder as `sightline scenes` writes it.
pub fn scenes() -> PathBuf {
    assets().join("scenes")
}

/// The scene shown at the first start.
pub fn sample_image() -> PathBuf {
    scenes().join("images").join("000000.png")
}

/// The sample scenes' images, by name; none when the folder is not there.
pub fn scene_images() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scenes().join("images")).into_iter().flatten().flatten();
    let mut images: Vec<PathBuf> =
        entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "png")).collect();
    images.sort();
    images
}
