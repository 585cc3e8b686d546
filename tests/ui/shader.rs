//! The shader against the CPU.

use std::{rc::Rc, sync::Arc};

use eframe::egui_wgpu::RenderState;
use egui::{Color32, Pos2, Rect, Ui, Vec2, pos2};
use egui_kittest::{Harness, wgpu::WgpuTestRenderer};
use image::RgbaImage;
use sightline::{
    device::{open::DeviceChoice, shared},
    trace::{palette::Colormap, pattern::PatternRow},
    ui::widgets::heatmap::{self, GridCell, Map, MapGrid, Patch},
};

use crate::{
    bench::{QUESTION, adapter},
    made_up,
};

/// Side of what is drawn into, in pixels. A patch of the made-up grid has 21 of them: one lies in its middle.
const SIDE: f32 = 252.0;

/// What lies under the maps: a colour of none of them.
const GROUND: [u8; 3] = [0, 200, 120];

/// What draws into a square.
type Paint = Rc<dyn Fn(&Ui, Rect)>;

/// What paints draw one after another in the same window, several frames each.
fn pictures(render: RenderState, paints: Vec<Paint>) -> Vec<RgbaImage> {
    let rect = Rect::from_min_size(Pos2::ZERO, Vec2::splat(SIDE));
    let mut harness = Harness::builder()
        .with_size([SIDE, SIDE])
        .renderer(WgpuTestRenderer::from_render_state(render))
        .build_ui_state(
            move |ui, paint: &mut Paint| {
                let [r, g, b] = GROUND;
                ui.painter().rect_filled(rect, 0.0, Color32::from_rgb(r, g, b));
                (*paint)(ui, rect);
            },
            paints[0].clone(),
        );
    let mut pictures = Vec::new();
    for paint in paints {
        *harness.state_mut() = paint;
        harness.run_steps(2);
        pictures.push(harness.render().expect("a picture"));
    }
    pictures
}

fn paint_map(map: Map) -> Paint {
    Rc::new(move |ui: &Ui, rect: Rect| map.clone().paint(ui, rect, true))
}

fn pixel(picture: &RgbaImage, x: f32, y: f32) -> [u8; 3] {
    let [r, g, b, _] = picture.get_pixel(x as u32, y as u32).0;
    [r, g, b]
}

fn assert_near(found: [u8; 3], expected: [u8; 3], most: u8, what: &str) {
    let off = found.iter().zip(expected).map(|(&a, b)| a.abs_diff(b)).max();
    assert!(off <= Some(most), "{what}: drawn {found:?}, computed {expected:?}");
}

/// Draws `map` over the square and returns the colour in the middle of every patch.
fn drawn(render: RenderState, map: Map) -> Vec<[u8; 3]> {
    drawn_one_after_another(render, vec![map]).remove(0)
}

/// Draws maps into the same slot, several frames each.
fn drawn_one_after_another(render: RenderState, maps: Vec<Map>) -> Vec<Vec<[u8; 3]>> {
    let pictures = pictures(render, maps.iter().cloned().map(paint_map).collect());
    let middles = |(map, picture): (&Map, &RgbaImage)| {
        let middle = |p: &Patch| {
            let [x0, y0, x1, y1] = p.rect;
            pixel(picture, (x0 + x1) * SIDE / 2.0, (y0 + y1) * SIDE / 2.0)
        };
        map.patches.iter().map(middle).collect()
    };
    maps.iter().zip(&pictures).map(middles).collect()
}

/// Key of the first patch.
const FIRST_KEY: usize = 3;

fn grid_map(row: PatternRow, head: Option<usize>, colormap: Colormap) -> Map {
    let side = 1.0 / made_up::GRID as f32;
    let n = made_up::GRID as u32;
    let patch = |i: u32| {
        let cell = (i / n, i % n);
        let (x, y) = (cell.1 as f32 * side, cell.0 as f32 * side);
        Patch::in_grid([x, y, x + side, y + side], FIRST_KEY + i as usize, cell, (n, n), FIRST_KEY)
    };
    let patches: Arc<[Patch]> = (0..n * n).map(patch).collect();
    let values = patches.iter().map(|p| heatmap::value(&row, 3, head, p.key as usize));
    let high = values.fold(0.0, f32::max);
    Map {
        row,
        resident: None,
        patches,
        layer: 3,
        head,
        range: (0.0, high),
        colormap,
        gamma: 1.0,
        smooth: false,
        opacity: 1.0,
        uniform: None,
        slot: 0,
    }
}

/// `row` with other numbers.
fn with_numbers(row: &PatternRow, change: impl FnOnce(&mut [f32])) -> PatternRow {
    let mut data = row.data.to_vec();
    change(&mut data);
    PatternRow { data: Arc::new(data), ..row.clone() }
}

fn assert_shows_values(map: &Map, found: &[[u8; 3]]) {
    for (at, found) in found.iter().enumerate() {
        let expected = map.colormap.rgb8(map.share(map.value(at)));
        assert_near(*found, expected, 1, &format!("patch {at}"));
    }
}

fn some_row(s: usize) -> PatternRow {
    let prompt = made_up::prompt(QUESTION);
    made_up::step(&prompt, &[], s).expect("a row").1
}

#[test]
fn the_shader_draws_the_numbers_of_the_tooltips() {
    for (head, colormap) in [
        (None, Colormap::Inferno),
        (Some(2), Colormap::Viridis),
        (Some(0), Colormap::Magma),
        (Some(1), Colormap::Turbo),
    ] {
        let Some((_one, render)) = adapter() else { return };
        assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
        let map = grid_map(some_row(2), head, colormap);
        let found = drawn(render, map.clone());
        assert_shows_values(&map, &found);
        assert!(found.iter().any(|c| *c != found[0]), "the map has more than one colour");
    }
}

#[test]
fn buffers_that_stay_show_what_changed() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let first = grid_map(some_row(2), None, Colormap::Inferno);
    let other_colours = Map { colormap: Colormap::Viridis, layer: 4, head: Some(1), ..first.clone() };
    let other_row = Map { row: some_row(9), ..other_colours.clone() };
    let half: Arc<[Patch]> = first.patches.iter().take(60).copied().collect();
    let fewer_patches = Map { patches: half, ..first.clone() };
    let maps = vec![first.clone(), other_colours, other_row, fewer_patches, first];
    for (map, found) in maps.iter().zip(drawn_one_after_another(render, maps.clone())) {
        assert_shows_values(map, &found);
    }
}

#[test]
fn the_shader_reads_the_models_own_buffer() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let compute = shared::burn_device(Some(&render), DeviceChoice::Gpu).expect("burn on the window's device");
    let row = some_row(2);
    let shape = [row.n_layers, row.n_heads, row.n_keys];
    let doubled: Vec<f32> = row.data.iter().map(|v| v * 2.0).collect();
    let tensor =
        burn::tensor::Tensor::<3>::from_data(burn::tensor::TensorData::new(doubled, shape), &compute.device);
    // A result, so that the picture depends on burn's work being submitted before the window's.
    let tensor = tensor.mul_scalar(0.5);
    let resident = shared::resident(&tensor).expect("a buffer on the shared device");
    // What the window would upload is nonsense: the numbers can only come from burn's buffer.
    let uploaded = grid_map(some_row(9), None, Colormap::Inferno);
    let mut map = grid_map(row, None, Colormap::Inferno);
    map.resident = Some(resident);
    let nonsense = PatternRow { data: Arc::new(vec![0.5; map.row.data.len()]), ..map.row.clone() };
    let bound = Map { row: nonsense, ..map.clone() };
    let of_one_head = Map { head: Some(2), layer: 5, ..bound.clone() };
    let maps = vec![bound.clone(), uploaded.clone(), bound, of_one_head];
    let found = drawn_one_after_another(render, maps);
    assert_shows_values(&map, &found[0]);
    assert_shows_values(&uploaded, &found[1]);
    assert_shows_values(&map, &found[2]);
    assert_shows_values(&Map { head: Some(2), layer: 5, ..map }, &found[3]);
    let elsewhere = burn::tensor::Tensor::<3>::zeros([1, 1, 4], &burn::tensor::Device::flex());
    assert!(shared::resident(&elsewhere).is_none(), "a tensor of another device has no buffer here");
}

#[test]
fn every_value_covers_what_lies_under_it_alike() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let opaque = grid_map(some_row(2), None, Colormap::Inferno);
    let half = Map { opacity: 0.5, ..opaque.clone() };
    let bare = Map { opacity: 0.0, ..opaque.clone() };
    let drawn = drawn_one_after_another(render, vec![opaque.clone(), half, bare]);
    for (at, [map, mixed, under]) in (0..)
        .zip(std::iter::zip(&drawn[0], std::iter::zip(&drawn[1], &drawn[2])).map(|(a, (b, c))| [a, b, c]))
    {
        for c in 0..3 {
            let expected = (f32::from(map[c]) + f32::from(under[c])) / 2.0;
            let off = (f32::from(mixed[c]) - expected).abs();
            assert!(
                off <= 1.5,
                "patch {at} of value {}: {mixed:?}, not between {map:?} and {under:?}",
                opaque.value(at)
            );
        }
    }
}

#[test]
fn gamma_bends_the_colours() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let linear = grid_map(some_row(2), None, Colormap::Inferno);
    let maps = [0.3, 1.0, 2.5].map(|gamma| Map { gamma, ..linear.clone() });
    let found = drawn_one_after_another(render, maps.to_vec());
    maps.iter().zip(&found).for_each(|(map, found)| assert_shows_values(map, found));
    assert!(found[0] != found[1] && found[1] != found[2]);
}

#[test]
fn a_smooth_map_interpolates_between_the_middles_of_patches() {
    for head in [None, Some(1)] {
        let Some((_one, render)) = adapter() else { return };
        assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
        let row = some_row(2);
        // One patch in the midst of the others has no number, in any head.
        let missing = 40;
        let row = with_numbers(&row, |data| {
            data.iter_mut().skip(FIRST_KEY + missing).step_by(row.n_keys).for_each(|v| *v = f32::NAN);
        });
        let sharp = Map { gamma: 0.5, ..grid_map(row, head, Colormap::Viridis) };
        let smooth = Map { smooth: true, ..sharp.clone() };
        let pictures = pictures(render, vec![paint_map(sharp.clone()), paint_map(smooth.clone())]);
        let side = SIDE / made_up::GRID as f32;
        let mut differ = 0;
        for (at, patch) in smooth.patches.iter().enumerate().filter(|(at, _)| *at != missing) {
            for (x, y) in [(10, 10), (0, 10), (20, 10), (10, 0), (10, 20), (0, 0), (20, 3), (6, 17)] {
                let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
                let value = smooth.smooth_value(at, x / side, y / side);
                let place = (patch.rect[0] * SIDE + x, patch.rect[1] * SIDE + y);
                let found = pixel(&pictures[1], place.0, place.1);
                let expected = smooth.colormap.rgb8(smooth.share(value));
                assert_near(found, expected, 2, &format!("head {head:?}, patch {at}, at {x}, {y}"));
                differ += usize::from(found != pixel(&pictures[0], place.0, place.1));
            }
            assert_eq!(smooth.smooth_value(at, 0.5, 0.5), sharp.value(at));
        }
        assert!(differ > 100, "smooth is not sharp: {differ}");
    }
}

#[test]
fn a_patch_without_a_number_leaves_the_ground() {
    for head in [None, Some(2)] {
        let Some((_one, render)) = adapter() else { return };
        assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
        let row = some_row(2);
        // In one head only: there is no mean either. Keys beyond the row have no number as well.
        let missing = [0, 17, 143];
        let line = (3 * row.n_heads + 2) * row.n_keys;
        let holed = with_numbers(&row, |data| {
            missing.iter().for_each(|at| data[line + FIRST_KEY + at] = f32::NAN);
        });
        let mut map = grid_map(holed, head, Colormap::Inferno);
        let mut patches = map.patches.to_vec();
        patches[5] = Patch::new(patches[5].rect, row.n_keys);
        map.patches = patches.into();
        let smooth = Map { smooth: true, ..map.clone() };
        for found in drawn_one_after_another(render, vec![map.clone(), smooth]) {
            for (at, found) in found.into_iter().enumerate() {
                let none = missing.contains(&at) || at == 5;
                let expected = if none { GROUND } else { map.colormap.rgb8(map.share(map.value(at))) };
                assert_near(found, expected, 1, &format!("head {head:?}, patch {at}"));
            }
        }
    }
}

#[test]
fn a_grid_of_cells_is_the_single_maps_side_by_side() {
    let map = Map { gamma: 0.6, ..grid_map(some_row(2), None, Colormap::Viridis) };
    let places = [(0, 0, 2, None), (1, 0, 3, Some(1)), (2, 1, 5, Some(3)), (0, 2, 3, None)];
    let cells = places.map(|(col, row, layer, head)| {
        let rect = [col, row, col + 1, row + 1].map(|edge: u8| f32::from(edge) / 3.0);
        let line = |key: usize| heatmap::value(&map.row, layer, head, key);
        let high = map.patches.iter().map(|p| line(p.key as usize)).fold(0.0, f32::max);
        GridCell { rect, layer, head, high }
    });
    for (smooth, colormap) in
        [(false, Colormap::Viridis), (true, Colormap::Viridis), (false, Colormap::Diverging)]
    {
        let map = Map { smooth, colormap, ..map.clone() };
        let low = move |cell: &GridCell| if colormap == Colormap::Diverging { -cell.high } else { 0.0 };
        let grid = MapGrid { map: map.clone(), cells: cells.into() };
        let at_once: Paint = Rc::new(move |ui: &Ui, rect: Rect| grid.clone().paint(ui, rect, true));
        let singles: Paint = Rc::new(move |ui: &Ui, rect: Rect| {
            for (slot, cell) in (1..).zip(&cells) {
                let GridCell { layer, head, high, .. } = *cell;
                let [x0, y0, x1, y1] = cell.rect.map(|edge| edge * rect.width());
                let rect = Rect::from_min_max(pos2(x0, y0), pos2(x1, y1));
                Map { layer, head, range: (low(cell), high), slot, ..map.clone() }.paint(ui, rect, true);
            }
        });
        // A harness wants one of its own.
        let Some((_one, render)) = adapter() else { return };
        assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
        let pictures = pictures(render, vec![at_once, singles]);
        for (x, y, _) in pictures[0].enumerate_pixels() {
            let (x, y) = (x as f32, y as f32);
            assert_near(pixel(&pictures[0], x, y), pixel(&pictures[1], x, y), 1, &format!("{x}, {y}"));
        }
        assert!(pixel(&pictures[0], 10.0, 10.0) != GROUND);
        assert_eq!(pixel(&pictures[0], 10.0, 100.0), GROUND, "there is no cell");
    }
}

#[test]
fn a_map_that_reaches_beyond_the_window_keeps_its_size() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let map = grid_map(some_row(2), None, Colormap::Inferno);
    let enlarged = map.clone();
    let paint: Paint = Rc::new(move |ui: &Ui, rect: Rect| {
        // Twice as large, its middle in the middle of the window.
        enlarged.clone().paint(ui, Rect::from_center_size(rect.center(), rect.size() * 2.0), true);
    });
    let picture = pictures(render, vec![paint]).remove(0);
    let mut seen = 0;
    for (at, patch) in map.patches.iter().enumerate() {
        let [x0, y0, x1, y1] = patch.rect;
        let [x, y] = [(x0 + x1) / 2.0, (y0 + y1) / 2.0].map(|share| (share * 2.0 - 0.5) * SIDE);
        if (0.0..SIDE).contains(&x) && (0.0..SIDE).contains(&y) {
            let expected = map.colormap.rgb8(map.share(map.value(at)));
            assert_near(pixel(&picture, x, y), expected, 1, &format!("patch {at}"));
            seen += 1;
        }
    }
    assert_eq!(seen, made_up::GRID * made_up::GRID / 4);
}

#[test]
fn differences_are_blue_grey_and_red() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let n_keys = FIRST_KEY + made_up::GRID * made_up::GRID;
    let zeros = PatternRow { n_layers: 1, n_heads: 1, n_keys, data: Arc::new(vec![0.0; n_keys]) };
    let row = with_numbers(&zeros, |data| (data[FIRST_KEY], data[FIRST_KEY + 2]) = (-0.25, 0.25));
    let map = grid_map(row, Some(0), Colormap::Diverging);
    let map = Map { layer: 0, range: (-0.25, 0.25), gamma: 0.3, ..map };
    let same = Map { row: zeros, range: (0.0, 0.0), ..map.clone() };
    let found = drawn_one_after_another(render, vec![map.clone(), same]);
    assert_shows_values(&map, &found[0]);
    for (at, t) in [(0, 0.0), (1, 0.5), (2, 1.0)] {
        assert_near(found[0][at], Colormap::Diverging.rgb8(t), 1, &format!("patch {at}"));
    }
    let middle = Colormap::Diverging.rgb8(0.5);
    found[1].iter().for_each(|found| assert_near(*found, middle, 1, "no difference"));
}
