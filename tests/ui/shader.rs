//! The shader against the CPU.

use std::sync::Arc;

use eframe::egui_wgpu::RenderState;
use egui_kittest::{Harness, wgpu::WgpuTestRenderer};
use sightline::{
    device::{open::DeviceChoice, shared},
    trace::{palette::Colormap, pattern::PatternRow},
    ui::widgets::heatmap::{self, Map, Patch},
};

use crate::{
    bench::{QUESTION, adapter},
    made_up,
};

/// Draws `map` over a square of 240 pixels and returns the colour in the middle of every patch.
fn drawn(render: RenderState, map: Map) -> Vec<[u8; 3]> {
    drawn_one_after_another(render, vec![map]).remove(0)
}

/// Draws maps into the same slot, several frames each.
fn drawn_one_after_another(render: RenderState, maps: Vec<Map>) -> Vec<Vec<[u8; 3]>> {
    let rect = egui::Rect::from_min_size(egui::pos2(0.0, 0.0), egui::vec2(240.0, 240.0));
    let first = maps[0].clone();
    let mut harness = Harness::builder()
        .with_size([240.0, 240.0])
        .renderer(WgpuTestRenderer::from_render_state(render))
        .build_ui_state(move |ui, map: &mut Map| map.clone().paint(ui, rect, true), first);
    let mut pictures = Vec::new();
    for map in maps {
        *harness.state_mut() = map.clone();
        harness.run_steps(2);
        let image = harness.render().expect("a picture");
        let middle = |p: &Patch| {
            let [x0, y0, x1, y1] = p.rect;
            let pixel = image.get_pixel(((x0 + x1) * 120.0) as u32, ((y0 + y1) * 120.0) as u32).0;
            [pixel[0], pixel[1], pixel[2]]
        };
        pictures.push(map.patches.iter().map(middle).collect());
    }
    pictures
}

fn grid_map(row: PatternRow, head: Option<usize>, colormap: Colormap) -> Map {
    let side = 1.0 / made_up::GRID as f32;
    let patch = |i: usize| {
        let (x, y) = ((i % made_up::GRID) as f32 * side, (i / made_up::GRID) as f32 * side);
        Patch::new([x, y, x + side, y + side], 3 + i)
    };
    let patches: Arc<[Patch]> = (0..made_up::GRID * made_up::GRID).map(patch).collect();
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
        opacity: 1.0,
        uniform: 0.0,
        slot: 0,
    }
}

fn assert_shows_values(map: &Map, found: &[[u8; 3]]) {
    for (at, found) in found.iter().enumerate() {
        let expected = map.colormap.rgb8(map.share(map.value(at)));
        let off = found.iter().zip(expected).map(|(&a, b)| a.abs_diff(b)).max();
        assert!(off <= Some(1), "patch {at}: drawn {found:?}, computed {expected:?}");
    }
}

fn some_row(s: usize) -> PatternRow {
    let prompt = made_up::prompt(QUESTION);
    made_up::step(&prompt, &[], s).expect("a row").1
}

#[test]
fn the_shader_draws_the_numbers_of_the_tooltips() {
    for (head, colormap) in
        [(None, Colormap::Inferno), (Some(2), Colormap::Viridis), (Some(0), Colormap::Magma)]
    {
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
    let found = drawn_one_after_another(render, vec![bound.clone(), uploaded.clone(), bound]);
    assert_shows_values(&map, &found[0]);
    assert_shows_values(&uploaded, &found[1]);
    assert_shows_values(&map, &found[2]);
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
