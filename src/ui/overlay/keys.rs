//! What keys and the pointer do: made from the list of commands.

use egui::{Align2, Context, Grid, RichText, ScrollArea, Ui, Window};

use crate::ui::store::command::{GESTURES, listed};

/// Room that is left around it.
const AROUND: f32 = 120.0;

/// Draws the overlay while `open`; a click elsewhere closes it.
pub fn keys(ctx: &Context, open: &mut bool) {
    let mut shown = *open;
    let window = Window::new("Keys").open(&mut shown).collapsible(false).resizable(false);
    let room = ctx.content_rect().size();
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).show(ctx, |ui| {
        ScrollArea::both().max_height(room.y - AROUND).max_width(room.x - AROUND).show(ui, |ui| {
            ui.horizontal_top(|ui| {
                Grid::new("gestures").num_columns(2).spacing([20.0, 5.0]).show(ui, |ui| {
                    GESTURES.iter().for_each(|(gesture, what)| line(ui, gesture, what, ""));
                });
                ui.add_space(24.0);
                Grid::new("keys").num_columns(2).spacing([20.0, 5.0]).show(ui, |ui| {
                    for listed in listed().iter().filter(|listed| !listed.shortcuts.is_empty()) {
                        line(ui, &listed.keys(), listed.text, listed.tooltip);
                    }
                });
            });
        });
    });
    let elsewhere = window.is_some_and(|window| window.response.clicked_elsewhere());
    *open = shown && !elsewhere;
}

fn line(ui: &mut Ui, keys: &str, what: &str, tooltip: &str) {
    ui.label(RichText::new(keys).strong());
    let label = ui.label(what);
    if !tooltip.is_empty() {
        label.on_hover_text(tooltip);
    }
    ui.end_row();
}
