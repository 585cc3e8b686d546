//! A panel as a grid: a row a series, a column a place, coloured cells, and what the colours stand for.
//!
//! Numbers with a sign have a diverging colour map, as far below 0 as above; others a sequential one from 0 on. Lengths
//! are points. Knows one panel.

use crate::{
    studies::survey::{
        chart::{
            axis::Axis,
            bars::{name, places},
            page::{LETTERS, LINE, MARGIN, Page, Spot, short, wide},
        },
        findings::{At, Panel},
    },
    trace::{
        figure::{Align, Ink, Mark},
        palette::Colormap,
    },
};

/// Height of all cells together, as far as none is lower or higher than its bounds; and the least that it is.
const HEIGHT: f32 = 220.0;
const CELL: [f32; 2] = [5.0, 22.0];
const LEAST: f32 = 64.0;
/// Colours of the colour bar, its width, and the room for it with its numbers.
const STEPS: usize = 40;
const BAR: f32 = 11.0;
const BESIDE: f32 = 76.0;

/// What colours stand for.
struct Colours {
    map: Colormap,
    ends: [f64; 2],
}

impl Colours {
    fn of(panel: &Panel) -> Self {
        let points = panel.series.iter().flat_map(|series| &series.points);
        let values = points.map(|point| point.estimate.value).filter(|value| value.is_finite());
        let all = values.chain(panel.range.into_iter().flatten());
        let [low, high] = all.fold([0.0; 2], |[low, high]: [f64; 2], v| [low.min(v), high.max(v)]);
        let furthest = high.max(-low);
        let most = if furthest > 0.0 { furthest } else { 1.0 };
        match low < 0.0 {
            true => Colours { map: Colormap::Diverging, ends: [-most, most] },
            false => Colours { map: Colormap::Viridis, ends: [0.0, most] },
        }
    }

    fn ink(&self, value: f64) -> Ink {
        let [low, high] = self.ends;
        Ink::rgb(self.map.rgb8(((value - low) / (high - low)) as f32))
    }
}

/// Draws a panel from the page's end on; `number` is its number.
pub fn cells(page: &mut Page, number: usize, panel: &Panel) {
    let mut columns = places(panel);
    columns.sort_by(|a, b| match (a, b) {
        (At::Number(a), At::Number(b)) => a.total_cmp(b),
        // Names stay in the order in which they come, behind numbers.
        (a, b) => matches!(a, At::Name(_)).cmp(&matches!(b, At::Name(_))),
    });
    let n = panel.series.len();
    let cell = (HEIGHT / n as f32).clamp(CELL[0], CELL[1]).max(LEAST / n as f32);
    let longest = panel.series.iter().map(|series| wide(&series.name, LETTERS)).fold(0.0, f32::max);
    let names = longest.min(page.width * 0.3);
    let (left, right) = (MARGIN + names + 6.0, page.width - MARGIN - BESIDE);
    let (top, step) = (page.y + 8.0, (right - left) / columns.len() as f32);
    let bottom = top + cell * n as f32;
    let colours = Colours::of(panel);
    for (row, series) in panel.series.iter().enumerate() {
        let y = top + cell * row as f32;
        for (point, of) in series.points.iter().enumerate().filter(|(_, p)| p.estimate.value.is_finite()) {
            let column = columns.iter().position(|at| **at == of.at).unwrap_or_default();
            let x = left + step * column as f32;
            page.marks.push(Mark::filled([x, y, x + step, y + cell], colours.ink(of.estimate.value)));
            let at = [x + step / 2.0, y + cell / 2.0];
            page.spots.push(Spot { panel: number, series: row, point, at });
        }
    }
    let every = (LINE / cell).ceil() as usize;
    for (row, series) in panel.series.iter().enumerate().step_by(every.max(1)) {
        let at = [left - 6.0, top + cell * (row as f32 + 0.5)];
        page.text(at, short(&series.name, names), Align::End, Ink::Weak);
    }
    let written: Vec<String> = columns.iter().map(|at| name(at)).collect();
    let widest = written.iter().map(|text| wide(text, LETTERS)).fold(0.0, f32::max);
    // Half of the first may lie left of the cells.
    let most = (2.0 * left - 4.0).min(90.0);
    let every = ((widest.min(most) + 8.0) / step).ceil().max(1.0) as usize;
    for (column, text) in written.iter().enumerate().step_by(every) {
        let at = [left + step * (column as f32 + 0.5), bottom + 10.0];
        page.text(at, short(text, most), Align::Middle, Ink::Weak);
    }
    page.marks.push(Mark::framed([left, top, right, bottom], Ink::Faint, 1.0));
    page.text([(left + right) / 2.0, bottom + 10.0 + LINE], &panel.across, Align::Middle, Ink::Weak);
    colour_bar(page, &colours, right + 12.0, [top, bottom.min(top + 160.0)]);
    page.y = bottom + 10.0 + 2.0 * LINE;
}

/// The colours and their numbers.
fn colour_bar(page: &mut Page, colours: &Colours, x: f32, [top, bottom]: [f32; 2]) {
    let step = (bottom - top) / STEPS as f32;
    let axis = Axis::tight(colours.ends.into_iter(), [bottom, top], 28.0);
    let [low, high] = colours.ends;
    for n in 0..STEPS {
        let y = bottom - step * n as f32;
        let value = low + (high - low) * (n as f64 + 0.5) / STEPS as f64;
        page.marks.push(Mark::filled([x, y - step, x + BAR, y], colours.ink(value)));
    }
    for (value, text) in axis.marks() {
        page.text([x + BAR + 5.0, axis.place(value)], text, Align::Start, Ink::Weak);
    }
}
