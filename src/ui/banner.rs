//! Errors and notices, above everything else.
//!
//! Knows two texts of the store.

use egui::{Label, Panel, RichText, Sides, Ui};

use crate::ui::{
    frame::Frame,
    store::{command::Command, store::Store},
    theme,
};

/// Draws what there is.
pub fn banner(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let color = theme::cut_color(ui.visuals());
    let calm = theme::accent(ui.visuals());
    for (text, color, label, dismiss) in [
        (&store.error, color, "Error", Command::DismissError),
        (&store.notice, calm, "Note", Command::DismissNotice),
    ] {
        let Some(text) = text else { continue };
        Panel::top(label).show(ui, |ui| {
            Sides::new().shrink_left().show(
                ui,
                |ui| {
                    ui.label(RichText::new(label).strong().color(color));
                    ui.add(Label::new(text).wrap());
                },
                |ui| {
                    if ui.button("Dismiss").clicked() {
                        frame.ask(dismiss);
                    }
                },
            );
        });
    }
}
