//! How a token, a phrase or an answer divides its attention among the spans, layer by layer: as lines, or as stacked
//! bars.
//!
//! Of a mean, a band of one standard deviation over its tokens lies around every line. Knows the subject of maps and
//! charts; draws figures alone.

use crate::{
    spec::span::Span,
    trace::{
        figure::{Align, Figure, Ink, Mark},
        flow::Shares,
        offer::Offer,
        palette::span_rgb,
        table::{Table, Value},
        tensors::NamedTensor,
    },
    ui::{
        store::store::Store,
        view::flow::columns::{Columns, CutLayers, LETTERS, Look, label},
    },
};

/// Room for the numbers at the left, above and below.
const LEFT: f32 = 40.0;
const ABOVE: f32 = 20.0;
const BELOW: f32 = 20.0;
/// Room for the names at the right ends.
const NAMES: f32 = 66.0;
/// Narrower than this, a chart goes without them.
const NARROW: f32 = 220.0;
/// From one name to the next.
const LINE: f32 = LETTERS + 2.0;
/// Share of its layer that a bar is wide.
const BAR: f32 = 0.86;

/// The chart: what is drawn.
#[derive(Clone, Debug)]
pub struct ShareChart {
    /// Layer by layer, in the order of [`Span::ALL`].
    pub shares: Vec<Shares>,
    /// Standard deviations over the tokens; empty of a single one.
    pub deviations: Vec<Shares>,
    /// Layer on show.
    pub layer: usize,
    /// Layers that are cut.
    pub cut: Option<CutLayers>,
    /// Whether it is of the run that was asked for.
    pub fresh: bool,
    /// What it is of, in words.
    pub of: String,
}

impl ShareChart {
    /// That of what maps and charts show; `None` where there is nothing yet. `of`: what that is, in words.
    pub fn new(store: &Store, of: String) -> Option<Self> {
        let subject = store.subject()?;
        let (layer, head) = store.selection.looked_at();
        let shares = subject.flow.of(head).into_owned();
        let mean = subject.mean.filter(|mean| mean.rows > 1);
        let deviations = mean.map_or(Vec::new(), |mean| {
            let of = |layer: usize| Span::ALL.map(|span| mean.deviation(layer, head, span));
            (0..shares.len()).map(of).collect()
        });
        let cut = CutLayers::of(store, subject.slot);
        Some(ShareChart { shares, deviations, layer, cut, fresh: subject.fresh, of })
    }

    /// Spans that get something in some layer.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        Span::ALL.into_iter().filter(move |span| self.shares.iter().any(|shares| shares[span.index()] > 0.0))
    }

    /// Where the layers lie.
    pub fn columns(&self, size: [f32; 2]) -> Columns {
        let names = if size[0] >= NARROW { NAMES } else { 6.0 };
        Columns::new(LEFT, size[0] - names, self.shares.len(), 0.0)
    }

    /// Lines.
    pub fn lines(&self, look: Look) -> Figure {
        let columns = self.columns(look.size);
        let (mut figure, y) = self.begin(look, columns);
        let place = |layer: usize, share: f32| [columns.middle(layer), y(share)];
        for span in self.spans() {
            self.add_band(&mut figure, span, place);
            let points: Vec<[f32; 2]> = self
                .shares
                .iter()
                .enumerate()
                .filter(|(_, shares)| shares[span.index()].is_finite())
                .map(|(layer, shares)| place(layer, shares[span.index()]))
                .collect();
            let ink = Ink::sheer(span_rgb(span), if self.fresh { 1.0 } else { 0.6 });
            figure.add(Mark::line(points, ink, 1.8));
        }
        self.end(&mut figure, look, columns);
        if look.size[0] >= NARROW {
            let right = columns.edge(columns.count());
            for (span, at) in self.names(look, y) {
                let ink = Ink::sheer(span_rgb(span), 1.0);
                figure.add(label([right + 6.0, at], span.name(), Align::Start, ink));
            }
        }
        figure
    }

    /// One bar a layer, of height 1.
    pub fn bars(&self, look: Look) -> Figure {
        let columns = self.columns(look.size);
        let (mut figure, y) = self.begin(look, columns);
        for (layer, shares) in self.shares.iter().enumerate() {
            let [left, right] = columns.sides(layer);
            let gap = (right - left) * (1.0 - BAR) / 2.0;
            let mut below = 0.0;
            for span in Span::ALL {
                let share = shares[span.index()];
                if share > 0.0 {
                    let rect = [left + gap, y(below + share), right - gap, y(below)];
                    let ink = Ink::sheer(span_rgb(span), if self.fresh { 1.0 } else { 0.6 });
                    figure.add(Mark::filled(rect, ink));
                    below += share;
                }
            }
        }
        self.end(&mut figure, look, columns);
        if look.size[0] >= NARROW {
            let x = columns.edge(columns.count()) + 6.0;
            for (row, span) in self.spans().enumerate() {
                let at = [x, ABOVE + LINE * (row as f32 + 0.5)];
                figure.add(label(at, span.name(), Align::Start, Ink::sheer(span_rgb(span), 1.0)));
            }
        }
        figure
    }

    /// Axes and what lies under all; with it, the place of a share.
    fn begin(&self, look: Look, columns: Columns) -> (Figure, impl Fn(f32) -> f32 + Copy + use<>) {
        let [top, bottom] = frame(look);
        let y = move |share: f32| bottom - (bottom - top) * share.clamp(0.0, 1.0);
        let mut figure = Figure::new(look.size, format!("shares of attention {}", self.of));
        columns.add_shade(&mut figure, [2.0, bottom], self.cut.as_ref(), look);
        let (left, right) = (columns.edge(0), columns.edge(columns.count()));
        let steps = if bottom - top > 90.0 { 4 } else { 2 };
        for step in 0..=steps {
            let share = step as f32 / steps as f32;
            let points = vec![[left, y(share)], [right, y(share)]];
            figure.add(Mark::line(points, Ink::Faint, 1.0));
            let at = [left - 5.0, y(share)];
            figure.add(label(at, format!("{share:.2}"), Align::End, Ink::Weak));
        }
        (figure, y)
    }

    fn end(&self, figure: &mut Figure, look: Look, columns: Columns) {
        columns.add_labels(figure, look.size[1] - 8.0);
        let [_, bottom] = frame(look);
        columns.add_frames(figure, [2.0, bottom], self.cut.as_ref(), self.layer, look);
    }

    fn add_band(&self, figure: &mut Figure, span: Span, place: impl Fn(usize, f32) -> [f32; 2]) {
        let at = span.index();
        let both = self.shares.iter().zip(&self.deviations).enumerate();
        let sound = both.filter(|(_, (mean, sd))| mean[at].is_finite() && sd[at].is_finite());
        let sides: Vec<([f32; 2], [f32; 2])> = sound
            .map(|(layer, (mean, sd))| (place(layer, mean[at] + sd[at]), place(layer, mean[at] - sd[at])))
            .collect();
        if sides.len() > 1 {
            let upper = sides.iter().map(|(upper, _)| *upper);
            let points = upper.chain(sides.iter().rev().map(|(_, lower)| *lower)).collect();
            figure.add(Mark::area(points, Ink::sheer(span_rgb(span), 0.2)));
        }
    }

    /// Where the names stand at the right: beside the ends of their lines, none over another.
    fn names(&self, look: Look, y: impl Fn(f32) -> f32) -> Vec<(Span, f32)> {
        let Some(last) = self.shares.last() else { return Vec::new() };
        let mut names: Vec<(Span, f32)> = self.spans().map(|span| (span, y(last[span.index()]))).collect();
        names.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut places: Vec<f32> = names.iter().map(|(_, at)| *at).collect();
        apart(&mut places, LINE, frame(look)[1]);
        names.iter_mut().zip(places).for_each(|(name, place)| name.1 = place);
        names
    }

    /// The numbers of one layer, to be read: a span, its share, and the deviation where there is one.
    pub fn numbers(&self, layer: usize) -> Vec<(Span, f32, Option<f32>)> {
        let Some(shares) = self.shares.get(layer) else { return Vec::new() };
        let sd = |span: Span| self.deviations.get(layer).map(|of| of[span.index()]);
        self.spans().map(|span| (span, shares[span.index()], sd(span))).collect()
    }

    /// The numbers as they are on the chart.
    pub fn table(&self) -> Table {
        let name = format!("shares of attention {}", self.of);
        let mut table = Table::new(name, ["layer", "span", "mean", "sd"]);
        for layer in 0..self.shares.len() {
            for (span, share, sd) in self.numbers(layer) {
                table.push([layer.into(), span.name().into(), share.into(), Value::from(sd)]);
            }
        }
        table
    }

    /// All of them: `[layers, spans]`.
    pub fn tensors(&self) -> Offer {
        let tensor = |name: &str, of: &[Shares]| NamedTensor::new(name, [of.len(), Span::COUNT], of.concat());
        let mut tensors = vec![tensor("flow.shares", &self.shares)];
        if !self.deviations.is_empty() {
            tensors.push(tensor("flow.shares.sd", &self.deviations));
        }
        Offer::Tensors { name: "shares of attention".to_string(), tensors }
    }
}

/// From the top of the axes to their bottom.
fn frame(look: Look) -> [f32; 2] {
    [ABOVE, (look.size[1] - BELOW).max(ABOVE + 1.0)]
}

/// Moves places, ascending, until each is at least `gap` after the one before, and the last not beyond `end`, as far
/// as there is room.
fn apart(places: &mut [f32], gap: f32, end: f32) {
    let mut from = f32::NEG_INFINITY;
    for place in places.iter_mut() {
        *place = place.max(from);
        from = *place + gap;
    }
    let mut to = end;
    for place in places.iter_mut().rev() {
        *place = place.min(to);
        to = *place - gap;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource},
        trace::{
            pattern::PatternRow,
            tokens::{AnswerToken, PromptToken},
        },
        ui::store::{command::Command, run::Run, selection::BASELINE},
        worker::protocol::{Row, ToldRow},
    };

    /// Two tokens, three layers, one head; the second token looks at the image more.
    fn store() -> Store {
        let experiment = Experiment::ask(ImageSource::File("a.png".into()), "what ?", 4);
        let mut run = Run::new(0, experiment, None);
        for (position, span) in [Span::Bos, Span::Visual, Span::Last].into_iter().enumerate() {
            let text = span.name().to_string();
            run.prompt.push(PromptToken { position, id: 1, text, span, visual: None, partial: false });
        }
        for at in 0..2 {
            let token = AnswerToken {
                position: 3 + at,
                id: 1,
                text: " a".to_string(),
                span: Span::Answer,
                entropy: None,
                logprob: -0.1,
                top: Vec::new(),
                end: false,
                partial: false,
            };
            let image = 0.25 + 0.5 * at as f32;
            let row = [[0.75 - 0.5 * at as f32, image, 0.0].as_slice(), &vec![0.0; at]].concat();
            let pattern = PatternRow { n_layers: 3, n_heads: 1, n_keys: 3 + at, data: row.repeat(3).into() };
            run.push(token, ToldRow::New(Row { pattern, resident: None }));
        }
        let mut store = Store::default();
        store.runs.take_saved(run, None);
        store.apply(Command::Show(BASELINE));
        store
    }

    #[test]
    fn lines_are_the_flow_of_the_subject_with_its_deviation() {
        let mut store = store();
        let chart = ShareChart::new(&store, "of the whole answer".to_string()).unwrap();
        let subject = store.subject().unwrap();
        assert_eq!(chart.shares, subject.flow.of(None).into_owned());
        assert_eq!(chart.deviations.len(), 3);
        let visual = Span::Visual.index();
        assert!((chart.shares[1][visual] - 0.5).abs() < 1e-6);
        assert!((chart.deviations[1][visual] - 0.25).abs() < 1e-6);
        let look = Look { size: [400.0, 240.0], ..Look::default() };
        let figure = chart.lines(look);
        let areas = figure.marks.iter().filter(|mark| matches!(mark, Mark::Area { .. })).count();
        assert_eq!(areas, 2, "bos and image");
        let line = figure.marks.iter().find_map(|mark| match mark {
            Mark::Line { points, ink, .. } if *ink == Ink::sheer(span_rgb(Span::Visual), 1.0) => Some(points),
            _ => None,
        });
        let [top, bottom] = frame(look);
        for ([x, y], layer) in line.unwrap().iter().zip(0..) {
            assert!((bottom - y - (bottom - top) * chart.shares[layer][visual]).abs() < 1e-3);
            assert_eq!(chart.columns(look.size).layer_at(*x), Some(layer));
        }
        // One token has no deviation.
        store.apply(Command::Pin(BASELINE, 1));
        let chart = ShareChart::new(&store, "of “a”".to_string()).unwrap();
        assert!(chart.deviations.is_empty());
        assert_eq!(chart.shares[0][visual], 0.75);
        assert_eq!(
            chart.table().rows[1],
            [Value::Whole(0), Value::Text("visual".to_string()), Value::Number(0.75), Value::Nothing]
        );
    }

    #[test]
    fn bars_are_as_high_as_the_axis() {
        let chart = ShareChart::new(&store(), String::new()).unwrap();
        let look = Look { size: [400.0, 240.0], ..Look::default() };
        let figure = chart.bars(look);
        let heights = figure.marks.iter().filter_map(|mark| match mark {
            Mark::Rect { rect: [_, top, _, bottom], fill: Some(_), .. } => Some(bottom - top),
            _ => None,
        });
        let [top, bottom] = frame(look);
        assert!((heights.sum::<f32>() - 3.0 * (bottom - top)).abs() < 1e-2);
    }

    #[test]
    fn names_keep_apart_and_stay_on_the_chart() {
        let mut places = [10.0, 11.0, 12.0, 96.0, 97.0];
        apart(&mut places, 10.0, 100.0);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > 9.99), "{places:?}");
        assert!(places[0] >= 10.0 && places[4] <= 100.0, "{places:?}");
    }
}
