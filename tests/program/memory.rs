//! What a run says it holds, against what the system saw it take.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use sightline::bundled;
use tempfile::TempDir;

use crate::common::{
    copy_of_folder,
    program::{asset, json, text},
};

/// The bundled model with room for a long answer, which ends with a token that it never says.
fn long_model() -> TempDir {
    let dir = copy_of_folder(&bundled::model());
    let edit = |name: &str, change: &dyn Fn(&mut Value)| {
        let file = dir.path().join(name);
        let mut value = json(&file);
        change(&mut value);
        fs::write(file, value.to_string()).unwrap();
    };
    edit("config.json", &|c| c["text_config"]["max_position_embeddings"] = 4096.into());
    edit("tokenizer_config.json", &|c| c["eos_token"] = "<pad>".into());
    edit("generation_config.json", &|c| c["eos_token_id"] = 3.into());
    dir
}

/// Bytes that a cut run said it would hold, and those that it took at its peak, the program's own included.
fn said_and_taken(model: &Path, max_new: usize, more: &[&str]) -> (f64, f64) {
    let out = tempfile::tempdir().unwrap();
    let told = out.path().join("told");
    let image = asset("scenes/images/000000.png");
    let mut child = Command::new(env!("CARGO_BIN_EXE_sightline"))
        .args(["run", "--device", "cpu", "--model", text(model), "--image", text(&image)])
        .args(["--prompt", bundled::PROMPT, "--knockout", "answer -> visual @ 2-4"])
        .args(["--max-new", &max_new.to_string(), "--out", text(&out.path().join("run"))])
        .args(more)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    // The peak stays in the system's book until the process is gone.
    let (status, mut peak) = (format!("/proc/{}/status", child.id()), 0.0f64);
    let code = loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        peak = kilobytes.map_or(peak, |kilobytes| kilobytes * 1024.0);
        if let Some(code) = child.try_wait().unwrap() {
            break code;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let told = fs::read_to_string(told).unwrap();
    assert!(code.success(), "{told}");
    let answer = &json(&out.path().join("run/trace.json"))["answer"];
    assert_eq!(answer.as_array().unwrap().len(), max_new, "the answer ended by itself");
    let line = told.lines().find_map(|l| l.strip_prefix("keeps at most: ")).unwrap();
    // The sum is rounded: its parts say more.
    let parts = line.split_once(": ").unwrap().0.split(", ").map(|part| {
        let mut words = part.rsplit(' ');
        let unit = if words.next() == Some("GB") { 1e9 } else { 1e6 };
        words.next().unwrap().parse::<f64>().unwrap() * unit
    });
    (parts.sum(), peak)
}

#[test]
fn a_run_takes_the_memory_that_it_says() {
    let model = long_model();
    // Long enough for attention to outweigh everything else, the gaps between halves that come and floats that go
    // included, and short enough for a test.
    let ways: [(usize, &[&str]); 3] = [
        (600, &["--top", "1"]),
        (1200, &["--top", "1", "--half"]),
        (1200, &["--top", "100", "--record", "none"]),
    ];
    for (long, more) in ways {
        let (little, start) = said_and_taken(model.path(), 1, more);
        let (said, peak) = said_and_taken(model.path(), long, more);
        let (said, taken) = (said - little, peak - start);
        assert!(said > 3e7, "{more:?}: {said}");
        let share = taken / said;
        assert!((0.85..1.15).contains(&share), "{more:?}: said {said}, took {taken}: {share}");
    }
}
