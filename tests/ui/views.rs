//! The views as snapshots.

use eframe::egui_wgpu::RenderState;
use egui_kittest::{
    Harness, SnapshotOptions, SnapshotResults, kittest::Queryable as _, wgpu::WgpuTestRenderer,
};
use sightline::{
    trace::palette::Colormap,
    ui::{
        layout::Layout,
        store::{
            command::Command,
            selection::{BASELINE, CUT},
            settings::MapSettings,
            store::Store,
            view_id::ViewId,
        },
        theme,
        widgets::heatmap,
    },
};

use crate::bench::{QUESTION, adapter, answered, cut, serve};

/// The window over a store, with a worker that answers at once.
struct Bench {
    store: Store,
    layout: Layout,
}

impl Bench {
    fn new(store: Store, gpu_maps: bool) -> Self {
        Bench { layout: Layout::new(gpu_maps, false), store }
    }

    fn frame(&mut self, ui: &mut egui::Ui) {
        for command in self.layout.show(ui, &self.store) {
            self.apply(command);
            ui.ctx().request_repaint();
        }
    }

    fn apply(&mut self, command: Command) {
        let requests = self.store.apply(command);
        serve(&mut self.store, requests);
    }
}

fn harness(render: RenderState, bench: Bench, light: bool) -> Harness<'static, Bench> {
    harness_of(render, bench, light, [1280.0, 800.0])
}

fn harness_of(render: RenderState, bench: Bench, light: bool, size: [f32; 2]) -> Harness<'static, Bench> {
    Harness::builder()
        .with_size(size)
        .with_theme(if light { egui::Theme::Light } else { egui::Theme::Dark })
        .with_context_setup(theme::install)
        .renderer(WgpuTestRenderer::from_render_state(render))
        .build_ui_state(|ui, bench: &mut Bench| bench.frame(ui), bench)
}

/// Fonts and lines differ a little between drivers; a missing widget differs by thousands of pixels.
fn tolerant() -> SnapshotOptions {
    SnapshotOptions::new().threshold(2.0).max_failed_pixels(400)
}

#[test]
fn window_with_a_pinned_word() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut bench = Bench::new(answered(), gpu_maps);
    bench.apply(Command::Pin(BASELINE, 1));
    let mut harness = harness(render, bench, false);
    harness.run();
    harness.snapshot_options("window_pinned", &tolerant());
}

#[test]
fn window_under_a_cut_in_the_light() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut bench = Bench::new(answered(), gpu_maps);
    bench.apply(cut((2, 3)));
    bench.apply(Command::Pin(CUT, 9));
    bench.apply(Command::Map(MapSettings { colormap: Colormap::Viridis, ..Default::default() }));
    bench.store.error = Some("broken.png: unexpected end of file".to_string());
    let mut harness = harness(render, bench, true);
    harness.run();
    harness.snapshot_options("window_cut", &tolerant());
}

#[test]
fn window_before_anything_is_there() {
    let Some((_one, render)) = adapter() else { return };
    let bench = Bench::new(Store::new(QUESTION.to_string(), 32), false);
    let mut harness = harness(render, bench, false);
    harness.run();
    harness.snapshot_options("window_empty", &tolerant());
}

#[test]
fn window_with_the_palette_open() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut harness = harness(render, Bench::new(answered(), gpu_maps), false);
    harness.run();
    harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::K);
    harness.run_ok();
    harness.snapshot_options("window_palette", &tolerant());
}

#[test]
fn window_as_small_as_it_gets() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut bench = Bench::new(answered(), gpu_maps);
    // The bundled model on a picture that is none of its own.
    bench.store.model.as_mut().expect("a model").bundled = true;
    let mut harness = harness_of(render, bench, false, [700.0, 500.0]);
    harness.run();
    harness.snapshot_options("window_small", &tolerant());
}

#[test]
fn every_view_in_both_lights_and_two_sizes() {
    let mut results = SnapshotResults::new();
    let tabs = [
        ViewId::Flow,
        ViewId::Heads,
        ViewId::Lens,
        ViewId::Effects,
        ViewId::Cut,
        ViewId::Compress,
        ViewId::Studies,
    ];
    for (light, name) in [(false, "dark"), (true, "light")] {
        for size in [[1280.0, 800.0], [2560.0, 1440.0]] {
            // A harness wants an adapter of its own.
            let Some((_one, render)) = adapter() else { return };
            let mut bench = Bench::new(answered(), heatmap::install(&render));
            bench.apply(cut((2, 3)));
            bench.apply(Command::Pin(BASELINE, 1));
            let mut harness = harness_of(render, bench, light, size);
            for view in tabs {
                let ctx = harness.ctx.clone();
                let bench = harness.state_mut();
                bench.layout.apply(&ctx, &Command::Focus(view), &bench.store);
                harness.run_ok();
                let view = format!("{view:?}").to_lowercase();
                harness.snapshot_options(format!("view_{view}_{name}_{}", size[0]), &tolerant());
            }
            results.extend_harness(&mut harness);
        }
    }
}

#[test]
fn window_with_a_menu_and_the_list_of_keys() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut harness = harness(render, Bench::new(answered(), gpu_maps), false);
    harness.run();
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "File").click();
    harness.run_ok();
    harness.snapshot_options("window_menu", &tolerant());
    harness.key_press(egui::Key::Escape);
    harness.run_ok();
    harness.key_press(egui::Key::F1);
    harness.run_ok();
    harness.snapshot_options("window_keys", &tolerant());
}
