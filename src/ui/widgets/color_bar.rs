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
    /// Numbers at the bottom and at the top. Heights follow the numbers, whatever the gamma.
    pub range: (f32, f32),
    /// The map's gamma: which colours lie at which heights.
    pub gamma: f32,
    /// The map's opacity.
    pub opacity: f32,
    /// Attention spread evenly, to be marked where it lies within the range; of other numbers there is none.
    pub uniform: Option<f32>,
    /// Whether some value lies beyond the range: above it or, where it has numbers below zero, on either side.
    pub above: bool,
    /// A number to point at.
    pub mark: Option<f32>,
}

impl ColorBar {
    /// Draws it into `rect`, numbers at its right.
    pub fn show(&self, ui: &Ui, rect: Rect) {
        let painter = ui.painter();
        painter.add(shaded(rect, |_, side| Color32::from_gray((side * 255.0) as u8)));
        painter.add(shaded(rect, |t, _| self.color(t)));
        let outline = ui.visuals().widgets.noninteractive.bg_stroke;
        painter.rect_stroke(rect, 0.0, outline, StrokeKind::Outside);
        self.numbers(ui, painter, rect);
        if let Some(value) = self.mark.filter(|value| !value.is_nan()) {
            let y = self.height_of(rect, value);
            let color = ui.visuals().text_color();
            painter.hline(rect.left() - 4.0..=rect.right() + 4.0, y, Stroke::new(2.0, color));
        }
    }

    fn color(&self, t: f32) -> Color32 {
        let t = self.colormap.with_gamma(t, self.gamma);
        theme::map_color(self.colormap, t).gamma_multiply(self.opacity)
    }

    fn numbers(&self, ui: &Ui, painter: &Painter, rect: Rect) {
        let font = TextStyle::Small.resolve(ui.style());
        let text = |y: f32, align: Align2, text: String, color: Color32| {
            painter.text(pos2(rect.right() + 5.0, y), align, text, font.clone(), color);
        };
        let (low, high) = self.range;
        let color = ui.visuals().text_color();
        let middle = rect.center().y;
        if high <= low {
            // One number only, most often 0 under a cut: it has the colour of the bottom, or of the middle.
            match self.colormap.is_diverging() {
                true => text(middle, Align2::LEFT_CENTER, written(low), color),
                false => text(rect.bottom(), Align2::LEFT_BOTTOM, written(low), color),
            }
            return;
        }
        let [bottom, top] = self.ends();
        text(rect.bottom(), Align2::LEFT_BOTTOM, bottom, color);
        text(rect.top(), Align2::LEFT_TOP, top, color);
        let within = |value: f32| (low..=high).contains(&value).then(|| self.height_of(rect, value));
        let zero = if low < 0.0 { within(0.0) } else { None };
        let far = |from: Option<f32>, y: f32| from.is_none_or(|from| (from - y).abs() >= APART);
        let level = self.uniform.and_then(within).filter(|&level| far(zero, level));
        if rect.height() > 4.0 * APART && far(zero, middle) && far(level, middle) {
            text(middle, Align2::LEFT_CENTER, written((low + high) / 2.0), color);
        }
        let weak = ui.visuals().weak_text_color();
        for (y, name, ink) in [(zero, "0", color), (level, "uniform", weak)] {
            let Some(y) = y else { continue };
            painter.hline(rect.left()..=rect.right() + 4.0, y, Stroke::new(1.0, color));
            // The ends keep their numbers: the word moves out of their way.
            let level = y.max(rect.top() + 1.7 * APART).min(rect.bottom() - 1.7 * APART);
            text(level, Align2::LEFT_CENTER, name.to_string(), ink);
        }
    }

    /// What stands at the bottom and at the top.
    fn ends(&self) -> [String; 2] {
        let (low, high) = self.range;
        let beyond = |sign: &str, value: f32, is: bool| match is {
            true => format!("{sign} {}", written(value)),
            false => written(value),
        };
        [beyond("≤", low, self.above && low < 0.0), beyond("≥", high, self.above)]
    }

    fn height_of(&self, rect: Rect, value: f32) -> f32 {
        let (low, high) = self.range;
        let share = ((value - low) / (high - low).max(f32::MIN_POSITIVE)).clamp(0.0, 1.0);
        rect.bottom() - share * rect.height()
    }
}

/// Three significant digits, below zero too.
fn written(value: f32) -> String {
    if value < 0.0 { format!("-{}", number::short(-value)) } else { number::short(value) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(colormap: Colormap, range: (f32, f32)) -> ColorBar {
        ColorBar { colormap, range, gamma: 0.5, opacity: 1.0, uniform: None, above: true, mark: None }
    }

    #[test]
    fn heights_are_linear_and_colours_follow_gamma() {
        let rect = Rect::from_min_max(pos2(0.0, 0.0), pos2(10.0, 100.0));
        let attention = bar(Colormap::Inferno, (0.0, 0.4));
        assert_eq!(attention.height_of(rect, 0.1), 75.0);
        assert_eq!(attention.color(0.25), theme::map_color(Colormap::Inferno, 0.5));
        let difference = bar(Colormap::Diverging, (-0.4, 0.4));
        assert_eq!(difference.height_of(rect, 0.0), 50.0);
        assert_eq!(difference.color(0.25), theme::map_color(Colormap::Diverging, 0.25));
    }

    #[test]
    fn ends_say_what_lies_beyond_them() {
        assert_eq!(bar(Colormap::Inferno, (0.0, 0.4)).ends(), ["0", "≥ 0.400"]);
        assert_eq!(bar(Colormap::Diverging, (-0.05, 0.05)).ends(), ["≤ -0.0500", "≥ 0.0500"]);
        let whole = ColorBar { above: false, ..bar(Colormap::Diverging, (-2e-5, 2e-5)) };
        assert_eq!(whole.ends(), ["-2.0e-5", "2.0e-5"]);
    }
}
