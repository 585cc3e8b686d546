//! The page that panels are drawn on, from the top down: texts that stay within their room, colours of curves, and
//! the legend.
//!
//! Lengths are points. How wide a text is, is guessed and never too low, since each reader draws it in a font of their
//! own. Knows marks; nothing of what panels show.

use std::collections::BTreeMap;

use crate::{
    spec::span::Span,
    studies::survey::findings::{Panel, Series},
    trace::{
        figure::{Align, Ink, Mark},
        palette::span_rgb,
    },
};

/// Room at every side of the page.
pub const MARGIN: f32 = 14.0;
/// Height of letters.
pub const LETTERS: f32 = 11.0;
/// Height of a line of them.
pub const LINE: f32 = 15.0;
/// Width of a letter, as a share of its height.
const WIDE: f32 = 0.62;
/// The stroke before a name in the legend, with the gap after it.
const STROKE: f32 = 24.0;
/// From the plot to the legend.
const BESIDE: f32 = 14.0;

/// Colours of curves that are no spans: after Okabe and Ito, told apart by most colour-blind readers.
const COLOURS: [[u8; 3]; 7] = [
    [0, 114, 178],
    [230, 159, 0],
    [0, 158, 115],
    [213, 94, 0],
    [204, 121, 167],
    [86, 180, 233],
    [110, 110, 110],
];

/// A point that is drawn, and of what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    /// The panel's number.
    pub panel: usize,
    /// The number of the panel's curve.
    pub series: usize,
    /// The number of the curve's point.
    pub point: usize,
    /// Where it stands.
    pub at: [f32; 2],
}

/// See the module.
#[derive(Debug, Default)]
pub struct Page {
    /// Its width.
    pub width: f32,
    /// What is drawn already reaches down to here.
    pub y: f32,
    /// What is drawn.
    pub marks: Vec<Mark>,
    /// The points among it.
    pub spots: Vec<Spot>,
}

impl Page {
    /// Adds a line of text of ordinary size.
    pub fn text(&mut self, at: [f32; 2], text: impl Into<String>, align: Align, ink: Ink) {
        self.marks.push(Mark::text(at, text, LETTERS, align, ink));
    }

    /// Adds a text over the width of the page, in as many lines as it takes.
    pub fn paragraph(&mut self, text: &str, size: f32, bold: bool, ink: Ink) {
        for line in wrapped(text, size, self.width - 2.0 * MARGIN) {
            self.y += size * LINE / LETTERS;
            let at = [MARGIN, self.y - size * 0.6];
            self.marks.push(match bold {
                true => Mark::bold(at, line, size, Align::Start, ink),
                false => Mark::text(at, line, size, Align::Start, ink),
            });
        }
    }
}

/// How wide a text is, at most.
pub fn wide(text: &str, size: f32) -> f32 {
    text.chars().map(|c| if c.is_ascii() { WIDE * size } else { size }).sum()
}

/// A text in lines of some width: broken between words, and within those that are wider by themselves.
pub fn wrapped(text: &str, size: f32, width: f32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if wide(&longer, size) <= width {
            line = longer;
            continue;
        }
        lines.extend((!line.is_empty()).then(|| std::mem::take(&mut line)));
        for c in word.chars() {
            if !line.is_empty() && wide(&line, size) + wide(c.encode_utf8(&mut [0; 4]), size) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(c);
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

/// A text in one line of some width, cut short where it is longer.
pub fn short(text: &str, width: f32) -> String {
    if wide(text, LETTERS) <= width {
        return text.to_string();
    }
    let room = (width / (WIDE * LETTERS)) as usize;
    let kept: String = text.chars().take(room.saturating_sub(2)).collect();
    format!("{kept}..")
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// Its colour.
    pub rgb: [u8; 3],
    /// Whether it is broken: another curve of this colour is not.
    pub dashed: bool,
}

impl Stroke {
    /// A line of this stroke.
    pub fn line(self, points: Vec<[f32; 2]>, width: f32) -> Mark {
        let ink = Ink::rgb(self.rgb);
        if self.dashed { Mark::dashed(points, ink, width) } else { Mark::line(points, ink, width) }
    }
}

/// How curves are drawn, by their names: a name is one stroke in every panel.
#[derive(Debug, Default)]
pub struct Strokes(BTreeMap<String, Stroke>);

impl Strokes {
    /// Those of some panels.
    pub fn of(panels: &[Panel]) -> Self {
        let mut strokes = BTreeMap::new();
        let mut others = 0;
        for series in panels.iter().filter(|panel| !panel.grid).flat_map(|panel| &panel.series) {
            let span = Span::ALL.into_iter().find(|span| span.name() == series.name);
            strokes.entry(series.name.clone()).or_insert_with(|| match span {
                Some(span) => Stroke { rgb: span_rgb(span), dashed: false },
                None => {
                    let (round, at) = (others / COLOURS.len(), others % COLOURS.len());
                    others += 1;
                    Stroke { rgb: COLOURS[at], dashed: round % 2 == 1 }
                }
            });
        }
        Strokes(strokes)
    }

    /// That of a curve.
    pub fn get(&self, name: &str) -> Stroke {
        self.0.get(name).copied().unwrap_or(Stroke { rgb: COLOURS[0], dashed: false })
    }
}

/// The names of a panel's curves, at its right.
#[derive(Debug)]
pub struct Legend {
    entries: Vec<(Stroke, Vec<String>)>,
    /// With the gap before it; 0 where there is none.
    pub width: f32,
    /// Of all its lines.
    pub height: f32,
}

impl Legend {
    /// On a page of this width. A single curve without a name needs none.
    pub fn new(series: &[Series], strokes: &Strokes, page: f32) -> Self {
        let named = series.iter().filter(|series| !series.name.is_empty());
        let entries: Vec<(Stroke, Vec<String>)> = named
            .map(|series| (strokes.get(&series.name), wrapped(&series.name, LETTERS, page * 0.25)))
            .collect();
        let lines = entries.iter().flat_map(|(_, lines)| lines);
        let longest = lines.clone().map(|line| wide(line, LETTERS)).fold(0.0, f32::max);
        let width = if entries.is_empty() { 0.0 } else { BESIDE + STROKE + longest };
        Legend { width, height: lines.count() as f32 * LINE, entries }
    }

    /// Draws it, its upper right corner at the page's right margin.
    pub fn draw(&self, page: &mut Page, top: f32) {
        let left = page.width - MARGIN - self.width + BESIDE;
        let mut y = top + LINE / 2.0;
        for (stroke, lines) in &self.entries {
            page.marks.push(stroke.line(vec![[left, y], [left + STROKE - 6.0, y]], 2.0));
            for line in lines {
                page.text([left + STROKE, y], line, Align::Start, Ink::Text);
                y += LINE;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_within_their_width() {
        let text = "answer -> visual - object~1, windows of a_very_long_word_without_any_gap";
        for width in [40.0, 100.0, 300.0] {
            let lines = wrapped(text, LETTERS, width);
            assert!(lines.iter().all(|line| wide(line, LETTERS) <= width), "{lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text), "nothing is lost");
            assert!(wide(&short(text, width), LETTERS) <= width);
        }
        assert_eq!(wrapped("two words", LETTERS, 999.0), ["two words"]);
        assert!(wrapped(" ", LETTERS, 50.0).is_empty());
        assert_eq!(short("layer 3", 99.0), "layer 3");
    }

    #[test]
    fn spans_have_their_colours_and_no_two_others_the_same_stroke() {
        let series = |name: &str| Series { name: name.to_string(), points: Vec::new() };
        let names: Vec<String> = (0..14).map(|n| format!("flow {n}")).collect();
        let mut curves: Vec<Series> = names.iter().map(|name| series(name)).collect();
        curves.push(series("visual"));
        let panels = [Panel { series: curves, ..Panel::default() }];
        let strokes = Strokes::of(&panels);
        assert_eq!(strokes.get("visual").rgb, span_rgb(Span::Visual));
        for (n, name) in names.iter().enumerate() {
            assert!(names[..n].iter().all(|other| strokes.get(other) != strokes.get(name)), "{name}");
        }
    }
}
