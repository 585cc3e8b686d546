//! The menu of models: the table, what is typed, and a model that is being fetched. No adapter is needed.

use std::path::{Path, PathBuf};

use egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    hub::{
        cache::Held,
        download::{FileState, Plan, State},
        table,
    },
    ui::{
        layout::Layout,
        store::{
            command::Command,
            models::{Fetch, Row, Stage},
            store::Store,
        },
        theme,
    },
    window::app::App,
    worker::protocol::{Event, ModelView},
};

use crate::{
    bench, made_up,
    whole::{Around, answered, app_in, until},
};

struct Window {
    store: Store,
    layout: Layout,
    asked: Vec<Command>,
}

fn window(fetch: Option<Stage>) -> Harness<'static, Window> {
    let mut store = bench::answered();
    store.models.rows = table::known().into_iter().map(|known| Row { known, held: Held::Nothing }).collect();
    store.models.free = Some(20_000_000_000);
    store.models.fetch = fetch.map(|stage| Fetch { name: "org/name".to_string(), stage });
    let window = Window { store, layout: Layout::new(false, false), asked: Vec::new() };
    let mut harness =
        Harness::builder().with_size([1280.0, 800.0]).with_context_setup(theme::install).build_ui_state(
            |ui, window: &mut Window| {
                let commands = window.layout.show(ui, &window.store);
                window.asked.extend(commands.into_iter().filter(|c| !matches!(c, Command::HoverPatch(_))));
            },
            window,
        );
    let (ctx, store) = (harness.ctx.clone(), Store::default());
    assert!(harness.state_mut().layout.apply(&ctx, &Command::ShowModels, &store));
    harness.run_ok();
    harness
}

fn click(harness: &mut Harness<'static, Window>, label: &str) {
    harness.get_by_label(label).click();
    harness.run_ok();
}

#[test]
fn the_table_says_what_a_model_costs_and_opens_it() {
    let mut harness = window(None);
    for text in ["SmolVLM 256M", "0.51 GB", "1.03 GB", "apache-2.0"] {
        assert!(harness.query_all_by_label_contains(text).next().is_some(), "{text}");
    }
    // More than the free memory in either format, or in one of them.
    for fits in ["no", "f16", "f32, f16"] {
        assert!(harness.query_all_by_label(fits).next().is_some(), "{fits}");
    }
    harness.get_all_by_label("Open").nth(1).unwrap().click();
    harness.run_ok();
    let first = PathBuf::from("HuggingFaceTB/SmolVLM-256M-Instruct");
    assert_eq!(harness.state().asked, [Command::OpenModel(first)]);
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(harness.query_by_label("SmolVLM 256M").is_none());
}

#[test]
fn a_name_or_a_folder_is_typed() {
    let mut harness = window(None);
    harness.get_by_label("folder or name of a model").focus();
    harness.run_ok();
    harness.get_by_label("folder or name of a model").type_text("org/name@v1");
    harness.run_ok();
    harness.key_press(Key::Enter);
    harness.run_ok();
    assert_eq!(harness.state().asked, [Command::OpenModel("org/name@v1".into())]);
}

#[test]
fn a_download_is_agreed_to_let_rest_and_stopped() {
    let plan = Plan {
        id: "org/name".parse().unwrap(),
        commit: "0a".repeat(20),
        licence: Some("mit".to_string()),
        files: Vec::new(),
        size: 5_000_000_000,
        missing: 3_000_000_000,
        cache: "/cache".into(),
    };
    let mut harness = window(Some(Stage::Planned(plan)));
    for text in ["5.00 GB", "3.00 GB", "licence: mit", "/cache"] {
        assert!(harness.query_all_by_label_contains(text).next().is_some(), "{text}");
    }
    click(&mut harness, "Download");
    assert_eq!(harness.state().asked, [Command::Fetch]);

    let file = |name: &str, done| FileState { name: name.to_string(), size: 200_000_000, done };
    let files = vec![file("a.safetensors", 200_000_000), file("b.safetensors", 100_000_000)];
    let state = State { files, note: Some("HTTP status 503; trying again".to_string()) };
    let comes = |paused| Stage::Comes { state: state.clone(), paused };
    let mut harness = window(Some(comes(false)));
    assert!(harness.query_all_by_label_contains("fetching 75 %").next().is_some());
    assert!(harness.query_all_by_label_contains("trying again").next().is_some());
    click(&mut harness, "Pause");
    click(&mut harness, "Cancel download");
    assert_eq!(harness.state().asked, [Command::PauseFetch(true), Command::StopFetch]);
    let mut harness = window(Some(comes(true)));
    click(&mut harness, "Continue");
    assert_eq!(harness.state().asked, [Command::PauseFetch(false)]);
}

#[test]
fn the_window_opens_a_folder_that_is_typed() {
    let (mut harness, asked) = app_in(Around::default());
    until(&mut harness, "the first answer", |store| store.runs.baseline().done().is_some());
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, Command::ShowModels);
    until(&mut harness, "the table", |store| !store.models.rows.is_empty());
    let dir = tempfile::tempdir().unwrap();
    let folder: &Path = dir.path();
    harness.state_mut().apply(&ctx, Command::OpenModel(folder.to_path_buf()));
    until(&mut harness, "the model", |store| {
        store.model.as_ref().is_some_and(|model| model.folder == folder)
    });
    let asked = asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .any(|request| request.contains("LoadModel") && request.contains(folder.to_str().unwrap()))
    );
}

#[test]
fn every_way_to_the_table_looks_into_the_cache() {
    let by_key =
        |harness: &mut Harness<'static, App>| harness.key_press_modifiers(Modifiers::COMMAND, Key::M);
    let by_palette = |harness: &mut Harness<'static, App>| {
        harness.key_press_modifiers(Modifiers::COMMAND, Key::K);
        harness.run_ok();
        harness.get_by_label("search commands").type_text("Models…");
        harness.run_ok();
        harness.key_press(Key::Enter);
    };
    let by_menu = |harness: &mut Harness<'static, App>| {
        harness.get_by_role_and_label(Role::Button, "File").click();
        harness.run_ok();
        harness.get_all_by_label_contains("Models…").next().unwrap().click();
    };
    for way in 0..3 {
        let mut harness = answered();
        match way {
            0 => by_key(&mut harness),
            1 => by_palette(&mut harness),
            _ => by_menu(&mut harness),
        }
        until(&mut harness, "the table", |store| !store.models.rows.is_empty());
        assert!(harness.query_all_by_label("SmolVLM 256M").next().is_some());
        assert!(harness.query_all_by_label_contains("looking into the cache").next().is_none());
        harness.key_press(Key::Escape);
        harness.run_ok();
        assert!(harness.query_by_label("SmolVLM 256M").is_none());
    }
}

#[test]
fn the_table_closes_once_the_model_is_there_that_was_asked_for() {
    let mut harness = window(None);
    let is_open =
        |harness: &Harness<'static, Window>| harness.query_all_by_label("SmolVLM 256M").next().is_some();
    let load = |harness: &mut Harness<'static, Window>, folder: &str| {
        let (ctx, command) = (harness.ctx.clone(), Command::LoadModel(folder.into()));
        let window = harness.state_mut();
        assert!(!window.layout.apply(&ctx, &command, &window.store));
        window.store.apply(command);
        harness.run_ok();
    };
    load(&mut harness, "broken");
    harness.state_mut().store.event(Event::Failed { id: None, error: "broken: no config.json".to_string() });
    harness.run_ok();
    assert!(is_open(&harness), "what failed is to be chosen anew");
    load(&mut harness, "other");
    assert!(is_open(&harness), "it comes");
    let model = ModelView { folder: "other".into(), ..made_up::model() };
    harness.state_mut().store.event(Event::Model(model));
    harness.run_ok();
    assert!(!is_open(&harness));
    let recent = &harness.state().store.recent;
    assert!(recent.contains(&"other".into()) && !recent.contains(&"broken".into()), "{recent:?}");
}

#[test]
fn the_table_keeps_its_height_while_it_fills() {
    let bottom = |rows: bool| {
        let mut harness = window(None);
        if !rows {
            harness.state_mut().store.models.rows.clear();
            harness.run_ok();
        }
        harness.get_by_label_contains("Memory is that of the weights").rect().bottom()
    };
    assert_eq!(bottom(false), bottom(true));
}

#[test]
fn what_is_only_asked_of_the_hub_is_no_download_yet() {
    let harness = window(Some(Stage::Asked(None)));
    assert!(harness.query_by_label("Cancel").is_some());
    assert!(harness.query_by_label("Cancel download").is_none());
}

#[test]
fn an_old_error_goes_when_a_model_is_opened() {
    let mut harness = answered();
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, Command::OpenPath("/nowhere/session.json".into()));
    until(&mut harness, "the error", |store| store.error.is_some());
    let dir = tempfile::tempdir().unwrap();
    harness.state_mut().apply(&ctx, Command::OpenModel(dir.path().to_path_buf()));
    assert_eq!(harness.state().store().error, None);
}
