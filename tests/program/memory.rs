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

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use sightline::bundled;
use tempfile::TempDir;

use crate::common::{
    copy_of_folder,
    program::{asset, json, sightline, text},
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

/// The bundled model whose weight file is a header and a hole: more bytes than any machine has.
fn absurd_model() -> TempDir {
    let dir = copy_of_folder(&bundled::model());
    let (out, width) = (1u64 << 19, 1u64 << 20);
    let header = format!(
        r#"{{"lm_head.weight":{{"dtype":"F32","shape":[{out},{width}],"data_offsets":[0,{}]}}}}"#,
        4 * out * width
    );
    let file = dir.path().join("model.safetensors");
    fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    let whole = 8 + header.len() as u64 + 4 * out * width;
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(whole).unwrap();
    dir
}

#[test]
fn a_model_that_memory_cannot_hold_is_refused_before_it_is_read() {
    let dir = absurd_model();
    let image = asset("scenes/images/000000.png");
    let out = tempfile::tempdir().unwrap();
    let args = ["run", "--device", "cpu", "--model", text(dir.path()), "--image", text(&image)];
    let rest = ["--prompt", bundled::PROMPT, "--max-new", "2", "--out", text(out.path())];
    let args = || args.iter().chain(&rest);
    // 2^39 numbers: twice, while they are laid.
    sightline(args()).refuses(&[
        "needs 4398.05 GB",
        "weights 2199.02 GB",
        "as stored",
        "left",
        "--dtype f16 needs 2199.02 GB",
        "SIGHTLINE_LOAD_ANYWAY=1",
    ]);
    // Who insists is told what else is wrong with it.
    let done = Command::new(env!("CARGO_BIN_EXE_sightline"))
        .args(args())
        .env("SIGHTLINE_LOAD_ANYWAY", "1")
        .output()
        .unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && told.contains("missing"), "{told}");
}

/// Loading holds the weights in memory once, and one of them twice.
#[test]
fn loading_takes_the_weights_and_one_more_of_them() {
    let dir = copy_of_folder(&bundled::model());
    let (_, before) = said_and_taken(dir.path(), 1, &[]);
    let (weights, largest) = widened(dir.path());
    let (_, peak) = said_and_taken(dir.path(), 1, &[]);
    let taken = peak - before;
    assert!(weights > 1e8, "{weights}");
    // A pass comes on top, and is no copy of them all.
    assert!((0.8..1.6).contains(&(taken / weights)), "{taken} for {weights}, the largest {largest}");
}

/// Makes the MLPs of a folder's decoder so wide that they outweigh all else; bytes that this adds, and those of one of
/// the matrices.
fn widened(dir: &Path) -> (f64, f64) {
    const WIDE: usize = 16_384;
    let (config, file) = (dir.join("config.json"), dir.join("model.safetensors"));
    let mut settings = json(&config);
    let width = settings["text_config"]["hidden_size"].as_u64().unwrap() as usize;
    settings["text_config"]["intermediate_size"] = WIDE.into();
    fs::write(&config, settings.to_string()).unwrap();
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    let mut added = 0;
    for (name, view) in stored.tensors() {
        let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
        if name.contains("language_model") && name.contains(".mlp.") {
            shape = shape.iter().map(|&n| if n == width { width } else { WIDE }).collect();
            let wide = vec![0; 4 * WIDE * width];
            added += wide.len() - data.len();
            data = wide;
        }
        tensors.push((name, shape, data));
    }
    let views = tensors.iter().map(|(n, s, d)| (n, TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
    (added as f64, (4 * WIDE * width) as f64)
}
