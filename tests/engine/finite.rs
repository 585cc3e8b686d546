//! Numbers that are none, and numbers that half precision cannot hold: in weights, activations, caches and files.
//! Each is an error that names its place, and none an answer.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::{decoding::DecodingError, error::RunError, load::Engine},
    progress::Cancel,
    spec::experiment::Experiment,
};
use tempfile::TempDir;

use crate::common::{
    ask, copy_of_folder,
    families::spread,
    gpu, load, load_as,
    program::{Done, asset, json, sightline, text},
};

const DECODER: &str = "language_model.model.layers.";

/// The bundled model with one of its weights changed, and stored in some format.
fn changed(key: &str, dtype: Dtype, change: impl Fn(&mut Vec<f32>)) -> TempDir {
    let dir = copy_of_folder(&bundled::model());
    let file = dir.path().join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in stored.tensors() {
        let mut values: Vec<f32> = view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        if name == key {
            change(&mut values);
        }
        let bytes: Vec<u8> = match dtype {
            Dtype::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        tensors.push((name, view.shape().to_vec(), bytes));
    }
    assert!(tensors.iter().any(|(name, ..)| name == key), "{key}");
    let views = tensors.iter().map(|(n, s, b)| (n, TensorView::new(dtype, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
    dir
}

/// The same weight, scaled so that its largest number is `largest`.
fn scaled(key: &str, largest: f32) -> TempDir {
    changed(key, Dtype::F32, |values| {
        let now = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        values.iter_mut().for_each(|v| *v = *v / now * largest);
    })
}

/// What becomes of a question.
fn answer(engine: &Engine, spec: &Experiment) -> Result<(), RunError> {
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default())?;
    engine.run(spec, &[&seen], &Cancel::default(), &mut |_| {}).map(|_| ())
}

fn refused(engine: &Engine, spec: &Experiment, parts: &[&str]) {
    let error = answer(engine, spec).expect_err("it answered");
    let known = matches!(
        error,
        RunError::Decoding(DecodingError::NotFinite { .. } | DecodingError::BeyondHalf { .. })
    );
    assert!(known, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}

fn cut(spec: Experiment, knockout: &str) -> Experiment {
    spec.with_knockouts(vec![knockout.parse().unwrap()])
}

fn run(model: &Path, out: &Path, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    let args = ["run", "--device", "cpu", "--model", text(model), "--image", text(&image)];
    let rest = ["--prompt", bundled::PROMPT, "--max-new", "4", "--out", text(out)];
    sightline(args.iter().chain(&rest).chain(more))
}

// ---------------------------------------------------------------------------------------- weights

#[test]
fn weights_that_are_no_numbers_are_refused_by_key_and_file() {
    for (key, stored, value) in [
        ("language_model.model.layers.2.mlp.down_proj.weight", Dtype::BF16, f32::NAN),
        ("language_model.model.layers.2.mlp.down_proj.weight", Dtype::F32, f32::NAN),
        ("language_model.model.embed_tokens.weight", Dtype::F16, f32::NAN),
        ("language_model.model.layers.0.input_layernorm.weight", Dtype::F32, f32::INFINITY),
        ("vision_tower.encoder.layers.1.self_attn.q_proj.bias", Dtype::F16, f32::NEG_INFINITY),
        ("multi_modal_projector.linear_1.weight", Dtype::BF16, f32::INFINITY),
    ] {
        let dir = changed(key, stored, |values| values[77] = value);
        for (_, dtype) in WeightDtype::ALL {
            let error = load_as(dir.path(), &device::cpu(), dtype).unwrap_err().to_string();
            for part in [key, "model.safetensors", &format!("holds {value} at place 77")] {
                assert!(error.contains(part), "{stored:?} as {dtype:?}: `{part}` not in {error}");
            }
        }
    }
}

#[test]
fn weights_beyond_half_precision_are_refused_only_there() {
    for stored in [Dtype::F32, Dtype::BF16] {
        let key = format!("{DECODER}3.mlp.up_proj.weight");
        let dir = changed(&key, stored, |values| values[5] = -70_000.0);
        load(dir.path());
        let error = load_as(dir.path(), &device::cpu(), WeightDtype::F16).unwrap_err().to_string();
        for part in [key.as_str(), "model.safetensors", "beyond float16's range", "--dtype f32"] {
            assert!(error.contains(part), "{stored:?}: `{part}` not in {error}");
        }
    }
}

/// Beside larger ones small numbers may be rounded to nothing; a matrix of nothing else would be gone.
#[test]
fn weights_that_half_precision_would_round_away_are_refused_only_there() {
    let key = format!("{DECODER}3.mlp.up_proj.weight");
    let dir = changed(&key, Dtype::BF16, |values| values.iter_mut().for_each(|v| *v *= 1e-6));
    load(dir.path());
    assert_eq!(load_as(dir.path(), &device::cpu(), WeightDtype::Auto).unwrap().vlm.dtype, WeightDtype::Bf16);
    let error = load_as(dir.path(), &device::cpu(), WeightDtype::F16).unwrap_err().to_string();
    for part in [key.as_str(), "model.safetensors", "round away", "--dtype f32"] {
        assert!(error.contains(part), "`{part}` not in {error}");
    }
}

/// A GPU without bfloat16 takes float16, and float32 for what that cannot hold.
#[test]
fn what_a_gpu_cannot_hold_in_half_precision_it_holds_in_full() {
    let Some(compute) = gpu() else { return };
    let key = format!("{DECODER}3.mlp.up_proj.weight");
    let dir = changed(&key, Dtype::BF16, |values| values[5] = -70_000.0);
    let error = load_as(dir.path(), &compute, WeightDtype::Bf16).unwrap_err().to_string();
    assert!(error.contains("does not compute in bfloat16") && error.contains("--dtype auto"), "{error}");
    let engine = load_as(dir.path(), &compute, WeightDtype::Auto).unwrap();
    let text = engine.vlm.dtype_text();
    if WeightDtype::F16.is_of(&compute.device) {
        assert_eq!(engine.vlm.formats.widened, [key.as_str()]);
        assert!(
            text.starts_with("float32 and float16 weights (stored as bfloat16; float16 cannot hold `"),
            "{text}"
        );
        assert!(text.contains(&key), "{text}");
    } else {
        assert_eq!(engine.vlm.dtype, WeightDtype::F32);
        assert!(text.starts_with("float32 weights and KV cache (stored as bfloat16);"), "{text}");
    }
}

// ------------------------------------------------------------------------------------ activations

#[test]
fn activations_that_are_no_numbers_stop_a_run_and_name_the_layer() {
    let layer = |n: usize, part: &str| format!("{DECODER}{n}.{part}.weight");
    // Residuals that are numbers, but not their squares, are zeros after a norm, and all words are alike.
    let dir = scaled(&layer(1, "mlp.down_proj"), 1e25);
    refused(&load(dir.path()), &ask(bundled::PROMPT, 4), &["decoder layer 1"]);
    for (key, place) in [
        (layer(2, "mlp.down_proj"), "decoder layer 2"),
        (layer(0, "self_attn.o_proj"), "decoder layer 0"),
        (layer(5, "mlp.down_proj"), "decoder layer 5"),
        (layer(3, "post_attention_layernorm"), "decoder layer 3"),
        (layer(4, "self_attn.v_proj"), "decoder layer 4"),
        ("language_model.lm_head.weight".to_string(), "logits"),
        ("vision_tower.encoder.layers.3.mlp.fc2.weight".to_string(), "vision tower's layer 3"),
        ("vision_tower.encoder.layers.0.self_attn.out_proj.weight".to_string(), "vision tower's layer 0"),
        ("multi_modal_projector.linear_2.weight".to_string(), "the projector's output"),
    ] {
        let dir = scaled(&key, 3e38);
        let engine = load(dir.path());
        refused(&engine, &ask(bundled::PROMPT, 4), &[place]);
        refused(&engine, &cut(ask(bundled::PROMPT, 4), "answer -> visual @ 1-3"), &[place]);
        let given = Experiment { forced_answer: Some(vec![11, 12, 13]), ..ask(bundled::PROMPT, 4) };
        refused(&engine, &given, &[place]);
    }
}

#[test]
fn broken_answers_are_no_replies_either() {
    let dir = scaled(&format!("{DECODER}2.mlp.down_proj.weight"), 3e38);
    let engine = load(dir.path());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let asked = [ask("what is at the left?", 4), ask("what is at the right?", 4)];
    let error = engine.replies(&asked, &[&seen], &Cancel::default(), &mut || {}).unwrap_err().to_string();
    assert!(error.contains("decoder layer 2"), "{error}");
}

#[test]
fn positions_of_three_axes_and_added_features_are_watched_too() {
    let dir = crate::common::tiled_model(512);
    let engine = spread(load(dir.path()), dir.path());
    let mut seen = engine
        .look_at(crate::common::fixture("processing/images/gradient_200x120.png"), &Cancel::default())
        .unwrap();
    let spec = ask("what?", 3);
    engine.scratch(&spec, &[&seen], &Cancel::default(), &mut |_| {}).unwrap();
    seen.added = vec![(1, seen.embeds.clone() * f32::INFINITY)];
    let error = engine.scratch(&spec, &[&seen], &Cancel::default(), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("decoder layer 1"), "{error}");
}

// ----------------------------------------------------------------------------------- half storage

#[test]
fn keys_and_values_beyond_half_precision_are_refused_by_layer() {
    for part in ["k_proj", "v_proj"] {
        let dir = scaled(&format!("{DECODER}2.self_attn.{part}.weight"), 60_000.0);
        let engine = load_as(dir.path(), &device::cpu(), WeightDtype::F16).unwrap();
        for spec in [ask(bundled::PROMPT, 4), cut(ask(bundled::PROMPT, 4), "answer -> visual @ 1-3")] {
            refused(&engine, &spec, &["KV cache of decoder layer 2", "float16", "--dtype f32"]);
        }
        // In full precision nothing overflows.
        answer(&load(dir.path()), &ask(bundled::PROMPT, 4)).unwrap();
    }
}

#[test]
fn residuals_beyond_half_precision_are_refused_and_not_rounded() {
    for layer in [1, 5] {
        let dir = scaled(&format!("{DECODER}{layer}.mlp.down_proj.weight"), 6e7);
        let engine = load(dir.path());
        let spec = ask(bundled::PROMPT, 4);
        answer(&engine, &spec).unwrap();
        let mut half = spec;
        half.record.half = true;
        for spec in [half.clone(), cut(half, "answer -> visual @ 3")] {
            refused(&engine, &spec, &[&format!("decoder layer {layer}"), "float16", "--half"]);
        }
    }
    // What fits is stored.
    let mut half = cut(ask(bundled::PROMPT, 4), "answer -> visual @ 3");
    half.record.half = true;
    answer(&load(&bundled::model()), &half).unwrap();
}

// -------------------------------------------------------------------------------- the command line

#[test]
fn the_program_writes_nothing_of_a_broken_run() {
    let dir = scaled(&format!("{DECODER}2.mlp.down_proj.weight"), 3e38);
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().join("run");
    run(dir.path(), &folder, &["--knockout", "answer -> visual @ 1-3"]).refuses(&["decoder layer 2"]);
    assert!(!folder.join("trace.json").exists() && !folder.join("session.json").exists());

    let dir = scaled(&format!("{DECODER}1.mlp.down_proj.weight"), 6e7);
    run(dir.path(), &folder, &["--half", "--knockout", "answer -> visual @ 3", "--check"])
        .refuses(&["decoder layer 1", "--half"]);
    assert!(!folder.join("trace.json").exists());
}

#[test]
fn an_evaluation_of_a_broken_model_names_the_image_and_scores_nothing() {
    let dir = scaled(&format!("{DECODER}2.mlp.down_proj.weight"), 3e38);
    let scenes = asset("scenes");
    let args =
        ["eval", "--device", "cpu", "--scenes", text(&scenes), "--limit", "1", "--model", text(dir.path())];
    let done = sightline(args);
    assert_ne!(done.code, 0);
    for part in ["000000.png", "decoder layer 2"] {
        assert!(done.err.contains(part), "`{part}` is not in:\n{}", done.err);
    }
    assert!(!done.out.contains("95 % interval"), "{}", done.out);
}

#[test]
fn a_session_with_what_is_no_number_is_read_and_does_not_agree() {
    let out = tempfile::tempdir().unwrap();
    run(&bundled::model(), out.path(), &[]).succeeds();
    let file = out.path().join("session.json");
    let mut session = json(&file);
    session["entries"][0]["numbers"]["baseline"][0][1] = serde_json::Value::Null;
    fs::write(&file, session.to_string()).unwrap();
    let done = sightline(["replay", text(&file), "--device", "cpu"]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.out.contains("OTHER numbers"), "{}", done.out);
}

#[test]
fn a_saved_trace_with_what_is_no_number_is_refused() {
    let out = tempfile::tempdir().unwrap();
    run(&bundled::model(), out.path(), &[]).succeeds();
    sightline::export::open::open(out.path()).unwrap();
    let file = out.path().join("trace.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let n_header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n_header]).unwrap();
    let pattern = header["pattern"]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[8 + n_header + pattern..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let error = sightline::export::open::open(out.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("pattern") && error.contains("NaN"), "{error}");
}
