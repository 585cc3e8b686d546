//! The map of a selection: which numbers, over which patches, between which ends.
//!
//! Attention of what is looked at, or how it differs from that of another run; attention sinks left out where that is
//! asked for. Knows runs and geometry; draws nothing. Patches, ends and rows are kept until what they follow from
//! changes.

use std::{ops::Range, sync::Arc};

use crate::{
    trace::{
        geometry::{Geometry, View},
        palette::Colormap,
        pattern::PatternRow,
        sheet::Underlay,
        tokens::Cell,
    },
    ui::{
        store::{images::Held, run::Run, settings::ColorRange, store::Store},
        widgets::{
            heatmap::{Map, Patch},
            lattice::{Sight, shares},
        },
    },
    worker::protocol::{RunId, Slot},
};

/// Sets of patches and ends of colours that are kept: one a view of a tiled image, and some more.
const KEPT: usize = 64;

/// What is costly to remake every frame.
#[derive(Debug, Default)]
pub struct Kept {
    keys: Option<(RunId, Arc<[usize]>)>,
    patches: Vec<(PatchKey, Arc<[Patch]>)>,
    ends: Vec<Ends>,
    bare: Option<Bare>,
}

/// What patches follow from: the prompt, or none where they are numbered; the image; what is seen of it.
type PatchKey = (Option<RunId>, u64, Option<Sight>);

/// Smallest and largest number of a map, and what they were taken from.
#[derive(Debug)]
struct Ends {
    // Holds the row, so that no later one can lie at the same address and pass for it.
    row: Arc<Vec<f32>>,
    patches: Arc<[Patch]>,
    left_out: Vec<usize>,
    layers: Range<usize>,
    head: Option<usize>,
    ends: (f32, f32),
}

/// One layer of a row without its sinks, and what it was taken from.
#[derive(Debug)]
struct Bare {
    of: Arc<Vec<f32>>,
    layer: usize,
    left_out: Vec<usize>,
    row: PatternRow,
}

/// What the ends of the colours are taken from.
struct Scope<'a> {
    row: &'a PatternRow,
    patches: &'a Arc<[Patch]>,
    left_out: &'a [usize],
    layer: usize,
    head: Option<usize>,
}

impl Kept {
    /// The map of the selection over the source image, if there is one: attention, or a difference.
    pub fn map(&mut self, store: &Store) -> Option<Map> {
        let sight = Sight::of(store.map.views);
        self.map_of(store, sight, Some(sight))
    }

    /// The same over one view by itself. All views have one range: that of all their patches.
    pub fn view_map(&mut self, store: &Store, view: usize) -> Option<Map> {
        self.map_of(store, Sight::View(view), None)
    }

    /// The patches that are shown of a run's image, by absolute position; `None` where the prompt has other visual
    /// tokens.
    pub fn patches(&mut self, store: &Store, slot: Slot) -> Option<Arc<[Patch]>> {
        let run = store.runs.lane(slot).view()?;
        self.patches_of(run, store.image_of(slot)?, Some(Sight::of(store.map.views)))
    }

    /// The same patches by their number among the visual tokens of the image.
    pub fn numbered(&mut self, store: &Store, slot: Slot) -> Option<Arc<[Patch]>> {
        let held = store.image_of(slot)?;
        let sight = Sight::of(store.map.views);
        let geometry = &held.view.geometry;
        self.cached((None, held.serial, Some(sight)), || patches(geometry, Some(sight), Some))
    }

    fn map_of(&mut self, store: &Store, sight: Sight, ranged: Option<Sight>) -> Option<Map> {
        let subject = store.subject()?;
        let difference = store.difference();
        let row = difference.map_or(subject.pattern, |difference| &difference.pattern);
        let (layer, head) = store.selection.looked_at();
        if layer >= row.n_layers || head.is_some_and(|head| head >= row.n_heads) {
            return None;
        }
        let held = store.image_of(subject.slot)?;
        let patches = self.patches_of(subject.run, held, Some(sight))?;
        let all = self.patches_of(subject.run, held, ranged)?;
        let left_out = self.left_out(store, subject.slot, subject.run);
        let (low, high) = self.range(
            store.map.range,
            &Scope { row, patches: &all, left_out: &left_out, layer, head },
            difference.is_some(),
        );
        let (row, resident, layer) = match left_out.is_empty() {
            true if difference.is_some() => (row.clone(), None, layer),
            true => (row.clone(), subject.resident.cloned(), layer),
            false => (self.bare(row, layer, left_out), None, 0),
        };
        Some(Map {
            row,
            resident,
            patches,
            layer,
            head,
            range: (low, high),
            colormap: if difference.is_some() { Colormap::Diverging } else { store.map.colormap },
            gamma: store.map.gamma,
            smooth: store.map.smooth,
            opacity: opacity(store),
            uniform: difference.is_none().then_some(subject.uniform),
            slot: 0,
        })
    }

    fn patches_of(&mut self, run: &Run, held: &Held, sight: Option<Sight>) -> Option<Arc<[Patch]>> {
        let keys = self.keys(run);
        let geometry = &held.view.geometry;
        if keys.len() != geometry.n_tokens() {
            return None;
        }
        let key = |number: usize| keys.get(number).copied();
        self.cached((Some(run.id), held.serial, sight), || patches(geometry, sight, key))
    }

    /// Patches by what they follow from; `None` where there are none.
    fn cached(&mut self, key: PatchKey, make: impl FnOnce() -> Vec<Patch>) -> Option<Arc<[Patch]>> {
        if let Some((_, held)) = self.patches.iter().find(|(held, _)| *held == key) {
            return Some(held.clone());
        }
        let made: Arc<[Patch]> = make().into();
        if made.is_empty() {
            return None;
        }
        if self.patches.len() >= KEPT {
            self.patches.remove(0);
        }
        self.patches.push((key, made.clone()));
        Some(made)
    }

    /// Absolute positions of a run's visual tokens, by their number.
    fn keys(&mut self, run: &Run) -> Arc<[usize]> {
        match &self.keys {
            Some((id, keys)) if *id == run.id => keys.clone(),
            _ => {
                let keys: Arc<[usize]> = run.visual_keys().into();
                self.keys = Some((run.id, keys.clone()));
                keys
            }
        }
    }

    /// Positions that the map leaves out.
    fn left_out(&mut self, store: &Store, slot: Slot, run: &Run) -> Vec<usize> {
        if !store.map.without_sinks {
            return Vec::new();
        }
        let keys = self.keys(run);
        let sinks = store.sinks(slot).unwrap_or_default();
        sinks.iter().filter_map(|number| keys.get(*number).copied()).collect()
    }

    /// The numbers at the two ends of the colours.
    fn range(&mut self, chosen: ColorRange, scope: &Scope<'_>, signed: bool) -> (f32, f32) {
        let (low, high) = match chosen {
            ColorRange::Map => self.ends(scope, scope.layer..scope.layer + 1),
            ColorRange::Layers => (0.0, self.farthest(scope, signed)),
            ColorRange::Locked(high) => (0.0, high),
        };
        match signed {
            true => {
                let most = high.max(-low);
                (-most, most)
            }
            false => (low, high),
        }
    }

    /// The largest number of all layers, or the one farthest from 0.
    fn farthest(&mut self, scope: &Scope<'_>, signed: bool) -> f32 {
        let (low, high) = self.ends(scope, 0..scope.row.n_layers);
        if signed { high.max(-low) } else { high.max(0.0) }
    }

    /// Smallest and largest number of some layers.
    fn ends(&mut self, scope: &Scope<'_>, layers: Range<usize>) -> (f32, f32) {
        let same = |held: &Ends| {
            Arc::ptr_eq(&held.row, &scope.row.data)
                && Arc::ptr_eq(&held.patches, scope.patches)
                && (&held.layers, held.head) == (&layers, scope.head)
                && held.left_out == scope.left_out
        };
        if let Some(held) = self.ends.iter().find(|held| same(held)) {
            return held.ends;
        }
        let ends = extremes(scope, layers.clone());
        // Rows are large: those of one word are held, and of the one before.
        let new = Arc::as_ptr(&scope.row.data);
        let last = self.ends.last().map_or(new, |held| Arc::as_ptr(&held.row));
        self.ends.retain(|held| [last, new].contains(&Arc::as_ptr(&held.row)));
        if self.ends.len() >= KEPT {
            self.ends.remove(0);
        }
        self.ends.push(Ends {
            row: scope.row.data.clone(),
            patches: scope.patches.clone(),
            left_out: scope.left_out.to_vec(),
            layers,
            head: scope.head,
            ends,
        });
        ends
    }

    /// One layer of a row, with no number at the positions that are left out. The others stay as they are.
    fn bare(&mut self, row: &PatternRow, layer: usize, left_out: Vec<usize>) -> PatternRow {
        let same = |bare: &Bare| {
            Arc::ptr_eq(&bare.of, &row.data) && bare.layer == layer && bare.left_out == left_out
        };
        if let Some(bare) = self.bare.as_ref().filter(|bare| same(bare)) {
            return bare.row.clone();
        }
        let size = row.n_heads * row.n_keys;
        let mut data = row.data.get(layer * size..(layer + 1) * size).unwrap_or_default().to_vec();
        for head in data.chunks_exact_mut(row.n_keys.max(1)) {
            for key in &left_out {
                if let Some(value) = head.get_mut(*key) {
                    *value = f32::NAN;
                }
            }
        }
        let bare = PatternRow { n_layers: 1, data: Arc::new(data), ..row.clone() };
        self.bare = Some(Bare { of: row.data.clone(), layer, left_out, row: bare.clone() });
        bare
    }
}

/// A map of numbers that a study gave, one a visual token by its number.
pub fn of_values(
    values: Arc<Vec<f32>>,
    patches: Arc<[Patch]>,
    range: (f32, f32),
    colormap: Colormap,
    store: &Store,
) -> Map {
    Map {
        row: PatternRow { n_layers: 1, n_heads: 1, n_keys: values.len(), data: values },
        resident: None,
        patches,
        layer: 0,
        head: Some(0),
        range,
        colormap,
        gamma: store.map.gamma,
        smooth: store.map.smooth,
        opacity: opacity(store),
        uniform: None,
        slot: 0,
    }
}

fn opacity(store: &Store) -> f32 {
    if store.map.underlay == Underlay::Nothing { 1.0 } else { store.map.opacity }
}

/// The patches of all views that are seen, each by its key; of all views at all if `sight` is `None`. A class token
/// holds no part of the image and is none of them.
fn patches(geometry: &Geometry, sight: Option<Sight>, key: impl Fn(usize) -> Option<usize>) -> Vec<Patch> {
    let frame = sight.unwrap_or(Sight::Tiles).frame(geometry);
    let mut first = 0;
    let mut all = Vec::new();
    for (at, view) in geometry.views.iter().enumerate() {
        if sight.is_none_or(|sight| sight.shows(geometry, at)) {
            let grid = first + view.lead;
            let keys: Vec<usize> = (grid..grid + view.grid.len()).filter_map(&key).collect();
            all.extend(patches_of_view(view, &keys, frame));
        }
        first += view.lead + view.grid.len();
    }
    all
}

fn patches_of_view(view: &View, keys: &[usize], frame: [f32; 4]) -> Vec<Patch> {
    // Colours run from patch to patch only where the keys of a grid follow one another.
    let gapless = keys.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let grid = (view.grid.rows as u32, view.grid.cols as u32);
    let patch = |(cell, &key): (Cell, &usize)| {
        let Cell { row, col } = cell;
        let rect = shares(view.rect_of(cell), frame);
        match keys.first() {
            Some(&first) if gapless => Patch::in_grid(rect, key, (row as u32, col as u32), grid, first),
            _ => Patch::new(rect, key),
        }
    };
    view.grid.cells().zip(keys).map(patch).collect()
}

/// Smallest and largest number of some layers over the patches. Sums go over runs of keys, line by line: of a large
/// model there are millions of numbers.
fn extremes(scope: &Scope<'_>, layers: Range<usize>) -> (f32, f32) {
    let row = scope.row;
    let heads = scope.head.map_or(0..row.n_heads, |head| head..head + 1);
    let runs = runs(scope);
    let mut sums = vec![0.0f32; runs.iter().map(Range::len).sum()];
    let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
    for layer in layers {
        sums.fill(0.0);
        for head in heads.clone() {
            let at = (layer * row.n_heads + head) * row.n_keys;
            let mut rest = &mut sums[..];
            for run in &runs {
                let (sums, after) = std::mem::take(&mut rest).split_at_mut(run.len());
                rest = after;
                let line = row.data.get(at + run.start..at + run.end).unwrap_or_default();
                sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value);
            }
        }
        let n_heads = heads.len() as f32;
        for value in sums.iter().map(|sum| sum / n_heads) {
            (low, high) = (low.min(value), high.max(value));
        }
    }
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// The keys of the patches that are not left out, as runs.
fn runs(scope: &Scope<'_>) -> Vec<Range<usize>> {
    let keys = scope.patches.iter().map(|patch| patch.key as usize);
    let keys = keys.filter(|key| *key < scope.row.n_keys && !scope.left_out.contains(key));
    let mut runs: Vec<Range<usize>> = Vec::new();
    for key in keys {
        match runs.last_mut() {
            Some(run) if run.end == key => run.end += 1,
            _ => runs.push(key..key + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        trace::geometry::{Grid, Place},
        ui::widgets::heatmap::value,
    };

    fn geometry() -> Geometry {
        let view = |place, rect, lead| View { place, rect, grid: Grid { rows: 1, cols: 2 }, lead };
        let views = vec![
            view(Place::Tile { row: 0, col: 0 }, [0.0, 0.0, 20.0, 10.0], 0),
            view(Place::Tile { row: 0, col: 1 }, [20.0, 0.0, 40.0, 10.0], 0),
            view(Place::Whole, [0.0, 0.0, 40.0, 10.0], 1),
        ];
        Geometry { source: (40, 10), rows: 1, cols: 2, views }
    }

    fn keys(sight: Option<Sight>) -> Vec<u32> {
        patches(&geometry(), sight, |number| Some(number + 10)).iter().map(|patch| patch.key).collect()
    }

    #[test]
    fn patches_are_those_of_the_views_that_are_seen() {
        assert_eq!(keys(Some(Sight::Tiles)), [10, 11, 12, 13]);
        assert_eq!(keys(Some(Sight::Whole)), [15, 16], "the class token shows no patch");
        assert_eq!(keys(Some(Sight::View(1))), [12, 13]);
        assert_eq!(keys(None), [10, 11, 12, 13, 15, 16]);
        let rects = |sight| -> Vec<[f32; 4]> {
            patches(&geometry(), Some(sight), Some).iter().map(|patch| patch.rect).collect()
        };
        assert_eq!(rects(Sight::Tiles)[2], [0.5, 0.0, 0.75, 1.0]);
        assert_eq!(rects(Sight::View(1))[0], [0.0, 0.0, 0.5, 1.0], "a view by itself fills its picture");
    }

    #[test]
    fn ends_are_those_of_the_numbers_and_sinks_have_no_say() {
        let data: Vec<f32> = (0..3 * 2 * 20).map(|i| (i as f32 * 1.7).sin()).collect();
        let row = PatternRow { n_layers: 3, n_heads: 2, n_keys: 20, data: Arc::new(data) };
        let all: Arc<[Patch]> = patches(&geometry(), None, |number| Some(number + 10)).into();
        for (left_out, head) in [(vec![], None), (vec![12, 15], None), (vec![10], Some(1))] {
            let scope = Scope { row: &row, patches: &all, left_out: &left_out, layer: 1, head };
            let mut kept = Kept::default();
            let plain = |layers: Range<usize>| {
                let keys = [10, 11, 12, 13, 15, 16].into_iter().filter(|key| !left_out.contains(key));
                let values: Vec<f32> = keys
                    .flat_map(|key| layers.clone().map(move |layer| (layer, key)))
                    .map(|(layer, key)| value(&row, layer, head, key))
                    .collect();
                values
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(*v), high.max(*v)))
            };
            assert_eq!(kept.range(ColorRange::Map, &scope, false), plain(1..2));
            assert_eq!(kept.range(ColorRange::Layers, &scope, false), (0.0, plain(0..3).1.max(0.0)));
            let (low, high) = plain(0..3);
            let most = high.max(-low);
            assert_eq!(kept.range(ColorRange::Layers, &scope, true), (-most, most));
            assert_eq!(kept.range(ColorRange::Locked(0.2), &scope, true), (-0.2, 0.2));
        }
    }

    #[test]
    fn without_sinks_the_other_numbers_stay() {
        let data: Vec<f32> = (0..2 * 2 * 5).map(|i| i as f32).collect();
        let row = PatternRow { n_layers: 2, n_heads: 2, n_keys: 5, data: Arc::new(data) };
        let mut kept = Kept::default();
        let bare = kept.bare(&row, 1, vec![3]);
        for key in [0, 1, 2, 4] {
            assert_eq!(value(&bare, 0, None, key), value(&row, 1, None, key));
        }
        assert!(value(&bare, 0, None, 3).is_nan() && value(&bare, 0, Some(1), 3).is_nan());
        assert!(Arc::ptr_eq(&kept.bare(&row, 1, vec![3]).data, &bare.data), "made once");
    }
}
