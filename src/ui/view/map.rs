//! The map of a selection: which numbers, over which patches, between which ends.
//!
//! Knows runs and geometry; draws nothing. Patches and ends are kept until what they follow from changes.

use std::sync::Arc;

use crate::{
    trace::pattern::PatternRow,
    ui::{
        store::{
            run::Run,
            settings::{ColorRange, Underlay},
            store::Store,
        },
        widgets::heatmap::{self, Map, Patch},
    },
    worker::protocol::{ImageView, RunId, Slot},
};

/// What is costly to remake every frame.
#[derive(Default)]
pub struct Kept {
    patches: Option<(PatchKey, Arc<[Patch]>)>,
    ends: Option<Ends>,
}

/// What patches follow from: the image, the prompt, and which view of a tiled image is shown.
type PatchKey = (u64, RunId, bool);

/// Smallest and largest value of a map, and what they were taken from.
struct Ends {
    // Holds the row, so that no later one can lie at the same address and pass for it.
    row: Arc<Vec<f32>>,
    patches: Arc<[Patch]>,
    /// `None`: of all layers.
    layer: Option<usize>,
    head: Option<usize>,
    range: (f32, f32),
}

impl Kept {
    /// The map of the selection, if there is one.
    pub fn map(&mut self, store: &Store, slot: Slot, token: Option<usize>, view: &ImageView) -> Option<Map> {
        let lane = store.runs.lane(slot);
        let (row, resident, uniform) = match token {
            Some(at) => {
                let (row, _) = lane.row(at)?;
                (row.pattern.clone(), row.resident.clone(), row.pattern.uniform())
            }
            None => {
                let mean = lane.mean()?;
                (mean.pattern.clone()?, None, mean.uniform)
            }
        };
        let (layer, head) = (store.selection.layer, store.selection.head);
        if layer >= row.n_layers || head.is_some_and(|h| h >= row.n_heads) {
            return None;
        }
        let patches = self.patches(store, lane.view()?, view)?;
        let range = match store.map.range {
            ColorRange::Map => self.ends(&row, &patches, Some(layer), head),
            ColorRange::Layers => self.ends(&row, &patches, None, head),
            ColorRange::Locked(high) => (0.0, high),
        };
        Some(Map {
            row,
            resident,
            patches,
            layer,
            head,
            range,
            colormap: store.map.colormap,
            gamma: 1.0,
            smooth: false,
            opacity: if store.map.underlay == Underlay::Nothing { 1.0 } else { store.map.opacity },
            uniform: Some(uniform),
            slot: 0,
        })
    }

    /// The patches of the image that are coloured; `None` where the prompt has other visual tokens.
    fn patches(&mut self, store: &Store, run: &Run, view: &ImageView) -> Option<Arc<[Patch]>> {
        let key = (store.images.serial(), run.id, store.map.tiles);
        if let Some((held, patches)) = &self.patches
            && *held == key
        {
            return Some(patches.clone());
        }
        let keys = run.visual_keys();
        let all = view.geometry.patches();
        if keys.len() != all.len() {
            return None;
        }
        let (w, h) = view.geometry.source;
        let (w, h) = (w as f32, h as f32);
        let tiled = view.geometry.is_tiled();
        let patches: Arc<[Patch]> = keys
            .iter()
            .zip(&all)
            // A class token holds no part of the image: its rectangle is empty.
            .filter(|(_, patch)| patch.rect[0] < patch.rect[2] && (!tiled || patch.whole != store.map.tiles))
            .map(|(&key, patch)| {
                let [x0, y0, x1, y1] = patch.rect;
                Patch::new([x0 / w, y0 / h, x1 / w, y1 / h], key)
            })
            .collect();
        if patches.is_empty() {
            return None;
        }
        self.patches = Some((key, patches.clone()));
        Some(patches)
    }

    /// Values at the two ends of the colour map: of one layer, or from 0 to the largest of all layers.
    fn ends(
        &mut self,
        row: &PatternRow,
        patches: &Arc<[Patch]>,
        layer: Option<usize>,
        head: Option<usize>,
    ) -> (f32, f32) {
        let same = |ends: &Ends| {
            Arc::ptr_eq(&ends.row, &row.data)
                && Arc::ptr_eq(&ends.patches, patches)
                && (ends.layer, ends.head) == (layer, head)
        };
        if let Some(ends) = self.ends.as_ref().filter(|ends| same(ends)) {
            return ends.range;
        }
        let layers = layer.map_or(0..row.n_layers, |layer| layer..layer + 1);
        let (low, high) = layers
            .flat_map(|layer| patches.iter().map(move |p| (layer, p.key as usize)))
            .map(|(layer, key)| heatmap::value(row, layer, head, key))
            .fold((f32::INFINITY, 0.0f32), |(low, high), v| (low.min(v), high.max(v)));
        let range = if layer.is_some() { (low, high) } else { (0.0, high) };
        self.ends = Some(Ends { row: row.data.clone(), patches: patches.clone(), layer, head, range });
        range
    }
}
