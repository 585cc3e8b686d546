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

use crate::common::{copy_of, fixture, gpu};

fn check(dir: &Path, compute: &Compute) -> Report {
    verify(dir, compute).unwrap()
}

#[test]
fn both_families_match_the_reference_on_the_cpu() {
    for name in ["tiny-llava", "tiny-idefics3"] {
        let report = check(&fixture(name), &device::cpu());
        assert!(report.pass, "{report}");
        assert!(report.not_checked.is_empty(), "{:?}", report.not_checked);
        assert!(report.checks.len() > 50);
    }
}

#[test]
fn both_families_match_the_reference_through_wgpu() {
    let Some(compute) = gpu() else { return };
    for name in ["tiny-llava", "tiny-idefics3"] {
        let report = check(&fixture(name), &compute);
        assert!(report.pass, "{report}");
    }
}

/// Rewrites one float of one reference tensor.
fn tamper(dir: &Path, tensor: &str, index: usize, change: impl Fn(f32) -> f32) {
    let file = dir.join("reference.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut data: Vec<(String, safetensors::Dtype, Vec<usize>, Vec<u8>)> = stored
        .tensors()
        .into_iter()
        .map(|(n, v)| (n, v.dtype(), v.shape().to_vec(), v.data().to_vec()))
        .collect();
    let target = data.iter_mut().find(|(n, ..)| n == tensor).unwrap();
    let at = &mut target.3[index * 4..index * 4 + 4];
    let value = change(f32::from_le_bytes(at.try_into().unwrap()));
    at.copy_from_slice(&value.to_le_bytes());
    let views = data.iter().map(|(n, d, s, b)| (n.clone(), TensorView::new(*d, s.clone(), b).unwrap()));
    safetensors::serialize_to_file(views, None, &file).unwrap();
}

#[test]
fn one_changed_number_fails() {
    let cases: [(&str, usize, f32); 6] = [
        ("one/logits", 1234, 0.01),
        ("one/attn.2", 4 * 33 + 1, 1e-3),
        ("one/gen.logprob", 7, 0.01),
        ("one/ko.gen.teacher.kl", 3, 0.01),
        ("one/vision.selected", 100, 0.01),
        // A blocked pair must be exactly 0, whatever the tolerance.
        ("one/ko.all.attn.0", 32 * 33 + 10, 1e-7),
    ];
    for (tensor, index, change) in cases {
        let dir = copy_of("tiny-llava");
        tamper(dir.path(), tensor, index, |v| v + change);
        let report = check(dir.path(), &device::cpu());
        let failed: Vec<_> = report.checks.iter().filter(|c| !c.pass).map(|c| c.tensor.as_str()).collect();
        assert!(!report.pass && failed.contains(&&tensor["one/".len()..]), "{tensor}: {failed:?}");
    }
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
