//! A panel whose places are names: for each name a bar a series, from left to right, with its interval.
//!
//! Names stand at the left, whatever their length and number: the panel is as high as they need. Lengths are points.
//! Knows one panel.

use crate::{
    studies::survey::{
        chart::{
            axis::Axis,
            curves::is_finite,
            page::{LETTERS, LINE, Legend, MARGIN, Page, Spot, Strokes, wide, wrapped},
        },
        findings::{At, Panel},
    },
    trace::figure::{Align, Ink, Mark},
};

/// Height of a bar, and from one name's bars to the next one's.
const BAR: f32 = 10.0;
const GAP: f32 = 7.0;

/// A place as text.
pub fn name(at: &At) -> String {
    match at {
        At::Number(number) => number.to_string(),
        At::Name(name) => name.clone(),
    }
}

/// The places of a panel, in the order in which they come.
pub fn places(panel: &Panel) -> Vec<&At> {
    let mut places: Vec<&At> = Vec::new();
    for point in panel.series.iter().flat_map(|series| &series.points) {
        if !places.contains(&&point.at) {
            places.push(&point.at);
        }
    }
    places
}

/// Draws a panel from the page's end on; `number` is its number.
pub fn bars(page: &mut Page, number: usize, panel: &Panel, strokes: &Strokes) {
    let places = places(panel);
    let names: Vec<Vec<String>> =
        places.iter().map(|at| wrapped(&name(at), LETTERS, page.width * 0.3)).collect();
    let longest = names.iter().flatten().map(|line| wide(line, LETTERS)).fold(0.0, f32::max);
    let legend = Legend::new(&panel.series, strokes, page.width);
    let (left, right) = (MARGIN + longest + 8.0, page.width - MARGIN - legend.width - 10.0);
    let top = page.y + 8.0;
    let of_bars = panel.series.len() as f32 * BAR;
    let heights: Vec<f32> =
        names.iter().map(|lines| (lines.len() as f32 * LINE).max(of_bars) + GAP).collect();
    let bottom = top + heights.iter().sum::<f32>().max(legend.height);
    let points = panel.series.iter().flat_map(|series| &series.points);
    let ends = points.map(|point| point.estimate).filter(is_finite);
    let axis = Axis::round(
        ends.flat_map(|e| [e.value, e.low, e.high]).chain([0.0]),
        panel.range,
        [left, right],
        64.0,
    );
    for (value, text) in axis.marks() {
        let x = axis.place(value);
        page.marks.push(Mark::line(vec![[x, top], [x, bottom]], Ink::Faint, 1.0));
        page.text([x, bottom + 10.0], text, Align::Middle, Ink::Weak);
    }
    let zero = axis.place(0.0);
    page.marks.push(Mark::line(vec![[zero, top], [zero, bottom]], Ink::Weak, 1.0));
    let mut y = top;
    for ((at, lines), height) in places.iter().zip(&names).zip(heights) {
        let middle = y + height / 2.0;
        let first = middle - (lines.len() as f32 - 1.0) * LINE / 2.0;
        for (n, line) in lines.iter().enumerate() {
            page.text([left - 8.0, first + n as f32 * LINE], line, Align::End, Ink::Text);
        }
        for (series, of) in panel.series.iter().enumerate() {
            let found = of.points.iter().position(|point| point.at == **at && is_finite(&point.estimate));
            let Some(point) = found else { continue };
            let estimate = &of.points[point].estimate;
            let y = middle - of_bars / 2.0 + (series as f32 + 0.5) * BAR;
            let [x, low, high] = [estimate.value, estimate.low, estimate.high].map(|n| axis.place(n));
            let bar = [x.min(zero), y - BAR * 0.4, x.max(zero), y + BAR * 0.4];
            let rgb = strokes.get(&of.name).rgb;
            page.marks.push(Mark::filled(bar, Ink::sheer(rgb, 0.6)));
            page.marks.push(Mark::line(vec![[low, y], [high, y]], Ink::Text, 1.2));
            page.marks.push(Mark::filled([x - 1.5, y - 1.5, x + 1.5, y + 1.5], Ink::Text));
            page.spots.push(Spot { panel: number, series, point, at: [x, y] });
        }
        y += height;
    }
    legend.draw(page, top);
    page.text([(left + right) / 2.0, bottom + 10.0 + LINE], &panel.up, Align::Middle, Ink::Weak);
    page.y = bottom + 10.0 + 2.0 * LINE;
}
