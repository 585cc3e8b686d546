//! What keys and the pointer do: made from the list of commands.

use egui::{Align2, Context, Grid, RichText, Window};

use crate::ui::store::command::{GESTURES, listed};

/// Draws the overlay while `open`.
pub fn keys(ctx: &Context, open: &mut bool) {
    let window = Window::new("Keys").open(open).collapsible(false).resizable(false);
    window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).show(ctx, |ui| {
        Grid::new("keys").num_columns(2).spacing([24.0, 6.0]).show(ui, |ui| {
            for (gesture, what) in GESTURES {
                ui.label(RichText::new(gesture).strong());
                ui.label(what);
                ui.end_row();
            }
            for listed in listed().iter().filter(|listed| !listed.shortcuts.is_empty()) {
                ui.label(RichText::new(listed.keys()).strong());
                ui.label(listed.text).on_hover_text(listed.tooltip);
                ui.end_row();
            }
        });
    });
}
