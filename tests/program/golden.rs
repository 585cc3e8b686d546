//! The program's numbers against stored ones: whatever is moved, they stay.
//!
//! `tests/golden/NAME.json` holds, for one command each, the numbers and texts of its JSON output and a summary
//! of every tensor. They are compared within rounding, since processors differ in their last bit.
//! `UPDATE_GOLDEN=1` writes them anew; `SIGHTLINE_GOLDEN_PROGRAM=FILE` runs another program, for example one
//! built from an earlier commit.
#![allow(clippy::unwrap_used)]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{fixture, tiled_model};
use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

/// Log probabilities, attention and shares.
const TOLERANCE: f64 = 2e-5;
/// What depends on the machine, the folder or the layout of the file.
const LEFT_OUT: [&str; 8] = ["timing", "seconds", "format", "images", "device", "model", "scenes", "image"];

fn program() -> OsString {
    std::env::var_os("SIGHTLINE_GOLDEN_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_sightline").into())
}

fn asset(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(path).display().to_string()
}

/// Runs the program and returns its stdout.
fn run(args: &[&str]) -> String {
    let output = Command::new(program()).args(args).env_remove("RUST_LOG").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

fn without(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(key, _)| !LEFT_OUT.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key, without(value))).collect())
        }
        Value::Array(list) => Value::Array(list.into_iter().map(without).collect()),
        other => other,
    }
}

/// Shape, sum, sum of magnitudes and largest value of every tensor.
fn tensors(file: &Path) -> Value {
    let bytes = fs::read(file).unwrap();
    let mut found = Map::new();
    for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
        let values: Vec<f64> =
            view.data().as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
        // Each value counts by its place, so that no two can change places unseen.
        let placed: f64 = values.iter().enumerate().map(|(i, v)| v * ((i % 97) as f64 + 1.0)).sum();
        let n = values.len().max(1) as f64;
        let largest = values.iter().copied().fold(0.0, f64::max);
        found.insert(name, json!({ "shape": view.shape(), "placed": placed / n, "largest": largest }));
    }
    Value::Object(found)
}

/// The prompt is long and says little by its visual tokens.
fn shortened(mut trace: Value) -> Value {
    if let Some(prompt) = trace["prompt"].as_array_mut() {
        prompt.retain(|token| token["span"] != "visual" || token["row"] == token["col"]);
    }
    trace
}

fn differ(path: &str, stored: &Value, found: &Value, differences: &mut Vec<String>) {
    match (stored, found) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                let none = Value::String("absent".into());
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                differ(&format!("{path}.{key}"), a, b, differences);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differ(&format!("{path}[{i}]"), a, b, differences);
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() > TOLERANCE * (1.0 + a.abs()) {
                differences.push(format!("{path}: stored {a}, found {b}"));
            }
        }
        (a, b) if a == b => {}
        // Which token of a prompt a blank belongs to is no number.
        (Value::String(a), Value::String(b)) if a.trim() == b.trim() => {}
        (a, b) => differences.push(format!("{path}: stored {a}, found {b}")),
    }
}

fn compare(name: &str, found: Value) {
    let file: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.json"));
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|v| v == "1") {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        return;
    }
    let stored = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let mut differences = Vec::new();
    differ("", &stored, &found, &mut differences);
    assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));
}

/// Runs `run` and compares what it leaves.
fn compare_run(name: &str, model: &str, args: &[&str]) {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().display().to_string();
    let all = [&["run", "--model", model, "--device", "cpu", "--out", &folder], args].concat();
    run(&all);
    let trace = serde_json::from_str(&fs::read_to_string(out.path().join("trace.json")).unwrap()).unwrap();
    let tensors = tensors(&out.path().join("trace.safetensors"));
    compare(name, json!({ "trace": without(shortened(trace)), "tensors": tensors }));
    // Its own session gives the same numbers again.
    run(&["replay", &out.path().join("session.json").display().to_string(), "--device", "cpu"]);
}

#[test]
fn runs_of_the_bundled_model() {
    let (model, image, mask) =
        (asset("model"), asset("scenes/images/000000.png"), asset("scenes/masks/000000.png"));
    let describe = ["--image", &image, "--prompt", "describe this image."];
    let with = |more: &[&'static str]| [&describe[..], more].concat();
    compare_run("uncut", &model, &with(&["--square", "3:1", "--vision-attention", "1", "--find", "the"]));
    let mut object = with(&[
        "--knockout",
        "answer -> visual @ 2-5",
        "--ablate",
        "object~1 = mean",
        "--control",
        "3",
        "--check",
        "--object-value",
        "1",
    ]);
    object.extend(["--object", &mask]);
    compare_run("cut", &model, &object);
    compare_run(
        "half",
        &model,
        &with(&[
            "--dtype",
            "f16",
            "--half",
            "--residuals",
            "3",
            "--record",
            "answer[0-2] @ 1-4 # 0,1",
            "--knockout",
            "answer -> visual @ 4-",
        ]),
    );
    compare_run(
        "sampled",
        &model,
        &with(&[
            "--temperature",
            "1.5",
            "--top-p",
            "0.9",
            "--seed",
            "3",
            "--knockout",
            "decode -> gradient[0-5] @ all",
        ]),
    );
    compare_run(
        "compressed",
        &model,
        &with(&["--compress", "10", "--ask", "is there a duck?", "--ask", "how many objects are there?"]),
    );
}

#[test]
fn runs_of_a_tiled_model() {
    let dir = tiled_model(400);
    let model = dir.path().display().to_string();
    let image = asset("scenes/images/000002.png");
    let ask = ["--image", &image, "--prompt", "what is at the left?", "--max-new", "9"];
    compare_run("tiled", &model, &[&ask[..], &["--square", "1:1"]].concat());
    let cuts = ["--knockout", "answer -> whole @ 1-", "--knockout", "lastrow -> visual[0-1:0-3]~1 @ all # 1"];
    compare_run("tiled_cut", &model, &[&ask[..], &cuts, &["--control", "2", "--check"]].concat());
}

#[test]
fn lens_and_evaluation_of_the_bundled_model() {
    let (model, image, scenes) = (asset("model"), asset("scenes/images/000000.png"), asset("scenes"));
    let out = run(&[
        "lens",
        "--model",
        &model,
        "--device",
        "cpu",
        "--image",
        &image,
        "--prompt",
        "describe this image.",
        "--at",
        "visual[3:4]~1 + last",
        "--word",
        "duck",
        "--json",
        "-",
        "--top",
        "3",
    ]);
    let layers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    compare("lens", Value::Array(layers));
    let eval = |more: &[&str]| -> Value {
        let args = ["eval", "--model", &model, "--device", "cpu", "--scenes", &scenes, "--json"];
        without(serde_json::from_str(&run(&[&args[..], more].concat())).unwrap())
    };
    compare("eval", eval(&["--limit", "4", "--localise"]));
    compare("eval_cut", eval(&["--limit", "2", "--knockout", "answer -> visual @ all"]));
    compare("eval_shuffled", eval(&["--limit", "3", "--shuffle"]));
}

#[test]
fn parity_of_the_fixtures() {
    for name in ["tiny-llava", "tiny-idefics3"] {
        let folder = fixture(name).display().to_string();
        let report: Value = serde_json::from_str(&run(&["verify", &folder, "--json"])).unwrap();
        // Which tensors are compared, and with which tolerance; the errors themselves are rounding.
        let checks: Vec<Value> = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| json!([c["case"], c["tensor"], c["tolerance"], c["pass"], c["note"]]))
            .collect();
        compare(&format!("verify_{name}"), json!({ "pass": report["pass"], "checks": checks }));
    }
}
