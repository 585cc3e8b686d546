//! Words through the layers: how likely each is at one position, layer by layer.
//!
//! Only what a layer lists is known of a word: where a line has a gap, the word is not among the likeliest tokens
//! there. The last layer is the model's own answer. Knows readings; nothing of runs.

use std::{collections::BTreeMap, sync::Arc};

use egui::{Button, Color32, Pos2, RichText, Sense, Ui, vec2};
use egui_plot::{AxisHints, GridMark, Line, Plot, PlotTransform, Points, VLine};

use crate::{
    trace::{
        figure::{Align, Figure, Ink, Mark},
        finding::LensReading,
        palette::Colormap,
    },
    ui::{
        frame::Frame,
        store::{command::Command, studies::StudyRun},
        theme,
        view::lens::words::Followed,
        widgets::number,
    },
    worker::protocol::RunId,
};

/// Where the colours of lines lie on a colour map; neighbours are told apart.
const COLOURS: [f32; 6] = [0.12, 0.78, 0.45, 0.92, 0.28, 0.62];

/// Steps of the scale of probabilities.
const STEPS: usize = 4;

/// What a line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// Probability.
    #[default]
    Probability,
    /// How many tokens are likelier, by powers of ten.
    Rank,
}

impl Measure {
    /// Both.
    pub const ALL: [Measure; 2] = [Measure::Probability, Measure::Rank];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Measure::Probability => "probability",
            Measure::Rank => "rank",
        }
    }

    /// Height on the scale: upwards is better.
    fn height(self, point: &Point) -> f64 {
        match self {
            Measure::Probability => f64::from(point.probability),
            Measure::Rank => -((point.rank + 1) as f64).log10(),
        }
    }

    /// A mark of the scale, in words.
    fn written(self, height: f64) -> String {
        match self {
            Measure::Probability => number::short(height as f32),
            Measure::Rank => format!("{:.0}", 10f64.powf(-height) - 1.0),
        }
    }
}

/// A word at one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Decoder layer.
    pub layer: usize,
    /// Its probability.
    pub probability: f32,
    /// Tokens that are likelier.
    pub rank: usize,
}

/// A word through the layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Trajectory {
    /// What is followed.
    pub of: Followed,
    /// Layers in which it is known, ascending.
    pub points: Vec<Point>,
}

impl Trajectory {
    fn of(of: Followed, study: &StudyRun, position: usize) -> Self {
        let point = |(layer, readings): (&usize, &BTreeMap<usize, LensReading>)| {
            let (probability, rank) = of.at(readings.get(&position)?)?;
            Some(Point { layer: *layer, probability, rank })
        };
        let points = study.found.lens.iter().filter_map(point).collect();
        Trajectory { of, points }
    }

    /// Layers without a gap.
    fn stretches(&self) -> impl Iterator<Item = &[Point]> {
        self.points.chunk_by(|a, b| b.layer == a.layer + 1)
    }
}

/// The lines of one position, made once for every finding.
#[derive(Debug, Default)]
pub struct Kept {
    key: Option<(RunId, u64, usize, Vec<Followed>)>,
    lines: Arc<[Trajectory]>,
}

impl Kept {
    /// What is followed, at a position.
    pub fn lines(&mut self, study: &StudyRun, position: usize, followed: Vec<Followed>) -> Arc<[Trajectory]> {
        let key = Some((study.id, study.serial, position, followed));
        if self.key != key {
            let followed = key.iter().flat_map(|(.., followed)| followed.iter().cloned());
            self.lines = followed.map(|of| Trajectory::of(of, study, position)).collect();
            self.key = key;
        }
        self.lines.clone()
    }
}

/// What is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Chart<'a> {
    /// The lines.
    pub lines: &'a [Trajectory],
    /// Decoder layers.
    pub n_layers: usize,
    /// The layer on show.
    pub layer: usize,
    /// What their height is.
    pub measure: Measure,
}

impl Chart<'_> {
    /// Names the lines with their numbers in the layer on show. Returns one that is to be followed no longer: only
    /// `own` ones can be.
    pub fn legend(&self, ui: &mut Ui, own: &[Followed]) -> Option<Followed> {
        let mut dropped = None;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(4.0, 1.0);
            for (at, line) in self.lines.iter().enumerate() {
                let point = line.points.iter().find(|point| point.layer == self.layer);
                let value = point.map_or("not listed".to_string(), told);
                let text = RichText::new(format!("{}: {value}", line.of.name())).small().color(color(at));
                if !own.contains(&line.of) {
                    ui.label(text);
                } else if ui
                    .add(Button::new(text).frame(false))
                    .on_hover_text("Click to follow it no longer")
                    .clicked()
                {
                    dropped = Some(line.of.clone());
                }
                ui.add_space(6.0);
            }
        });
        dropped
    }

    /// Draws the lines. A click on a layer looks at it.
    pub fn show(&self, ui: &mut Ui, height: f32, frame: &mut Frame) {
        let faint = ui.visuals().weak_text_color();
        let plot = self.axes(height).show(ui, |plot| {
            plot.vline(
                VLine::new("layer on show", self.layer as f64).color(faint).width(1.0).allow_hover(false),
            );
            for (at, line) in self.lines.iter().enumerate() {
                for (part, stretch) in line.stretches().enumerate() {
                    let points: Vec<[f64; 2]> = stretch.iter().map(|point| self.place(point)).collect();
                    let name = line.of.name();
                    let dots = Points::new(name.clone(), points.clone()).radius(2.4).color(color(at));
                    plot.line(
                        Line::new(name, points).color(color(at)).width(1.8).allow_hover(false).id((at, part)),
                    );
                    plot.points(dots.allow_hover(false).id((at, part, "dots")));
                }
            }
        });
        frame.place("lens lines", *plot.transform.frame());
        let response = plot.response;
        let Some(layer) = response.hover_pos().map(|pos| self.layer_at(&plot.transform, pos)) else { return };
        if response.clicked() {
            frame.ask(Command::Layer(layer));
        }
        response.on_hover_ui_at_pointer(|ui| self.numbers(ui, layer));
    }

    fn layer_at(&self, transform: &PlotTransform, pos: Pos2) -> usize {
        let layer = transform.value_from_position(pos).x.round().max(0.0) as usize;
        layer.min(self.n_layers.saturating_sub(1))
    }

    fn place(&self, point: &Point) -> [f64; 2] {
        [point.layer as f64, self.measure.height(point)]
    }

    /// All numbers of one layer.
    fn numbers(&self, ui: &mut Ui, layer: usize) {
        let own = layer + 1 == self.n_layers;
        let note = if own { ": the model's own answer" } else { "" };
        ui.label(RichText::new(format!("layer {layer}{note}")).strong());
        for (at, line) in self.lines.iter().enumerate() {
            let point = line.points.iter().find(|point| point.layer == layer);
            let value = point.map_or("not among the likeliest tokens".to_string(), told);
            ui.label(RichText::new(format!("{}: {value}", line.of.name())).color(color(at)));
        }
    }

    /// Lowest and highest number of the scale.
    fn ends(&self) -> (f64, f64) {
        let heights = self.lines.iter().flat_map(|line| &line.points).map(|point| self.measure.height(point));
        match self.measure {
            // Small probabilities would all lie on the floor of a scale up to 1.
            Measure::Probability => match heights.fold(0.0, f64::max) {
                0.0 => (0.0, 1.0),
                high if high >= 0.5 => (0.0, 1.0),
                high => (0.0, high),
            },
            Measure::Rank => (heights.fold(-1.0, f64::min).floor(), 0.0),
        }
    }

    /// The marks of the scale.
    fn marks(&self) -> Vec<f64> {
        let (low, high) = self.ends();
        match self.measure {
            Measure::Probability => (0..=STEPS).map(|i| high * i as f64 / STEPS as f64).collect(),
            Measure::Rank => (0..=(-low) as usize).map(|power| -(power as f64)).collect(),
        }
    }

    /// Layers that are numbered.
    fn numbered(&self) -> (usize, Vec<usize>) {
        let step = self.n_layers.div_ceil(16).max(1);
        (step, (0..self.n_layers).step_by(step).collect())
    }

    /// The axes, and nothing that moves them.
    fn axes(&self, height: f32) -> Plot<'static> {
        let (low, high) = self.ends();
        let (step, layers) = self.numbered();
        let (marks, measure) = (self.marks(), self.measure);
        let room = (high - low) * 0.04;
        let apart = (high - low) / (marks.len().max(2) - 1) as f64;
        Plot::new("lens lines")
            .height(height)
            .allow_zoom(false)
            .allow_drag(false)
            .allow_scroll(false)
            .allow_boxed_zoom(false)
            .allow_double_click_reset(false)
            .allow_axis_zoom_drag(false)
            .show_x(false)
            .show_y(false)
            .show_grid([false, true])
            .y_axis_min_width(40.0)
            .set_margin_fraction(vec2(0.0, 0.0))
            .include_x(-0.5)
            .include_x(self.n_layers as f64 - 0.5)
            .include_y(low - room)
            .include_y(high + room)
            .sense(Sense::CLICK | Sense::HOVER)
            .x_grid_spacer(move |_| {
                let mark = |layer: &usize| GridMark { value: *layer as f64, step_size: step as f64 };
                layers.iter().map(mark).collect()
            })
            .y_grid_spacer(move |_| {
                marks.iter().map(|height| GridMark { value: *height, step_size: apart }).collect()
            })
            .custom_x_axes(vec![
                AxisHints::new_x()
                    .formatter(|mark, _| format!("{:.0}", mark.value))
                    .label_spacing(12.0..=20.0),
            ])
            .y_axis_formatter(move |mark, _| measure.written(mark.value))
    }

    /// The same as a drawing.
    pub fn figure(&self, title: String) -> Figure {
        let [left, top, right, bottom] = PAGE;
        let (low, high) = self.ends();
        let x = |layer: f64| left + (right - left) * ((layer + 0.5) / self.n_layers.max(1) as f64) as f32;
        let y = |height: f64| bottom - (bottom - top) * ((height - low) / (high - low)) as f32;
        let mut figure = Figure::new([right + 190.0, bottom + 40.0], title.clone());
        figure.add(Mark::bold([left, top - 22.0], title, 13.0, Align::Start, Ink::Text));
        for height in self.marks() {
            figure.add(Mark::line(vec![[left, y(height)], [right, y(height)]], Ink::Faint, 1.0));
            let at = [left - 6.0, y(height)];
            figure.add(Mark::text(at, self.measure.written(height), 11.0, Align::End, Ink::Weak));
        }
        for layer in self.numbered().1 {
            let at = [x(layer as f64), bottom + 12.0];
            figure.add(Mark::text(at, layer.to_string(), 11.0, Align::Middle, Ink::Weak));
        }
        let axis = format!("layer; height: {}", self.measure.name());
        figure.add(Mark::text([(left + right) / 2.0, bottom + 28.0], axis, 11.0, Align::Middle, Ink::Weak));
        for (at, line) in self.lines.iter().enumerate() {
            let ink = Ink::rgb(rgb(at));
            for stretch in line.stretches() {
                let points: Vec<[f32; 2]> = stretch
                    .iter()
                    .map(|point| self.place(point))
                    .map(|[layer, height]| [x(layer), y(height)])
                    .collect();
                for [x, y] in &points {
                    figure.add(Mark::filled([x - 2.0, y - 2.0, x + 2.0, y + 2.0], ink));
                }
                figure.add(Mark::line(points, ink, 1.8));
            }
            let name = [right + 10.0, top + 8.0 + 16.0 * at as f32];
            figure.add(Mark::text(name, line.of.name(), 11.0, Align::Start, ink));
        }
        figure
    }
}

/// Where the lines lie on a drawing.
const PAGE: [f32; 4] = [60.0, 40.0, 560.0, 300.0];

/// A word at one layer, in words.
fn told(point: &Point) -> String {
    format!("{}, rank {}", number::percent(point.probability), point.rank)
}

fn rgb(at: usize) -> [u8; 3] {
    Colormap::Turbo.rgb8(COLOURS[at % COLOURS.len()])
}

/// The colour of a line.
fn color(at: usize) -> Color32 {
    theme::map_color(Colormap::Turbo, COLOURS[at % COLOURS.len()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::study::{LensAt, Study, StudyKind},
        trace::{
            finding::{Finding, LensPage},
            tokens::Candidate,
        },
        ui::store::studies::Studies,
    };

    /// “duck” is listed in layers 0, 2 and 3.
    fn studies() -> Studies {
        let mut studies = Studies::default();
        let at = LensAt { positions: vec![4], layers: Default::default(), top: 2, word: None };
        studies.begin(3, Study::Lens(at), 1, "A".to_string());
        for (layer, (id, p)) in [(2, 0.1), (9, 0.9), (2, 0.4), (2, 0.8)].into_iter().enumerate() {
            let top = vec![Candidate { id, text: " duck".to_string(), logprob: f32::ln(p) }];
            let page = LensPage { layer, readings: vec![LensReading { position: 4, top, chosen: None }] };
            studies.found(3, Finding::Lens(page), (layer + 1, 4));
        }
        studies
    }

    fn duck() -> Followed {
        Followed::Token { id: 2, text: " duck".to_string() }
    }

    #[test]
    fn a_layer_that_does_not_list_a_word_is_a_gap() {
        let studies = studies();
        let mut kept = Kept::default();
        let lines = kept.lines(studies.get(StudyKind::Lens).unwrap(), 4, vec![duck()]);
        let stretches: Vec<Vec<usize>> =
            lines[0].stretches().map(|part| part.iter().map(|point| point.layer).collect()).collect();
        assert_eq!(stretches, [vec![0], vec![2, 3]]);
        let again = kept.lines(studies.get(StudyKind::Lens).unwrap(), 4, vec![duck()]);
        assert!(Arc::ptr_eq(&lines, &again), "made once");
        assert!(kept.lines(studies.get(StudyKind::Lens).unwrap(), 5, vec![duck()])[0].points.is_empty());
    }

    #[test]
    fn scales_reach_as_far_as_the_numbers() {
        let line = |points: &[(f32, usize)]| {
            let points = points.iter().enumerate();
            let points = points.map(|(layer, &(probability, rank))| Point { layer, probability, rank });
            [Trajectory { of: duck(), points: points.collect() }]
        };
        let chart = |lines: &[Trajectory], measure| Chart { lines, n_layers: 4, layer: 0, measure }.ends();
        assert_eq!(chart(&line(&[(0.25, 0), (0.125, 30)]), Measure::Probability), (0.0, 0.25));
        assert_eq!(chart(&line(&[(0.75, 0)]), Measure::Probability), (0.0, 1.0));
        assert_eq!(chart(&[], Measure::Probability), (0.0, 1.0));
        assert_eq!(chart(&line(&[(0.25, 0), (0.125, 30)]), Measure::Rank), (-2.0, 0.0));
        assert_eq!(chart(&[], Measure::Rank), (-1.0, 0.0));
        assert_eq!([0.0, -1.0, -2.0].map(|height| Measure::Rank.written(height)), ["0", "9", "99"]);
    }

    #[test]
    fn a_drawing_has_every_line_with_its_gaps() {
        let studies = studies();
        let lines = Kept::default().lines(studies.get(StudyKind::Lens).unwrap(), 4, vec![duck()]);
        let chart = Chart { lines: &lines, n_layers: 4, layer: 2, measure: Measure::Probability };
        let figure = chart.figure("a duck".to_string());
        assert!(figure.is_finite());
        let strokes =
            figure.marks.iter().filter(|mark| matches!(mark, Mark::Line { width, .. } if *width > 1.5));
        assert_eq!(strokes.count(), 2);
    }
}
