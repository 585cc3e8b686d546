//! A study's figure on screen, which grows as images are measured: what lies under the pointer, and what is clicked.
//!
//! What its rows say is worked out anew only when there is enough new, since intervals take time. Knows panels and their
//! drawing.

use egui::{Sense, Ui, vec2};

use crate::{
    studies::survey::{
        chart::{Drawing, draw, page::Spot},
        course,
        findings::{At, Panel, Point, Series},
    },
    ui::{
        frame::Frame,
        store::{store::Store, studies::State, surveys::SurveyRun},
        view::studies::clicked::{are_cuts, clicked},
        widgets::figure,
    },
    worker::protocol::RunId,
};

/// How near the pointer has to be to a point.
const NEAR: f32 = 14.0;
/// Up to so many images, each one is drawn at once; of more, every so manieth part of them.
const AT_ONCE: usize = 16;
const PART: usize = 20;

/// See the module.
#[derive(Default)]
pub struct Drawn {
    /// Of which study, and how many of its images are in it.
    of: Option<(RunId, usize)>,
    panels: Vec<Panel>,
    /// How wide it was drawn.
    width: f32,
    drawing: Drawing,
}

impl Drawn {
    /// Draws it as wide as there is room, and asks for what is clicked.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, run: &SurveyRun, frame: &mut Frame) {
        self.update(run, ui.available_width().floor());
        let size = self.drawing.figure.size;
        let (rect, response) = ui.allocate_exact_size(vec2(size[0], size[1]), Sense::CLICK | Sense::HOVER);
        frame.place("study", rect);
        if ui.is_rect_visible(rect) {
            figure::paint(ui, rect, &self.drawing.figure);
        }
        let pointer = response.hover_pos().map(|at| at - rect.min);
        let Some((panel, series, point, spot)) = pointer.and_then(|at| self.nearest([at.x, at.y])) else {
            return;
        };
        let at = rect.min + vec2(spot.at[0], spot.at[1]);
        ui.painter().circle_stroke(at, 4.0, (1.5, ui.visuals().text_color()));
        if response.clicked() {
            clicked(store, run, panel, series, &point.at).into_iter().for_each(|command| frame.ask(command));
        }
        let deed =
            if are_cuts(run) { "\nclick: open the image where it does most, with this cut" } else { "" };
        response.on_hover_text_at_pointer(format!("{}{deed}", told(panel, series, point)));
    }

    /// Brings it up to date.
    fn update(&mut self, run: &SurveyRun, width: f32) {
        let n = run.measured.len();
        let goes_on = run.state == State::Running;
        let due = self.of.is_none_or(|(id, had)| id != run.id || is_due(had, n, goes_on));
        if due {
            self.panels = panels(run);
            self.of = Some((run.id, n));
        }
        if due || self.width != width {
            let n = self.of.map_or(n, |(_, n)| n);
            self.drawing = draw(&title(run, n), &self.panels, width);
            self.width = width;
        }
    }

    /// The point nearest to a place on the drawing, with what it is of.
    fn nearest(&self, [x, y]: [f32; 2]) -> Option<(&Panel, &Series, &Point, Spot)> {
        let far = |spot: &Spot| (spot.at[0] - x).hypot(spot.at[1] - y);
        let near = self.drawing.spots.iter().filter(|spot| far(spot) <= NEAR);
        let spot = near.min_by(|a, b| far(a).total_cmp(&far(b)))?;
        let panel = self.panels.get(spot.panel)?;
        let series = panel.series.get(spot.series)?;
        Some((panel, series, series.points.get(spot.point)?, *spot))
    }
}

/// What all rows so far say.
pub fn panels(run: &SurveyRun) -> Vec<Panel> {
    (run.kind.panels)(&course::rows(run.kind, &run.measured), &run.survey.settings, &run.model)
}

/// What a figure of so many images is of.
pub fn title(run: &SurveyRun, images: usize) -> String {
    let plural = if images == 1 { "" } else { "s" };
    format!("{}: {}, {images} image{plural}", run.kind.name, run.model.name)
}

/// Whether a figure of `had` images is to be made anew now that there are `has`.
fn is_due(had: usize, has: usize, goes_on: bool) -> bool {
    has != had && (!goes_on || has <= AT_ONCE || has * PART >= had * (PART + 1))
}

/// A point in words.
fn told(panel: &Panel, series: &Series, point: &Point) -> String {
    let estimate = &point.estimate;
    let at = match &point.at {
        At::Number(number) => format!("{} {number}", panel.across),
        At::Name(name) => name.clone(),
    };
    let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(written);
    let name = if series.name.is_empty() { String::new() } else { format!("{}, ", series.name) };
    format!("{name}{at}: {value} (95 % interval {low} to {high}, n = {})\n{}", estimate.n, panel.up)
}

/// Four significant digits.
fn written(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_string(),
        size if (1e-3..1e6).contains(&size) => {
            let decimals = (3.0 - size.log10().floor()).max(0.0) as usize;
            format!("{number:.decimals$}")
        }
        _ => format!("{number:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_of_many_images_is_made_anew_now_and_then_and_at_the_end() {
        assert!(is_due(0, 1, true) && is_due(15, 16, true) && !is_due(16, 16, true));
        assert!(!is_due(100, 104, true) && is_due(100, 105, true) && is_due(100, 104, false));
        assert!(is_due(20, 3, true), "another one");
        let made =
            (1..=1000).fold(
                (0, 0),
                |(made, had), has| {
                    if is_due(had, has, true) { (made + 1, has) } else { (made, had) }
                },
            );
        assert!(made.0 < 120, "{made:?}");
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!(
            [0.0, -1.23456, 123.456, 0.0123456, 2e-7].map(written),
            ["0", "-1.235", "123.5", "0.01235", "2.000e-7"]
        );
    }
}
