//! From resolved knockouts to the boolean masks of one forward pass, and the count of what they cut.
//!
//! The one place where spans' positions meet the model's hooks. Masks are `[1 or heads, rows, keys]`,
//! true where blocked; a pair that causality forbids anyway is not counted and not refused.

use burn::tensor::{Device, Tensor, TensorData};

use crate::{
    knockout::{Cut, KnockoutError},
    model::hooks::Blocked,
};

/// Refuses cuts that would leave a row of the run without any key.
///
/// Rows `0..n_rows` are checked, every one over the keys up to itself.
///
/// # Errors
/// [`KnockoutError::NothingLeft`], naming the first such row, layer and head.
pub fn check_something_left(
    cuts: &[Cut],
    n_rows: usize,
    n_layers: usize,
    n_heads: usize,
) -> Result<(), KnockoutError> {
    for layer in 0..n_layers {
        let here: Vec<&Cut> = cuts.iter().filter(|c| c.layers[layer]).collect();
        // Layers cut alike need one check.
        let like_before = layer > 0 && cuts.iter().all(|c| c.layers[layer] == c.layers[layer - 1]);
        if here.is_empty() || like_before {
            continue;
        }
        let heads = if here.iter().all(|c| c.every_head()) { 1 } else { n_heads };
        for row in 0..n_rows {
            let in_row: Vec<&&Cut> = here.iter().filter(|c| c.rows.contains(row)).collect();
            if in_row.is_empty() {
                continue;
            }
            for head in 0..heads {
                let cut = |key: usize| in_row.iter().any(|c| c.heads[head] && c.keys.contains(key));
                if (0..=row).all(cut) {
                    return Err(KnockoutError::NothingLeft { row, layer, head });
                }
            }
        }
    }
    Ok(())
}

/// The masks of one pass over rows `first..first + rows`, with keys `0..first + rows`.
pub struct PassMasks {
    /// Per layer, for [`crate::model::hooks::Hooks::blocked`]; tags are places in `cuts`.
    pub blocked: Vec<Vec<Blocked>>,
    /// Per cut: (query, key) pairs that causality allowed and the cut blocks, in one layer.
    pub pairs: Vec<u64>,
}

/// Builds the masks; cuts that touch no pair of these rows leave none behind.
pub fn for_pass(
    cuts: &[Cut],
    first: usize,
    rows: usize,
    n_layers: usize,
    n_heads: usize,
    device: &Device,
) -> PassMasks {
    let keys = first + rows;
    let mut blocked: Vec<Vec<Blocked>> = vec![Vec::new(); n_layers];
    let mut pairs = vec![0; cuts.len()];
    for (tag, cut) in cuts.iter().enumerate() {
        let is_key: Vec<bool> = (0..keys).map(|k| cut.keys.contains(k)).collect();
        let mut plane = vec![false; rows * keys];
        for row in (0..rows).filter(|&r| cut.rows.contains(first + r)) {
            let seen = first + row + 1;
            plane[row * keys..row * keys + seen].copy_from_slice(&is_key[..seen]);
        }
        pairs[tag] = plane.iter().filter(|&&b| b).count() as u64;
        if pairs[tag] == 0 || !cut.heads.contains(&true) {
            continue;
        }
        let mask = if cut.every_head() {
            TensorData::new(plane, [1, rows, keys])
        } else {
            let planes = cut.heads.iter().flat_map(|&head| plane.iter().map(move |&b| b && head));
            TensorData::new(planes.collect::<Vec<bool>>(), [n_heads, rows, keys])
        };
        let mask: Tensor<3, burn::tensor::Bool> = Tensor::from_data(mask, device);
        for layer in (0..n_layers).filter(|&l| cut.layers[l]) {
            blocked[layer].push(Blocked { tag, mask: mask.clone() });
        }
    }
    PassMasks { blocked, pairs }
}
