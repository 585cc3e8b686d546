//! Slanted lines over what is not there: layers that a cut blocks, parts of an image that no model saw.

use egui::{Painter, Rect, Stroke, pos2};

/// Draws them over `rect`, `apart` points from one another.
pub fn hatch(painter: &Painter, rect: Rect, apart: f32, stroke: Stroke) {
    let painter = painter.with_clip_rect(rect.intersect(painter.clip_rect()));
    let mut x = rect.left() - rect.height();
    while x < rect.right() {
        let line = [pos2(x, rect.bottom()), pos2(x + rect.height(), rect.top())];
        painter.line_segment(line, stroke);
        x += apart;
    }
}
