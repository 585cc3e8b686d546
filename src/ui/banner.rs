//! Errors and notices, over the window: nothing below moves when one comes or goes.
//!
//! Knows two texts of the store.

use egui::{Align2, Area, Context, Frame as Room, Id, Label, Order, RichText, Sides, Stroke};

use crate::ui::{
    frame::Frame,
    store::{command::Command, store::Store},
    theme,
};

/// Room that stays free at the right, where work is cancelled.
const FREE: f32 = 330.0;

/// Widest text.
const WIDEST: f32 = 720.0;

/// Draws what there is.
pub fn banner(ctx: &Context, store: &Store, frame: &mut Frame) {
    let style = ctx.global_style();
    let messages = [
        (&store.error, theme::cut_color(&style.visuals), "Error", Command::DismissError),
        (&store.notices.first().cloned(), theme::accent(&style.visuals), "Note", Command::DismissNotice),
    ];
    if messages.iter().all(|(text, ..)| text.is_none()) {
        return;
    }
    let area = Area::new(Id::unique("banner")).order(Order::Foreground);
    area.anchor(Align2::LEFT_BOTTOM, [6.0, -4.0]).show(ctx, |ui| {
        ui.set_max_width((ctx.content_rect().width() - FREE).min(WIDEST));
        for (text, color, label, dismiss) in messages {
            let Some(text) = text else { continue };
            Room::popup(&style).stroke(Stroke::new(1.0, color)).show(ui, |ui| {
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
    });
}
