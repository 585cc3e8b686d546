//! The menu bar: menus made from the list of commands, a field that opens the palette, and at the right what is
//! open: model, image, and where both run.
//!
//! Knows the list of commands and what was opened before; keeps nothing.

use std::path::Path;

use egui::{Align, Button, Label, Layout, MenuBar, RichText, Ui, vec2};

use crate::{
    hub::cache::id_of_snapshot,
    trace::run::ModelInfo,
    ui::{
        device_menu::device_menu,
        frame::Frame,
        store::{
            command::{Command, Listed, Menu, listed},
            models::Fetch,
            store::Store,
        },
        typed_path::{is_file, is_image},
    },
};

/// Widest field for commands, and the narrowest that has room for words.
const FIELD: (f32, f32) = (320.0, 90.0);

/// Characters of a name at the right.
const NAME: usize = 22;

/// Draws the bar.
pub fn top_bar(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    ui.add_space(2.0);
    MenuBar::new().ui(ui, |ui| {
        for menu in Menu::BAR {
            let shown = ui.menu_button(menu.name(), |ui| entries(ui, menu, store, frame));
            frame.place(format!("menu {}", menu.name()), shown.response.rect);
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            device_menu(ui, store, frame);
            image_menu(ui, store, frame);
            model_menu(ui, store, frame);
            field(ui, frame);
        });
    });
    ui.add_space(2.0);
}

/// A menu's entries, and the menus inside it.
fn entries(ui: &mut Ui, menu: Menu, store: &Store, frame: &mut Frame) {
    ui.set_min_width(230.0);
    for listed in menu.entries() {
        entry(ui, listed, store, frame);
        if listed.command == Command::PickSession {
            ui.add_enabled_ui(!store.recent.is_empty(), |ui| {
                ui.menu_button("Open recent", |ui| recent(ui, store, frame, |_| true));
            });
        }
    }
    if !menu.inside().is_empty() {
        ui.separator();
    }
    for inside in menu.inside() {
        ui.menu_button(inside.name(), |ui| {
            ui.set_min_width(230.0);
            inside.entries().for_each(|listed| entry(ui, listed, store, frame));
        });
    }
}

fn entry(ui: &mut Ui, listed: &Listed, store: &Store, frame: &mut Frame) {
    let mut button = Button::new(listed.text);
    if let Some(shortcut) = listed.shortcuts.first() {
        button = button.shortcut_text(shortcut.text());
    }
    if let Some(chosen) = is_chosen(&listed.command, store) {
        button = button.selected(chosen);
    }
    let button = ui.add_enabled(is_possible(&listed.command, store), button);
    if button.on_hover_text(listed.hover_text()).clicked() {
        frame.ask(listed.command.clone());
        ui.close();
    }
}

/// Whether a command would do something now.
fn is_possible(command: &Command, store: &Store) -> bool {
    let ready = store.model.is_some() && store.image().is_some();
    match command {
        Command::Undo | Command::Redo => store.can_undo(*command == Command::Undo),
        Command::Back | Command::Forward => store.can_go(*command == Command::Back),
        Command::Cancel => store.busy(),
        Command::AskAgain | Command::PickMask => ready,
        Command::Keep => store.runs.cut().done().is_some(),
        Command::SaveSession | Command::CopyCommand => store.runs.baseline().done().is_some(),
        Command::CopyAnswer => store.said_by(store.selection.slot).is_some(),
        Command::ShowGallery => !store.scenes.is_empty(),
        Command::Show(slot) | Command::Against(Some(slot)) => store.runs.has(*slot),
        Command::ClearCuts | Command::ToggleCut => !store.cut.items.is_empty(),
        Command::Free => !(store.selection.patches.is_empty() && store.selection.positions.is_empty()),
        _ => true,
    }
}

/// Whether a command that chooses among several, or switches, is what is chosen; `None` of any other.
fn is_chosen(command: &Command, store: &Store) -> Option<bool> {
    let map = &store.map;
    Some(match command {
        Command::ToggleMap => map.visible,
        Command::ToggleSmooth => map.smooth,
        Command::ToggleSinks => map.without_sinks,
        Command::ToggleGrid => map.grid,
        Command::Underlay(underlay) => map.underlay == *underlay,
        Command::Range(range) => map.range == *range,
        Command::Views(views) => map.views == *views,
        Command::Colours(colormap) => map.colormap == *colormap,
        Command::Tint(tint) => store.tint == *tint,
        Command::Tool(tool) => store.tool == *tool,
        Command::Show(slot) => store.selection.slot == *slot,
        Command::Against(slot) => store.selection.against == *slot,
        _ => return None,
    })
}

/// What was opened before, as far as it is wanted here.
fn recent(ui: &mut Ui, store: &Store, frame: &mut Frame, wanted: impl Fn(&Path) -> bool) {
    for path in store.recent.iter().filter(|path| wanted(path)) {
        if ui.button(name_of(path)).on_hover_text(path.display().to_string()).clicked() {
            frame.ask(Command::OpenPath(path.clone()));
            ui.close();
        }
    }
}

/// The field in the middle: a button that opens the palette.
fn field(ui: &mut Ui, frame: &mut Frame) {
    let (widest, narrowest) = FIELD;
    let room = ui.available_width();
    if room < 30.0 {
        return;
    }
    let width = widest.min(room - 8.0);
    ui.add_space(((room - width) / 2.0).max(0.0));
    let mut button =
        Button::new(RichText::new(if width < narrowest { "…" } else { "Type a command" }).weak());
    if width > 2.0 * narrowest {
        button = button.shortcut_text("Ctrl+K");
    }
    let button = button.fill(ui.visuals().extreme_bg_color).frame_when_inactive(true);
    let button = ui.add(button.min_size(vec2(width, 0.0))).accessible_name("Type a command");
    frame.place("commands", button.rect);
    let hint = "Search all commands; go to a layer, ask a question, open a path (Ctrl+K)";
    if button.on_hover_text(hint).clicked() {
        frame.ask(Command::OpenPalette);
    }
}

fn model_menu(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let label = match (store.model_info(), &store.model) {
        (None, _) => "no model".to_string(),
        (Some(info), Some(model)) if model.bundled => facts("bundled", info),
        (Some(info), _) => facts(&info.name, info),
    };
    let label = match store.models.fetch.as_ref().and_then(Fetch::share) {
        Some(share) => format!("{label} · fetching {:.0} %", 100.0 * share),
        None => label,
    };
    let menu = ui.menu_button(RichText::new(label).small(), |ui| {
        ui.set_min_width(280.0);
        if let Some(info) = store.model_info() {
            about(ui, store, info);
            ui.separator();
        }
        listed_entry(ui, &Command::LoadBundled, store, frame);
        recent(ui, store, frame, |path| !is_file(&name_of(path)));
        listed_entry(ui, &Command::ShowModels, store, frame);
        listed_entry(ui, &Command::PickModel, store, frame);
    });
    menu.response.on_hover_text("The model, and others");
}

fn image_menu(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let label = store.image().map_or("no image".to_string(), |image| shortened(&image.source.name()));
    let menu = ui.menu_button(RichText::new(label).small(), |ui| {
        ui.set_min_width(230.0);
        listed_entry(ui, &Command::PickImage, store, frame);
        listed_entry(ui, &Command::ShowGallery, store, frame);
        if store.recent.iter().any(|path| is_image(&name_of(path))) {
            ui.separator();
            recent(ui, store, frame, |path| is_image(&name_of(path)));
        }
    });
    menu.response.on_hover_text("The image on show, and others");
}

fn listed_entry(ui: &mut Ui, command: &Command, store: &Store, frame: &mut Frame) {
    if let Some(listed) = listed().iter().find(|listed| listed.command == *command) {
        entry(ui, listed, store, frame);
    }
}

/// What the model is, line by line.
fn about(ui: &mut Ui, store: &Store, info: &ModelInfo) {
    let mut lines = vec![
        format!("{} · family {}", info.name, info.family),
        format!("{} parameters, vocabulary {}, context {}", info.parameters, info.vocabulary, info.context),
        format!(
            "{} layers of {} heads ({} for keys and values), width {}",
            info.n_layers, info.n_heads, info.n_kv_heads, info.width
        ),
    ];
    match &store.model {
        Some(model) => {
            lines.push(format!("in {}", model.folder.display()));
            if !model.unused.is_empty() {
                lines.push(format!("{} weights accepted and not used", model.unused.len()));
            }
        }
        None => lines.push("of a saved run: open the model to ask it".to_string()),
    }
    for line in lines {
        ui.add(Label::new(RichText::new(line).small()).selectable(false));
    }
    let sum = format!("SHA-256 {}\nread from {}", info.sha256, info.sources);
    ui.add(Label::new(RichText::new("weights and files…").small().weak()).selectable(false))
        .on_hover_text(sum);
}

fn facts(name: &str, info: &ModelInfo) -> String {
    format!("{} · {} · {} × {}", shortened(name), count(info.parameters), info.n_layers, info.n_heads)
}

fn name_of(path: &Path) -> String {
    // A folder of the cache is called after a commit: the model's name says more.
    if let Some(id) = id_of_snapshot(path) {
        return id.repository();
    }
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_string(),
    }
}

/// `2.4M`, `7.1B`.
fn count(n: usize) -> String {
    match n {
        0..1_000 => n.to_string(),
        1_000..1_000_000 => format!("{:.1}K", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::store::settings::{Tint, Tool};

    #[test]
    fn counts_and_names_are_short() {
        assert_eq!(count(999), "999");
        assert_eq!(count(2_412_345), "2.4M");
        assert_eq!(count(7_063_000_000), "7.1B");
        assert_eq!(shortened("scene.png"), "scene.png");
        assert_eq!(shortened(&"é".repeat(30)), format!("{}…", "é".repeat(22)));
    }

    #[test]
    fn entries_tell_what_is_possible_and_what_is_chosen() {
        let mut store = Store::default();
        for command in [Command::Undo, Command::Cancel, Command::Keep, Command::SaveSession, Command::Back] {
            assert!(!is_possible(&command, &store), "{command:?}");
        }
        assert!(is_possible(&Command::PickImage, &store));
        assert_eq!(is_chosen(&Command::PickImage, &store), None);
        store.apply(Command::Tool(Tool::Brush));
        assert_eq!(is_chosen(&Command::Tool(Tool::Brush), &store), Some(true));
        assert_eq!(is_chosen(&Command::Tool(Tool::Look), &store), Some(false));
        assert_eq!(is_chosen(&Command::Tint(Tint::Attention), &store), Some(true));
        store.apply(Command::ToggleGrid);
        assert!(is_possible(&Command::Undo, &store));
    }
}
