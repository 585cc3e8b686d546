//! The menu of forms that a view can be exported in.
//!
//! Knows forms by name; not what is in them.

use egui::{RichText, Ui};

use crate::{
    trace::offer::Format,
    ui::{
        frame::Frame,
        store::{command::Command, view_id::ViewId},
    },
};

/// Draws it: one entry a form.
pub fn export_menu(ui: &mut Ui, frame: &mut Frame, view: ViewId, formats: &[Format]) {
    let menu = ui.menu_button(RichText::new("Export").small(), |ui| {
        for &format in formats {
            if ui.button(format.name()).on_hover_text(format.tooltip()).clicked() {
                frame.ask(Command::Export(view, format));
                ui.close();
            }
        }
        if ui.button("Copy as command").clicked() {
            frame.ask(Command::CopyCommand);
            ui.close();
        }
    });
    menu.response.on_hover_text("Export what this view shows");
}
