//! A drawing as SVG: dark on white, readable by people and by other programs, the same bytes for the same drawing.

use ::svg::{
    Document, Node as _,
    node::{
        Text,
        element::{Description, Element, Path, Polygon, Polyline, Rectangle, Title},
    },
};

use crate::trace::figure::{Align, DASH, Figure, Ink, Mark, curve};

/// From a text's middle down to the line that it stands on, as a share of its size: half the height of a letter.
pub(super) const BASELINE: f32 = 0.35;

/// The text of a drawing's file; its settings are the file's description.
pub fn svg(figure: &Figure) -> String {
    let [width, height] = figure.size.map(number);
    let ground = Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white");
    let mut document = Document::new()
        .set("width", width.as_str())
        .set("height", height.as_str())
        .set("viewBox", format!("0 0 {width} {height}"))
        .set("font-family", "sans-serif")
        .add(Title::new(legal(&figure.title)));
    if !figure.settings.is_empty() {
        let lines: Vec<String> =
            figure.settings.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        document = document.add(Description::new().add(Text::new(legal(&lines.join("\n")))));
    }
    document = document.add(ground);
    for mark in &figure.marks {
        document = added(document, mark);
    }
    document.to_string() + "\n"
}

fn added(document: Document, mark: &Mark) -> Document {
    match mark {
        Mark::Area { points, fill } => {
            let mut area = Polygon::new().set("points", list(points));
            colour(&mut area, "fill", *fill);
            document.add(area)
        }
        Mark::Line { points, ink, width, dashed } => {
            let mut line = Polyline::new().set("points", list(points)).set("fill", "none");
            line = line.set("stroke-width", number(*width)).set("stroke-linejoin", "round");
            if *dashed {
                line = line.set("stroke-dasharray", DASH.map(number).join(" "));
            }
            colour(&mut line, "stroke", *ink);
            document.add(line)
        }
        Mark::Rect { rect: [x0, y0, x1, y1], fill, border } => {
            let mut rect = Rectangle::new().set("x", number(*x0)).set("y", number(*y0));
            rect = rect.set("width", number(x1 - x0)).set("height", number(y1 - y0));
            match fill {
                Some(fill) => colour(&mut rect, "fill", *fill),
                None => rect.assign("fill", "none"),
            }
            if let Some((ink, width)) = border {
                colour(&mut rect, "stroke", *ink);
                rect.assign("stroke-width", number(*width));
            }
            document.add(rect)
        }
        Mark::Ribbon { from: [top, bottom], to: [far_top, far_bottom], fill } => {
            let there = curve(*top, *far_top).map(point);
            let back = curve(*far_bottom, *bottom).map(point);
            let outline =
                format!("M{} C{} L{} C{} Z", there[0], there[1..].join(" "), back[0], back[1..].join(" "));
            let mut ribbon = Path::new().set("d", outline);
            colour(&mut ribbon, "fill", *fill);
            document.add(ribbon)
        }
        Mark::Text { .. } => document.add(text(mark)),
    }
}

/// A text, as an element of its own: the crate's breaks lines around what it says, which are blanks to some readers.
fn text(mark: &Mark) -> Element {
    let mut element = Element::new("text");
    let Mark::Text { at: [x, y], text, size, align, ink, bold } = mark else { return element };
    element.assign("x", number(*x));
    element.assign("y", number(y + BASELINE * size));
    element.assign("font-size", number(*size));
    let anchor = match align {
        Align::Start => "start",
        Align::Middle => "middle",
        Align::End => "end",
    };
    element.assign("text-anchor", anchor);
    if *bold {
        element.assign("font-weight", "bold");
    }
    colour(&mut element, "fill", *ink);
    element.append(Text::new(legal(text)));
    element
}

/// Gives an element a colour; opacity apart, which not every reader takes within it.
fn colour(element: &mut impl ::svg::Node, name: &str, ink: Ink) {
    let [r, g, b, a] = ink.on_paper();
    element.assign(name, format!("#{r:02x}{g:02x}{b:02x}"));
    if a < 255 {
        element.assign(format!("{name}-opacity"), number(f32::from(a) / 255.0));
    }
}

fn list(points: &[[f32; 2]]) -> String {
    points.iter().copied().map(point).collect::<Vec<_>>().join(" ")
}

fn point([x, y]: [f32; 2]) -> String {
    format!("{},{}", number(x), number(y))
}

/// A length to a hundredth of a point, which no eye sees.
fn number(value: f32) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_string() } else { text.to_string() }
}

/// A text without the characters that XML has no form for: tokens may hold any.
fn legal(text: &str) -> String {
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
    text.chars().map(|c| if is_legal(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One mark of every kind.
    fn figure() -> Figure {
        let mut figure = Figure::new([60.0, 40.5], "Flow of \"a < b\"");
        figure.settings = vec![("model".into(), "SmolVLM & co".into()), ("layer".into(), "3".into())];
        figure.add(Mark::line(vec![[0.0, 0.0], [20.0 / 3.0, 40.0]], Ink::Faint, 1.0));
        figure.add(Mark::dashed(vec![[0.0, 1.0], [2.0, 3.0]], Ink::rgb([230, 159, 0]), 1.5));
        figure.add(Mark::area(vec![[0.0, 0.0], [9.0, 0.0], [3.0, 3.0]], Ink::sheer([0, 114, 178], 0.2)));
        figure.add(Mark::Rect {
            rect: [1.0, 2.0, 11.0, 5.0],
            fill: Some(Ink::Weak),
            border: Some((Ink::Text, 0.5)),
        });
        figure.add(Mark::framed([0.0, 0.0, 1.0, 1.0], Ink::Text, 1.0));
        figure.add(Mark::ribbon((10.0, [4.0, 8.0]), (50.0, [24.0, 25.0]), Ink::sheer([86, 180, 233], 0.6)));
        figure.add(Mark::text([30.0, 20.0], "a<b\0", 10.0, Align::Middle, Ink::Text));
        figure.add(Mark::bold([60.0, 20.0], "end", 12.0, Align::End, Ink::Weak));
        figure
    }

    #[test]
    fn a_drawing_has_always_the_same_text() {
        let expected = r##"<svg font-family="sans-serif" height="40.5" viewBox="0 0 60 40.5" width="60" xmlns="http://www.w3.org/2000/svg">
<title>Flow of "a &lt; b"</title>
<desc>model: SmolVLM &amp; co
layer: 3</desc>
<rect fill="white" height="100%" width="100%"/>
<polyline fill="none" points="0,0 6.67,40" stroke="#dddddd" stroke-linejoin="round" stroke-width="1"/>
<polyline fill="none" points="0,1 2,3" stroke="#e69f00" stroke-dasharray="4 3" stroke-linejoin="round" stroke-width="1.5"/>
<polygon fill="#0072b2" fill-opacity="0.2" points="0,0 9,0 3,3"/>
<rect fill="#6e6e6e" height="3" stroke="#1e1e1e" stroke-width="0.5" width="10" x="1" y="2"/>
<rect fill="none" height="1" stroke="#1e1e1e" stroke-width="1" width="1" x="0" y="0"/>
<path d="M10,4 C30,4 30,24 50,24 L50,25 C30,25 30,8 10,8 Z" fill="#56b4e9" fill-opacity="0.6"/>
<text fill="#1e1e1e" font-size="10" text-anchor="middle" x="30" y="23.5">a&lt;b�</text>
<text fill="#6e6e6e" font-size="12" font-weight="bold" text-anchor="end" x="60" y="24.2">end</text>
</svg>
"##;
        assert_eq!(svg(&figure()), expected);
    }

    #[test]
    fn others_draw_what_is_written() {
        let text = svg(&figure());
        let tree = resvg::usvg::Tree::from_str(&text, &resvg::usvg::Options::default()).unwrap();
        let size = tree.size();
        assert_eq!((size.width(), size.height()), (60.0, 40.5));
        let mut pixels = resvg::tiny_skia::Pixmap::new(60, 41).unwrap();
        resvg::render(&tree, resvg::tiny_skia::Transform::identity(), &mut pixels.as_mut());
        let at = |x: u32, y: u32| {
            let pixel = pixels.pixel(x, y).unwrap();
            [pixel.red(), pixel.green(), pixel.blue()]
        };
        assert_eq!(at(50, 2), [255; 3], "the ground");
        let blue = at(12, 6);
        assert!(blue[2] > 220 && blue[0] < 200, "the ribbon: {blue:?}");
    }

    #[test]
    fn numbers_are_short_and_no_noughts() {
        assert_eq!(
            [0.0, -0.001, 1.0, 100.0, 0.25, 1.0 / 3.0, -2.5].map(number),
            ["0", "0", "1", "100", "0.25", "0.33", "-2.5"]
        );
    }
}
