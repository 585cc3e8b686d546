//! What is likeliest in one cell of a lens, as bars: one box that stays while the pointer sweeps over cells.
//!
//! Knows one reading; nothing of where it is from.

use egui::{Grid, Id, Rect, RichText, Sense, Tooltip, Ui, vec2};

use crate::{
    trace::{finding::LensReading, palette::Colormap},
    ui::{theme, view::lens::words::plain, widgets::number},
};

/// Length of the bar of a certainty.
const BAR: f32 = 90.0;

/// Draws the box beside `cell`. `id`: of what the cells are part of.
pub fn popup(
    ui: &Ui,
    id: Id,
    cell: Rect,
    title: &str,
    reading: &LensReading,
    word: Option<&str>,
    colormap: Colormap,
) {
    let tooltip = Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, cell).width(300.0);
    tooltip.accessible_name("likeliest tokens").show(|ui| {
        ui.label(RichText::new(title).strong());
        Grid::new("likeliest tokens").num_columns(4).spacing(vec2(8.0, 1.0)).show(ui, |ui| {
            for (rank, token) in reading.top.iter().enumerate() {
                let probability = token.logprob.exp();
                ui.label(RichText::new(rank.to_string()).small().weak());
                ui.label(plain(&token.text));
                bar(ui, probability, colormap);
                ui.label(RichText::new(number::percent(probability)).small().monospace());
                ui.end_row();
            }
        });
        if let (Some(word), Some((rank, probability))) = (word, reading.chosen) {
            ui.label(format!("“{word}”: {}, rank {rank}", number::percent(probability)));
        }
    });
}

fn bar(ui: &mut Ui, share: f32, colormap: Colormap) {
    let (rect, _) = ui.allocate_exact_size(vec2(BAR, 9.0), Sense::hover());
    let share = share.clamp(0.0, 1.0);
    ui.painter().rect_filled(rect, 1.0, ui.visuals().faint_bg_color);
    let full = rect.with_max_x(rect.left() + rect.width() * share);
    ui.painter().rect_filled(full, 1.0, theme::map_color(colormap, share));
}
