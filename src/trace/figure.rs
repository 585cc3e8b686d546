//! A drawing as plain data: painted on screen by a widget and written as SVG by an export, the same picture in both.
//!
//! Lengths are points, from the figure's upper left corner; rectangles are `[x0, y0, x1, y1]`. Knows neither windows
//! nor files, nor what the drawing shows.

/// A drawing: marks, the first at the bottom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figure {
    /// Width and height.
    pub size: [f32; 2],
    /// What it shows, in a line.
    pub title: String,
    /// What it was drawn from: names and values, kept with the file.
    pub settings: Vec<(String, String)>,
    /// What is drawn.
    pub marks: Vec<Mark>,
}

/// One part of a drawing.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// A filled outline, which may be concave; closed by itself.
    Area {
        /// Its corners.
        points: Vec<[f32; 2]>,
        /// Its colour.
        fill: Ink,
    },
    /// A line through some points.
    Line {
        /// In order.
        points: Vec<[f32; 2]>,
        /// Its colour.
        ink: Ink,
        /// Its width.
        width: f32,
        /// Broken as [`DASH`] says.
        dashed: bool,
    },
    /// A rectangle.
    Rect {
        /// Where it lies.
        rect: [f32; 4],
        /// Colour of its inside.
        fill: Option<Ink>,
        /// Colour and width of its border, half of which lies outside.
        border: Option<(Ink, f32)>,
    },
    /// A band from the left to the right, bounded by two curves that leave and arrive horizontally: [`curve`].
    Ribbon {
        /// Its upper and its lower end at the left.
        from: [[f32; 2]; 2],
        /// Likewise at the right.
        to: [[f32; 2]; 2],
        /// Its colour.
        fill: Ink,
    },
    /// A line of text.
    Text {
        /// Vertically its middle, horizontally as `align` says.
        at: [f32; 2],
        /// What it says.
        text: String,
        /// Height of its letters, as fonts count it.
        size: f32,
        /// Which part of it stands at `at`.
        align: Align,
        /// Its colour.
        ink: Ink,
        /// Whether it is heavy.
        bold: bool,
    },
}

/// Which part of a text stands at its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// Its beginning.
    #[default]
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A colour. All but the first follow dark and light on screen, and are dark on white in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Red, green, blue and opacity; colours not multiplied by it.
    Rgba([u8; 4]),
    /// That of text.
    Text,
    /// That of text that matters less.
    Weak,
    /// That of grid lines.
    Faint,
}

/// Lengths of a broken line's strokes and gaps.
pub const DASH: [f32; 2] = [4.0, 3.0];

impl Figure {
    /// A drawing without marks.
    pub fn new(size: [f32; 2], title: impl Into<String>) -> Self {
        Figure { size, title: title.into(), ..Figure::default() }
    }

    /// Adds a mark, above all others.
    pub fn add(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// Whether all its lengths are numbers.
    pub fn is_finite(&self) -> bool {
        self.size.iter().all(|v| v.is_finite()) && self.marks.iter().all(Mark::is_finite)
    }
}

impl Mark {
    /// A filled outline.
    pub fn area(points: Vec<[f32; 2]>, fill: Ink) -> Self {
        Mark::Area { points, fill }
    }

    /// A line.
    pub fn line(points: Vec<[f32; 2]>, ink: Ink, width: f32) -> Self {
        Mark::Line { points, ink, width, dashed: false }
    }

    /// A broken line.
    pub fn dashed(points: Vec<[f32; 2]>, ink: Ink, width: f32) -> Self {
        Mark::Line { points, ink, width, dashed: true }
    }

    /// A rectangle without a border.
    pub fn filled(rect: [f32; 4], fill: Ink) -> Self {
        Mark::Rect { rect, fill: Some(fill), border: None }
    }

    /// The border of a rectangle.
    pub fn framed(rect: [f32; 4], ink: Ink, width: f32) -> Self {
        Mark::Rect { rect, fill: None, border: Some((ink, width)) }
    }

    /// A ribbon between two upright ends: `x`, and `[top, bottom]` there.
    pub fn ribbon(from: (f32, [f32; 2]), to: (f32, [f32; 2]), fill: Ink) -> Self {
        let end = |(x, sides): (f32, [f32; 2])| sides.map(|y| [x, y]);
        Mark::Ribbon { from: end(from), to: end(to), fill }
    }

    /// A text of ordinary weight.
    pub fn text(at: [f32; 2], text: impl Into<String>, size: f32, align: Align, ink: Ink) -> Self {
        Mark::Text { at, text: text.into(), size, align, ink, bold: false }
    }

    /// A heavy text.
    pub fn bold(at: [f32; 2], text: impl Into<String>, size: f32, align: Align, ink: Ink) -> Self {
        Mark::Text { at, text: text.into(), size, align, ink, bold: true }
    }

    fn is_finite(&self) -> bool {
        let numbers = |values: &[f32]| values.iter().all(|v| v.is_finite());
        match self {
            Mark::Area { points, .. } => points.iter().all(|p| numbers(p)),
            Mark::Line { points, width, .. } => points.iter().all(|p| numbers(p)) && width.is_finite(),
            Mark::Rect { rect, border, .. } => numbers(rect) && border.is_none_or(|(_, w)| w.is_finite()),
            Mark::Ribbon { from, to, .. } => from.iter().chain(to).all(|p| numbers(p)),
            Mark::Text { at, size, .. } => numbers(at) && size.is_finite(),
        }
    }
}

impl Ink {
    /// An opaque colour.
    pub fn rgb([r, g, b]: [u8; 3]) -> Self {
        Ink::Rgba([r, g, b, 255])
    }

    /// A colour, `opacity` from 0 to 1.
    pub fn sheer([r, g, b]: [u8; 3], opacity: f32) -> Self {
        Ink::Rgba([r, g, b, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8])
    }

    /// What it is on white paper.
    pub fn on_paper(self) -> [u8; 4] {
        match self {
            Ink::Rgba(rgba) => rgba,
            Ink::Text => [30, 30, 30, 255],
            Ink::Weak => [110, 110, 110, 255],
            Ink::Faint => [221, 221, 221, 255],
        }
    }
}

/// The cubic Bézier curve that bounds a ribbon: its two ends, and between them the points that it bends to, halfway
/// along and at the height of either end.
pub fn curve(from: [f32; 2], to: [f32; 2]) -> [[f32; 2]; 4] {
    let middle = (from[0] + to[0]) / 2.0;
    [from, [middle, from[1]], [middle, to[1]], to]
}

/// The point of a cubic Bézier curve at `t`, from 0 to 1.
pub fn point_on(curve: [[f32; 2]; 4], t: f32) -> [f32; 2] {
    let s = 1.0 - t;
    let weights = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
    std::array::from_fn(|axis| curve.iter().zip(weights).map(|(point, weight)| point[axis] * weight).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ribbon_leaves_and_arrives_horizontally() {
        let bound = curve([10.0, 4.0], [50.0, 84.0]);
        assert_eq!((point_on(bound, 0.0), point_on(bound, 1.0)), ([10.0, 4.0], [50.0, 84.0]));
        assert_eq!(point_on(bound, 0.5), [30.0, 44.0]);
        let [[x0, y0], [x1, y1]] = [point_on(bound, 0.01), point_on(bound, 0.99)];
        assert!(x0 > 10.5 && y0 < 4.1 && x1 < 49.5 && y1 > 83.9, "{x0} {y0} {x1} {y1}");
        let mark = Mark::ribbon((10.0, [4.0, 8.0]), (50.0, [84.0, 86.0]), Ink::Text);
        let Mark::Ribbon { from, to, .. } = mark else { panic!("no ribbon") };
        assert_eq!((from, to), ([[10.0, 4.0], [10.0, 8.0]], [[50.0, 84.0], [50.0, 86.0]]));
    }

    #[test]
    fn what_is_no_number_is_seen_wherever_it_stands() {
        let point = [f32::NAN, 1.0];
        let sound = Mark::line(vec![[0.0, 1.0]], Ink::Faint, 1.0);
        let mut figure = Figure::new([10.0, 10.0], "a figure");
        figure.add(sound);
        assert!(figure.is_finite());
        for broken in [
            Mark::area(vec![[0.0, 0.0], point], Ink::Text),
            Mark::line(vec![point], Ink::Text, 1.0),
            Mark::dashed(vec![], Ink::Text, f32::INFINITY),
            Mark::filled([0.0, 0.0, 1.0, f32::NAN], Ink::Weak),
            Mark::framed([0.0; 4], Ink::Weak, f32::NAN),
            Mark::ribbon((0.0, [0.0, 1.0]), (f32::NAN, [0.0, 1.0]), Ink::Text),
            Mark::text(point, "a", 12.0, Align::Start, Ink::Text),
            Mark::bold([0.0; 2], "a", f32::NAN, Align::End, Ink::Text),
        ] {
            let figure = Figure { marks: vec![broken], ..figure.clone() };
            assert!(!figure.is_finite(), "{:?}", figure.marks);
        }
    }

    #[test]
    fn colours_of_files_are_dark_on_white() {
        assert_eq!(Ink::sheer([1, 2, 3], 0.5), Ink::Rgba([1, 2, 3, 128]));
        assert_eq!(Ink::rgb([1, 2, 3]).on_paper(), [1, 2, 3, 255]);
        let levels = [Ink::Text, Ink::Weak, Ink::Faint].map(|ink| ink.on_paper()[0]);
        assert!(levels.is_sorted() && levels[2] < 240);
    }
}
