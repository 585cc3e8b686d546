//! The program away from its source tree: alone, and as a package lays it out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::common::program::asset;

/// A machine with nothing on it but the program, and a home without files.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Machine(tempfile::tempdir().unwrap());
        for folder in ["prefix/bin", "home"] {
            fs::create_dir_all(machine.at(folder)).unwrap();
        }
        let built = Path::new(env!("CARGO_BIN_EXE_sightline"));
        let program = machine.at("prefix/bin/sightline");
        // A link where that is possible: the program is large.
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Asks the bundled model about the first of the bundled scenes; every answer names its image.
    fn eval(&self, home: &Path) -> (Output, String) {
        let answers = self.at("answers.jsonl");
        let output = Command::new(self.at("prefix/bin/sightline"))
            .args(["eval", "--limit", "1", "--device", "cpu", "--answers"])
            .arg(&answers)
            .current_dir(self.0.path())
            .env_clear()
            .env("HOME", home)
            .env("LOCALAPPDATA", home)
            .output()
            .unwrap();
        (output, fs::read_to_string(answers).unwrap_or_default())
    }
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The folder that the files came out into.
fn unpacked(home: &Path) -> PathBuf {
    let cache = [".cache", "Library/Caches", ""].map(|cache| home.join(cache).join("sightline"));
    let folder = cache.into_iter().find(|folder| folder.is_dir()).unwrap();
    let folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders[0].clone()
}

#[test]
fn alone_it_brings_its_model_along() {
    let machine = Machine::new();
    let home = machine.at("home");
    let (output, answers) = machine.eval(&home);
    succeeded(&output);
    let folder = unpacked(&home);
    assert!(answers.contains(folder.to_str().unwrap()), "{answers}");
    assert!(!answers.contains(env!("CARGO_MANIFEST_DIR")), "{answers}");
    let same = |name: &str| fs::read(folder.join(name)).unwrap() == fs::read(asset(name)).unwrap();
    assert!(same("model/model.safetensors") && same("scenes/scenes.jsonl"));
    // Cut short, as by a full disk or a kill; and put right at the next start.
    fs::write(folder.join("model/model.safetensors"), "short").unwrap();
    let (output, again) = machine.eval(&home);
    succeeded(&output);
    assert_eq!(again, answers);
    assert!(same("model/model.safetensors"));
}

#[test]
fn without_a_place_for_them_it_says_so() {
    let machine = Machine::new();
    let home = machine.at("home/file");
    fs::write(&home, "not a folder").unwrap();
    let (output, answers) = machine.eval(&home);
    assert_eq!((output.status.code(), answers.as_str()), (Some(2), ""));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the bundled model and scenes cannot be unpacked"), "{text}");
    assert!(text.contains(home.to_str().unwrap()), "{text}");
}

#[test]
fn a_package_is_read_where_it_lies() {
    let machine = Machine::new();
    let share = machine.at("prefix/share/sightline");
    for folder in ["model", "scenes", "scenes/images", "scenes/masks"] {
        fs::create_dir_all(share.join(folder)).unwrap();
        for entry in fs::read_dir(asset(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                fs::copy(entry.path(), share.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    let home = machine.at("home");
    let (output, answers) = machine.eval(&home);
    succeeded(&output);
    assert!(answers.contains(share.canonicalize().unwrap().to_str().unwrap()), "{answers}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0, "something was written at home");
}
