//! Every reference folder fails by the tensor's name when one number of the tensor is another.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, fs, path::Path};

use safetensors::{Dtype, SafeTensors};
use sightline::{device::open as device, studies::verify::verify};

use crate::common::{copy_of_folder, references, rewrite};

/// What goes in: with it, what comes out changes as a whole.
const GIVEN: [&str; 3] = ["input_ids", "pixel_values", "image_grid_thw"];

fn own(tensor: &str) -> &str {
    tensor.split_once('/').unwrap().1
}

/// Changes one number of every tensor of one type that is compared, far beyond its tolerance. Their names.
fn tamper(dir: &Path, dtype: Dtype) -> BTreeSet<String> {
    let file = dir.join("reference.safetensors");
    let bytes = fs::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let of_type = stored.tensors().into_iter().filter(|(_, view)| view.dtype() == dtype);
    let names: BTreeSet<String> =
        of_type.map(|(name, _)| name).filter(|name| !GIVEN.contains(&own(name))).collect();
    rewrite(&file, |name, bytes| {
        if !names.contains(name) {
            return;
        }
        match dtype {
            Dtype::F32 => {
                let numbers = bytes.as_chunks_mut::<4>().0;
                let largest = numbers.iter().map(|b| f32::from_le_bytes(*b).abs()).fold(0.0, f32::max);
                let at = numbers.len() / 3;
                let value = f32::from_le_bytes(numbers[at]) + 0.01f32.max(largest / 50.0);
                numbers[at] = value.to_le_bytes();
            }
            _ => {
                let numbers = bytes.as_chunks_mut::<8>().0;
                let at = numbers.len() / 3;
                let value = i64::from_le_bytes(numbers[at]);
                numbers[at] = (if value > 0 { value - 1 } else { value + 1 }).to_le_bytes();
            }
        }
    });
    names
}

/// The tensors that a verification finds wrong, by case and name.
fn wrong(dir: &Path) -> BTreeSet<String> {
    let report = verify(dir, &device::cpu()).unwrap();
    let failed = report.checks.iter().filter(|check| !check.pass);
    let failed: BTreeSet<String> = failed.map(|check| format!("{}/{}", check.case, check.tensor)).collect();
    assert_eq!(report.pass, failed.is_empty());
    failed
}

#[test]
fn one_number_of_any_tensor_fails_by_its_name() {
    for folder in references() {
        let dir = copy_of_folder(&folder);
        let name = folder.display();
        let whole = fs::read(dir.path().join("reference.safetensors")).unwrap();
        assert_eq!(wrong(dir.path()), BTreeSet::new(), "{name}");
        for dtype in [Dtype::F32, Dtype::I64] {
            let changed = tamper(dir.path(), dtype);
            let failed = wrong(dir.path());
            let passed: Vec<_> = changed.difference(&failed).collect();
            assert!(passed.is_empty() && !changed.is_empty(), "{dtype:?}: {passed:?} passed: {name}");
            // And nothing else does, but what is compared with them.
            let others: Vec<_> = failed.difference(&changed).map(|t| own(t)).collect();
            let with_them = ["reference.json", "lens.top_ids", "lens_in.top_ids"];
            assert!(others.iter().all(|t| with_them.contains(t)), "{dtype:?}: {others:?}: {name}");
            fs::write(dir.path().join("reference.safetensors"), &whole).unwrap();
        }
    }
}

#[test]
fn another_number_that_goes_in_is_noticed_by_what_comes_out() {
    for folder in references() {
        let dir = copy_of_folder(&folder);
        let file = dir.path().join("reference.safetensors");
        let whole = fs::read(&file).unwrap();
        let name = folder.display();
        let change = |tensor: &str, of: &dyn Fn(&mut [u8])| -> Result<BTreeSet<String>, String> {
            fs::write(&file, &whole).unwrap();
            let names = SafeTensors::deserialize(&whole).unwrap();
            // Of the first case.
            let first = names.names().into_iter().filter(|name| own(name) == tensor).min().unwrap();
            rewrite(&file, |name, bytes| {
                if name == first {
                    of(bytes);
                }
            });
            let report = verify(dir.path(), &device::cpu()).map_err(|e| e.to_string())?;
            Ok(report.checks.into_iter().filter(|c| !c.pass).map(|c| c.tensor).collect())
        };
        let failed = change("input_ids", &|bytes| bytes[0] ^= 1).unwrap();
        assert!(failed.contains("hidden.0") && failed.contains("logits"), "{failed:?}: {name}");
        let failed = change("pixel_values", &|bytes| {
            let at = bytes.len() / 8 * 4;
            let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) + 3.0;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        });
        let failed = failed.unwrap();
        // Qwen's patches have two frames, of which a still image needs one.
        let noticed = ["image_embeds", "pixel_values"].iter().any(|tensor| failed.contains(*tensor));
        assert!(noticed, "{failed:?}: {name}");
        let stored = SafeTensors::deserialize(&whole).unwrap();
        if stored.names().iter().any(|tensor| own(tensor) == "image_grid_thw") {
            // Rows and columns change places; then there is one patch more than there are pixels of.
            let failed = change("image_grid_thw", &|bytes| bytes[8..24].rotate_left(8)).unwrap();
            for tensor in ["image_grid_thw", "image_embeds", "position_ids"] {
                assert!(failed.contains(tensor), "{tensor} is not in {failed:?}: {name}");
            }
            let refused = change("image_grid_thw", &|bytes| bytes[8] += 1).unwrap_err();
            assert!(refused.contains("image_grid_thw"), "{refused}: {name}");
        }
    }
}
