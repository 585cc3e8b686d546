//! The files that the program writes and reads: whole and of one run, found again from anywhere, regular ones only.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use sightline::{export::folder, files::output::was_stopped};
use tempfile::TempDir;

mod common;
use common::{
    copy_of_folder, fixture,
    program::{Done, asset, json, sightline, text},
    without_weights,
};

const WHOLE: [&str; 3] = ["session.json", "trace.json", "trace.safetensors"];

/// The arguments of a short run about the first sample scene.
fn asking<'a>(out: &'a str, image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["run", "--device", "cpu", "--image", image, "--prompt", "describe this image.", "--out", out];
    [&args[..], more].concat()
}

fn run(out: &Path, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    sightline(asking(text(out), text(&image), more))
}

fn names(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn start(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    command.args(args).env_remove("RUST_LOG").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

// ------------------------------------------------------------------------------------- one folder

#[test]
fn a_folder_that_is_written_again_has_nothing_of_the_run_before() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--max-new", "4", "--pictures", "--find", "a"]).succeeds();
    assert!(names(dir.path()).len() > WHOLE.len() + 4);
    fs::write(dir.path().join("notes.png"), "mine").unwrap();
    run(dir.path(), &["--max-new", "1"]).succeeds();
    let expected: BTreeSet<String> = WHOLE.into_iter().chain(["notes.png"]).map(String::from).collect();
    assert_eq!(names(dir.path()), expected);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert!(WHOLE.iter().all(|name| mode(name) == mode("notes.png")), "all by the umask");
    }
}

#[test]
fn equal_runs_leave_equal_tensors() {
    let dirs: Vec<TempDir> = (0..6).map(|_| tempfile::tempdir().unwrap()).collect();
    let read = |dir: &TempDir| {
        run(dir.path(), &["--max-new", "2", "--square", "1:0", "--square", "0:1"]).succeeds();
        fs::read(dir.path().join("trace.safetensors")).unwrap()
    };
    let all: BTreeSet<Vec<u8>> = dirs.iter().map(read).collect();
    assert_eq!(all.len(), 1);
}

#[test]
fn a_second_run_into_a_folder_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--max-new", "1"]).succeeds();
    let before = fs::read(dir.path().join("trace.json")).unwrap();
    let held = folder::open(dir.path()).unwrap();
    run(dir.path(), &["--max-new", "2"]).refuses(&[text(dir.path()), "another run is writing here"]);
    drop(held);
    assert_eq!(fs::read(dir.path().join("trace.json")).unwrap(), before);
    run(dir.path(), &["--max-new", "2"]).succeeds();
}

#[test]
fn a_killed_run_leaves_the_old_one_whole_or_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let image = asset("scenes/images/000000.png");
    let mut caught = 0;
    for n in 0..8 {
        run(dir.path(), &["--answer", "a duck"]).succeeds();
        let long = ["--max-new", "12", "--top", "400", "--pictures"];
        let mut child = start(&asking(text(dir.path()), text(&image), &long));
        // Killed while it writes: a little later every time.
        while !was_stopped(dir.path()) && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(4 * n));
        child.kill().unwrap();
        child.wait().unwrap();
        caught += usize::from(was_stopped(dir.path()));
        let session = dir.path().join("session.json");
        if !session.exists() {
            let done = sightline(["replay", text(&session)]);
            done.refuses(&["session.json", "was stopped before it was done"]);
            continue;
        }
        let asked = &json(&session)["entries"][0];
        let tokens = asked["numbers"]["answer"].as_array().unwrap().len();
        let trace = json(&dir.path().join("trace.json"));
        assert_eq!(trace["answer"].as_array().unwrap().len(), tokens, "session and trace are of one run");
        let held = sightline::export::open::open(dir.path()).unwrap();
        assert_eq!(held.answer.len(), tokens);
    }
    assert!(caught > 0, "no run was killed while it wrote");
    run(dir.path(), &["--max-new", "1"]).succeeds();
    assert_eq!(names(dir.path()), BTreeSet::from(WHOLE.map(String::from)));
}

#[test]
fn scenes_are_of_one_run_too() {
    let dir = tempfile::tempdir().unwrap();
    let scenes =
        |seed, count| sightline(["scenes", "--out", text(dir.path()), "--seed", seed, "--count", count]);
    scenes("1", "5").succeeds();
    fs::write(dir.path().join("images/mine.png"), "mine").unwrap();
    scenes("2", "2").succeeds();
    let left = |folder: &str| names(&dir.path().join(folder)).into_iter().collect::<Vec<_>>();
    assert_eq!(left("images"), ["000000.png", "000001.png", "mine.png"]);
    assert_eq!(left("masks"), ["000000.png", "000001.png"]);
    assert_eq!(left(""), ["annotations.json", "images", "masks", "scenes.jsonl"]);
    let lines = fs::read_to_string(dir.path().join("scenes.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);
    assert_eq!(json(&dir.path().join("annotations.json"))["images"].as_array().unwrap().len(), 2);
}

// ------------------------------------------------------------------------------------ names, paths

#[test]
fn a_long_phrase_has_a_picture_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let long = "there is a duck and ".repeat(16);
    let (one, two) = (format!("{long}a duck"), format!("{long}a duck and a house"));
    let more = ["--answer", &two, "--find", &one, "--find", &two, "--pictures"];
    run(dir.path(), &more).succeeds();
    let phrases: Vec<String> = names(dir.path()).into_iter().filter(|n| n.starts_with("phrase_")).collect();
    assert_eq!(phrases.len(), 2, "{phrases:?}");
}

#[test]
fn a_session_runs_from_anywhere_on_its_own_files_only() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = |from: &str, to: &Path| fs::copy(asset("scenes/images").join(from), to).unwrap();
    fs::create_dir(here.path().join("many")).unwrap();
    for (from, to) in [("000000.png", "a.png"), ("000001.png", "b.png"), ("000002.png", "many/c.png")] {
        copy(from, &here.path().join(to));
        copy("000003.png", &there.path().join(Path::new(to).file_name().unwrap()));
    }
    let fills = ["--ablate", "visual[3:3] = image:b.png", "--ablate", "visual[4:4] = mean:many"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    command.args(asking("out", "a.png", &[&fills[..], &["--max-new", "3"]].concat()));
    assert!(command.current_dir(here.path()).output().unwrap().status.success());
    let session = here.path().join("out/session.json");
    let replay = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
        command.args(["replay", text(&session), "--device", "cpu"]).current_dir(there.path());
        let done = command.output().unwrap();
        let said = [&done.stdout[..], &done.stderr].concat();
        (done.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (code, said) = replay();
    assert!(code == 0 && said.contains("the same numbers"), "{said}");
    // Another file under the old name.
    for (file, from) in [("many/c.png", "000002.png"), ("b.png", "000001.png"), ("a.png", "000000.png")] {
        copy("000003.png", &here.path().join(file));
        let (code, said) = replay();
        let place = Path::new(file).iter().next().unwrap().to_str().unwrap();
        assert!(code == 2 && said.contains("is not what the session was made with"), "{file}: {said}");
        assert!(said.contains(text(&here.path().join(place))), "{file}: {said}");
        copy(from, &here.path().join(file));
    }
    // Those that are not read do not matter.
    copy("000003.png", &here.path().join("a.png"));
    let images = tempfile::tempdir().unwrap();
    copy("000004.png", &images.path().join("other.png"));
    let done = sightline(["replay", text(&session), "--device", "cpu", "--image-dir", text(images.path())]);
    done.succeeds();
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_that_is_no_text_is_told_before_the_run_or_is_no_matter() {
    use std::os::unix::ffi::OsStrExt as _;
    let (dir, model) = (tempfile::tempdir().unwrap(), without_weights());
    let odd = dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&odd).unwrap();
    let image = odd.join("a.png");
    fs::copy(asset("scenes/images/000000.png"), &image).unwrap();
    let out = dir.path().join("out");
    let plain = ["--prompt", "what?", "--model", text(model.path()), "--out", text(&out)];
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    let done = command.args(["run", "--image"]).arg(&image).args(plain).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(2) && said.contains("not UTF-8"), "{said}");
    assert!(!said.contains("model.safetensors") && !out.exists(), "{said}");

    // Where a path is only shown, it may be anything.
    run(&out, &["--max-new", "1"]).succeeds();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
    command.args(["replay", "--json", "--device", "cpu", text(&out.join("session.json")), "--image-dir"]);
    let done = command.arg(&odd).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let line: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(line["image"].as_str().unwrap().ends_with("/a.png"));
}

// ------------------------------------------------------------------------------------------ pipes

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let fifo = |place: &Path| {
        let _ = fs::remove_file(place);
        assert!(Command::new("mkfifo").arg(place).status().unwrap().success());
    };
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.png");
    fifo(&pipe);
    let (pipe, out, image) = (text(&pipe), dir.path().join("out"), asset("scenes/images/000000.png"));
    let refused = |args: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sightline"));
        let mut child = child.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                child.kill().unwrap();
                panic!("{args:?} hangs");
            }
            thread::sleep(Duration::from_millis(5));
        }
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(2) && said.contains("it is a pipe"), "{args:?}: {said}");
    };
    let about = |image: &str, more: &[&str]| refused(&asking(text(&out), image, more));
    about(pipe, &[]);
    about(text(&image), &["--object", pipe, "--ablate", "object = mean"]);
    about(text(&image), &["--ablate", &format!("visual[0:0] = image:{pipe}")]);
    about(text(&image), &["--ablate", &format!("visual[0:0] = mean:{}", text(dir.path()))]);
    refused(&["replay", pipe]);
    refused(&["eval", "--annotations", pipe]);
    for name in [
        "config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "chat_template.json",
        "model.safetensors",
        "model.safetensors.index.json",
    ] {
        let model = copy_of_folder(&asset("model"));
        // The index is read only where there is no single file.
        if name == "model.safetensors.index.json" {
            fs::remove_file(model.path().join("model.safetensors")).unwrap();
        }
        fifo(&model.path().join(name));
        about(text(&image), &["--model", text(model.path())]);
    }
    for name in ["reference.json", "reference.safetensors"] {
        let model = copy_of_folder(&fixture("tiny-llava"));
        fifo(&model.path().join(name));
        refused(&["verify", text(model.path())]);
    }
    assert!(!out.exists());
}

#[test]
fn a_healthy_run_says_nothing_of_its_drivers() {
    let model = fixture("tiny-llava");
    for runtime in [None, Some(""), Some("relative")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sightline"));
        command.args(["verify", "--device", "auto", text(&model)]).env_remove("XDG_RUNTIME_DIR");
        command.envs(runtime.map(|dir| ("XDG_RUNTIME_DIR", dir)));
        let done = command.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!said.contains("XDG_RUNTIME_DIR"), "{runtime:?}: {said}");
    }
}
