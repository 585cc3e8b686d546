//! What outlives the window.

use std::{collections::BTreeMap, sync::PoisonError};

use eframe::App as _;
use egui_kittest::kittest::Queryable as _;
use sightline::{
    trace::sheet::Underlay,
    ui::store::{
        command::Command,
        settings::{ColorRange, MapSettings},
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
    harness.get_by_label("Light").click();
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
    assert!(next.query_by_label("Scenes").is_some());
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
        harness.get_by_label("Examples").click();
        harness.run_ok();
        harness.get_by_label("and now?").click();
        until(&mut harness, "the other question", |store| store.prompt == "and now?" && !store.busy());
        harness.state_mut().apply(&egui::Context::default(), Command::Map(map));
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
    assert_eq!((store.prompt.as_str(), store.max_new, store.map), ("and now?", 32, map));

    // A model that is gone, and nonsense: the window opens all the same.
    drop(folder);
    let (mut next, asked) = app_and_log(Some(saved.clone()));
    until(&mut next, "an answer", |store| store.runs.baseline().done().is_some());
    assert!(!asked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|r| r.contains(&model)));
    assert!(next.state().store().notice.as_ref().is_some_and(|notice| notice.contains(&model)));
    for nonsense in ["", "{}", "[3]"] {
        saved.0.insert("last".to_string(), nonsense.to_string());
        let (mut next, _) = app_and_log(Some(saved.clone()));
        until(&mut next, "an answer", |store| store.runs.baseline().done().is_some());
        assert_eq!(next.state().store().map, MapSettings::default());
    }
}
