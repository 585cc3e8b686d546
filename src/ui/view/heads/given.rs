//! What the view of heads gives away: the matrix as a drawing, all measures as a table and as tensors.
//!
//! Tensors are `[layers, heads]`. Knows numbers; nothing of the store.

use egui::Rangef;

use crate::{
    trace::{
        figure::{Align, Figure, Ink, Mark},
        offer::Offer,
        table::{Table, Value},
        tensors::NamedTensor,
    },
    ui::{
        view::heads::values::{Measure, Numbers},
        widgets::{layer_strip::Columns, number},
    },
};

/// The least size of the cells of a drawing, together.
const LEAST: [f32; 2] = [240.0, 60.0];

/// Room around the cells: left, above, right, below.
const ROOM: [f32; 4] = [36.0, 24.0, 70.0, 26.0];

/// Steps of the colour bar.
const STEPS: usize = 48;

/// The matrix as it is on screen: heads from the top in `order`, cells together as large as `size`.
pub fn figure(numbers: &Numbers, order: &[usize], size: [f32; 2], about: &str) -> Figure {
    let [left, above, right, below] = ROOM;
    let [width, height] = [size[0].max(LEAST[0]), size[1].max(LEAST[1])];
    let title = format!("{} of heads: {about}", heading(numbers.measure));
    let mut figure = Figure::new([left + width + right, above + height + below], title.clone());
    figure.add(Mark::text([left, 11.0], title, 11.0, Align::Start, Ink::Text));
    let columns = Columns::new(Rangef::new(left, left + width), numbers.n_layers);
    let rows = Columns::new(Rangef::new(above, above + height), order.len());
    for layer in 0..numbers.n_layers {
        let x = columns.range(layer, layer);
        for (place, &head) in order.iter().enumerate() {
            let value = numbers.value(layer, head);
            if !value.is_nan() {
                let y = rows.range(place, place);
                figure.add(Mark::filled([x.min, y.min, x.max, y.max], color(numbers, value)));
            }
        }
        if layer.is_multiple_of(columns.step(19.0)) {
            let at = [x.center(), above + height + 9.0];
            figure.add(Mark::text(at, layer.to_string(), 10.0, Align::Middle, Ink::Weak));
        }
    }
    for (place, head) in order.iter().enumerate().step_by(rows.step(11.0)) {
        let at = [left - 6.0, rows.range(place, place).center()];
        figure.add(Mark::text(at, head.to_string(), 10.0, Align::End, Ink::Weak));
    }
    let frame = [left, above, left + width, above + height];
    figure.add(Mark::framed(frame, Ink::Faint, 1.0));
    let names = [
        ([left + width, above + height + 20.0], "layer", Align::End),
        ([left - 6.0, above - 7.0], "head", Align::End),
    ];
    for (at, name, align) in names {
        figure.add(Mark::text(at, name, 10.0, align, Ink::Weak));
    }
    bar(&mut figure, numbers, left + width + 12.0, Rangef::new(above, above + height.min(200.0)));
    figure
}

/// The colours and their numbers.
fn bar(figure: &mut Figure, numbers: &Numbers, x: f32, y: Rangef) {
    let (low, high) = numbers.colors.range;
    let steps = Columns::new(y, STEPS);
    for step in 0..STEPS {
        let share = 1.0 - (step as f32 + 0.5) / STEPS as f32;
        let place = steps.range(step, step);
        let value = low + (high - low) * share;
        figure.add(Mark::filled([x, place.min, x + 11.0, place.max], color(numbers, value)));
    }
    let ends = [(y.min + 5.0, high), (y.center(), (low + high) / 2.0), (y.max - 5.0, low)];
    // Of one number only there is one.
    for (y, value) in ends.into_iter().skip(if high > low { 0 } else { 2 }) {
        let text = match value < 0.0 {
            true => format!("-{}", number::short(-value)),
            false => number::short(value),
        };
        figure.add(Mark::text([x + 16.0, y], text, 10.0, Align::Start, Ink::Text));
    }
}

fn color(numbers: &Numbers, value: f32) -> Ink {
    Ink::rgb(numbers.colors.colormap.rgb8(numbers.colors.share(value)))
}

/// A measure as a heading, with its unit.
fn heading(measure: Measure) -> &'static str {
    match measure {
        Measure::Mass => "attention on the image",
        Measure::Entropy => "entropy (nats)",
        Measure::Effect => "change of log probability when cut (nats)",
    }
}

/// All measures, a row a head; what is not known has no value.
pub fn table(all: &[Option<Numbers>; Measure::ALL.len()], about: &str) -> Table {
    let (n_layers, n_heads) = sizes(all);
    let columns = ["layer", "head"].into_iter().chain(Measure::ALL.map(heading));
    let columns = columns.map(String::from).collect();
    let known = |numbers: &Option<Numbers>, layer, head| {
        let value = numbers.as_ref().map_or(f32::NAN, |numbers| numbers.value(layer, head));
        if value.is_nan() { Value::Nothing } else { Value::Number(value) }
    };
    let row = |layer: usize, head: usize| -> Vec<Value> {
        let place = [Value::Whole(layer as i64), Value::Whole(head as i64)];
        place.into_iter().chain(all.iter().map(|numbers| known(numbers, layer, head))).collect()
    };
    let places = (0..n_layers).flat_map(|layer| (0..n_heads).map(move |head| (layer, head)));
    let rows = places.map(|(layer, head)| row(layer, head)).collect();
    Table { name: format!("heads: {about}"), columns, rows }
}

/// The measures that are known of every head.
pub fn tensors(all: &[Option<Numbers>; Measure::ALL.len()], about: &str) -> Offer {
    let whole = all.iter().flatten().filter(|numbers| numbers.whole() && !numbers.values.is_empty());
    let tensors = whole.map(|numbers| NamedTensor {
        name: name(numbers.measure).to_string(),
        shape: vec![numbers.n_layers, numbers.n_heads],
        values: numbers.values.clone(),
    });
    Offer::Tensors { name: format!("heads: {about}"), tensors: tensors.collect() }
}

/// A measure's name as a tensor.
fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::Mass => "heads.mass",
        Measure::Entropy => "heads.entropy",
        Measure::Effect => "heads.effect",
    }
}

fn sizes(all: &[Option<Numbers>]) -> (usize, usize) {
    let mut sizes = all.iter().flatten().map(|numbers| (numbers.n_layers, numbers.n_heads));
    sizes.next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{trace::palette::Colormap, ui::widgets::matrix::Colors};

    fn numbers(measure: Measure, values: [f32; 4]) -> Numbers {
        let colors = Colors { colormap: Colormap::Inferno, range: (0.0, 1.0) };
        let values = Arc::new(values.to_vec());
        Numbers { measure, values, n_layers: 2, n_heads: 2, colors, under_way: None }
    }

    fn all() -> [Option<Numbers>; 3] {
        let mass = numbers(Measure::Mass, [0.1, 0.2, 0.3, 0.4]);
        let effect = numbers(Measure::Effect, [-1.0, f32::NAN, 0.5, 0.0]);
        [Some(mass), None, Some(effect)]
    }

    #[test]
    fn what_is_not_known_has_no_value() {
        let table = table(&all(), "“red”, run A");
        assert_eq!(table.columns.len(), 5);
        let row = |at: usize| &table.rows[at][..];
        let whole = |at: usize| [Value::Whole(at as i64 / 2), Value::Whole(at as i64 % 2)];
        assert_eq!(row(0)[..2], whole(0));
        assert_eq!(row(0)[2..], [Value::Number(0.1), Value::Nothing, Value::Number(-1.0)]);
        assert_eq!(row(1)[..2], whole(1));
        assert_eq!(row(1)[2..], [Value::Number(0.2), Value::Nothing, Value::Nothing]);
        assert_eq!((table.rows.len(), &row(3)[..2]), (4, &whole(3)[..]));
    }

    #[test]
    fn only_whole_tensors_are_given() {
        let Offer::Tensors { tensors, .. } = tensors(&all(), "run A") else { panic!("no tensors") };
        assert_eq!(tensors.len(), 1);
        assert_eq!((tensors[0].name.as_str(), &tensors[0].shape[..]), ("heads.mass", &[2, 2][..]));
        assert_eq!(tensors[0].values[..], [0.1, 0.2, 0.3, 0.4]);
    }

    #[test]
    fn the_drawing_has_the_rows_of_the_screen() {
        let mass = numbers(Measure::Mass, [0.1, f32::NAN, 0.3, 0.4]);
        let figure = figure(&mass, &[1, 0], [240.0, 60.0], "run A");
        let cell = |x: f32, y: f32| {
            figure.marks.iter().find_map(|mark| match mark {
                Mark::Rect { rect, fill: Some(fill), .. } if rect[..2] == [x, y] => Some(*fill),
                _ => None,
            })
        };
        let [left, above, ..] = ROOM;
        assert_eq!(cell(left, above), None, "head 1 stands above, and has no number in layer 0");
        assert_eq!(cell(left, above + 30.0), Some(color(&mass, 0.1)));
        assert_eq!(cell(left + 120.0, above), Some(color(&mass, 0.4)));
        let texts: Vec<&str> = figure
            .marks
            .iter()
            .filter_map(|mark| match mark {
                Mark::Text { text, .. } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        assert!(["layer", "head", "0", "1", "1.000"].iter().all(|text| texts.contains(text)), "{texts:?}");
    }
}
