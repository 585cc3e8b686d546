//! The whole window, on a worker thread that plays a model.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use egui::{Key, Modifiers};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    device::open::DeviceChoice,
    spec::picture::ImageSource,
    ui::store::{
        command::{Command, GESTURES, listed},
        selection::BASELINE,
        store::Store,
    },
    window::{
        app::{App, Options},
        pump::Link,
    },
    worker::protocol::{Connection, Event, ModelView, ObjectView, Request},
};

use crate::{bench::QUESTION, made_up, saved::Saved};

/// An image that cannot be read.
pub const BROKEN: &str = "broken.png";

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
    let mut open = None;
    for request in requests {
        let mut replies = match request {
            Request::LoadModel(folder) => {
                let model = Event::Model(ModelView { folder, ..made_up::model() });
                let again = open.clone().map(|source| Event::Image(made_up::image(source)));
                std::iter::once(model).chain(again).collect()
            }
            Request::OpenImage(source) if source.name() == BROKEN => {
                vec![Event::Failed { id: None, error: format!("{BROKEN}: unexpected end of file") }]
            }
            Request::OpenImage(source) => {
                open = Some(source.clone());
                vec![Event::Image(made_up::image(source))]
            }
            Request::Run { id, experiment, .. } => made_up::whole(id, &experiment),
            Request::Study { id, .. } => vec![Event::Studied { id, whole: true }],
            Request::Survey { id, .. } => vec![Event::SurveyBegun { id, images: Vec::new() }],
            Request::Drop(id) => vec![Event::Studied { id, whole: false }],
            Request::Mark(file) => {
                let name = file.file_stem().unwrap().to_string_lossy().into_owned();
                let object = ObjectView { name, patches: vec![0, 1], outline: Arc::from([]) };
                open.clone().map(|source| Event::Marked { source, object }).into_iter().collect()
            }
            Request::Place(Some(_)) => vec![Event::Connection(Connection::Up)],
            Request::Place(None) | Request::Cancel | Request::Hold(_) => Vec::new(),
        };
        replies.push(Event::Idle);
        if !replies.into_iter().all(|reply| events.send(reply).is_ok()) {
            return;
        }
    }
}

pub fn app() -> Harness<'static, App> {
    app_and_log(None).0
}

/// Every request that a window makes, as text.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// What a window stands in.
#[derive(Clone, Default)]
pub struct Around {
    /// What an earlier one saved; the first window of all if `None`.
    pub saved: Option<Saved>,
    /// Its first image; the made-up one if `None`.
    pub image: Option<PathBuf>,
    /// Sample scenes.
    pub scenes: Vec<PathBuf>,
    /// Where it writes files.
    pub save_dir: Option<PathBuf>,
    /// Where it keeps its session.
    pub state_dir: Option<PathBuf>,
}

/// The window, with what an earlier one saved, and what it asks.
pub fn app_and_log(saved: Option<Saved>) -> (Harness<'static, App>, Asked) {
    app_in(Around { saved, ..Around::default() })
}

/// The window among other things.
pub fn app_in(around: Around) -> (Harness<'static, App>, Asked) {
    let log = Asked::default();
    let asked = log.clone();
    let builder = Harness::builder().with_size([1280.0, 800.0]);
    (builder.build_eframe(move |cc| opened_in(&cc.egui_ctx, around, asked)), log)
}

/// The same without anything to draw on.
pub fn opened(ctx: &egui::Context, saved: Option<Saved>, asked: Asked) -> App {
    opened_in(ctx, Around { saved, ..Around::default() }, asked)
}

fn opened_in(ctx: &egui::Context, around: Around, asked: Asked) -> App {
    let Around { saved, image, scenes, save_dir, state_dir } = around;
    let (requests, inbox) = channel();
    let (outbox, events) = channel();
    std::thread::spawn(move || fake_worker(inbox, outbox));
    let options = Options {
        model: saved.is_none().then(|| "model".into()),
        image: image.map_or_else(made_up::source, ImageSource::File),
        prompt: saved.is_none().then(|| QUESTION.into()),
        max_new: saved.is_none().then_some(32),
        device: DeviceChoice::Cpu,
        dtype: Default::default(),
        scenes,
        questions: vec!["and now?".to_string()],
        save_dir,
        state_dir,
    };
    let storage = saved.as_ref().map(|saved| saved as &dyn eframe::Storage);
    App::new(ctx, None, storage, options, Box::new(Played { asked, requests, events }))
}

pub fn until(harness: &mut Harness<'static, App>, what: &str, mut condition: impl FnMut(&Store) -> bool) {
    let begun = Instant::now();
    while !condition(harness.state().store()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
        harness.step();
    }
    harness.run_ok();
}

pub fn answered() -> Harness<'static, App> {
    let mut harness = app();
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    harness
}

#[test]
fn the_window_answers_follows_the_pointer_and_the_keys() {
    let mut harness = answered();
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "red").hover();
    until(&mut harness, "a preview", |store| store.selection.hovered == Some((BASELINE, 1)));
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "red").click();
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(1));
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "the next token", |store| store.selection.pinned() == Some(2));
    let layer = harness.state().store().selection.layer;
    harness.key_press(Key::ArrowUp);
    until(&mut harness, "the next layer", |store| store.selection.layer == layer + 1);
    harness.key_press(Key::Escape);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
}

#[test]
fn every_press_of_a_key_counts_within_one_frame() {
    let mut harness = answered();
    for pressed in [true, false].into_iter().cycle().take(12) {
        let key = Key::ArrowRight;
        let modifiers = Modifiers::NONE;
        let event = egui::Event::Key { key, physical_key: None, pressed, repeat: false, modifiers };
        harness.input_mut().events.push(event);
    }
    harness.step();
    assert_eq!(harness.state().store().selection.pinned(), Some(5), "from the first word, five further");
}

#[test]
fn a_pin_is_taken_back_by_keyboard() {
    let mut harness = answered();
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "red").click();
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(1));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
    harness.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    until(&mut harness, "the pin", |store| store.selection.pinned() == Some(1));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Y);
    until(&mut harness, "the pin", |store| store.selection.pinned() == Some(1));
}

#[test]
fn the_palette_runs_a_command_by_keyboard() {
    let mut harness = answered();
    let visible = harness.state().store().map.visible;
    harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    harness.run_ok();
    harness.get_by_label("search commands").type_text("hide the map");
    harness.run_ok();
    harness.key_press(Key::Enter);
    until(&mut harness, "the map is hidden", |store| store.map.visible != visible);
    assert!(harness.query_by_label("search commands").is_none(), "it closes");

    harness.key_press(Key::ArrowRight);
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(0));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::P);
    harness.run_ok();
    assert!(harness.query_by_label("search commands").is_some());
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(harness.query_by_label("search commands").is_none());
    assert_eq!(harness.state().store().selection.pinned(), Some(0), "Escape closed it and did no more");
    harness.key_press(Key::Escape);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
}

#[test]
fn the_keys_overlay_lists_every_shortcut() {
    let mut harness = answered();
    harness.key_press(Key::F1);
    harness.run_ok();
    for listed in listed().iter().filter(|listed| !listed.shortcuts.is_empty()) {
        assert!(harness.query_all_by_label(&listed.keys()).next().is_some(), "{}", listed.keys());
        assert!(harness.query_all_by_label(listed.text).next().is_some(), "{}", listed.text);
    }
    for (gesture, _) in GESTURES {
        assert!(harness.query_by_label(gesture).is_some(), "{gesture}");
    }
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(harness.query_by_label(GESTURES[0].0).is_none());
}

#[test]
fn the_range_cuts_by_mouse_and_by_keyboard() {
    let mut harness = answered();
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, Command::CutLayers(2, 4));
    until(&mut harness, "a cut", |store| store.runs.cut().done().is_some() && !store.busy());
    let handle = harness.get_by_label("last cut layer").rect().center();
    harness.hover_at(handle);
    harness.run_ok();
    harness.drag_at(handle);
    harness.run_ok();
    harness.hover_at(handle + egui::vec2(400.0, 0.0));
    harness.run_ok();
    harness.drop_at(handle + egui::vec2(400.0, 0.0));
    until(&mut harness, "a wider cut", |store| {
        store.cut.range(8) == Some((2, 7)) && store.runs.cut().done().is_some() && !store.busy()
    });
    let store = harness.state().store();
    assert_ne!(store.runs.cut().answer_text(), store.runs.baseline().answer_text());
    harness.get_by_label("first cut layer").focus();
    harness.run_ok();
    harness.key_press(Key::ArrowLeft);
    until(&mut harness, "one more layer", |store| store.cut.range(8) == Some((1, 7)));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "one layer back", |store| store.cut.range(8) == Some((2, 7)));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "the cut before", |store| store.cut.range(8) == Some((2, 4)));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "no cut", |store| store.cut.items.is_empty());
}

#[test]
fn controls_do_not_move_when_an_answer_grows() {
    let mut harness = answered();
    let place = |harness: &Harness<'static, App>| {
        harness.get_by_role_and_label(egui::accesskit::Role::Button, "Ask").rect()
    };
    let before = place(&harness);
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, Command::CutLayers(0, 7));
    until(&mut harness, "a cut", |store| store.runs.cut().done().is_some() && !store.busy());
    assert_eq!(place(&harness).y_range(), before.y_range());
}

/// A file or folder that is dropped onto the window.
pub fn dropped(path: &std::path::Path) -> Arc<dyn egui::DroppedFile + Send + Sync> {
    Arc::new(Dropped(path.to_path_buf()))
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
    let (mut harness, asked) = app_and_log(None);
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
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
fn escape_closes_a_menu_before_it_unpins() {
    let mut harness = answered();
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(0));
    harness.get_by_role_and_label(egui::accesskit::Role::Button, "File").click();
    harness.run_ok();
    assert!(egui::Popup::is_any_open(&harness.ctx), "its entries are listed");
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(!egui::Popup::is_any_open(&harness.ctx));
    assert_eq!(harness.state().store().selection.pinned(), Some(0));
}

#[test]
fn the_question_is_asked_by_enter() {
    let mut harness = answered();
    let question = harness
        .get_all_by_role(egui::accesskit::Role::TextInput)
        .find(|n| n.value().as_deref() == Some(QUESTION));
    let question = question.expect("the question box");
    question.focus();
    question.type_text(" now");
    harness.run_ok();
    harness.key_press(Key::Enter);
    until(&mut harness, "the new question", |store| {
        store.runs.baseline().done().is_some_and(|run| run.experiment.question().contains("now"))
    });
}
