//! Where models run: what the bar says of it, and the menu behind, with a field for the address of another machine.
//!
//! Keeps the text of the field; knows the store's device, and opens none.

use egui::{
    Button, Id, Label, PopupCloseBehavior, RichText, TextEdit, Ui,
    containers::menu::{MenuButton, MenuConfig},
};

use crate::{
    device::{
        address::Address,
        secret::{TOKEN, token_place},
    },
    ui::{
        frame::Frame,
        store::{command::Command, elsewhere::Elsewhere, store::Store},
        theme,
    },
};

/// Width of the field, and of the texts around it.
const WIDTH: f32 = 330.0;

/// Characters of a device in the bar.
const NAME: usize = 22;

/// Draws the button and, where it is open, the menu.
pub fn device_menu(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let label = Button::new(RichText::new(label(store)).small().weak());
    let (button, _) = MenuButton::from_button(label).config(config).ui(ui, |ui| {
        ui.set_width(WIDTH);
        facts(ui, store);
        ui.separator();
        choices(ui, store, frame);
        ui.separator();
        address(ui, store, frame);
    });
    frame.place("menu device", button.rect);
    button.accessible_name("where models run").on_hover_text(
        "Where the model runs, and its number format. A click offers another machine; which device of this one, and \
         which format, is said when the program is started: --device auto, cpu or gpu; --dtype auto, f32, f16 or bf16",
    );
}

/// `CPU · auto`, `gpu:7433 · f16 · not connected`.
fn label(store: &Store) -> String {
    let of_model = store.model.as_ref().map(|model| model.device.split(" (").next().unwrap_or_default());
    let dtype = store.model.as_ref().map_or(store.running.dtype, |model| model.dtype.typed());
    match &store.elsewhere {
        None => format!("{} · {dtype}", shortened(of_model.unwrap_or("no device"))),
        Some(far) => {
            let state = if far.is_up() { String::new() } else { format!(" · {}", far.state()) };
            format!("{} · {dtype}{state}", shortened(&far.address.short()))
        }
    }
}

fn facts(ui: &mut Ui, store: &Store) {
    match &store.model {
        Some(model) => {
            small(ui, format!("The model is on {}", model.device));
            small(ui, model.formats.clone());
        }
        None => small(ui, "No model is loaded".to_string()),
    }
}

fn choices(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let here = Button::selectable(store.elsewhere.is_none(), "This machine");
    let here = ui.add(here).on_hover_text("Loads the model here");
    if here.clicked() && store.elsewhere.is_some() {
        frame.ask(Command::RunAt(None));
        ui.close();
    }
    let Some(far) = &store.elsewhere else { return };
    _ = ui.selectable_label(true, far.address.short()).on_hover_text(far.address.to_string());
    small(ui, far.state().to_string());
    reconnect(ui, far, frame);
}

fn reconnect(ui: &mut Ui, far: &Elsewhere, frame: &mut Frame) {
    let button = ui.add_enabled(!far.is_called(), Button::new("Reconnect"));
    frame.place("reconnect", button.rect);
    if button.on_hover_text("Connects anew where the connection broke, and loads the model again").clicked() {
        frame.ask(Command::RunAt(Some(far.address.clone())));
        ui.close();
    }
}

/// The field of another machine's address.
fn address(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    ui.label("Another machine");
    let id = Id::unique("the address of another machine");
    let mut text = ui.data(|d| d.get_temp::<String>(id)).unwrap_or_else(|| {
        store.elsewhere.as_ref().map_or_else(String::new, |far| format!("remote:{}", far.address))
    });
    let edit = TextEdit::singleline(&mut text).hint_text("remote:ID@HOST:PORT").desired_width(f32::INFINITY);
    let field = ui.add(edit).accessible_name("address of another machine");
    frame.place("device address", field.rect);
    let entered = field.lost_focus() && ui.input(|i| i.key_pressed(egui::Key::Enter));
    let parsed = text.parse::<Address>();
    let connect = ui.add_enabled(parsed.is_ok(), Button::new("Connect"));
    frame.place("connect", connect.rect);
    let file = token_place().map(|file| format!(", or from {file} on this one")).unwrap_or_default();
    let hint = format!(
        "`sightline serve` prints the address on the other machine, and where its token lies there. The token is taken from {TOKEN}{file}."
    );
    small(ui, hint);
    match parsed {
        Ok(address) if entered || connect.clicked() => {
            frame.ask(Command::RunAt(Some(address)));
            ui.close();
        }
        Err(error) if !text.trim().is_empty() => {
            let color = theme::cut_color(ui.visuals());
            ui.add(Label::new(RichText::new(error.to_string()).small().color(color)).wrap());
        }
        _ => {}
    }
    ui.data_mut(|d| d.insert_temp(id, text));
}

fn small(ui: &mut Ui, text: String) {
    ui.add(Label::new(RichText::new(text).small()).selectable(false).wrap());
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((at, _)) => format!("{}…", &name[..at]),
        None => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::protocol::{Connection, Event};

    #[test]
    fn the_bar_says_where_models_run_and_whether_they_can() {
        let mut store = Store::default();
        assert_eq!(label(&store), "no device · auto");
        let id = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
        store.apply(Command::RunAt(Some(format!("{id}@gpu:7433").parse().unwrap())));
        assert_eq!(label(&store), "gpu:7433 · auto · connecting");
        store.event(Event::Connection(Connection::Up));
        assert_eq!(label(&store), "gpu:7433 · auto");
        store.event(Event::Connection(Connection::Down));
        assert_eq!(label(&store), "gpu:7433 · auto · not connected");
        store.apply(Command::RunAt(None));
        store.event(Event::Connection(Connection::Down));
        assert_eq!(label(&store), "no device · auto", "of a machine that is no more wanted");
    }
}
