//! What ships with the program: a small model, sample scenes, and where they are found.
//!
//! They are read from disk, like any other model and image: where a package put them, or a build of cargo's from the
//! source tree, or else laid down in the user's cache from the program itself (`embedded`), which has them inside.

mod embedded;

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

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

/// The folder of everything bundled. Looked for once; where the files have to come out of the program and cannot be
/// written, the log says why, and whoever opens one of them says which is missing.
pub fn assets() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> PathBuf {
    let program = env::current_exe().and_then(|exe| exe.canonicalize()).ok();
    let on_disk = program.as_deref().and_then(|program| installed(program).or_else(|| source_tree(program)));
    on_disk.unwrap_or_else(|| {
        embedded::lay_down().unwrap_or_else(|error| {
            log::error!("the bundled model and scenes cannot be unpacked: {error}");
            embedded::place().unwrap_or_else(|_| PathBuf::from("assets"))
        })
    })
}

/// Where a package puts them: `assets` beside the program, or `../share/sightline`.
fn installed(program: &Path) -> Option<PathBuf> {
    let dir = program.parent()?;
    let places = [Some(dir.join("assets")), dir.parent().map(|prefix| prefix.join("share/sightline"))];
    places.into_iter().flatten().find(|place| place.join("model/config.json").is_file())
}

/// The source tree's, for a program that lies where cargo built it (cargo keeps its lock there). One that was
/// installed is on its own: whatever lies at that path today is not what it was built from.
fn source_tree(program: &Path) -> Option<PathBuf> {
    let built = program.ancestors().skip(1).take(2).any(|dir| dir.join(".cargo-lock").is_file());
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    (built && assets.join("model/config.json").is_file()).then_some(assets)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_package_is_found_before_anything_else() {
        let prefix = tempfile::tempdir().unwrap();
        let program = prefix.path().join("bin/sightline");
        assert_eq!(installed(&program), None);
        for place in ["share/sightline", "bin/assets"] {
            let place = prefix.path().join(place);
            fs::create_dir_all(place.join("model")).unwrap();
            assert_ne!(installed(&program), Some(place.clone()), "an empty folder is no package");
            fs::write(place.join("model/config.json"), "{}").unwrap();
            assert_eq!(installed(&program), Some(place));
        }
    }

    #[test]
    fn only_what_cargo_built_reads_the_source_tree() {
        let target = tempfile::tempdir().unwrap();
        let programs = ["debug/sightline", "debug/deps/engine-0"].map(|name| target.path().join(name));
        fs::create_dir_all(target.path().join("debug")).unwrap();
        programs.iter().for_each(|program| assert_eq!(source_tree(program), None));
        fs::write(target.path().join("debug/.cargo-lock"), "").unwrap();
        programs.iter().for_each(|program| assert!(source_tree(program).unwrap().ends_with("assets")));
    }
}
