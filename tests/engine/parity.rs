//! The tiny reference models: parity on every device, and that a difference is noticed.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use sightline::{
    device::{
        open as device,
        open::{Compute, DeviceChoice},
    },
    studies::verify::{Report, verify},
};

use crate::common::{copy_of, fixture, gpu, references, rewrite};

fn check(dir: &Path, compute: &Compute) -> Report {
    verify(dir, compute).unwrap()
}

/// The model of every family and kind that its hub's files are like; other shapes are in tests/fixtures/other.
const MODELS: [&str; 12] = [
    "tiny-llava",
    "tiny-llava-phi3",
    "tiny-llava-phi3-fused",
    "tiny-idefics3",
    "tiny-internvl",
    "tiny-internvl-chat",
    "tiny-internvl-chat-llama",
    "tiny-internvl-chat-internlm2",
    "tiny-internvl-chat-phi3",
    "tiny-qwen2-vl",
    "tiny-qwen2_5-vl",
    "tiny-qwen3-vl",
];

#[test]
fn every_family_matches_the_reference_on_the_cpu() {
    for folder in references() {
        let report = check(&folder, &device::cpu());
        assert!(report.pass, "{report}");
        assert!(report.not_checked.is_empty(), "{:?}", report.not_checked);
        assert!(report.checks.len() > 30);
    }
}

/// The same models by the configs of other versions of transformers.
#[test]
fn a_config_of_any_style_gives_the_same() {
    let styles = ["config-v4-nested.json", "config-v5.json"];
    let all = MODELS.iter().flat_map(|name| styles.map(|style| (*name, style)));
    let there: Vec<_> = all.filter(|(name, style)| fixture(name).join(style).exists()).collect();
    assert!(there.len() >= 5, "{there:?}");
    for (name, style) in there {
        let dir = copy_of(name);
        fs::copy(fixture(name).join(style), dir.path().join("config.json")).unwrap();
        let (mut ours, mut other) =
            (check(&fixture(name), &device::cpu()), check(dir.path(), &device::cpu()));
        (ours.model, other.model) = Default::default();
        assert!(other.pass, "{name} {style}: {other}");
        assert_eq!(ours.to_string(), other.to_string(), "{name} {style}");
    }
}

/// Writes a model's weights under other keys.
fn rename(dir: &Path, name: impl Fn(&str) -> String) {
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let renamed = stored.tensors().into_iter().map(|(key, view)| (name(&key), view));
    safetensors::serialize_to_file(renamed, None, &file).unwrap();
}

#[test]
fn qwen_is_read_under_old_and_new_keys() {
    let newer = |key: &str| match key.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None if key.starts_with("visual.") => format!("model.{key}"),
        None => key.to_string(),
    };
    let older = |key: &str| {
        let key = key.replace("model.language_model.", "model.");
        key.strip_prefix("model.visual.").map_or(key.clone(), |rest| format!("visual.{rest}"))
    };
    for name in MODELS.iter().filter(|name| name.contains("qwen")) {
        let dir = copy_of(name);
        match *name {
            "tiny-qwen3-vl" => rename(dir.path(), older),
            _ => rename(dir.path(), newer),
        }
        let report = check(dir.path(), &device::cpu());
        assert!(report.pass, "{name}: {report}");
    }
}

#[test]
fn every_family_matches_the_reference_through_wgpu() {
    let Some(compute) = gpu() else { return };
    for name in MODELS {
        let report = check(&fixture(name), &compute);
        assert!(report.pass, "{report}");
    }
}

/// Rewrites one float of one reference tensor.
fn tamper(dir: &Path, tensor: &str, index: usize, change: impl Fn(f32) -> f32) {
    rewrite(&dir.join("reference.safetensors"), |name, bytes| {
        if name == tensor {
            let at = &mut bytes[index * 4..index * 4 + 4];
            let value = change(f32::from_le_bytes(at.try_into().unwrap()));
            at.copy_from_slice(&value.to_le_bytes());
        }
    });
}

#[test]
fn one_changed_number_fails() {
    let cases: [(&str, &str, usize, f32); 16] = [
        ("tiny-llava", "one/logits", 1234, 0.01),
        ("tiny-llava", "one/attn.2", 4 * 33 + 1, 1e-3),
        ("tiny-llava", "one/gen.logprob", 7, 0.01),
        ("tiny-llava", "one/ko.gen.teacher.kl", 3, 0.01),
        ("tiny-llava", "one/vision.selected", 100, 0.01),
        // A blocked pair must be exactly 0, whatever the tolerance.
        ("tiny-llava", "one/ko.all.attn.0", 32 * 33 + 10, 1e-7),
        ("tiny-qwen3-vl", "one/deepstack.1", 70, 1e-3),
        ("tiny-qwen3-vl", "two/resid_in.2", 300, 0.05),
        ("tiny-qwen3-vl", "two/hidden.2", 300, 0.05),
        ("tiny-qwen3-vl", "one/lens_in.top_logits", 40, 0.05),
        ("tiny-qwen3-vl", "two/vision.pos_embed", 9, 1e-3),
        ("tiny-qwen3-vl", "one/rope.sin", 45, 1e-4),
        ("tiny-qwen2_5-vl", "two/vision.rope.cos", 77, 1e-4),
        // Outside a window nothing is seen; the frames of a still image are alike.
        ("tiny-qwen2_5-vl", "one/vision.attn.0", 59, 1e-4),
        ("tiny-qwen2_5-vl", "one/pixel_values", 20, 1e-3),
        ("tiny-qwen2-vl", "two/vision.last_hidden", 100, 0.05),
    ];
    for (model, tensor, index, change) in cases {
        let dir = copy_of(model);
        tamper(dir.path(), tensor, index, |v| v + change);
        let report = check(dir.path(), &device::cpu());
        let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).map(|c| c.tensor.as_str()).collect();
        assert!(!report.pass && failed.contains(&&tensor["one/".len()..]), "{tensor}: {failed:?}");
    }
}

#[test]
fn one_changed_number_fails_in_every_family() {
    for name in MODELS {
        let dir = copy_of(name);
        tamper(dir.path(), "one/image_embeds", 7, |v| v + 0.1);
        let report = check(dir.path(), &device::cpu());
        let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).map(|c| c.tensor.as_str()).collect();
        assert_eq!(failed, ["image_embeds"], "{name}");
    }
}

#[test]
fn one_changed_place_fails() {
    let cases = [
        ("tiny-qwen2_5-vl", "one/position_ids", 40),
        ("tiny-qwen2-vl", "two/rope_deltas", 0),
        ("tiny-qwen2_5-vl", "two/vision.window_index", 3),
        ("tiny-qwen2_5-vl", "one/vision.cu_window_seqlens", 1),
    ];
    for (model, tensor, index) in cases {
        let dir = copy_of(model);
        // The lower half of a number of 64 bits.
        tamper(dir.path(), tensor, 2 * index, |v| f32::from_bits(v.to_bits() ^ 1));
        let report = check(dir.path(), &device::cpu());
        let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).map(|c| c.tensor.as_str()).collect();
        assert_eq!(failed, [&tensor["one/".len()..]], "{tensor}");
    }
    // As many patches, otherwise laid out.
    let dir = copy_of("tiny-qwen3-vl");
    tamper(dir.path(), "one/image_grid_thw", 2, |_| f32::from_bits(6));
    tamper(dir.path(), "one/image_grid_thw", 4, |_| f32::from_bits(10));
    let report = check(dir.path(), &device::cpu());
    let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).map(|c| c.tensor.as_str()).collect();
    assert!(
        ["image_grid_thw", "position_ids", "logits"].iter().all(|name| failed.contains(name)),
        "{failed:?}"
    );
}

/// Gives one reference tensor another shape and other bytes.
fn replace(dir: &Path, tensor: &str, dtype: Dtype, shape: Vec<usize>, bytes: &[u8]) {
    let file = dir.join("reference.safetensors");
    let whole = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&whole).unwrap();
    let mut views: BTreeMap<String, TensorView<'_>> = stored.tensors().into_iter().collect();
    assert!(views.insert(tensor.to_string(), TensorView::new(dtype, shape, bytes).unwrap()).is_some());
    safetensors::serialize_to_file(views, None, &file).unwrap();
}

#[test]
fn references_that_fit_no_model_are_refused_by_name() {
    let ids = |ids: &[i64]| ids.iter().flat_map(|id| id.to_le_bytes()).collect::<Vec<u8>>();
    type Case = (&'static str, Dtype, Vec<usize>, Vec<u8>, &'static str);
    let cases: [Case; 6] = [
        ("one/input_ids", Dtype::I64, vec![0], vec![], "makes 0 positions, expected 1 to 512"),
        ("one/input_ids", Dtype::I64, vec![600], ids(&[1; 600]), "makes 600 positions"),
        ("one/input_ids", Dtype::I64, vec![2], ids(&[1, -1]), "holds -1, expected ids below"),
        ("one/gen.tokens", Dtype::I64, vec![0], vec![], "makes 0 positions"),
        ("one/pixel_values", Dtype::F32, vec![0, 3, 56, 56], vec![], "has shape [0, 3, 56, 56]"),
        ("one/lens.top_ids", Dtype::I64, vec![0, usize::MAX / 2], vec![], "has shape [0, "),
    ];
    for (tensor, dtype, shape, bytes, part) in cases {
        let dir = copy_of("tiny-llava");
        replace(dir.path(), tensor, dtype, shape, &bytes);
        let error = verify(dir.path(), &device::cpu()).unwrap_err().to_string();
        assert!(error.contains(tensor) && error.contains(part), "{error}");
    }
}

#[test]
fn facts_are_compared_and_not_trusted() {
    let dir = copy_of("tiny-llava");
    let file = dir.path().join("reference.json");
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for length in [json!(0), json!(1), json!(34), json!(1u64 << 50), json!(u64::MAX)] {
        let mut facts = whole.clone();
        facts["cases"]["one"]["T"] = length;
        fs::write(&file, facts.to_string()).unwrap();
        let report = check(dir.path(), &device::cpu());
        let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).collect();
        assert!(failed.len() == 1 && failed[0].note == "wrong: T", "{report}");
    }
    for positions in [json!([]), json!([33])] {
        let mut facts = whole.clone();
        facts["cases"]["one"]["ablate"]["positions"] = positions;
        fs::write(&file, facts.to_string()).unwrap();
        let error = verify(dir.path(), &device::cpu()).unwrap_err().to_string();
        assert!(error.contains("ablate.positions") && error.contains("below the prompt's 33"), "{error}");
    }
}

#[test]
fn no_gpu_is_said_and_not_hidden() {
    match device::open(DeviceChoice::Gpu) {
        Ok(compute) => assert!(compute.description.contains("burn-wgpu")),
        Err(error) => assert!(error.to_string().contains("--device cpu")),
    }
}
