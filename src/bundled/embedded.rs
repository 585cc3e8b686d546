//! The bundled files as the program carries them: what `cargo install` puts on a machine is one file.
//!
//! 11 MB, nearly all of it the model's weights. They come out into the user's cache, because models and images are
//! read from folders; what lies there is compared byte by byte at every start, so that a file that was cut short or
//! changed is put right. Knows paths and bytes; not what is in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::files::{error::WriteError, input, output::write_file};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/", $name)))),*]
    };
}

/// Names under `assets/`, with `/` between folder and file, and contents. Left out: the picture in the model's card.
static FILES: &[(&str, &[u8])] = files![
    "model/README.md",
    "model/chat_template.jinja",
    "model/config.json",
    "model/generation_config.json",
    "model/model.safetensors",
    "model/preprocessor_config.json",
    "model/tokenizer.json",
    "model/tokenizer_config.json",
    "scenes/README.md",
    "scenes/annotations.json",
    "scenes/images/000000.png",
    "scenes/images/000001.png",
    "scenes/images/000002.png",
    "scenes/images/000003.png",
    "scenes/images/000004.png",
    "scenes/images/000005.png",
    "scenes/images/000006.png",
    "scenes/images/000007.png",
    "scenes/images/000008.png",
    "scenes/images/000009.png",
    "scenes/images/000010.png",
    "scenes/images/000011.png",
    "scenes/images/000012.png",
    "scenes/images/000013.png",
    "scenes/images/000014.png",
    "scenes/images/000015.png",
    "scenes/masks/000000.png",
    "scenes/masks/000001.png",
    "scenes/masks/000002.png",
    "scenes/masks/000003.png",
    "scenes/masks/000004.png",
    "scenes/masks/000005.png",
    "scenes/masks/000006.png",
    "scenes/masks/000007.png",
    "scenes/masks/000008.png",
    "scenes/masks/000009.png",
    "scenes/masks/000010.png",
    "scenes/masks/000011.png",
    "scenes/masks/000012.png",
    "scenes/masks/000013.png",
    "scenes/masks/000014.png",
    "scenes/masks/000015.png",
    "scenes/scenes.jsonl",
];

/// Why the files cannot be laid down.
#[derive(Debug, thiserror::Error)]
pub(super) enum EmbeddedError {
    /// Nothing says where the user's files are.
    #[error("no home folder is known: set HOME (on Windows LOCALAPPDATA), or XDG_CACHE_HOME")]
    NoHome,
    /// The system refuses.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Puts the files in their place, those that are not there as they should be, and says where that is.
///
/// # Errors
/// [`EmbeddedError`].
pub(super) fn lay_down() -> Result<PathBuf, EmbeddedError> {
    let place = place()?;
    lay_down_in(&place)?;
    Ok(place)
}

/// The folder in the user's cache; one a version, since two may be in use.
///
/// # Errors
/// [`EmbeddedError::NoHome`].
pub(super) fn place() -> Result<PathBuf, EmbeddedError> {
    let cache = cache(|name| env::var_os(name).map(PathBuf::from), env::home_dir());
    let name = concat!("assets-", env!("CARGO_PKG_VERSION"));
    Ok(cache.ok_or(EmbeddedError::NoHome)?.join("sightline").join(name))
}

/// Where the system wants files that can be made again. A relative path in a variable counts for nothing, as the XDG
/// specification has it.
fn cache(variable: impl Fn(&str) -> Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let named = |name| variable(name).filter(|dir| dir.is_absolute());
    let home = home.filter(|dir| dir.is_absolute());
    named("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            named("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            Some(home?.join("Library/Caches"))
        } else {
            Some(home?.join(".cache"))
        }
    })
}

fn lay_down_in(place: &Path) -> Result<(), WriteError> {
    for (name, bytes) in FILES {
        let file = place.join(name);
        if input::read(&file).is_ok_and(|found| found == *bytes) {
            continue;
        }
        let dir = file.parent().unwrap_or(place);
        fs::create_dir_all(dir).map_err(|source| WriteError::Refused { file: dir.to_path_buf(), source })?;
        write_file(&file, bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names_under(dir: &Path, prefix: &str, names: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if entry.path().is_dir() {
                names_under(&entry.path(), &format!("{name}/"), names);
            } else {
                names.insert(name);
            }
        }
    }

    #[test]
    fn everything_of_the_folders_is_inside() {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut there = BTreeSet::new();
        for folder in ["model", "scenes"] {
            names_under(&assets.join(folder), &format!("{folder}/"), &mut there);
        }
        there.remove("model/curves.png");
        assert_eq!(there, FILES.iter().map(|(name, _)| (*name).to_string()).collect());
        let size: usize = FILES.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((10_000_000..12_000_000).contains(&size), "{size} bytes: say so where the size is told");
    }

    #[test]
    fn what_is_missing_cut_short_or_changed_is_put_right_and_the_rest_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("a/b");
        lay_down_in(&place).unwrap();
        let file = |name: &str| place.join(name);
        let written = |name: &str| fs::metadata(file(name)).unwrap().modified().unwrap();
        let before = written("model/model.safetensors");
        fs::write(file("model/config.json"), "{}").unwrap();
        fs::write(file("scenes/images/000003.png"), &FILES[0].1[..10]).unwrap();
        fs::remove_file(file("model/tokenizer.json")).unwrap();
        lay_down_in(&place).unwrap();
        FILES.iter().for_each(|(name, bytes)| assert!(fs::read(file(name)).unwrap() == *bytes, "{name}"));
        assert_eq!(written("model/model.safetensors"), before);
        // Where it cannot be: in place of a file.
        let error = lay_down_in(&file("model/config.json")).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }

    #[test]
    fn the_cache_is_where_the_system_has_it() {
        let root = if cfg!(windows) { "C:\\" } else { "/" };
        let at = |name: &str| Some(Path::new(root).join(name));
        assert_eq!(cache(|name| (name == "XDG_CACHE_HOME").then(|| at("c")).flatten(), at("home")), at("c"));
        assert_eq!(cache(|_| None, None), None);
        if !cfg!(windows) {
            let below = if cfg!(target_os = "macos") { "home/Library/Caches" } else { "home/.cache" };
            assert_eq!(cache(|_| Some(PathBuf::from("relative")), at("home")), at(below));
        }
    }
}
