//! What words are tinted by: their attention to patches, what a cut does to them, how undecided the model was.
//!
//! Attention to patches is taken once for every change of patches, layer and head. Knows runs; draws nothing.

use std::collections::BTreeSet;

use crate::{
    trace::pattern::PatternRow,
    ui::{
        store::{images::Held, lane::Lane, settings::Tint, store::Store},
        widgets::number,
    },
    worker::protocol::{RunId, Slot},
};

/// The change of log probability, in nats, at which bars and tints are full.
pub const FULL_CHANGE: f32 = 4.0;

/// The entropy, in nats, at which a tint is full.
pub const FULL_ENTROPY: f32 = 3.0;

/// What a run's words are: the run under way and the complete one, each with its tokens.
pub type Source = [Option<(RunId, usize)>; 2];

/// Names what a lane shows.
pub fn source(lane: Lane<'_>) -> Source {
    [lane.running, lane.done].map(|run| run.map(|run| (run.id, run.answer.len())))
}

/// Runs, layer and head, and patches.
type LooksOf = (Source, (usize, Option<usize>), BTreeSet<usize>);

/// How much every word looked at some patches.
#[derive(Debug, Default)]
pub struct Looks {
    /// What they were taken from.
    key: Option<LooksOf>,
    /// One an answer token.
    shares: Vec<f32>,
}

impl Looks {
    /// Follows patches, layer and head; costs nothing where they are what they were.
    pub fn follow(&mut self, store: &Store, slot: Slot) {
        let lane = store.runs.lane(slot);
        let patches = patches(store).filter(|_| same_image(store, slot));
        let Some(patches) = patches.filter(|patches| !patches.is_empty()) else {
            (self.key, self.shares) = (None, Vec::new());
            return;
        };
        let (source, at) = (source(lane), store.selection.looked_at());
        let same = |(s, a, p): &(Source, (usize, Option<usize>), BTreeSet<usize>)| {
            *s == source && *a == at && *p == patches
        };
        if self.key.as_ref().is_some_and(same) {
            return;
        }
        let all = lane.view().map(|run| run.visual_keys()).unwrap_or_default();
        let keys: Vec<usize> = patches.iter().filter_map(|&patch| all.get(patch).copied()).collect();
        let share = |token| lane.row(token).map_or(0.0, |(row, _)| share_on(&row.pattern, at, &keys));
        self.shares = (0..lane.tokens().len()).map(share).collect();
        self.key = Some((source, at, patches));
    }

    /// The share of a token; `None` where no patches are asked about.
    pub fn of(&self, token: usize) -> Option<f32> {
        self.shares.get(token).copied()
    }

    /// The token with the largest share.
    pub fn highest(&self) -> Option<(usize, f32)> {
        let all = self.shares.iter().copied().enumerate();
        all.max_by(|(_, a), (_, b)| a.total_cmp(b)).filter(|(_, share)| *share > 0.0)
    }
}

/// The patches that words are tinted by: that under the pointer, else those that are locked.
pub fn patches(store: &Store) -> Option<BTreeSet<usize>> {
    let locked = &store.selection.patches;
    match store.selection.patch {
        Some(patch) => Some(BTreeSet::from([patch])),
        None if store.tint == Tint::Attention && !locked.is_empty() => Some(locked.clone()),
        None => None,
    }
}

/// Whether a run is about the image on show, which patches are of.
fn same_image(store: &Store, slot: Slot) -> bool {
    let serial = |held: Option<&Held>| held.map(|held| held.serial);
    serial(store.image_of(slot)) == serial(store.image_shown())
}

/// The attention of one row to some keys together, of a head or of the mean of all.
pub fn share_on(row: &PatternRow, (layer, head): (usize, Option<usize>), keys: &[usize]) -> f32 {
    if layer >= row.n_layers {
        return 0.0;
    }
    let of = |head: usize| -> f32 {
        let values = row.head(layer, head);
        keys.iter().filter_map(|&key| values.get(key)).sum()
    };
    match head.filter(|&head| head < row.n_heads) {
        Some(head) => of(head),
        None => (0..row.n_heads).map(of).sum::<f32>() / row.n_heads.max(1) as f32,
    }
}

/// "layer 3, mean of heads".
pub fn place(store: &Store) -> String {
    format!("layer {}, {}", store.selection.looked_at().0, store.selection.head_name())
}

/// What stripe and tint stand for, in words. `highest`: of the words' shares on patches. `bars`: the run whose effect
/// stands under the words, if one does.
pub fn legend(store: &Store, highest: Option<f32>, bars: Option<&str>) -> String {
    let mut parts = Vec::new();
    if store.tint == Tint::Attention {
        parts.push(format!("stripe: attention to the image, {}", place(store)));
    }
    if let Some(what) = on_patches(store) {
        let full = highest.map_or("none".to_string(), |high| format!("full at {}", number::short(high)));
        parts.push(format!("tint: attention to {what}, {full}"));
    } else {
        match store.tint {
            Tint::Change if bars.is_none() => {
                parts.push("tint: change of log probability; nothing is cut".into())
            }
            Tint::Change => {
                parts.push(format!("tint: change of log probability, full at {FULL_CHANGE} nats"))
            }
            Tint::Entropy => {
                parts.push(format!("tint: entropy of what the model would say, full at {FULL_ENTROPY} nats"))
            }
            Tint::Attention | Tint::Nothing => {}
        }
    }
    if let Some(run) = bars {
        parts.push(format!("bars: change of log probability under {run}, full at {FULL_CHANGE} nats"));
    }
    parts.join("; ")
}

/// The patches, in words.
fn on_patches(store: &Store) -> Option<String> {
    if let Some(patch) = store.selection.patch {
        return Some(format!("patch {patch}"));
    }
    Some(match patches(store)?.len() {
        1 => "the locked patch".to_string(),
        n => format!("{n} locked patches"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_share_is_of_one_head_or_of_their_mean() {
        // Two layers, two heads, three keys.
        let data = vec![0.1, 0.2, 0.7, 0.5, 0.3, 0.2, 0.0, 0.0, 1.0, 0.4, 0.4, 0.2];
        let row = PatternRow { n_layers: 2, n_heads: 2, n_keys: 3, data: Arc::new(data) };
        let share = |at, keys: &[usize]| (share_on(&row, at, keys) * 1000.0).round() / 1000.0;
        assert_eq!(share((0, Some(1)), &[0, 1]), 0.8);
        assert_eq!(share((0, None), &[0, 1]), 0.55);
        assert_eq!(share((1, None), &[2]), 0.6);
        assert_eq!(share((1, Some(9)), &[2]), 0.6, "no such head: their mean");
        assert_eq!((share((2, None), &[0]), share((0, None), &[7])), (0.0, 0.0));
    }

    #[test]
    fn the_legend_names_both_states_of_attention() {
        let mut store = Store::default();
        assert_eq!(legend(&store, None, None), "stripe: attention to the image, layer 0, mean of heads");
        store.selection.patches = BTreeSet::from([3, 4]);
        let both = legend(&store, Some(0.25), None);
        assert!(both.contains("stripe: attention to the image"), "{both}");
        assert!(both.ends_with("tint: attention to 2 locked patches, full at 0.250"), "{both}");
        store.tint = Tint::Entropy;
        assert!(
            legend(&store, None, None).starts_with("tint: entropy"),
            "locked patches tint attention alone"
        );
        store.selection.patch = Some(7);
        assert_eq!(legend(&store, None, None), "tint: attention to patch 7, none");
        (store.tint, store.selection.patch) = (Tint::Change, None);
        assert!(legend(&store, None, None).contains("nothing is cut"));
        assert!(legend(&store, None, Some("B")).contains("under B, full at 4 nats"));
    }
}
