//! A button made from the list of commands.

use egui::{Response, Ui};

use crate::ui::{
    frame::Frame,
    store::command::{Command, listed},
};

/// A button for a listed command, with its name, its tooltip and its keys. What stands in no list has none.
pub fn button(ui: &mut Ui, frame: &mut Frame, command: &Command) -> Option<Response> {
    let listed = listed().iter().find(|listed| listed.command == *command)?;
    Some(named(ui, frame, command, listed.text))
}

/// The same under another name.
pub fn named(ui: &mut Ui, frame: &mut Frame, command: &Command, name: &str) -> Response {
    let mut button = ui.button(name);
    if let Some(listed) = listed().iter().find(|listed| listed.command == *command) {
        button = button.on_hover_text(listed.hover_text());
    }
    if button.clicked() {
        frame.ask(command.clone());
    }
    button
}
