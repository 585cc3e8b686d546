//! The drawing of a study's panels: curves with their intervals, bars where places are names, or grids of cells.
//!
//! `axis` has numbers on a line, `page` texts, colours and the legend; `curves`, `bars` and `cells` draw a panel each in
//! its form. Lengths are points. Plain data in, plain data out ([`Figure`]): the window paints it and exports write it.
//! Knows neither studies nor files.

use crate::{
    studies::survey::{
        chart::{
            bars::bars,
            cells::cells,
            curves::curves,
            page::{LETTERS, LINE, MARGIN, Page, Strokes},
        },
        findings::{At, Panel},
    },
    trace::figure::{Align, Figure, Ink, Mark},
};

mod axis;
mod bars;
mod cells;
mod curves;
pub mod page;

/// Width of a drawing in files, and the least that one has.
const WIDTH: f32 = 720.0;
const NARROWEST: f32 = 420.0;
/// Between two panels.
const BETWEEN: f32 = 14.0;

/// A drawing, and the points on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// What is drawn.
    pub figure: Figure,
    /// Every point of every panel that is drawn.
    pub spots: Vec<page::Spot>,
}

/// The panels of a study under each other; `title` says which study and which model.
pub fn figure(title: &str, panels: &[Panel]) -> Figure {
    draw(title, panels, WIDTH).figure
}

/// The same with its points, as wide as there is room, and as high as it takes.
pub fn draw(title: &str, panels: &[Panel], width: f32) -> Drawing {
    let width = if width.is_finite() { width.max(NARROWEST) } else { WIDTH };
    let mut page = Page { width, y: MARGIN / 2.0, ..Page::default() };
    let strokes = Strokes::of(panels);
    page.paragraph(title, 14.0, true, Ink::Text);
    for (number, panel) in panels.iter().enumerate() {
        page.y += BETWEEN;
        page.paragraph(&panel.title, 12.0, true, Ink::Text);
        one(&mut page, number, panel, &strokes);
    }
    if panels.is_empty() {
        nothing(&mut page);
    }
    let mut figure = Figure::new([width, page.y + MARGIN], title);
    figure.marks = page.marks;
    Drawing { figure, spots: page.spots }
}

/// One panel in its form.
fn one(page: &mut Page, number: usize, panel: &Panel, strokes: &Strokes) {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let named = points().any(|point| matches!(point.at, At::Name(_)));
    if points().all(|point| !curves::is_finite(&point.estimate)) {
        return nothing(page);
    }
    // An upright axis has its title above it, since texts lie flat; that of bars is below them.
    let above = if named && !panel.grid { &panel.across } else { &panel.up };
    page.paragraph(above, LETTERS, false, Ink::Weak);
    match (panel.grid, named) {
        (true, _) => cells(page, number, panel),
        (false, true) => bars(page, number, panel, strokes),
        (false, false) => curves(page, number, panel, strokes),
    }
}

fn nothing(page: &mut Page) {
    page.y += LINE;
    let at = [MARGIN, page.y];
    page.marks.push(Mark::text(at, "nothing was measured", LETTERS, Align::Start, Ink::Weak));
    page.y += LINE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studies::survey::findings::{Estimate, Point, Series};

    fn point(at: At, value: f64) -> Point {
        let estimate = Estimate { n: 9, value, low: value - 0.5, high: value + 0.25, sd: None };
        Point { at, estimate }
    }

    fn curve(name: &str, values: &[f64]) -> Series {
        let points = values.iter().enumerate().map(|(at, value)| point(At::Number(at as f64), *value));
        Series { name: name.to_string(), points: points.collect() }
    }

    fn panel(series: Vec<Series>) -> Panel {
        Panel {
            title: "Change of log probability".into(),
            across: "centre layer".into(),
            up: "change in nats, mean".into(),
            series,
            ..Panel::default()
        }
    }

    fn bars() -> Panel {
        let names = ["text only", "text and the top 5 % of the visual tokens by answer attention"];
        let points = names.map(|name| point(At::Name(name.to_string()), 0.5));
        let series = Series { name: "right answers".into(), points: points.to_vec() };
        Panel { range: Some([0.0, 1.0]), ..panel(vec![series]) }
    }

    fn grid(values: [f64; 2]) -> Panel {
        Panel { grid: true, ..panel(vec![curve("head 0", &values), curve("head 1", &[0.5])]) }
    }

    fn texts(figure: &Figure) -> Vec<&str> {
        let texts = figure.marks.iter().filter_map(|mark| match mark {
            Mark::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Corners of a mark; of a text by its widest.
    fn corners(mark: &Mark) -> Vec<[f32; 2]> {
        match mark {
            Mark::Area { points, .. } | Mark::Line { points, .. } => points.clone(),
            Mark::Rect { rect: [x0, y0, x1, y1], .. } => vec![[*x0, *y0], [*x1, *y1]],
            Mark::Ribbon { from, to, .. } => from.iter().chain(to).copied().collect(),
            Mark::Text { at: [x, y], text, size, align, .. } => {
                let wide = page::wide(text, *size);
                let from = match align {
                    Align::Start => *x,
                    Align::Middle => x - wide / 2.0,
                    Align::End => x - wide,
                };
                vec![[from, y - size / 2.0], [from + wide, y + size / 2.0]]
            }
        }
    }

    #[test]
    fn a_point_lands_at_its_place_and_the_axis_has_its_number() {
        let drawn = draw("windows", &[panel(vec![curve("", &[-1.0, 0.0, 1.0])])], 600.0);
        let at = |n: usize| drawn.spots[n].at;
        assert_eq!(drawn.spots.len(), 3);
        assert!((at(1)[0] - (at(0)[0] + at(2)[0]) / 2.0).abs() < 0.01, "layers stand evenly");
        assert!(
            (at(1)[1] - (at(0)[1] + at(2)[1]) / 2.0).abs() < 0.01 && at(0)[1] > at(2)[1],
            "more is higher"
        );
        let zero = drawn.figure.marks.iter().find_map(|mark| match mark {
            Mark::Text { at, text, align: Align::End, .. } if text == "0" => Some(at[1]),
            _ => None,
        });
        assert!((zero.unwrap() - at(1)[1]).abs() < 0.01, "0 is written where 0 is drawn");
        let line = drawn.figure.marks.iter().any(|mark| {
            matches!(mark, Mark::Line { points, ink: Ink::Weak, .. }
                if points.len() == 2 && points.iter().all(|point| (point[1] - at(1)[1]).abs() < 0.01))
        });
        assert!(line, "a line at 0");
    }

    #[test]
    fn a_band_lies_between_the_ends_of_intervals() {
        let drawn = draw("windows", &[panel(vec![curve("answer", &[-1.0, 0.0, 1.0])])], 600.0);
        let band = drawn.figure.marks.iter().find_map(|mark| match mark {
            Mark::Area { points, .. } => Some(points.clone()),
            _ => None,
        });
        let band = band.unwrap();
        assert_eq!(band.len(), 6);
        let nat = (drawn.spots[0].at[1] - drawn.spots[2].at[1]) / 2.0;
        for (n, spot) in drawn.spots.iter().enumerate() {
            let ([x, upper], [same, lower]) = (band[n], band[5 - n]);
            assert!((x - spot.at[0]).abs() < 0.01 && x == same);
            assert!((spot.at[1] - upper - 0.25 * nat).abs() < 0.01, "above by a quarter of a nat");
            assert!((lower - spot.at[1] - 0.5 * nat).abs() < 0.01, "below by half a nat");
        }
    }

    #[test]
    fn nothing_leaves_the_figure_and_no_two_texts_overlap() {
        let names: Vec<String> =
            (0..40).map(|n| format!("last -> visual - object~{n} of the image")).collect();
        let many = names.iter().map(|name| curve(name, &[0.1, -20.0, 3e5])).collect();
        let long = Panel { title: "long ".repeat(80), ..panel(many) };
        let heads = (0..64).map(|n| curve(&format!("head {n}"), &[0.1; 48])).collect();
        let panels = [long, bars(), grid([-1.0, 0.25]), Panel { grid: true, ..panel(heads) }, panel(vec![])];
        for width in [10.0, 640.0, 1400.0] {
            let figure = draw("windows of a model with a long name", &panels, width).figure;
            assert!(figure.is_finite());
            let [w, h] = figure.size;
            for mark in &figure.marks {
                let inside = |[x, y]: &[f32; 2]| (0.0..=w).contains(x) && (0.0..=h).contains(y);
                assert!(corners(mark).iter().all(inside), "{width}: {mark:?} of {w} x {h}");
            }
            let texts: Vec<&Mark> =
                figure.marks.iter().filter(|mark| matches!(mark, Mark::Text { .. })).collect();
            for (n, one) in texts.iter().enumerate() {
                let (a, ends) = (corners(one), |b: &[[f32; 2]], axis: usize| [b[0][axis], b[1][axis]]);
                for other in &texts[..n] {
                    let b = corners(other);
                    let meet =
                        |axis| ends(&a, axis)[0] < ends(&b, axis)[1] && ends(&b, axis)[0] < ends(&a, axis)[1];
                    assert!(!(meet(0) && meet(1)), "{width}: {one:?} over {other:?}");
                }
            }
        }
    }

    #[test]
    fn cells_have_the_colours_of_their_numbers() {
        use crate::trace::palette::Colormap;
        let fill = |panel: Panel, n: usize| {
            let drawn = draw("heads", &[panel], 600.0);
            let [x, y] = drawn.spots[n].at;
            let found = drawn.figure.marks.iter().find_map(|mark| match mark {
                Mark::Rect { rect: [x0, y0, x1, y1], fill, .. }
                    if *x0 < x && x < *x1 && *y0 < y && y < *y1 =>
                {
                    *fill
                }
                _ => None,
            });
            found.unwrap()
        };
        assert_eq!(fill(grid([-1.0, 0.0]), 0), Ink::rgb(Colormap::Diverging.rgb8(0.0)));
        assert_eq!(fill(grid([-1.0, 0.0]), 1), Ink::rgb(Colormap::Diverging.rgb8(0.5)), "0 is the middle");
        assert_eq!(
            fill(grid([2.0, 1.0]), 1),
            Ink::rgb(Colormap::Viridis.rgb8(0.5)),
            "without a sign from 0 on"
        );
    }

    #[test]
    fn what_was_not_measured_is_said_and_no_number_is_drawn_for_it() {
        let broken = panel(vec![curve("", &[f64::NAN])]);
        for panels in [vec![], vec![panel(vec![])], vec![panel(vec![curve("a", &[])])], vec![broken]] {
            let drawn = draw("lens", &panels, 600.0);
            assert!(texts(&drawn.figure).contains(&"nothing was measured") && drawn.spots.is_empty());
            assert!(drawn.figure.is_finite());
        }
        let half = draw("lens", &[panel(vec![curve("a", &[1.0, f64::NAN, 2.0])])], 600.0);
        assert!(half.figure.is_finite());
        assert_eq!(half.spots.iter().map(|spot| spot.point).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn bars_stand_beside_their_names() {
        let drawn = draw("compress", &[bars()], 600.0);
        let name = drawn.figure.marks.iter().find_map(|mark| match mark {
            Mark::Text { at, text, .. } if text == "text only" => Some(at[1]),
            _ => None,
        });
        assert!((drawn.spots[0].at[1] - name.unwrap()).abs() < 0.01);
        assert_eq!(drawn.spots[0].at[0], drawn.spots[1].at[0]);
    }
}
