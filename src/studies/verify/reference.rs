//! The reference as it lies beside the model: reference.json and reference.safetensors.
//!
//! Names are `CASE/TENSOR`. Shapes are taken as they come: whoever compares a tensor knows its layout. Knows
//! nothing of models.

use std::{collections::BTreeMap, io, path::Path};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::{files::input, studies::verify::report::VerifyError};

/// reference.json.
#[derive(Deserialize)]
pub(super) struct Facts {
    pub(super) cases: BTreeMap<String, CaseFacts>,
}

/// What it says of one case.
#[derive(Deserialize)]
pub(super) struct CaseFacts {
    #[serde(rename = "T")]
    pub(super) prompt_len: usize,
    pub(super) visual_positions: Vec<usize>,
    pub(super) question_rows: Vec<usize>,
    pub(super) last_row: usize,
    /// Of each image: frames, patches down and across.
    pub(super) image_grid_thw: Option<Vec<[usize; 3]>>,
    /// The next position less the prompt's length.
    pub(super) rope_deltas: Option<i64>,
    pub(super) deepstack: Option<DeepstackFacts>,
    #[serde(rename = "gen")]
    pub(super) generation: GenFacts,
    pub(super) lens: Option<LensFacts>,
    #[serde(default)]
    pub(super) knockouts: BTreeMap<String, KnockoutFacts>,
    pub(super) ablate: Option<AblateFacts>,
}

/// Of its greedy answer.
#[derive(Deserialize)]
pub(super) struct GenFacts {
    pub(super) tokens: Vec<u32>,
    pub(super) min_top2_margin: Option<f64>,
}

/// Of its lens.
#[derive(Deserialize)]
pub(super) struct LensFacts {
    pub(super) min_gap_top6: Option<f64>,
}

/// Of one knockout; with `tokens` it is one of a whole generation.
#[derive(Deserialize)]
pub(super) struct KnockoutFacts {
    pub(super) rows: Vec<usize>,
    pub(super) keys: Vec<usize>,
    pub(super) layers: Vec<usize>,
    /// `None` means every head.
    pub(super) heads: Option<Vec<usize>>,
    pub(super) max_dlogit_last_row: Option<f64>,
    pub(super) tokens: Option<Vec<u32>>,
    pub(super) min_top2_margin: Option<f64>,
}

/// Of the features that are added after layers.
#[derive(Deserialize)]
pub(super) struct DeepstackFacts {
    pub(super) n: usize,
    pub(super) max_dlogit_last_row_if_left_out: Option<f64>,
}

/// Of the ablation.
#[derive(Deserialize)]
pub(super) struct AblateFacts {
    pub(super) positions: Vec<usize>,
    pub(super) max_dlogit_last_row: Option<f64>,
    /// Against the ablation that leaves them.
    pub(super) max_dlogit_if_deepstack_were_removed_too: Option<f64>,
}

/// Both reference files.
pub(super) struct Reference {
    pub(super) facts: Facts,
    pub(super) tensors: BTreeMap<String, Stored>,
}

/// One stored tensor, widened; ids are exact in float64.
pub(super) struct Stored {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// What is said where there is none.
const NO_REFERENCE: &str = "there is no such file. A reference is what transformers computes with this very model: \
                            tests/fixtures/make_reference.py of this program's sources writes it into the model's \
                            folder (reference.json and reference.safetensors)";

impl Reference {
    /// Reads both files whole.
    pub(super) fn open(dir: &Path) -> Result<Self, VerifyError> {
        if !dir.exists() {
            return Err(VerifyError::File { file: dir.to_path_buf(), why: "no such folder".to_string() });
        }
        let read = |name: &str| {
            let file = dir.join(name);
            input::read(&file).map_err(|e| {
                let why = match e.kind() {
                    io::ErrorKind::NotFound => NO_REFERENCE.to_string(),
                    _ => e.to_string(),
                };
                VerifyError::File { file: file.clone(), why }
            })
        };
        let bad = |name: &str, why: String| VerifyError::File { file: dir.join(name), why };
        let facts = serde_json::from_slice(&read("reference.json")?)
            .map_err(|e| bad("reference.json", format!("does not follow the format ({e})")))?;
        let bytes = read("reference.safetensors")?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| bad("reference.safetensors", format!("not a complete safetensors file ({e})")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
                Dtype::I64 => data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
                other => {
                    return Err(bad(
                        "reference.safetensors",
                        format!("`{name}` is {other:?}, expected F32 or I64"),
                    ));
                }
            };
            tensors.insert(name, Stored { shape: view.shape().to_vec(), values });
        }
        Ok(Reference { facts, tensors })
    }
}
