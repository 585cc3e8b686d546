//! The window: its logic without any drawing, its panels as snapshots, and its shader against the
//! CPU. Drawing needs a graphics adapter; without one these tests say that they were skipped, unless
//! `SIGHTLINE_REQUIRE_GPU=1`, when they fail.
#![allow(clippy::unwrap_used)]

mod made_up;

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use eframe::egui_wgpu::{RenderState, RendererOptions, WgpuSetup};
use egui_kittest::{Harness, SnapshotOptions, kittest::Queryable as _, wgpu::WgpuTestRenderer};
use sightline::{
    device::{open as device, open::DeviceChoice, shared as gpu},
    trace::{
        palette::Colormap,
        run::{PatternRow, Stop},
    },
    ui::{
        self,
        layout::Draft,
        store::{
            selection::Which,
            state::{Action, CutSettings, State},
        },
        theme,
        widgets::heatmap::{self, Map, Patch},
    },
    window::app::{App, Link, Options},
    worker::thread::{Ask, Event, ImageSource, Request, RunId},
};

const QUESTION: &str = "what is in the picture ?";

// ---- The logic: events in, requests out.

/// A state with a model and an image, and the run that it asks for by itself.
fn opened() -> (State, RunId, Ask) {
    let mut state = State::new(QUESTION.to_string(), 32);
    assert!(state.event(model()).is_empty());
    let (id, ask) = only_run(state.event(Event::Image(made_up::image())));
    (state, id, ask)
}

fn model() -> Event {
    Event::Model { info: made_up::model(), device: "CPU (burn-flex)".into(), unused: Vec::new() }
}

fn only_run(requests: Vec<Request>) -> (RunId, Ask) {
    match <[Request; 1]>::try_from(requests) {
        Ok([Request::Run { id, ask }]) => (id, ask),
        other => panic!("expected one run, got {other:?}"),
    }
}

fn started(id: RunId, ask: &Ask) -> Event {
    Event::Started { id, prompt: made_up::prompt(&ask.prompt), unknown_words: Vec::new() }
}

fn token(id: RunId, ask: &Ask, s: usize) -> Event {
    let prompt = made_up::prompt(&ask.prompt);
    let (token, row) = made_up::step(&prompt, &made_up::cuts(ask, &prompt), s).expect("a token");
    Event::Token { id, token, row, resident: None }
}

fn done(id: RunId, ask: &Ask) -> Event {
    Event::Done { id, trace: Box::new(made_up::trace(ask)) }
}

fn cut(range: (usize, usize)) -> Action {
    Action::Cut(CutSettings { enabled: true, range, typed: String::new() })
}

/// A state whose baseline is complete.
fn answered() -> State {
    let (mut state, id, ask) = opened();
    assert!(state.event(done(id, &ask)).is_empty());
    state
}

#[test]
fn an_opened_image_is_asked_about_at_once() {
    let (state, _, ask) = opened();
    assert_eq!((ask.prompt.as_str(), ask.knockouts.len()), (QUESTION, 0));
    assert!(state.busy());
}

#[test]
fn tokens_stream_in_and_stay() {
    let (mut state, id, ask) = opened();
    state.event(started(id, &ask));
    for s in 0..3 {
        state.event(token(id, &ask, s));
    }
    assert_eq!(state.runs.baseline.answer_text(), "a red ball");
    assert!(state.runs.baseline.row(2).is_some_and(|(_, fresh)| fresh));
    state.event(done(id, &ask));
    assert!(state.runs.baseline.answer_text().ends_with("on sand ."));
    assert!(!state.busy());
}

#[test]
fn events_of_a_superseded_run_are_ignored() {
    let (mut state, old, ask) = opened();
    state.event(started(old, &ask));
    let (new, new_ask) = only_run(state.act(Action::Ask("how many ?".to_string(), 5)));
    state.event(token(old, &ask, 0));
    state.event(done(old, &ask));
    state.event(Event::Failed { id: Some(old), error: "late".into() });
    assert!(state.runs.baseline.tokens().is_empty());
    assert!(state.error.is_none() && state.runs.baseline.busy());
    state.event(started(new, &new_ask));
    state.event(done(new, &new_ask));
    assert_eq!(state.runs.baseline.tokens().len(), 5);
}

#[test]
fn a_failure_keeps_what_was_there() {
    let mut state = answered();
    let answer = state.runs.baseline.answer_text();
    let (id, ask) = only_run(state.act(Action::Ask("why ?".to_string(), 32)));
    state.event(started(id, &ask));
    state.event(token(id, &ask, 0));
    state.event(Event::Failed { id: Some(id), error: "the prompt is longer than the context".into() });
    assert_eq!(state.runs.baseline.answer_text(), answer);
    assert!(state.error.as_deref().is_some_and(|e| e.contains("context")) && !state.busy());
    state.act(Action::OpenImage(ImageSource::Path("broken.png".into())));
    state.event(Event::Failed { id: None, error: "broken.png: unexpected end of file".into() });
    assert_eq!(state.runs.baseline.answer_text(), answer);
    assert!(state.image.is_some() && !state.busy());
    state.act(Action::DismissError);
    assert!(state.error.is_none());
}

#[test]
fn a_cut_waits_for_its_baseline_and_the_latest_wins() {
    let (mut state, id, ask) = opened();
    assert!(state.act(cut((2, 3))).is_empty(), "the baseline comes first");
    let (first, first_ask) = only_run(state.event(done(id, &ask)));
    assert_eq!(first_ask.knockouts[0].to_string(), "answer -> visual @ 2-3");
    let (second, second_ask) = only_run(state.act(cut((2, 6))));
    state.event(started(first, &first_ask));
    state.event(done(first, &first_ask));
    assert!(state.runs.cut.tokens().is_empty(), "superseded");
    state.event(started(second, &second_ask));
    state.event(done(second, &second_ask));
    assert_eq!(state.runs.cut.answer_text(), "a duck at the top on sand .");
    assert!(state.act(cut((2, 6))).is_empty(), "nothing changed, nothing is asked");
}

#[test]
fn a_stale_cut_stays_on_show_and_is_marked() {
    let mut state = answered();
    let (id, ask) = only_run(state.act(cut((2, 6))));
    state.event(done(id, &ask));
    let (id, ask) = only_run(state.act(cut((2, 3))));
    assert!(state.runs.cut.stale());
    state.event(started(id, &ask));
    state.event(token(id, &ask, 0));
    let fresh: Vec<bool> = state.runs.cut.tokens().iter().map(|(_, fresh)| *fresh).collect();
    assert!(fresh[0] && !fresh[1] && fresh.len() > 2);
    assert!(state.runs.cut.row(0).is_some_and(|(_, f)| f) && state.runs.cut.row(1).is_some_and(|(_, f)| !f));
    // Back to the range that is complete already: no need to run it again.
    let requests = state.act(cut((2, 6)));
    assert!(matches!(requests[..], [Request::Cancel]), "{requests:?}");
    assert!(!state.runs.cut.stale());
}

#[test]
fn switching_the_cut_off_removes_it() {
    let mut state = answered();
    let (id, ask) = only_run(state.act(cut((2, 6))));
    state.event(done(id, &ask));
    state.act(Action::Show(Which::Cut));
    state.act(Action::Cut(CutSettings { enabled: false, range: (2, 6), typed: String::new() }));
    assert!(!state.runs.has_cut());
    assert_eq!(state.selection.which, Which::Baseline);
}

#[test]
fn typed_knockouts_are_checked_in_place() {
    let mut state = answered();
    let typed =
        |text: &str| Action::Cut(CutSettings { enabled: false, range: (0, 0), typed: text.to_string() });
    for (text, part) in
        [("answer visual", "->"), ("answer -> visual @ 99", "layer 99"), ("all -> bos @ 0 # 9", "head 9")]
    {
        assert!(state.act(typed(text)).is_empty());
        assert!(
            state.cut_error.as_deref().is_some_and(|e| e.contains(part)),
            "{text}: {:?}",
            state.cut_error
        );
    }
    let (_, ask) = only_run(state.act(typed("last -> visual[0-9] @ all; decode -> bos @ 1")));
    assert_eq!(ask.knockouts.len(), 2);
    assert!(state.cut_error.is_none());
}

#[test]
fn a_refused_cut_is_told_once_and_not_asked_again() {
    let mut state = answered();
    let (id, _) = only_run(state.act(cut((0, 7))));
    let requests = state.event(Event::Failed { id: Some(id), error: "nothing left to look at".into() });
    assert!(requests.is_empty() && state.error.is_none());
    assert_eq!(state.runs.cut.refusal(), Some("nothing left to look at"));
    assert!(state.act(Action::Layer(3)).is_empty());
    only_run(state.act(cut((0, 6))));
}

#[test]
fn cancelling_keeps_a_partial_answer_and_forgets_what_has_not_begun() {
    let (mut state, id, ask) = opened();
    assert!(matches!(state.act(Action::Cancel)[..], [Request::Cancel]));
    assert!(!state.busy(), "the worker drops a waiting run without a word");
    state.event(done(id, &ask));
    assert!(state.runs.baseline.tokens().is_empty());

    let (id, ask) = only_run(state.act(Action::Ask(QUESTION.to_string(), 32)));
    state.event(started(id, &ask));
    state.event(token(id, &ask, 0));
    state.act(Action::Cancel);
    assert!(state.busy(), "its partial trace is still to come");
    let mut partial = made_up::trace(&ask);
    partial.answer.truncate(1);
    partial.pattern.truncate(1);
    partial.stop = Stop::Cancelled;
    state.event(Event::Done { id, trace: Box::new(partial) });
    assert_eq!(state.runs.baseline.answer_text(), "a");

    only_run(state.act(cut((2, 3))));
    assert!(matches!(state.act(Action::Cancel)[..], [Request::Cancel]));
    assert!(state.act(Action::Layer(1)).is_empty(), "a cancelled cut is not asked for again");
}

#[test]
fn another_model_forgets_answers_and_fits_the_selection() {
    let mut state = answered();
    state.act(Action::Layer(7));
    state.act(Action::Head(Some(3)));
    let mut info = made_up::model();
    (info.n_layers, info.n_heads) = (2, 2);
    state.event(Event::Model { info, device: "CPU".into(), unused: Vec::new() });
    assert!(state.runs.baseline.view().is_none());
    assert!(state.selection.layer < 2 && state.selection.head.is_none());
    assert!(state.cut.range.1 < 2);
}

// ---- Drawing.

/// One at a time: software adapters are slow enough alone.
fn adapter() -> Option<(MutexGuard<'static, ()>, RenderState)> {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if device::adapters().is_empty() {
        assert!(std::env::var("SIGHTLINE_REQUIRE_GPU").as_deref() != Ok("1"), "no graphics adapter");
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test");
        // Past libtest's capture: a skipped test must not look like a passed one.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {name}: no graphics adapter (SIGHTLINE_REQUIRE_GPU is not 1)"
        );
        return None;
    }
    let mut setup = gpu::wgpu_setup();
    if let WgpuSetup::CreateNew(new) = &mut setup {
        // Software where there is one: the committed pictures were made with it.
        new.native_adapter_selector = Some(Arc::new(|adapters, _| {
            let software = |a: &&wgpu::Adapter| a.get_info().device_type == wgpu::DeviceType::Cpu;
            let best = adapters.iter().find(software).or(adapters.first());
            best.cloned().ok_or_else(|| "no adapter".to_string())
        }));
    }
    Some((guard, egui_kittest::wgpu::create_render_state(setup, RendererOptions::PREDICTABLE)))
}

/// The panels over a state, with a worker that answers at once.
struct Bench {
    state: State,
    draft: Draft,
}

impl Bench {
    fn new(state: State, gpu_maps: bool) -> Self {
        Bench { draft: Draft::new(&state, gpu_maps), state }
    }

    fn frame(&mut self, ui: &mut egui::Ui) {
        for action in ui::show(ui, &self.state, &mut self.draft) {
            let requests = self.state.act(action);
            self.serve(requests);
            ui.ctx().request_repaint();
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        for request in requests {
            if let Request::Run { id, ask } = request {
                let more = self.state.event(done(id, &ask));
                self.serve(more);
            }
        }
    }

    fn act(&mut self, action: Action) {
        let requests = self.state.act(action);
        self.serve(requests);
    }
}

fn harness(render: RenderState, bench: Bench, light: bool) -> Harness<'static, Bench> {
    Harness::builder()
        .with_size([1280.0, 800.0])
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
    bench.act(Action::Pin(Which::Baseline, 1));
    let mut harness = harness(render, bench, false);
    harness.run();
    harness.snapshot_options("window_pinned", &tolerant());
}

#[test]
fn window_under_a_cut_in_the_light() {
    let Some((_one, render)) = adapter() else { return };
    let gpu_maps = heatmap::install(&render);
    let mut bench = Bench::new(answered(), gpu_maps);
    bench.act(cut((2, 3)));
    bench.act(Action::Pin(Which::Cut, 9));
    bench.act(Action::Map(sightline::ui::store::state::MapSettings {
        colormap: Colormap::Viridis,
        ..Default::default()
    }));
    bench.state.error = Some("broken.png: unexpected end of file".to_string());
    let mut harness = harness(render, bench, true);
    harness.run();
    harness.snapshot_options("window_cut", &tolerant());
}

#[test]
fn window_before_anything_is_there() {
    let Some((_one, render)) = adapter() else { return };
    let bench = Bench::new(State::new(QUESTION.to_string(), 32), false);
    let mut harness = harness(render, bench, false);
    harness.run();
    harness.snapshot_options("window_empty", &tolerant());
}

/// Draws `map` over a square of 240 pixels and returns the colour in the middle of every patch.
fn drawn(render: RenderState, map: Map) -> Vec<[u8; 3]> {
    let rect = egui::Rect::from_min_size(egui::pos2(0.0, 0.0), egui::vec2(240.0, 240.0));
    let patches = map.patches.clone();
    let mut harness = Harness::builder()
        .with_size([240.0, 240.0])
        .renderer(WgpuTestRenderer::from_render_state(render))
        .build_ui(move |ui| map.clone().paint(ui, rect, true));
    harness.run();
    let image = harness.render().expect("a picture");
    let middle = |p: &Patch| {
        let [x0, y0, x1, y1] = p.rect;
        let pixel = image.get_pixel(((x0 + x1) * 120.0) as u32, ((y0 + y1) * 120.0) as u32).0;
        [pixel[0], pixel[1], pixel[2]]
    };
    patches.iter().map(middle).collect()
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
        floor: 1.0,
        slot: 0,
    }
}

fn assert_shows_values(map: &Map, found: &[[u8; 3]]) {
    for (at, found) in found.iter().enumerate() {
        let expected = map.colormap.color(map.share(map.value(at)));
        let expected = [expected.r(), expected.g(), expected.b()];
        let off = found.iter().zip(expected).map(|(&a, b)| a.abs_diff(b)).max();
        assert!(off <= Some(1), "patch {at}: drawn {found:?}, computed {expected:?}");
    }
}

fn some_row() -> PatternRow {
    let prompt = made_up::prompt(QUESTION);
    made_up::step(&prompt, &[], 2).expect("a row").1
}

#[test]
fn the_shader_draws_the_numbers_of_the_tooltips() {
    for (head, colormap) in
        [(None, Colormap::Inferno), (Some(2), Colormap::Viridis), (Some(0), Colormap::Magma)]
    {
        let Some((_one, render)) = adapter() else { return };
        assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
        let map = grid_map(some_row(), head, colormap);
        let found = drawn(render, map.clone());
        assert_shows_values(&map, &found);
        assert!(found.iter().any(|c| *c != found[0]), "the map has more than one colour");
    }
}

#[test]
fn the_shader_reads_the_models_own_buffer() {
    let Some((_one, render)) = adapter() else { return };
    assert!(heatmap::install(&render), "the adapter reads storage buffers in vertex shaders");
    let compute = gpu::burn_device(Some(&render), DeviceChoice::Gpu).expect("burn on the window's device");
    let row = some_row();
    let shape = [row.n_layers, row.n_heads, row.n_keys];
    let doubled: Vec<f32> = row.data.iter().map(|v| v * 2.0).collect();
    let tensor =
        burn::tensor::Tensor::<3>::from_data(burn::tensor::TensorData::new(doubled, shape), &compute.device);
    // A result, so that the picture depends on burn's work being submitted before the window's.
    let tensor = tensor.mul_scalar(0.5);
    let resident = gpu::resident(&tensor).expect("a buffer on the shared device");
    // What the window would upload is nonsense: the numbers can only come from burn's buffer.
    let mut map = grid_map(row, None, Colormap::Inferno);
    map.resident = Some(resident);
    let nonsense = PatternRow { data: vec![0.5; map.row.data.len()].into(), ..map.row.clone() };
    let found = drawn(render, Map { row: nonsense, ..map.clone() });
    assert_shows_values(&map, &found);
    let elsewhere = burn::tensor::Tensor::<3>::zeros([1, 1, 4], &burn::tensor::Device::flex());
    assert!(gpu::resident(&elsewhere).is_none(), "a tensor of another device has no buffer here");
}

// ---- The whole window, on a worker thread that plays a model.

/// The window's end of it.
struct Played {
    asked: Arc<Mutex<Vec<String>>>,
    requests: Sender<Request>,
    events: Receiver<Event>,
}

impl Link for Played {
    fn send(&self, request: Request) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{request:?}"));
        let _ = self.requests.send(request);
    }

    fn poll(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }
}

fn fake_worker(requests: Receiver<Request>, events: Sender<Event>) {
    for request in requests {
        let replies = match request {
            Request::LoadModel(_) => vec![model()],
            Request::OpenImage(_) => vec![Event::Image(made_up::image())],
            Request::Run { id, ask } => vec![started(id, &ask), token(id, &ask, 0), done(id, &ask)],
            Request::Cancel => Vec::new(),
        };
        if !replies.into_iter().all(|reply| events.send(reply).is_ok()) {
            return;
        }
    }
}

fn app() -> Harness<'static, App> {
    app_and_log().0
}

/// The window, and every request that it makes, as text.
fn app_and_log() -> (Harness<'static, App>, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let asked = log.clone();
    let (requests, inbox) = channel();
    let (outbox, events) = channel();
    std::thread::spawn(move || fake_worker(inbox, outbox));
    let options = Options {
        model: "model".into(),
        image: ImageSource::Path("image.png".into()),
        prompt: QUESTION.into(),
        max_new: 32,
        device: DeviceChoice::Cpu,
        dtype: Default::default(),
        scenes: Vec::new(),
        questions: Vec::new(),
    };
    let harness = Harness::builder().with_size([1280.0, 800.0]).build_eframe(move |cc| {
        App::new(&cc.egui_ctx, None, options, Box::new(Played { asked, requests, events }))
    });
    (harness, log)
}

fn until(harness: &mut Harness<'static, App>, what: &str, mut condition: impl FnMut(&App) -> bool) {
    let begun = Instant::now();
    while !condition(harness.state()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
        harness.step();
    }
    harness.run_ok();
}

#[test]
fn the_window_answers_follows_the_pointer_and_the_keys() {
    let mut harness = app();
    until(&mut harness, "the first answer", |app| app.state().runs.baseline.done().is_some());
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "red").hover();
    until(&mut harness, "a preview", |app| app.state().selection.hovered == Some((Which::Baseline, 1)));
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "red").click();
    until(&mut harness, "a pin", |app| app.state().selection.pinned == Some(1));
    harness.key_press(egui::Key::ArrowRight);
    until(&mut harness, "the next token", |app| app.state().selection.pinned == Some(2));
    let layer = harness.state().state().selection.layer;
    harness.key_press(egui::Key::ArrowUp);
    until(&mut harness, "the next layer", |app| app.state().selection.layer == layer + 1);
    harness.key_press(egui::Key::Escape);
    until(&mut harness, "no pin", |app| app.state().selection.pinned.is_none());
}

#[test]
fn the_range_cuts_by_mouse_and_by_keyboard() {
    let mut harness = app();
    until(&mut harness, "the first answer", |app| app.state().runs.baseline.done().is_some());
    let range = harness.state().state().cut.range;
    let handle = harness.get_by_label("last cut layer").rect().center();
    harness.hover_at(handle);
    harness.run_ok();
    harness.drag_at(handle);
    harness.run_ok();
    harness.hover_at(handle + egui::vec2(400.0, 0.0));
    harness.run_ok();
    harness.drop_at(handle + egui::vec2(400.0, 0.0));
    until(&mut harness, "a wider cut", |app| {
        let state = app.state();
        state.cut.enabled
            && state.cut.range == (range.0, 7)
            && state.runs.cut.done().is_some()
            && !state.busy()
    });
    assert_ne!(
        harness.state().state().runs.cut.answer_text(),
        harness.state().state().runs.baseline.answer_text()
    );
    harness.get_by_label("first cut layer").focus();
    harness.run_ok();
    harness.key_press(egui::Key::ArrowLeft);
    until(&mut harness, "one more layer", |app| app.state().cut.range == (range.0 - 1, 7));
}

#[derive(Debug)]
struct Dropped(std::path::PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("never read: the worker opens the path".to_string())
    }
}

#[test]
fn dropped_and_pasted_images_are_opened() {
    let (mut harness, asked) = app_and_log();
    until(&mut harness, "the first answer", |app| app.state().runs.baseline.done().is_some());
    let opened = || -> Vec<String> {
        let name = |request: &String| request.contains("OpenImage").then(|| request.clone());
        asked.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(name).collect()
    };
    harness.input_mut().dropped_files.push(Arc::new(Dropped("dropped.png".into())));
    until(&mut harness, "the dropped image", |_| opened().iter().any(|r| r.contains("dropped.png")));
    let folder = tempfile::tempdir().unwrap();
    harness.input_mut().dropped_files.push(Arc::new(Dropped(folder.path().to_path_buf())));
    until(&mut harness, "the dropped model", |_| {
        let all = asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|r| r.contains("LoadModel") && r.contains(&folder.path().display().to_string()))
    });
    let pasted = egui::ColorImage::filled([3, 2], egui::Color32::RED);
    harness.event(egui::Event::PasteImage(Arc::new(pasted)));
    until(&mut harness, "the pasted image", |_| opened().iter().any(|r| r.contains("pasted image")));
}

#[test]
fn the_question_is_asked_by_enter() {
    let mut harness = app();
    until(&mut harness, "the first answer", |app| app.state().runs.baseline.done().is_some());
    let question = harness
        .get_all_by_role(egui::accesskit::Role::TextInput)
        .find(|n| n.value().as_deref() == Some(QUESTION));
    let question = question.expect("the question box");
    question.focus();
    question.type_text(" now");
    harness.run_ok();
    harness.key_press(egui::Key::Enter);
    until(&mut harness, "the new question", |app| {
        app.state().runs.baseline.done().is_some_and(|v| v.ask.prompt.contains("now"))
    });
}
