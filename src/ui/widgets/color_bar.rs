//! The colours of a map and the numbers that they stand for.
//!
//! Drawn over a run from black to white with the map's own opacity: every colour that the map has over a grey
//! image stands on the bar, at its number. Knows colours and numbers; nothing of what they measure.

use egui::{Align2, Color32, Mesh, Painter, Rect, Stroke, StrokeKind, TextStyle, Ui, pos2};

use crate::{
    trace::palette::Colormap,
    ui::{theme, widgets::number},
};

/// Steps of colour.
const STEPS: u32 = 48;

/// How far apart two numbers must stand to be read.
const APART: f32 = 13.0;

/// A bar to draw.
#[derive(Clone, Copy, Debug)]
pub struct ColorBar {
    /// Colours.
    pub colormap: Colormap,
    /// Numbers at the bottom and at the top.
    pub range: (f32, f32),
    /// The map's opacity.
    pub opacity: f32,
    /// Attention spread evenly, to be marked where it lies within the range.
    pub uniform: f32,
    /// Whether some value lies above the range.
    pub above: bool,
    /// A number to point at.
    pub mark: Option<f32>,
}

impl ColorBar {
    /// Draws it into `rect`, numbers at its right.
    pub fn show(&self, ui: &Ui, rect: Rect) {
        let painter = ui.painter();
        painter.add(shaded(rect, |_, side| Color32::from_gray((side * 255.0) as u8)));
        painter.add(shaded(rect, |t, _| theme::map_color(self.colormap, t).gamma_multiply(self.opacity)));
        let outline = ui.visuals().widgets.noninteractive.bg_stroke;
        painter.rect_stroke(rect, 0.0, outline, StrokeKind::Outside);
        self.numbers(ui, painter, rect);
        if let Some(value) = self.mark {
            let y = self.height_of(rect, value);
            let color = ui.visuals().text_color();
            painter.hline(rect.left() - 4.0..=rect.right() + 4.0, y, Stroke::new(2.0, color));
        }
    }

    fn numbers(&self, ui: &Ui, painter: &Painter, rect: Rect) {
        let font = TextStyle::Small.resolve(ui.style());
        let text = |y: f32, align: Align2, text: String, color: Color32| {
            painter.text(pos2(rect.right() + 5.0, y), align, text, font.clone(), color);
        };
        let (low, high) = self.range;
        let color = ui.visuals().text_color();
        text(rect.bottom(), Align2::LEFT_BOTTOM, number::short(low), color);
        if high <= low {
            // One number only, most often 0 under a cut.
            return;
        }
        let top = if self.above { format!("≥ {}", number::short(high)) } else { number::short(high) };
        text(rect.top(), Align2::LEFT_TOP, top, color);
        let middle = rect.center().y;
        let level = (low..=high).contains(&self.uniform).then(|| self.height_of(rect, self.uniform));
        if level.is_none_or(|level| (level - middle).abs() >= APART) {
            text(middle, Align2::LEFT_CENTER, number::short((low + high) / 2.0), color);
        }
        if let Some(level) = level {
            let weak = ui.visuals().weak_text_color();
            painter.hline(rect.left()..=rect.right() + 4.0, level, Stroke::new(1.0, color));
            // The ends keep their numbers: the word moves out of their way.
            let room = rect.top() + 1.7 * APART..=rect.bottom() - 1.7 * APART;
            text(level.clamp(*room.start(), *room.end()), Align2::LEFT_CENTER, "uniform".to_string(), weak);
        }
    }

    fn height_of(&self, rect: Rect, value: f32) -> f32 {
        let (low, high) = self.range;
        let share = ((value - low) / (high - low).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
        rect.bottom() - share * rect.height()
    }
}

/// A rectangle whose colour follows from the height, 0 to 1 from the bottom, and from the side, 0 or 1.
fn shaded(rect: Rect, color: impl Fn(f32, f32) -> Color32) -> Mesh {
    let mut mesh = Mesh::default();
    for i in 0..=STEPS {
        let t = i as f32 / STEPS as f32;
        let y = rect.bottom() - t * rect.height();
        mesh.colored_vertex(pos2(rect.left(), y), color(t, 0.0));
        mesh.colored_vertex(pos2(rect.right(), y), color(t, 1.0));
        if i > 0 {
            let v = i * 2;
            mesh.add_triangle(v - 2, v - 1, v);
            mesh.add_triangle(v - 1, v, v + 1);
        }
    }
    mesh
}
