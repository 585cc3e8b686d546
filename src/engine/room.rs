//! Whether a model fits into the memory that the machine has left, asked before its weights are read.
//!
//! Knows a model's sizes and what its weight files hold; nothing of runs, whose own memory `memory` tells.

use std::{env, fmt};

use crate::{
    checkpoint::weights::WeightDtype,
    device::{limits::largest_tensor, open::Compute, room},
    engine::{error::EngineError, folder::ModelFolder},
    spec::record::gigabytes,
};

/// The variable of the environment that, set to 1, has a model loaded whatever it needs.
pub const ANYWAY: &str = "SIGHTLINE_LOAD_ANYWAY";

/// Positions of a conversation that is counted in: a picture and some talk.
const POSITIONS: usize = 1024;

/// What a loaded model takes on the CPU, in bytes, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its weights.
    pub weights: u64,
    /// The largest of them once more, while it is laid as products read it.
    pub loading: u64,
    /// Keys and values of a short conversation.
    pub cache: u64,
    /// What a block of the decoder computes on, of all its rows.
    pub pass: u64,
}

impl Need {
    /// Of a model with its matrices in a format.
    pub fn of(folder: &ModelFolder, dtype: WeightDtype) -> Self {
        let (text, stock) = (folder.text(), &folder.inventory);
        let positions = POSITIONS.min(text.context) as u64;
        let half = match dtype {
            WeightDtype::F16 => true,
            WeightDtype::Auto => stock.formats().iter().eq([&WeightDtype::F16]),
            WeightDtype::F32 | WeightDtype::Bf16 => false,
        };
        let numbers = (text.n_layers * text.n_kv_heads * text.head_dim) as u64;
        // Queries, keys, values, what attention mixed, the residual stream and its norm; gate and up.
        let row = 6 * text.width + 2 * text.intermediate;
        Need {
            weights: stock.bytes(dtype),
            loading: stock.largest * dtype.bytes(),
            // With room for half as many again.
            cache: 3 * numbers * positions * if half { 2 } else { 4 },
            pass: 4 * row as u64 * positions,
        }
    }

    /// The most at a time.
    pub fn total(&self) -> u64 {
        self.weights + self.loading.max(self.cache + self.pass)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [weights, loading, cache, pass, total] =
            [self.weights, self.loading, self.cache, self.pass, self.total()].map(gigabytes);
        write!(
            f,
            "{total} (weights {weights}, the largest of them once more while loading {loading}, or then keys and \
             values {cache} and a pass {pass})"
        )
    }
}

/// Refuses a model that needs more memory than is left, where that is known: on the CPU, on Linux.
///
/// # Errors
/// [`EngineError::Memory`].
pub fn fits(folder: &ModelFolder, compute: &Compute, dtype: WeightDtype) -> Result<(), EngineError> {
    if env::var_os(ANYWAY).is_some_and(|set| set == "1") || largest_tensor(&compute.device).is_some() {
        return Ok(());
    }
    let need = Need::of(folder, dtype);
    match room::left() {
        Some(left) if need.total() > left => Err(EngineError::Memory {
            dir: folder.dir.clone(),
            dtype: dtype.name(),
            need: need.to_string(),
            left: gigabytes(left),
            advice: advice(folder, need),
        }),
        _ => Ok(()),
    }
}

/// Formats that need less.
fn advice(folder: &ModelFolder, need: Need) -> String {
    let other = |dtype: WeightDtype| {
        let total = Need::of(folder, dtype).total();
        (total < need.total()).then(|| format!("--dtype {} needs {}", dtype.typed(), gigabytes(total)))
    };
    let others: Vec<String> = [WeightDtype::F16, WeightDtype::Bf16].into_iter().filter_map(other).collect();
    match others.is_empty() {
        true => "take a smaller model, or end other programs".to_string(),
        false => format!("{}; or take a smaller model, or end other programs", others.join(", ")),
    }
}
