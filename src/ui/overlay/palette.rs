//! The palette: a search box over everything that can be asked for. Enter runs what is chosen, Escape closes.
//!
//! Beside the list of commands it knows what needs a word more: a layer or a head by number, a question, a path.
//! Keeps what is being searched for.

use egui::{Align2, Context, Key, Modifiers, RichText, ScrollArea, Sides, TextEdit, Ui, Window};

use crate::{
    hub::id::HubId,
    ui::{
        frame::Frame,
        store::{
            command::{Command, Listed, listed},
            store::Store,
        },
        typed_path::{is_path, typed_path},
    },
};

/// Width and height, where the window has room for it.
const SIZE: [f32; 2] = [460.0, 380.0];

/// The palette.
#[derive(Debug, Default)]
pub struct Palette {
    open: bool,
    text: String,
    /// Which of what was found is chosen.
    at: usize,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    text: String,
    keys: String,
    tooltip: String,
    command: Command,
}

impl Palette {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens it empty, or closes it.
    pub fn toggle(&mut self) {
        *self = Palette { open: !self.open, ..Default::default() };
    }

    /// Closes it.
    pub fn close(&mut self) {
        *self = Palette::default();
    }

    /// Draws it while it is open; a click elsewhere closes it.
    pub fn show(&mut self, ctx: &Context, store: &Store, frame: &mut Frame) {
        if !self.open {
            return;
        }
        // Taken before the search box can have them.
        let count = |key| ctx.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
        let (up, down) = (count(Key::ArrowUp), count(Key::ArrowDown));
        let entered = count(Key::Enter) > 0;
        let room = ctx.content_rect().size();
        let size = [SIZE[0].min(room.x - 40.0), SIZE[1].min(room.y - 100.0)];
        let mut asked = None;
        let window = Window::new("Commands").title_bar(false).collapsible(false).resizable(false);
        let window = window.anchor(Align2::CENTER_TOP, [0.0, 40.0]).fixed_size(size).show(ctx, |ui| {
            let edit = TextEdit::singleline(&mut self.text)
                .id_salt("palette")
                .hint_text("a command, a layer, a question, a path, a model")
                .desired_width(f32::INFINITY);
            let edit = ui.add(edit).accessible_name("search commands");
            edit.request_focus();
            if edit.changed() {
                self.at = 0;
            }
            let found = found(&self.text, store);
            self.at = (self.at + down).saturating_sub(up).min(found.len().saturating_sub(1));
            let clicked = list(ui, &found, self.at, up + down > 0);
            let chosen = found.get(self.at).filter(|_| entered).map(|entry| entry.command.clone());
            asked = clicked.or(chosen);
        });
        if let Some(command) = asked {
            self.close();
            frame.ask(command);
        } else if window.is_some_and(|window| window.response.clicked_elsewhere()) {
            self.close();
        }
    }
}

/// What was found. Returns the command that was clicked.
fn list(ui: &mut Ui, found: &[Entry], at: usize, moved: bool) -> Option<Command> {
    let mut clicked = None;
    ScrollArea::vertical().auto_shrink([false, true]).show(ui, |ui| {
        for (i, entry) in found.iter().enumerate() {
            let keys = RichText::new(&entry.keys).small().weak();
            let label = |ui: &mut Ui| ui.selectable_label(i == at, &entry.text);
            let (label, _) = Sides::new().show(ui, label, |ui| ui.label(keys));
            if i == at && moved {
                label.scroll_to_me(None);
            }
            if label.on_hover_text(&entry.tooltip).clicked() {
                clicked = Some(entry.command.clone());
            }
        }
        if found.is_empty() {
            ui.label(RichText::new("no command has these words").weak());
        }
    });
    clicked
}

/// Everything that a text may mean: what it says by itself first, then the commands that have its words.
fn found(text: &str, store: &Store) -> Vec<Entry> {
    let said = [path(text), model(text), place(text, store), question(text)];
    said.into_iter().flatten().chain(commands(text)).collect()
}

fn entry(text: String, tooltip: &str, command: Command) -> Entry {
    Entry { text, keys: String::new(), tooltip: tooltip.to_string(), command }
}

/// A path to open.
fn path(text: &str) -> Option<Entry> {
    let path = Some(text).filter(|text| is_path(text)).map(typed_path)?;
    let tooltip = "An image, a mask, a model folder, a session or a saved run";
    Some(entry(format!("Open {}", path.display()), tooltip, Command::OpenPath(path)))
}

/// A model of the hub, by its name.
fn model(text: &str) -> Option<Entry> {
    let id: HubId = text.trim().parse().ok().filter(|_| !is_path(text))?;
    let tooltip =
        "From the cache, or from the hub if it is not there; you are asked before anything is fetched";
    Some(entry(format!("Open model {id}"), tooltip, Command::OpenModel(id.to_string().into())))
}

/// A layer or a head, by number.
fn place(text: &str, store: &Store) -> Option<Entry> {
    let text = text.trim().to_lowercase();
    let text = text.strip_prefix("go to ").unwrap_or(&text);
    let (what, number) = text.split_once(' ')?;
    let number: usize = number.trim().parse().ok()?;
    let (n_layers, n_heads) = (store.n_layers(), store.n_heads());
    let last = |n: usize| format!("from 0 to {}", n.saturating_sub(1));
    match what {
        "layer" if number < n_layers => {
            Some(entry(format!("Go to layer {number}"), &last(n_layers), Command::Layer(number)))
        }
        "head" if number < n_heads => {
            Some(entry(format!("Look at head {number}"), &last(n_heads), Command::Head(Some(number))))
        }
        _ => None,
    }
}

/// A question: after the word "ask", or with its mark.
fn question(text: &str) -> Option<Entry> {
    let text = text.trim();
    let after = text.split_once(' ').filter(|(word, _)| word.eq_ignore_ascii_case("ask"));
    let asked = match after {
        Some((_, rest)) => rest.trim(),
        None => Some(text).filter(|text| text.ends_with('?') && text.len() > 1)?,
    };
    // That of the list, as long as nothing else is said.
    if asked.is_empty() || "again".starts_with(&asked.to_lowercase()) {
        return None;
    }
    let command = Command::Ask(asked.to_string());
    Some(entry(format!("Ask “{asked}”"), "About the image on show", command))
}

/// Commands that have every word of `text` in their name or tooltip; those with them in the name first.
fn commands(text: &str) -> Vec<Entry> {
    let text = text.to_lowercase();
    let has = |within: &str| {
        let within = within.to_lowercase();
        text.split_whitespace().all(|word| within.contains(word))
    };
    let all = listed().iter().filter(|listed| listed.command != Command::OpenPalette);
    let (mut by_name, others): (Vec<_>, Vec<_>) = all.partition(|listed| has(listed.text));
    by_name.extend(others.into_iter().filter(|l| has(&format!("{} {}", l.text, l.tooltip))));
    let entry = |listed: &Listed| Entry {
        text: listed.text.to_string(),
        keys: listed.keys(),
        tooltip: listed.tooltip.to_string(),
        command: listed.command.clone(),
    };
    by_name.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::weights::WeightDtype, trace::run::ModelInfo, worker::protocol::ModelView};

    fn first(text: &str, store: &Store) -> Option<Command> {
        found(text, store).into_iter().next().map(|entry| entry.command)
    }

    #[test]
    fn names_come_before_tooltips() {
        assert_eq!(commands("layout")[0].command, Command::ResetLayout);
        assert_eq!(commands("LAYER up")[0].command, Command::LayerUp);
        assert!(commands("whole answer").iter().any(|entry| entry.command == Command::Unpin));
        assert!(commands("no such thing").is_empty());
        assert_eq!(commands("").len(), listed().len() - 1);
        let undo = commands("undo").into_iter().find(|entry| entry.command == Command::Undo).unwrap();
        assert_eq!(undo.keys, "Ctrl+Z");
    }

    #[test]
    fn numbers_questions_and_paths_are_understood() {
        let info: ModelInfo = serde_json::from_value(serde_json::json!({
            "name": "m", "sha256": "", "family": "llava", "n_layers": 8, "n_heads": 4, "n_kv_heads": 4,
            "width": 8, "vocabulary": 9, "context": 9, "parameters": 9,
        }))
        .unwrap();
        let mut store = Store::default();
        assert_ne!(first("layer 3", &store), Some(Command::Layer(3)), "there is no model");
        store.model = Some(ModelView {
            info,
            device: "CPU".to_string(),
            dtype: WeightDtype::F32,
            formats: String::new(),
            unused: Vec::new(),
            folder: "m".into(),
            bundled: false,
        });
        assert_eq!(first("layer 3", &store), Some(Command::Layer(3)));
        assert_eq!(first(" Go to layer 7", &store), Some(Command::Layer(7)));
        assert_ne!(first("layer 8", &store), Some(Command::Layer(8)), "they count from 0");
        assert_eq!(first("head 2", &store), Some(Command::Head(Some(2))));
        assert_eq!(first("ask where is it", &store), Some(Command::Ask("where is it".to_string())));
        assert_eq!(first("is there a duck?", &store), Some(Command::Ask("is there a duck?".to_string())));
        assert_eq!(first("ask again", &store), Some(Command::AskAgain));
        let path = Command::OpenPath("/a/b c.png".into());
        assert_eq!(first("file:///a/b%20c.png", &store), Some(path.clone()));
        assert_eq!(first("'/a/b c.png'", &store), Some(path));
        assert_eq!(first("undo", &store), Some(Command::Undo));
        let hub = "llava-hf/llava-1.5-7b-hf@main";
        assert_eq!(first(hub, &store), Some(Command::OpenModel(hub.into())));
        assert_ne!(first("runs/a.png", &store), Some(Command::OpenModel("runs/a.png".into())), "a file");
    }
}
