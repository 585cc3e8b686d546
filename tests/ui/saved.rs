//! What outlives the window.

use std::{collections::BTreeMap, sync::PoisonError};

use eframe::App as _;
use egui_kittest::kittest::Queryable as _;
use sightline::{
    trace::sheet::Underlay,
    ui::store::{
        command::Command,
        settings::{ColorRange, MapSettings, Tint},
    },
};

use crate::whole::{Asked, answered, app_and_log, opened, until};

/// What a window saves, in memory.
#[derive(Clone, Default)]
pub struct Saved(pub BTreeMap<String, String>);

impl eframe::Storage for Saved {
    fn get_string(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    fn set_string(&mut self, key: &str, value: String) {
        self.0.insert(key.to_string(), value);
    }

    fn remove_string(&mut self, key: &str) {
        self.0.remove(key);
    }

    fn flush(&mut self) {}
}

#[test]
fn the_next_window_stands_as_this_one_was_left() {
    let mut harness = answered();
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, Command::ToggleTheme);
    harness.run_ok();
    let mut saved = Saved::default();
    harness.state_mut().save(&mut saved);
    assert_eq!(saved.0["theme"], "light");

    let (mut next, _) = app_and_log(Some(saved.clone()));
    next.run_ok();
    let mut again = Saved::default();
    next.state_mut().save(&mut again);
    // As values: the order in which tiles are written is not theirs.
    let value = |saved: &Saved| serde_json::from_str::<serde_json::Value>(&saved.0["layout"]).unwrap();
    assert_eq!(value(&again), value(&saved));

    // The harness has a theme of its own.
    let ctx = egui::Context::default();
    opened(&ctx, Some(saved.clone()), Asked::default());
    assert_eq!(ctx.options(|options| options.theme_preference), egui::ThemePreference::Light);

    // A layout that is not whole is not taken over.
    saved.0.insert("layout".to_string(), "{\"tiles\": 3}".to_string());
    let (mut next, _) = app_and_log(Some(saved.clone()));
    next.run_ok();
    next.state_mut().save(&mut again);
    assert_ne!(again.0["layout"], saved.0["layout"]);
    assert!(next.query_by_label("File").is_some());
}

#[test]
fn model_question_and_maps_outlive_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().display().to_string();
    let mut saved = Saved::default();
    let map = MapSettings {
        underlay: Underlay::Nothing,
        range: ColorRange::Locked(0.25),
        opacity: 0.4,
        ..Default::default()
    };
    {
        let mut harness = answered();
        harness.input_mut().dropped_files.push(crate::whole::dropped(folder.path()));
        until(&mut harness, "the other model", |store| {
            store.model.as_ref().is_some_and(|m| m.folder == folder.path()) && !store.busy()
        });
        let ctx = harness.ctx.clone();
        harness.state_mut().apply(&ctx, Command::Ask("and now?".to_string()));
        until(&mut harness, "the other question", |store| store.prompt == "and now?" && !store.busy());
        harness.state_mut().apply(&ctx, Command::Map(map));
        harness.state_mut().apply(&ctx, Command::Tint(Tint::Entropy));
        harness.state_mut().save(&mut saved);
    }
    let (mut next, asked) = app_and_log(Some(saved.clone()));
    until(&mut next, "its answer", |store| store.runs.baseline().done().is_some());
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert!(
        asked.iter().any(|request| request.contains("LoadModel") && request.contains(&model)),
        "{asked:?}"
    );
    let store = next.state().store();
    assert_eq!((store.prompt.as_str(), store.asking.max_new, store.map), ("and now?", 32, map));
    assert_eq!(store.tint, Tint::Entropy);
    assert_eq!(store.recent, [folder.path()], "what a window opens by itself is not among it");

    // A model that is gone, and nonsense: the window opens all the same.
    drop(folder);
    let (mut next, asked) = app_and_log(Some(saved.clone()));
    next.step();
    assert!(next.query_all_by_label_contains("The model of last time is gone").next().is_some());
    until(&mut next, "an answer", |store| store.runs.baseline().done().is_some());
    assert!(!asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|r| r.contains(&model)));
    for nonsense in ["", "{}", "[3]"] {
        saved.0.insert("last".to_string(), nonsense.to_string());
        let (mut next, _) = app_and_log(Some(saved.clone()));
        until(&mut next, "an answer", |store| store.runs.baseline().done().is_some());
        assert_eq!(next.state().store().map, MapSettings::default());
    }
}

#[test]
fn what_earlier_versions_left_is_still_read() {
    let mut saved = Saved::default();
    let last = r#"{"model":null,"question":"what is it ?","max_new":7,
        "map":{"colormap":"Magma","opacity":0.3,"underlay":"colour","range":"map","tiles":true,"visible":false}}"#;
    saved.0.insert("last".to_string(), last.to_string());
    let (mut next, _) = app_and_log(Some(saved));
    until(&mut next, "an answer", |store| store.runs.baseline().done().is_some());
    let store = next.state().store();
    assert_eq!((store.prompt.as_str(), store.asking.max_new), ("what is it ?", 7));
    assert_eq!((store.map.opacity, store.map.underlay, store.map.visible), (0.3, Underlay::Colour, false));
    assert_eq!((store.map.gamma, store.map.marks), (1.0, true), "what was not there is as it is at first");
}
