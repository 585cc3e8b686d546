//! What keys and the pointer do: made from the list of commands.

use egui::{Align2, Context, Grid, RichText, ScrollArea, Ui, Window, vec2};

use crate::ui::store::command::{GESTURES, listed};

/// Room that is left around it, at the sides and above and below.
const AROUND: (f32, f32) = (60.0, 120.0);

/// Widest it gets, and from which width on the two lists stand side by side.
const WIDEST: f32 = 1000.0;
const BESIDE: f32 = 1000.0;

/// Draws the overlay while `open`; a click elsewhere closes it.
pub fn keys(ctx: &Context, open: &mut bool) {
    let mut shown = *open;
    let window = Window::new("Keys").open(&mut shown).collapsible(false).resizable(false);
    let room = ctx.content_rect().size() - vec2(AROUND.0, AROUND.1);
    let size = room.min(vec2(WIDEST, room.y));
    let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).fixed_size(size).show(ctx, |ui| {
        ScrollArea::vertical().auto_shrink([false, true]).show(ui, |ui| {
            // Side by side where both fit, else below each other.
            match size.x < BESIDE {
                true => {
                    gestures(ui);
                    ui.add_space(12.0);
                    shortcuts(ui);
                }
                false => {
                    _ = ui.horizontal_top(|ui| {
                        gestures(ui);
                        ui.add_space(24.0);
                        shortcuts(ui);
                    })
                }
            }
        });
    });
    let elsewhere = window.is_some_and(|window| window.response.clicked_elsewhere());
    *open = shown && !elsewhere;
}

fn gestures(ui: &mut Ui) {
    Grid::new("gestures").num_columns(2).spacing([20.0, 5.0]).show(ui, |ui| {
        GESTURES.iter().for_each(|(gesture, what)| line(ui, gesture, what, ""));
    });
}

fn shortcuts(ui: &mut Ui) {
    Grid::new("keys").num_columns(2).spacing([20.0, 5.0]).show(ui, |ui| {
        for listed in listed().iter().filter(|listed| !listed.shortcuts.is_empty()) {
            line(ui, &listed.keys(), listed.text, listed.tooltip);
        }
    });
}

fn line(ui: &mut Ui, keys: &str, what: &str, tooltip: &str) {
    ui.label(RichText::new(keys).strong());
    let label = ui.label(what);
    if !tooltip.is_empty() {
        label.on_hover_text(tooltip);
    }
    ui.end_row();
}
