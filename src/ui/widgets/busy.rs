//! A sign that something goes on. It moves as often as the window may be painted, and no more.

use std::time::Duration;

use egui::{Sense, Ui, vec2};

/// Draws it; `pace` is the time between two paintings of what goes on.
pub fn busy(ui: &mut Ui, pace: Duration) {
    let (rect, _) = ui.allocate_exact_size(vec2(22.0, 12.0), Sense::hover());
    // Half a second a step, or longer where painting is dear.
    let step = pace.max(Duration::from_millis(500));
    let at = (ui.input(|i| i.time) / step.as_secs_f64()) as usize % 3;
    for dot in 0..3 {
        let center = rect.left_center() + vec2(4.0 + 7.0 * dot as f32, 0.0);
        let color = if dot == at { ui.visuals().text_color() } else { ui.visuals().weak_text_color() };
        ui.painter().circle_filled(center, if dot == at { 2.6 } else { 1.8 }, color);
    }
    ui.ctx().request_repaint_after(step);
}
