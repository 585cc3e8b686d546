//! The colours of a map and the numbers at their ends and in the middle.
//!
//! Knows colours and numbers; nothing of what they measure.

use egui::{Align2, Mesh, Rect, Stroke, StrokeKind, TextStyle, Ui, pos2};

use crate::{trace::palette::Colormap, ui::theme};

/// Steps of colour.
const STEPS: u32 = 48;

/// Draws it into `rect`, numbers at its right; `mark` is a share of the range to point at.
pub fn color_bar(ui: &Ui, colormap: Colormap, (low, high): (f32, f32), rect: Rect, mark: Option<f32>) {
    let mut mesh = Mesh::default();
    for i in 0..=STEPS {
        let t = i as f32 / STEPS as f32;
        let y = rect.bottom() - t * rect.height();
        let color = theme::map_color(colormap, t);
        mesh.colored_vertex(pos2(rect.left(), y), color);
        mesh.colored_vertex(pos2(rect.right(), y), color);
        if i > 0 {
            let v = i * 2;
            mesh.add_triangle(v - 2, v - 1, v);
            mesh.add_triangle(v - 1, v, v + 1);
        }
    }
    ui.painter().add(mesh);
    let outline = ui.visuals().widgets.noninteractive.bg_stroke;
    ui.painter().rect_stroke(rect, 0.0, outline, StrokeKind::Outside);
    let font = TextStyle::Small.resolve(ui.style());
    let color = ui.visuals().text_color();
    let ends = match high > low {
        true => &[(0.0, Align2::LEFT_BOTTOM), (0.5, Align2::LEFT_CENTER), (1.0, Align2::LEFT_TOP)][..],
        // One number only, most often 0 under a cut.
        false => &[(0.0, Align2::LEFT_BOTTOM)],
    };
    for &(t, align) in ends {
        let at = pos2(rect.right() + 5.0, rect.bottom() - t * rect.height());
        ui.painter().text(at, align, number(low + t * (high - low)), font.clone(), color);
    }
    if let Some(share) = mark {
        let y = rect.bottom() - share * rect.height();
        ui.painter().hline(rect.left() - 4.0..=rect.right() + 4.0, y, Stroke::new(2.0, color));
    }
}

/// Three significant digits.
fn number(value: f32) -> String {
    match value {
        0.0 => "0".to_string(),
        v if v >= 0.1 => format!("{v:.3}"),
        v if v >= 0.001 => format!("{v:.4}"),
        v => format!("{v:.1e}"),
    }
}
