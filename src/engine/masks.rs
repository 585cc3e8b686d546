//! From resolved knockouts to what one forward pass blocks, and the count of what they cut.
//!
//! The one place where spans' positions meet the model's hooks. A pair that causality forbids anyway
//! is not counted and not refused.

use std::sync::Arc;

use crate::{
    model::hooks::Blocked,
    spec::knockout::{Cut, KnockoutError},
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

/// Per layer, for [`crate::model::hooks::Hooks::blocked`]: what the cuts block in a pass over rows
/// `first..first + rows`, with keys `0..first + rows`. Tags are places in `cuts`; a cut that touches no
/// pair of these rows leaves nothing behind.
pub fn for_pass(cuts: &[Cut], first: usize, rows: usize, n_layers: usize) -> Vec<Vec<Arc<Blocked>>> {
    let mut blocked = vec![Vec::new(); n_layers];
    for (tag, cut) in cuts.iter().enumerate() {
        if pairs(cut, first..first + rows) == 0 || !cut.heads.contains(&true) {
            continue;
        }
        let here = Arc::new(Blocked {
            tag,
            rows: (first..first + rows).map(|r| cut.rows.contains(r)).collect(),
            keys: (0..first + rows).map(|k| cut.keys.contains(k)).collect(),
            heads: cut.heads.clone(),
        });
        for layer in (0..n_layers).filter(|&l| cut.layers[l]) {
            blocked[layer].push(here.clone());
        }
    }
    blocked
}

/// How many (query, key) pairs of these rows causality allows and the cut blocks, in one of its layers;
/// a pair counts once however many heads are cut.
pub fn pairs(cut: &Cut, rows: std::ops::Range<usize>) -> u64 {
    let mut keys = (0..rows.start).filter(|&k| cut.keys.contains(k)).count() as u64;
    let mut pairs = 0;
    for row in rows {
        keys += u64::from(cut.keys.contains(row));
        pairs += if cut.rows.contains(row) { keys } else { 0 };
    }
    pairs
}

/// The first row of `0..n_rows` that loses a pair, if any does.
pub fn first_row(cut: &Cut, n_rows: usize) -> Option<usize> {
    let first_key = (0..n_rows).find(|&k| cut.keys.contains(k))?;
    (first_key..n_rows).find(|&r| cut.rows.contains(r))
}
