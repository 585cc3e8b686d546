//! Layers side by side: where each of them lies on a chart, which are cut, and which one is on show.
//!
//! Where layers would be too narrow, neighbours share a column, and the column says so. Knows figures; nothing of what
//! stands in the columns.

use std::ops::Range;

use egui::{Rect, Ui};

use crate::{
    trace::figure::{Align, Figure, Ink, Mark},
    ui::{
        frame::Frame,
        store::{selection::CUT, store::Store},
        theme,
    },
    worker::protocol::Slot,
};

/// Height of the letters of a chart.
pub const LETTERS: f32 = 11.0;

/// How a chart is to look: its size, and the colours that follow the theme.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Width and height.
    pub size: [f32; 2],
    /// Marks what is cut.
    pub cut: [u8; 3],
    /// Marks what is looked at.
    pub accent: [u8; 3],
}

impl Default for Look {
    fn default() -> Self {
        Look { size: [760.0, 420.0], cut: [190, 50, 30], accent: [20, 100, 180] }
    }
}

impl Look {
    /// That of a place on screen.
    pub fn of(ui: &Ui, place: Rect) -> Self {
        let rgb = |color: egui::Color32| {
            let [r, g, b, _] = color.to_array();
            [r, g, b]
        };
        let visuals = ui.visuals();
        let size = [place.width(), place.height()];
        Look { size, cut: rgb(theme::cut_color(visuals)), accent: rgb(theme::accent(visuals)) }
    }
}

/// The layers in which a run has attention cut.
#[derive(Clone, Debug, PartialEq)]
pub struct CutLayers {
    /// The run's letter.
    pub run: String,
    /// One a layer of the model.
    pub layers: Vec<bool>,
}

impl CutLayers {
    /// Those of a slot's run; of an uncut run those of the cut that is compared with it. `None` where none is cut.
    pub fn of(store: &Store, slot: Slot) -> Option<Self> {
        let run = store.runs.lane(slot).view()?;
        let (cut, at) = match run.experiment.intervention.is_empty() {
            false => (run, slot),
            true => (store.runs.lane(CUT).view().filter(|cut| cut.base == Some(run.id))?, CUT),
        };
        let knockouts = &cut.experiment.intervention.knockouts;
        let is_cut = |layer| knockouts.iter().any(|knockout| knockout.layers.contains(layer));
        let layers: Vec<bool> = (0..store.n_layers()).map(is_cut).collect();
        layers.contains(&true).then(|| CutLayers { run: store.runs.name(at), layers })
    }

    /// Whether a layer is cut.
    pub fn contains(&self, layer: usize) -> bool {
        self.layers.get(layer).is_some_and(|cut| *cut)
    }

    /// Runs of neighbouring layers: the first and the last of each.
    fn stretches(&self) -> Vec<(usize, usize)> {
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        for layer in (0..self.layers.len()).filter(|layer| self.contains(*layer)) {
            match stretches.last_mut() {
                Some((_, last)) if *last + 1 == layer => *last = layer,
                _ => stretches.push((layer, layer)),
            }
        }
        stretches
    }
}

/// Where the layers lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Columns {
    left: f32,
    right: f32,
    n_layers: usize,
    /// Layers that share a column.
    per: usize,
}

impl Columns {
    /// All layers between two places, each column at least so wide.
    pub fn new(left: f32, right: f32, n_layers: usize, narrowest: f32) -> Self {
        let right = right.max(left + 1.0);
        let room = ((right - left) / narrowest.max(1.0)).max(1.0) as usize;
        Columns { left, right, n_layers, per: n_layers.div_ceil(room).max(1) }
    }

    /// How many columns there are.
    pub fn count(&self) -> usize {
        self.n_layers.div_ceil(self.per)
    }

    /// How many layers share a column: 1 where each has its own.
    pub fn per(&self) -> usize {
        self.per
    }

    /// The layers of a column.
    pub fn layers(&self, column: usize) -> Range<usize> {
        let first = (column * self.per).min(self.n_layers);
        first..(first + self.per).min(self.n_layers)
    }

    /// The left edge of a column; of one past the last, the right edge of the last.
    pub fn edge(&self, column: usize) -> f32 {
        self.left + (self.right - self.left) * column as f32 / self.count().max(1) as f32
    }

    /// The left and the right side of a layer: a part of its column.
    pub fn sides(&self, layer: usize) -> [f32; 2] {
        let column = layer / self.per;
        let layers = self.layers(column);
        let (left, right) = (self.edge(column), self.edge(column + 1));
        let part = |at: usize| left + (right - left) * at as f32 / layers.len().max(1) as f32;
        let at = layer.saturating_sub(layers.start);
        [part(at), part(at + 1)]
    }

    /// The middle of a layer.
    pub fn middle(&self, layer: usize) -> f32 {
        let [left, right] = self.sides(layer);
        (left + right) / 2.0
    }

    /// The column at a place; `None` beside all of them.
    pub fn column_at(&self, x: f32) -> Option<usize> {
        let inside = self.count() > 0 && x >= self.left && x < self.right;
        let share = (x - self.left) / (self.right - self.left);
        inside.then(|| ((share * self.count() as f32) as usize).min(self.count() - 1))
    }

    /// The layer at a place; `None` beside all of them.
    pub fn layer_at(&self, x: f32) -> Option<usize> {
        let mut layers = self.layers(self.column_at(x)?);
        let last = layers.end.checked_sub(1);
        layers.find(|layer| x < self.sides(*layer)[1]).or(last)
    }

    /// The layers of a column by number: `3`, or `0-3`.
    pub fn label(&self, column: usize) -> String {
        numbers(self.layers(column))
    }

    /// Under the columns their numbers, as many as there is room for; at the left, what they are.
    pub fn add_labels(&self, figure: &mut Figure, y: f32) {
        let widest = (0..self.count()).map(|column| self.label(column).len()).max().unwrap_or(1);
        let room = (self.edge(1) - self.edge(0)).max(1.0);
        let step = ((widest as f32 * 6.5 + 8.0) / room).ceil().max(1.0) as usize;
        for column in (0..self.count()).step_by(step) {
            let x = (self.edge(column) + self.edge(column + 1)) / 2.0;
            figure.add(label([x, y], self.label(column), Align::Middle, Ink::Weak));
        }
        let what = if self.per > 1 { "layers" } else { "layer" };
        figure.add(label([2.0, y], what, Align::Start, Ink::Weak));
    }

    /// What lies under a chart: the shade of the layers that are cut.
    pub fn add_shade(
        &self,
        figure: &mut Figure,
        [top, bottom]: [f32; 2],
        cut: Option<&CutLayers>,
        look: Look,
    ) {
        for (first, last) in cut.map(CutLayers::stretches).unwrap_or_default() {
            let rect = [self.sides(first)[0], top, self.sides(last)[1], bottom];
            figure.add(Mark::filled(rect, Ink::sheer(look.cut, 0.08)));
        }
    }

    /// What lies over it: the frames of the layers that are cut, with the run's letter, and of the one on show.
    pub fn add_frames(
        &self,
        figure: &mut Figure,
        [top, bottom]: [f32; 2],
        cut: Option<&CutLayers>,
        layer: usize,
        look: Look,
    ) {
        if let Some(cut) = cut {
            for (nth, (first, last)) in cut.stretches().into_iter().enumerate() {
                let rect = [self.sides(first)[0], top, self.sides(last)[1], bottom];
                figure.add(Mark::framed(rect, Ink::rgb(look.cut), 1.2));
                let text = format!("cut in {}", cut.run);
                // It stands once at least; where it would reach into the next frame, once is enough.
                if nth == 0 || rect[2] - rect[0] > 12.0 + 6.0 * text.len() as f32 {
                    let at = [rect[0] + 5.0, top + 9.0];
                    figure.add(label(at, text, Align::Start, Ink::rgb(look.cut)));
                }
            }
        }
        if layer < self.n_layers {
            let [left, right] = self.sides(layer);
            figure.add(Mark::framed([left, top, right, bottom], Ink::rgb(look.accent), 1.5));
        }
    }

    /// Says where every layer was drawn in `place`.
    pub fn tell(&self, place: Rect, frame: &mut Frame) {
        for layer in 0..self.n_layers {
            let [left, right] = self.sides(layer).map(|x| place.left() + x);
            frame.place(format!("flow[{layer}]"), Rect::from_x_y_ranges(left..=right, place.y_range()));
        }
    }
}

/// A text of a chart.
pub fn label(at: [f32; 2], text: impl Into<String>, align: Align, ink: Ink) -> Mark {
    Mark::text(at, text, LETTERS, align, ink)
}

/// Some layers in words: `layer 3`, or `layers 0-3`.
pub fn in_words(layers: Range<usize>) -> String {
    format!("{} {}", if layers.len() > 1 { "layers" } else { "layer" }, numbers(layers))
}

fn numbers(layers: Range<usize>) -> String {
    match layers.len() {
        0 | 1 => layers.start.to_string(),
        _ => format!("{}-{}", layers.start, layers.end - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_its_place_and_is_found_there() {
        for (n_layers, narrowest) in [(1, 40.0), (6, 40.0), (30, 40.0), (80, 40.0), (83, 55.0)] {
            let columns = Columns::new(60.0, 700.0, n_layers, narrowest);
            assert!(columns.edge(1) - columns.edge(0) >= narrowest || columns.count() == 1, "{n_layers}");
            for layer in 0..n_layers {
                assert_eq!(columns.layer_at(columns.middle(layer)), Some(layer), "{layer} of {n_layers}");
                let column = columns.column_at(columns.middle(layer)).unwrap();
                assert!(columns.layers(column).contains(&layer));
            }
            assert_eq!(columns.sides(0)[0], 60.0);
            assert!((columns.sides(n_layers - 1)[1] - 700.0).abs() < 0.01);
            assert_eq!((columns.layer_at(59.0), columns.layer_at(701.0)), (None, None));
        }
        assert_eq!(Columns::new(0.0, 100.0, 0, 10.0).layer_at(50.0), None, "no layers");
    }

    #[test]
    fn layers_that_share_a_column_say_so() {
        let columns = Columns::new(0.0, 400.0, 10, 100.0);
        assert_eq!((columns.count(), columns.per()), (4, 3));
        assert_eq!(
            (in_words(columns.layers(0)), in_words(columns.layers(3))),
            ("layers 0-2".to_string(), "layer 9".to_string())
        );
    }

    #[test]
    fn the_cut_is_framed_in_one_piece_with_its_run() {
        let columns = Columns::new(0.0, 600.0, 6, 50.0);
        let layers = vec![true, true, false, false, true, false];
        let cut = CutLayers { run: "B".to_string(), layers };
        let look = Look::default();
        let mut figure = Figure::new([600.0, 200.0], "a chart");
        columns.add_shade(&mut figure, [2.0, 180.0], Some(&cut), look);
        columns.add_frames(&mut figure, [2.0, 180.0], Some(&cut), 3, look);
        let frames: Vec<[f32; 4]> = figure
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Rect { rect, border: Some((ink, _)), .. } => {
                    (*ink == Ink::rgb(look.cut)).then_some(*rect)
                }
                _ => None,
            })
            .collect();
        assert_eq!(frames, [[0.0, 2.0, 200.0, 180.0], [400.0, 2.0, 500.0, 180.0]]);
        let says = |mark: &&Mark| matches!(mark, Mark::Text { text, .. } if text == "cut in B");
        assert_eq!(figure.marks.iter().filter(says).count(), 2);
        let shown = Mark::framed([300.0, 2.0, 400.0, 180.0], Ink::rgb(look.accent), 1.5);
        assert_eq!(figure.marks.last(), Some(&shown));
    }
}
