//! The window around the views: menus, palette, gallery, messages, what is written and opened again, what is kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    thread,
    time::{Duration, Instant},
};

use eframe::App as _;
use egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    export::{folder, trace as data},
    spec::{experiment::Experiment, record::Kept},
    studies::session::Session,
    trace::{
        offer::Format,
        pattern::StoredRow,
        report::Report,
        run::{ModelInfo, Stop, Timing, Trace},
    },
    ui::store::{
        command::{Command, Menu},
        selection::{BASELINE, CUT},
        view_id::ViewId,
    },
    window::app::App,
};

use crate::{
    bench::QUESTION,
    made_up,
    whole::{Around, Asked, answered, app_in, dropped, until},
};

type Window = Harness<'static, App>;

fn shows(harness: &Window, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

/// Frame by frame, until something is on screen: messages do not stay.
fn until_shown(harness: &mut Window, text: &str) {
    let begun = Instant::now();
    while !shows(harness, text) {
        assert!(begun.elapsed() < Duration::from_secs(20), "never shown: {text}");
        thread::sleep(Duration::from_millis(5));
        harness.step();
    }
}

fn until_there(file: &Path, there: bool) {
    let begun = Instant::now();
    while file.exists() != there {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}: {there}", file.display());
        thread::sleep(Duration::from_millis(5));
    }
}

fn apply(harness: &mut Window, command: Command) {
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, command);
}

fn asked_for(asked: &Asked, text: &str) -> bool {
    asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|request| request.contains(text))
}

/// Types into the palette, and takes the first that is found.
fn palette(harness: &mut Window, text: &str) {
    harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
    harness.run_ok();
    harness.get_by_label("search commands").type_text(text);
    harness.run_ok();
    harness.key_press(Key::Enter);
    harness.run_ok();
}

/// An image that is there.
fn picture(folder: &Path) -> PathBuf {
    let file = folder.join("two discs.png");
    made_up::image(made_up::source()).picture.save(&file).unwrap();
    file
}

#[test]
fn menus_have_what_the_list_has() {
    let mut harness = answered();
    for menu in Menu::BAR {
        harness.get_by_role_and_label(Role::Button, menu.name()).click();
        harness.run_ok();
        for listed in menu.entries() {
            assert!(shows(&harness, listed.text), "{} in {}", listed.text, menu.name());
            if let Some(shortcut) = listed.shortcuts.first() {
                assert!(shows(&harness, &shortcut.text()), "{}", shortcut.text());
            }
        }
        for inside in menu.inside() {
            assert!(shows(&harness, inside.name()), "{}", inside.name());
        }
        harness.key_press(Key::Escape);
        harness.run_ok();
    }
    harness.get_by_role_and_label(Role::Button, "Run").click();
    harness.run_ok();
    harness.get_all_by_label_contains("Ask again").next().unwrap().click();
    until(&mut harness, "another answer", |store| {
        !store.busy() && store.runs.baseline().done().is_some_and(|run| run.id > 1)
    });
    assert!(!egui::Popup::is_any_open(&harness.ctx), "a menu closes behind what was chosen");
}

#[test]
fn the_palette_takes_paths_numbers_and_questions() {
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    palette(&mut harness, "layer 2");
    until(&mut harness, "the layer", |store| store.selection.layer == 2);
    palette(&mut harness, "file:///nowhere/a%20b.png");
    until(&mut harness, "the image", |_| asked_for(&asked, "OpenImage(File(\"/nowhere/a b.png\"))"));
    palette(&mut harness, "ask and now");
    until(&mut harness, "the question", |store| store.prompt == "and now" && !store.busy());
    // The field in the bar opens it, and a click elsewhere closes it.
    harness.get_by_label("Type a command").click();
    harness.run_ok();
    assert!(harness.query_by_label("search commands").is_some());
    harness.hover_at(egui::pos2(640.0, 790.0));
    harness.run_ok();
    harness.drag_at(egui::pos2(640.0, 790.0));
    harness.drop_at(egui::pos2(640.0, 790.0));
    harness.run_ok();
    assert!(harness.query_by_label("search commands").is_none());
}

#[test]
fn a_question_mark_that_is_typed_is_no_key() {
    let mut harness = answered();
    let question = harness.get_all_by_role(Role::TextInput).find(|n| n.value().as_deref() == Some(QUESTION));
    question.expect("the question").focus();
    harness.run_ok();
    harness.key_press_modifiers(Modifiers::SHIFT, Key::Questionmark);
    harness.run_ok();
    assert!(harness.query_by_label("hover a word").is_none(), "the list of keys stays closed");
    harness.key_press(Key::Escape);
    harness.run_ok();
    harness.key_press_modifiers(Modifiers::SHIFT, Key::Questionmark);
    harness.run_ok();
    assert!(harness.query_by_label("hover a word").is_some());
}

#[test]
fn a_view_that_is_gone_to_comes_to_the_front_and_leaves_the_windows_keys() {
    let mut harness = answered();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Num5);
    harness.run_ok();
    assert_eq!(harness.state_mut().layout().front(), ViewId::Lens);
    assert!(harness.query_all_by_label_contains(", view").next().is_some(), "its start is read out");
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(0));
    harness.key_press(Key::ArrowUp);
    harness.run_ok();
    harness.key_press(Key::Escape);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Num1);
    harness.run_ok();
    assert_eq!(harness.state_mut().layout().front(), ViewId::Image);
}

#[test]
fn the_gallery_is_walked_by_keys_and_opens_a_scene() {
    let scenes = ["first.png", "second.png"].map(PathBuf::from).to_vec();
    let (mut harness, asked) = app_in(Around { scenes, ..Around::default() });
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    harness.key_press_modifiers(Modifiers::COMMAND, Key::G);
    harness.run_ok();
    assert!(harness.query_by_label("scene second").is_some());
    harness.key_press(Key::ArrowRight);
    harness.run_ok();
    assert_eq!(harness.state().store().selection.pinned(), None, "the arrow was the gallery's");
    harness.key_press(Key::Enter);
    until(&mut harness, "the scene", |_| asked_for(&asked, "OpenImage(File(\"second.png\"))"));
    harness.run_ok();
    assert!(harness.query_by_label("scene second").is_none(), "it closes");
    harness.key_press_modifiers(Modifiers::COMMAND, Key::G);
    harness.run_ok();
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(harness.query_by_label("scene second").is_none());
}

#[test]
fn what_a_view_shows_is_written_whole_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let save_dir = Some(dir.path().to_path_buf());
    let (mut harness, _) = app_in(Around { save_dir, ..Around::default() });
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    apply(&mut harness, Command::Export(ViewId::Answer, Format::Csv));
    until_shown(&mut harness, "Written: ");
    let files: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    assert!(file.extension().is_some_and(|ending| ending == "csv"));
    assert!(fs::read_to_string(file).unwrap().lines().count() > 10, "a line a word");
    apply(&mut harness, Command::Export(ViewId::Question, Format::Npz));
    until_shown(&mut harness, "can be written as NPZ");
}

#[test]
fn the_command_line_is_copied() {
    let mut harness = answered();
    apply(&mut harness, Command::CopyCommand);
    until_shown(&mut harness, "Copied: sightline run --model model");
    assert!(shows(&harness, "--max-new 32 --out run"));
}

#[test]
fn a_hand_that_drags_a_cut_holds_the_answer_back() {
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    let at = egui::pos2(640.0, 790.0);
    harness.hover_at(at);
    harness.run_ok();
    harness.drag_at(at);
    harness.step();
    apply(&mut harness, Command::CutLayers(1, 2));
    apply(&mut harness, Command::CutLayers(1, 3));
    assert!(asked_for(&asked, "Hold(true)") && !asked_for(&asked, "Hold(false)"));
    harness.drop_at(at);
    harness.step();
    harness.step();
    assert!(asked_for(&asked, "Hold(false)"));
    let held = asked.lock().unwrap().iter().filter(|request| request.contains("Hold(true)")).count();
    assert_eq!(held, 1, "told once");
}

#[test]
fn dropped_files_are_opened_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    harness.input_mut().dropped_files.push(dropped(&dir.path().join("mask of a ball.png")));
    until(&mut harness, "the mask", |_| asked_for(&asked, "Mark("));
    until(&mut harness, "the object", |store| {
        store.image().and_then(|image| image.objects.as_ref()).is_some_and(|objects| objects.len() == 1)
    });
    let session = dir.path().join("session.json");
    fs::write(&session, "{}").unwrap();
    harness.input_mut().dropped_files.push(dropped(&session));
    until_shown(&mut harness, "is no session file");
}

/// A session of three runs, saved; returns its file.
fn saved_session(folder: &Path) -> PathBuf {
    let around =
        Around { image: Some(picture(folder)), save_dir: Some(folder.to_path_buf()), ..Around::default() };
    let (mut harness, _) = app_in(around);
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    for layers in [(1, 2), (2, 5)] {
        apply(&mut harness, Command::CutLayers(layers.0, layers.1));
        until(&mut harness, "a cut", |store| store.runs.cut().done().is_some() && !store.busy());
        if layers == (1, 2) {
            apply(&mut harness, Command::Keep);
        }
    }
    apply(&mut harness, Command::Layer(6));
    apply(&mut harness, Command::SaveSession);
    until_shown(&mut harness, "Written: ");
    folder.join("session.json")
}

#[test]
fn a_session_is_saved_and_opened_again_with_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved_session(dir.path());
    let session = Session::read(&file).unwrap();
    assert_eq!(session.entries.len(), 3);
    assert!(session.entries.iter().all(|entry| entry.numbers.is_some()) && session.changed().is_empty());

    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    apply(&mut harness, Command::OpenSession(file.clone()));
    until_shown(&mut harness, "Session opened: 3 of 3 runs asked again; same numbers as stored");
    let store = harness.state().store();
    let cut = store.runs.lane(CUT).complete().unwrap();
    assert_eq!(cut.experiment.intervention, session.entries[2].experiment.intervention);
    assert_eq!((store.cut.range(8), store.selection.layer), (Some((2, 5)), 6));
    let kept: Vec<_> =
        store.runs.kept().into_iter().filter_map(|slot| store.runs.lane(slot).done()).collect();
    let first = &session.entries[0].experiment.intervention;
    assert!(kept.iter().any(|run| run.experiment.intervention == *first), "the kept run is kept again");
    let loads = asked.lock().unwrap().iter().filter(|request| request.contains("LoadModel")).count();
    assert_eq!(loads, 1, "its model is the one in use");
    assert_eq!(store.recent.first(), Some(&file));

    // Other numbers are told.
    let mut other = session.clone();
    let numbers = other.entries[2].numbers.as_mut().unwrap();
    numbers.answer[0].1 -= 0.5;
    let changed = dir.path().join("other.json");
    fs::write(&changed, other.text().unwrap()).unwrap();
    apply(&mut harness, Command::OpenPath(changed));
    until_shown(&mut harness, "numbers differ from those stored by up to 5.00e-1 nats");
}

#[test]
fn a_session_brings_its_model_and_other_weights_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = saved_session(dir.path());
    let mut session = Session::read(&file).unwrap();
    (session.model, session.sha256) = ("/another/model".into(), "1".repeat(64));
    fs::write(&file, session.text().unwrap()).unwrap();
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    apply(&mut harness, Command::OpenSession(file));
    until_shown(&mut harness, "The model's weights are others than the session's.");
    assert!(asked_for(&asked, "LoadModel(\"/another/model\")"));
}

/// Waits until no window holds a state folder.
fn until_free(state: &Path) {
    let lock = state.join("autosave").join("lock");
    let begun = Instant::now();
    while File::open(&lock).is_ok_and(|file| file.try_lock().is_err()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} is held", lock.display());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_window_leaves_its_session_and_a_closed_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let around = || Around { state_dir: Some(dir.path().to_path_buf()), ..Around::default() };
    let at = |name: &str| dir.path().join("autosave").join(name);
    {
        let (mut harness, _) = app_in(around());
        until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
        assert!(!at("autosave.json").exists(), "nobody did anything");
        palette(&mut harness, "ask and then");
        until(&mut harness, "the answer", |store| store.prompt == "and then" && !store.busy());
        let begun = Instant::now();
        while !at("autosave.json").exists() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is never kept");
            harness.step();
            thread::sleep(Duration::from_millis(5));
        }
    }
    until_free(dir.path());
    {
        let (mut harness, _) = app_in(around());
        until_shown(&mut harness, "The last session ended unexpectedly.");
        until(&mut harness, "the first answer", |store| {
            store.runs.baseline().done().is_some() && !store.busy()
        });
        assert_eq!(harness.state().store().prompt, QUESTION);
        harness.get_by_label("Restore").click();
        until_shown(&mut harness, "Session opened: ");
        assert_eq!(harness.state().store().prompt, "and then");
        harness.state_mut().on_exit();
    }
    assert!(!at("autosave.json").exists() && !at("recovered.json").exists());
    until_free(dir.path());
    // What cannot be read is told, and nothing else happens.
    fs::write(at("autosave.json"), "{ broken").unwrap();
    let (mut harness, _) = app_in(around());
    until_shown(&mut harness, "The last session ended unexpectedly.");
    harness.get_by_label("Restore").click();
    until_shown(&mut harness, "is no session file");
    harness.state_mut().on_exit();
    until_there(&at("recovered.json"), false);
}

/// A run of another model in a folder.
fn saved_run(folder: &Path) {
    let experiment = Experiment::ask(made_up::source(), QUESTION, 32);
    let steps = made_up::steps(&experiment);
    let all = |n: usize| (0..n).collect::<Vec<usize>>();
    let (tokens, rows): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let trace = Trace {
        model: ModelInfo { sha256: "1".repeat(64), ..made_up::model().info },
        device: "CPU".to_string(),
        dtype: "f32".to_string(),
        images: vec![made_up::image(made_up::source()).geometry],
        prompt: made_up::prompt(QUESTION),
        kept: Kept { layers: all(made_up::LAYERS), heads: all(made_up::HEADS), rows: all(tokens.len()) },
        answer: tokens,
        pattern: rows.into_iter().map(StoredRow::Full).collect(),
        flow: None,
        knockouts: Vec::new(),
        stop: Stop::End,
        timing: Timing::default(),
    };
    let report = Report { experiment, uncut: None, answer: trace, outcome: None };
    let out = folder::open(folder).unwrap();
    data::write(&report, None, &data::Extra::default(), &out).unwrap();
    out.commit().unwrap();
}

#[test]
fn a_saved_run_is_looked_at_without_its_model() {
    let dir = tempfile::tempdir().unwrap();
    saved_run(dir.path());
    let mut harness = answered();
    let before = harness.state().store().runs.baseline().answer_text();
    apply(&mut harness, Command::OpenPath(dir.path().to_path_buf()));
    until_shown(&mut harness, "The image is not shown: no session.json says where it lies.");
    let store = harness.state().store();
    assert!(store.model.is_none() && store.n_layers() == made_up::LAYERS);
    assert_eq!(store.runs.baseline().answer_text(), before);
    assert!(store.runs.baseline().row(1).is_some(), "its attention is there");
    apply(&mut harness, Command::Pin(BASELINE, 1));
    until(&mut harness, "a pin", |store| store.subject().is_some_and(|subject| subject.mean.is_none()));
    apply(&mut harness, Command::SaveSession);
    until_shown(&mut harness, "There is no session to save");
}

#[test]
fn notices_go_by_themselves_and_errors_stay() {
    let mut harness = answered();
    apply(&mut harness, Command::OpenPath("/nowhere/session.json".into()));
    until_shown(&mut harness, "cannot be read");
    harness.state_mut().layout().tell("Something to know.".to_string());
    harness.step();
    assert!(shows(&harness, "Something to know."));
    harness.run_steps(60);
    assert!(!shows(&harness, "Something to know."), "a quarter of a second a step");
    assert!(shows(&harness, "cannot be read"));
    harness.get_by_label("Dismiss").click();
    until(&mut harness, "no error", |store| store.error.is_none());
}

#[test]
fn an_error_is_whole_from_its_first_frame_on() {
    let mut harness = answered();
    harness.state_mut().layout().tell("Something to know.".to_string());
    harness.run_ok();
    harness.state_mut().layout().tell("A longer story, which takes several lines. ".repeat(12));
    harness.step();
    let screen = harness.ctx.content_rect();
    for button in harness.get_all_by_label("Dismiss") {
        assert!(screen.contains_rect(button.rect()), "{:?}", button.rect());
    }
}

#[test]
fn the_palette_knows_the_bundled_model() {
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    asked.lock().unwrap().clear();
    palette(&mut harness, "bundled model");
    until(&mut harness, "its answer", |store| !store.busy());
    assert!(asked_for(&asked, "LoadModel("));
}

#[test]
fn a_small_window_and_a_dense_screen_have_room_for_the_shell() {
    for (size, scale) in [([700.0, 500.0], 1.0), ([1280.0, 800.0], 1.5), ([1280.0, 800.0], 2.0)] {
        let mut harness = answered();
        harness.set_size(size.into());
        harness.set_pixels_per_point(scale);
        harness.run_ok();
        let whole = egui::Rect::from_min_size(egui::Pos2::ZERO, size.into());
        for name in ["File", "Edit", "View", "Run", "Help", "Type a command"] {
            let rect = harness.get_by_role_and_label(Role::Button, name).rect();
            assert!(whole.contains_rect(rect), "{name} at {rect:?} of {size:?}");
        }
        harness.key_press(Key::F1);
        harness.run_ok();
        assert!(harness.query_by_label("hover a word").is_some());
    }
}

#[test]
fn a_picture_that_was_pasted_has_no_command() {
    let mut harness = answered();
    let pasted = egui::ColorImage::filled([3, 2], egui::Color32::RED);
    harness.event(egui::Event::PasteImage(Arc::new(pasted)));
    until(&mut harness, "its answer", |store| {
        let of = store.runs.baseline().complete().and_then(|run| run.experiment.images.first());
        of.is_some_and(|picture| picture.image.file().is_none())
    });
    apply(&mut harness, Command::CopyCommand);
    until_shown(&mut harness, "“pasted image” lies in no file");
}
