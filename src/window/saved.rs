//! What outlives the window: layout, theme, model, question, how answers are chosen and maps drawn, what was opened.
//!
//! Plain text under names of eframe's storage. What cannot be read is as if it had not been saved.

use std::path::PathBuf;

use eframe::Storage;
use egui::{Context, Theme, ThemePreference};
use serde::{Deserialize, Serialize};

use crate::ui::store::{
    settings::{Asking, MapSettings, Tint},
    store::Store,
};

/// The name under which the layout is saved.
const LAYOUT: &str = "layout";

/// The name under which the theme is saved.
const THEME: &str = "theme";

/// The name under which the rest is saved.
const LAST: &str = "last";

/// What was in use when the window closed. What is not there, as in what earlier versions left, is as it is at first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Last {
    /// The model's folder; `None`: the bundled one.
    pub model: Option<PathBuf>,
    /// The question; `None` where nothing is known of it.
    pub question: Option<String>,
    /// Longest answer, as earlier versions had it by itself.
    #[serde(skip_serializing)]
    max_new: Option<usize>,
    /// How answers are chosen.
    pub asking: Option<Asking>,
    /// How maps are drawn.
    pub map: MapSettings,
    /// What tints words.
    pub tint: Tint,
    /// What was opened, the last first.
    pub recent: Vec<PathBuf>,
}

impl Last {
    /// What is in use now.
    pub fn of(store: &Store) -> Self {
        let model = store.model.as_ref().filter(|model| !model.bundled);
        Last {
            model: model.map(|model| model.folder.clone()),
            question: Some(store.prompt.clone()),
            max_new: None,
            asking: Some(store.asking),
            map: store.map,
            tint: store.tint,
            recent: store.recent.clone(),
        }
    }

    /// What was saved, if it can be used.
    pub fn load(storage: &dyn Storage) -> Option<Self> {
        let mut last: Last = serde_json::from_str(&storage.get_string(LAST)?).ok()?;
        last.map.mend();
        // An answer of no token, or a temperature of none, cannot be asked for.
        last.asking = last.asking.filter(|asking| {
            asking.max_new > 0 && asking.top > 0 && asking.sampling.is_none_or(|s| s.check().is_ok())
        });
        let length = last.max_new.filter(|max_new| *max_new > 0);
        last.asking = last.asking.or(length.map(|max_new| Asking { max_new, ..Asking::default() }));
        Some(last)
    }

    /// Saves it.
    pub fn save(&self, storage: &mut dyn Storage) {
        if let Ok(text) = serde_json::to_string(self) {
            storage.set_string(LAST, text);
        }
    }
}

/// The saved layout, as text.
pub fn layout(storage: &dyn Storage) -> Option<String> {
    storage.get_string(LAYOUT)
}

/// Saves a layout.
pub fn save_layout(storage: &mut dyn Storage, text: Option<String>) {
    if let Some(text) = text {
        storage.set_string(LAYOUT, text);
    }
}

/// Takes over the saved theme.
pub fn restore_theme(ctx: &Context, storage: &dyn Storage) {
    match storage.get_string(THEME).as_deref() {
        Some("dark") => ctx.set_theme(Theme::Dark),
        Some("light") => ctx.set_theme(Theme::Light),
        _ => {}
    }
}

/// Saves the theme, where one was chosen over the desktop's.
pub fn save_theme(storage: &mut dyn Storage, theme: Option<Theme>) {
    match theme {
        Some(Theme::Dark) => storage.set_string(THEME, "dark".to_string()),
        Some(Theme::Light) => storage.set_string(THEME, "light".to_string()),
        None => {}
    }
}

/// The theme, where one was chosen over the desktop's.
pub fn chosen_theme(ctx: &Context) -> Option<Theme> {
    match ctx.options(|options| options.theme_preference) {
        ThemePreference::Dark => Some(Theme::Dark),
        ThemePreference::Light => Some(Theme::Light),
        ThemePreference::System => None,
    }
}
