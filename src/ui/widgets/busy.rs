//! A sign that something goes on. It moves, except where painting is dear.

use std::time::Duration;

use egui::{Sense, Ui, vec2};

/// From one dot to the next.
const STEP: Duration = Duration::from_millis(400);

/// Draws it.
pub fn busy(ui: &mut Ui, dear: bool) {
    let (rect, _) = ui.allocate_exact_size(vec2(22.0, 12.0), Sense::hover());
    let at = (ui.input(|i| i.time) / STEP.as_secs_f64()) as usize % 3;
    for dot in 0..3 {
        let center = rect.left_center() + vec2(4.0 + 7.0 * dot as f32, 0.0);
        let color = if dot == at { ui.visuals().text_color() } else { ui.visuals().weak_text_color() };
        ui.painter().circle_filled(center, if dot == at { 2.6 } else { 1.8 }, color);
    }
    if !dear {
        ui.ctx().request_repaint_after(STEP);
    }
}
