//! Where a visual token lies: of a picture that is dark but for one bright square, the token that is said to show the
//! square is the one that the square changes, and no other. In the pixels that enter the encoder, and in what leaves an
//! encoder whose patches do not see each other. And the cells of a grid cover what is seen, each pixel once.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    ops::{Range, RangeInclusive},
    path::Path,
};

use image::{Rgb, RgbImage};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sightline::{
    engine::{decoding::host, folder::ModelFolder, load::Engine, see::Seen},
    image::plan::{Input, Processed},
    progress::Cancel,
    trace::{
        geometry::{Geometry, Grid, Piece, Place, Stretch, View},
        tokens::Cell,
    },
};
use tempfile::TempDir;

use crate::common::{
    load,
    models::{every_family, padded_llava_like},
    rewrite,
};

/// Every family, and a view that is padded.
fn models() -> Vec<TempDir> {
    every_family().into_iter().chain([padded_llava_like()]).collect()
}

/// A dark picture with one bright rectangle, `[x0, y0, x1, y1]`.
fn picture(size: (u32, u32), bright: [u32; 4]) -> RgbImage {
    let [x0, y0, x1, y1] = bright;
    RgbImage::from_fn(size.0, size.1, |x, y| {
        let inside = (x0..x1).contains(&x) && (y0..y1).contains(&y);
        Rgb([if inside { 255 } else { 0 }; 3])
    })
}

/// The middle third of a patch in whole pixels; `None` where it is not all on the picture.
fn middle(rect: [f32; 4], size: (u32, u32)) -> Option<[u32; 4]> {
    let [x0, y0, x1, y1] = rect;
    let third = |from: f32, to: f32, side: u32| {
        let (a, b) = (from + (to - from) / 3.0, to - (to - from) / 3.0);
        let (a, b) = (a.ceil(), b.floor().max(a.ceil() + 1.0));
        (a >= 0.0 && b <= side as f32).then_some((a as u32, b as u32))
    };
    let ((x0, x1), (y0, y1)) = (third(x0, x1, size.0)?, third(y0, y1, size.1)?);
    Some([x0, y0, x1, y1])
}

/// By how much every cell of a view changed between two pictures, all its pixels together.
fn changes(dark: &Input, bright: &Input, grid: Grid) -> Vec<f32> {
    assert_eq!(dark.size, bright.size);
    let (width, height) = (dark.size.0 as usize, dark.size.1 as usize);
    assert_eq!((width % grid.cols, height % grid.rows), (0, 0), "a cell is a whole number of pixels");
    let mut changes = vec![0.0; grid.len()];
    for (at, (a, b)) in dark.pixels.iter().zip(&bright.pixels).enumerate() {
        let (y, x) = (at / width % height, at % width);
        changes[y / (height / grid.rows) * grid.cols + x / (width / grid.cols)] += (a - b).abs();
    }
    changes
}

/// The visual tokens, of all views in order, whose pixels changed.
fn changed(dark: &Processed, bright: &Processed) -> BTreeSet<usize> {
    let (mut tokens, mut first) = (BTreeSet::new(), 0);
    for (at, view) in dark.geometry.views.iter().enumerate() {
        first += view.lead;
        let found = changes(&dark.inputs[at], &bright.inputs[at], view.grid);
        tokens.extend((0..found.len()).filter(|&cell| found[cell] > 0.0).map(|cell| first + cell));
        first += view.grid.len();
    }
    tokens
}

/// The cell of a view that holds a point of the picture, if the view does.
fn under(view: &View, x: f32, y: f32) -> Option<usize> {
    let holds = |rect: [f32; 4]| (rect[0]..rect[2]).contains(&x) && (rect[1]..rect[3]).contains(&y);
    let found: Vec<usize> = (view.grid.cells().enumerate())
        .filter(|(_, cell)| holds(view.rect_of(*cell)))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(found.len(), usize::from(holds(view.rect)), "({x}, {y}) in {view:?}");
    found.first().copied()
}

/// Lights every patch of every view in turn. `exact`: no resampling reaches beyond a patch whose middle is lit.
fn light_every_patch(dir: &Path, size: (u32, u32), exact: bool) {
    let folder = ModelFolder::open(dir).unwrap();
    let name = &folder.family.config().model_type;
    let dark = folder.process(&picture(size, [0; 4])).unwrap();
    let mut lit = 0;
    let patches = dark.geometry.views.iter().enumerate();
    for (v, view, cell) in patches.flat_map(|(v, view)| view.grid.cells().map(move |cell| (v, view, cell))) {
        let Some(square) = middle(view.rect_of(cell), size) else { continue };
        let bright = folder.process(&picture(size, square)).unwrap();
        let what = format!("{name}, {size:?}, view {v}, {cell:?}, lit {square:?}");
        assert_eq!(bright.geometry, dark.geometry, "{what}");
        let found = changes(&dark.inputs[v], &bright.inputs[v], view.grid);
        let at = cell.row * view.grid.cols + cell.col;
        let most = (0..found.len()).max_by(|&a, &b| found[a].total_cmp(&found[b]));
        assert_eq!(most, Some(at), "{what}: {found:?}");
        let only = found.iter().filter(|change| **change > 0.0).count() == 1;
        assert!(only || !exact, "{what}: {found:?}");
        // Other views show the square too, where they say so.
        let [x, y] = [0, 1].map(|side| (square[side] + square[side + 2]) as f32 / 2.0);
        for (w, other) in dark.geometry.views.iter().enumerate() {
            let Some(there) = under(other, x, y) else { continue };
            let found = changes(&dark.inputs[w], &bright.inputs[w], other.grid);
            assert!(found[there] > 0.0 && (w != v || there == at), "{what}: view {w}, {found:?}");
        }
        lit += 1;
    }
    assert!(lit > 3, "{name}, {size:?}: {lit} patches lit");
}

#[test]
fn a_bright_square_is_in_the_pixels_of_its_token_and_of_no_other() {
    for dir in models() {
        let name = ModelFolder::open(dir.path()).unwrap().family.config().model_type.clone();
        for size in [(384, 192), (192, 384), (300, 300)] {
            light_every_patch(dir.path(), size, true);
        }
        // Idefics3 resizes these twice, once to more pixels: a square's edge reaches further then.
        let once = name != "idefics3";
        for size in [(301, 203), (170, 401), (720, 120)] {
            light_every_patch(dir.path(), size, once);
        }
    }
}

/// Whether a weight is what a layer of a vision tower multiplies its attention with at the end.
fn gathers(name: &str) -> bool {
    let of = [".self_attn.out_proj.", ".attention.projection_layer.", ".attn.proj."];
    (name.contains("vision") || name.contains("visual"))
        && name.ends_with(".weight")
        && of.iter().any(|part| name.contains(part))
}

/// The rows of `[rows, width]` that differ.
fn rows_apart(dark: &Seen, bright: &Seen) -> BTreeSet<usize> {
    let width = dark.embeds.dims()[1];
    let [a, b] = [dark, bright].map(|seen| host(seen.embeds.clone()).unwrap());
    assert!(a.iter().chain(&b).all(|v| v.is_finite()));
    let apart = a.chunks(width).zip(b.chunks(width)).enumerate().filter(|(_, (a, b))| a != b);
    apart.map(|(row, _)| row).collect()
}

fn seen(engine: &Engine, processed: &Processed) -> Seen {
    engine.see(processed, &Cancel::default(), &mut |_| {}).unwrap()
}

#[test]
fn a_bright_square_changes_the_embedding_of_its_token_and_of_no_other() {
    for dir in models() {
        // Patches that do not see each other: what a token becomes is of its own pixels alone.
        let mut silenced = 0;
        rewrite(&dir.path().join("model.safetensors"), |name, bytes| {
            if gathers(name) {
                bytes.fill(0);
                silenced += 1;
            }
        });
        let engine = load(dir.path());
        let name = &engine.info.family;
        assert_eq!(silenced, engine.vlm.encoder.n_layers(), "{name}");
        let size = (330, 210);
        let dark = engine.folder.process(&picture(size, [0; 4])).unwrap();
        let before = seen(&engine, &dark);
        let patches = before.geometry.patches();
        assert_eq!(before.embeds.dims()[0], patches.len());
        for at in (0..patches.len()).step_by(patches.len().div_ceil(12)).chain([patches.len() - 1]) {
            let patch = patches[at];
            let empty = patch.rect == [0.0; 4];
            let Some(square) = middle(patch.rect, size).filter(|_| !empty) else { continue };
            let bright = engine.folder.process(&picture(size, square)).unwrap();
            let after = seen(&engine, &bright);
            let tokens = changed(&dark, &bright);
            assert!(tokens.contains(&at), "{name}: token {at}, lit {square:?}, pixels of {tokens:?}");
            assert_eq!(rows_apart(&before, &after), tokens, "{name}: token {at}, lit {square:?}");
            for ((layer, a), (_, b)) in before.added.iter().zip(&after.added) {
                let [a, b] = [a, b].map(|t| Seen { embeds: t.clone(), ..before.clone() });
                assert_eq!(rows_apart(&a, &b), tokens, "{name}: added after layer {layer}");
            }
        }
    }
}

/// Edges of cells or tiles along one side: each ends where the next begins.
fn adjoin(name: &str, edges: &[Range<f32>], all: Range<f32>) {
    assert_eq!((edges[0].start, edges[edges.len() - 1].end), (all.start, all.end), "{name}");
    assert!(edges.windows(2).all(|pair| pair[0].end == pair[1].start), "{name}: {edges:?}");
    assert!(edges.iter().all(|edge| edge.start < edge.end), "{name}: {edges:?}");
}

/// Every pixel that a view shows belongs to its columns, or rows, once in all.
fn share_out(name: &str, edges: &[Range<f32>], side: u32) {
    let mut of = vec![0.0f64; side as usize];
    for edge in edges {
        let stretch = Stretch::new(edge.start, edge.end, side);
        stretch.pixels().for_each(|pixel| of[pixel as usize] += stretch.of(pixel));
    }
    let (from, to) = (edges[0].start.max(0.0), edges[edges.len() - 1].end.min(side as f32));
    for (pixel, found) in of.iter().enumerate() {
        let shown = ((pixel + 1) as f32).min(to) - (pixel as f32).max(from);
        assert!((found - f64::from(shown.max(0.0))).abs() < 1e-3, "{name}: pixel {pixel} of {side}: {found}");
    }
}

/// One view: its cells cover its rectangle.
fn covered(name: &str, view: &View, source: (u32, u32)) {
    let rect = |row, col| view.rect_of(Cell { row, col });
    let across: Vec<_> = (0..view.grid.cols).map(|col| rect(0, col)).map(|r| r[0]..r[2]).collect();
    let down: Vec<_> = (0..view.grid.rows).map(|row| rect(row, 0)).map(|r| r[1]..r[3]).collect();
    adjoin(name, &across, view.rect[0]..view.rect[2]);
    adjoin(name, &down, view.rect[1]..view.rect[3]);
    share_out(name, &across, source.0);
    share_out(name, &down, source.1);
    for cell in view.grid.cells() {
        let (x, y) = (across[cell.col].clone(), down[cell.row].clone());
        assert_eq!(rect(cell.row, cell.col), [x.start, y.start, x.end, y.end], "{name}");
    }
}

/// All views: tiles adjoin and cover the picture, row by row; so does the view of the whole beside them.
fn laid_out(name: &str, geometry: &Geometry) {
    let (width, height) = (geometry.source.0 as f32, geometry.source.1 as f32);
    let views = &geometry.views;
    views.iter().for_each(|view| covered(name, view, geometry.source));
    let tiles = geometry.rows * geometry.cols;
    for (at, view) in views[..tiles].iter().enumerate() {
        assert_eq!(view.place, Place::Tile { row: at / geometry.cols, col: at % geometry.cols }, "{name}");
        assert_eq!(view.grid, views[0].grid, "{name}");
    }
    if tiles > 0 {
        let across: Vec<_> = (0..geometry.cols).map(|c| views[c].rect).map(|r| r[0]..r[2]).collect();
        let down: Vec<_> =
            (0..geometry.rows).map(|r| views[r * geometry.cols].rect).map(|r| r[1]..r[3]).collect();
        adjoin(name, &across, 0.0..width);
        adjoin(name, &down, 0.0..height);
    }
    for view in &views[tiles..] {
        assert_eq!(view.place, Place::Whole, "{name}");
    }
    assert!(views.len() - tiles <= 1, "{name}: one view of the whole");
    let seen = geometry.seen();
    if !name.starts_with("llava") {
        assert_eq!(seen, [0.0, 0.0, width, height], "{name}");
        assert!(views[tiles..].iter().all(|view| view.rect == seen), "{name}");
    }
}

/// What stands in the prompt is what the geometry says, in its order.
fn in_the_prompt(name: &str, folder: &ModelFolder, geometry: &Geometry) {
    let tokens =
        folder.family.layout(geometry).into_iter().filter(|piece| matches!(piece, Piece::Token { .. }));
    let expected = (0..geometry.views.len()).flat_map(|view| geometry.tokens_of(view));
    assert!(tokens.eq(expected), "{name}");
    assert_eq!(geometry.patches().len(), geometry.n_tokens(), "{name}");
}

#[test]
fn cells_cover_what_is_seen_without_gap_or_overlap() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let mut random = |n: usize, sides: RangeInclusive<u32>| -> Vec<(u32, u32)> {
        (0..n).map(|_| (rng.random_range(sides.clone()), rng.random_range(sides.clone()))).collect()
    };
    // Qwen refuses what is longer than 200 times its width.
    let sizes = [random(40, 4..=700), random(12, 1..=40), vec![(1, 1), (700, 5), (4, 600)]].concat();
    for dir in models() {
        let folder = ModelFolder::open(dir.path()).unwrap();
        let (name, mut grids) = (&folder.family.config().model_type, BTreeSet::new());
        for &size in &sizes {
            let processed = folder.process(&RgbImage::new(size.0, size.1)).unwrap();
            let geometry = &processed.geometry;
            let name = format!("{name}, {size:?}");
            assert_eq!(geometry.source, size, "{name}");
            assert_eq!(processed.inputs.len(), geometry.views.len(), "{name}");
            for (input, view) in processed.inputs.iter().zip(&geometry.views) {
                let (width, height) = input.size;
                assert_eq!(input.pixels.len(), 3 * width as usize * height as usize, "{name}");
                assert_eq!(width as usize % view.grid.cols, 0, "{name}");
                assert_eq!(height as usize % view.grid.rows, 0, "{name}");
                grids.insert((geometry.rows, geometry.cols, view.grid.rows, view.grid.cols));
            }
            laid_out(&name, geometry);
            in_the_prompt(&name, &folder, geometry);
        }
        assert!(grids.len() > 2 || name.starts_with("llava"), "{name}: {grids:?}");
    }
}
