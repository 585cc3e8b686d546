//! A panel whose places are numbers: curves with bands from the lower to the upper ends of their intervals.
//!
//! Lengths are points. Knows one panel.

use crate::{
    studies::survey::{
        chart::{
            axis::Axis,
            page::{LETTERS, LINE, Legend, MARGIN, Page, Spot, Stroke, Strokes, wide},
        },
        findings::{At, Estimate, Panel, Series},
    },
    trace::figure::{Align, Ink, Mark},
};

/// Least height of the plot.
const PLOT: f32 = 170.0;
/// From the frame to the first and last places.
const INSIDE: f32 = 8.0;
/// Half the side of a point.
const POINT: f32 = 1.8;
/// From one number at the upright axis to the next.
const APART: f32 = 34.0;

/// A point of a curve: its number, where it is, and its figure.
type Known = (usize, f64, Estimate);

/// Draws a panel from the page's end on; `number` is its number.
pub fn curves(page: &mut Page, number: usize, panel: &Panel, strokes: &Strokes) {
    let all: Vec<Vec<Known>> = panel.series.iter().map(known).collect();
    let legend = Legend::new(&panel.series, strokes, page.width);
    let top = page.y + 8.0;
    let bottom = top + PLOT.max(legend.height);
    let ends = all.iter().flatten().flat_map(|(_, _, e)| [e.value, e.low, e.high]);
    let up = Axis::round(ends, panel.range, [bottom, top], APART);
    let marks = up.marks();
    let numbers = marks.iter().map(|(_, text)| wide(text, LETTERS)).fold(0.0, f32::max);
    let (left, right) = (MARGIN + numbers + 6.0, page.width - MARGIN - legend.width);
    for (value, text) in marks {
        let y = up.place(value);
        page.marks.push(Mark::line(vec![[left, y], [right, y]], Ink::Faint, 1.0));
        page.text([left - 6.0, y], text, Align::End, Ink::Weak);
    }
    let across = across(&all, [left + INSIDE, right - INSIDE]);
    for (value, text) in across.marks() {
        let x = across.place(value);
        page.marks.push(Mark::line(vec![[x, bottom], [x, bottom + 4.0]], Ink::Weak, 1.0));
        page.text([x, bottom + 12.0], text, Align::Middle, Ink::Weak);
    }
    page.text([(left + right) / 2.0, bottom + 12.0 + LINE], &panel.across, Align::Middle, Ink::Weak);
    if up.crosses(0.0) {
        let y = up.place(0.0);
        page.marks.push(Mark::line(vec![[left, y], [right, y]], Ink::Weak, 1.0));
    }
    let strokes: Vec<Stroke> = panel.series.iter().map(|series| strokes.get(&series.name)).collect();
    for (points, stroke) in all.iter().zip(&strokes) {
        band(page, points, *stroke, &across, &up);
    }
    for (series, (points, stroke)) in all.iter().zip(&strokes).enumerate() {
        let line: Vec<[f32; 2]> =
            points.iter().map(|(_, at, e)| [across.place(*at), up.place(e.value)]).collect();
        for (&(point, ..), &at) in points.iter().zip(&line) {
            let [x, y] = at;
            let rect = [x - POINT, y - POINT, x + POINT, y + POINT];
            page.marks.push(Mark::filled(rect, Ink::rgb(stroke.rgb)));
            page.spots.push(Spot { panel: number, series, point, at });
        }
        page.marks.push(stroke.line(line, 1.6));
    }
    legend.draw(page, top);
    page.y = bottom + 12.0 + 2.0 * LINE;
}

/// The axis from left to right: of whole numbers where all places are.
fn across(all: &[Vec<Known>], ends: [f32; 2]) -> Axis {
    let places: Vec<f64> = all.iter().flatten().map(|(_, at, _)| *at).collect();
    let largest = places.iter().fold(0.0, |largest: f64, at| largest.max(at.abs()));
    let apart = wide(&format!("{largest:.0}"), LETTERS) + 12.0;
    let axis = Axis::tight(places.iter().copied(), ends, apart.max(24.0));
    if places.iter().all(|at| at.fract() == 0.0) { axis.whole() } else { axis }
}

/// The area between the ends of all intervals; an upright line at a single point.
fn band(page: &mut Page, points: &[Known], stroke: Stroke, across: &Axis, up: &Axis) {
    let side =
        |of: fn(&Estimate) -> f64| points.iter().map(move |(_, at, e)| [across.place(*at), up.place(of(e))]);
    let (upper, lower) = (side(|e| e.high), side(|e| e.low));
    match points.len() {
        0 => {}
        1 => page.marks.push(Mark::line(upper.chain(lower).collect(), Ink::rgb(stroke.rgb), 1.0)),
        _ => page.marks.push(Mark::area(upper.chain(lower.rev()).collect(), Ink::sheer(stroke.rgb, 0.15))),
    }
}

/// The points of a curve that are numbers, from left to right.
fn known(series: &Series) -> Vec<Known> {
    let known = series.points.iter().enumerate().filter_map(|(n, point)| match point.at {
        At::Number(at) if at.is_finite() && is_finite(&point.estimate) => Some((n, at, point.estimate)),
        _ => None,
    });
    let mut known: Vec<Known> = known.collect();
    known.sort_by(|a, b| a.1.total_cmp(&b.1));
    known
}

/// Whether a figure and its interval are numbers.
pub fn is_finite(estimate: &Estimate) -> bool {
    [estimate.value, estimate.low, estimate.high].iter().all(|number| number.is_finite())
}
