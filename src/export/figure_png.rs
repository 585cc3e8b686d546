//! A drawing as PNG, for whoever takes no SVG: the SVG drawn as others draw it, and its texts with letters that are in
//! the program, so that the pixels are the same on every machine.
//!
//! Texts lie above all other marks. Rows from the top; lengths of drawings are points, `SCALE` pixels each.

use epaint_default_fonts::{HACK_REGULAR, UBUNTU_LIGHT};
use image::RgbImage;
use resvg::{
    tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, Stroke, Transform},
    usvg::{Options, Tree},
};
use skrifa::{
    FontRef, GlyphId, MetadataProvider as _,
    instance::{LocationRef, Size},
    outline::{DrawSettings, OutlinePen},
};

use crate::{
    export::{
        picture::encoded,
        svg::{BASELINE, svg},
    },
    trace::figure::{Align, Figure, Ink, Mark},
};

/// Pixels a point: sharp on screens and in print.
const SCALE: f32 = 2.0;
/// Most pixels a side.
const LARGEST: f32 = 32_768.0;
/// How much wider the strokes of letters are made, as a share of their size: the letters at hand are light.
const ORDINARY: f32 = 0.02;
/// The same of heavy ones.
const BOLD: f32 = 0.07;

/// The bytes of a drawing's file.
///
/// # Errors
/// In words: it is too large for pixels, or the encoder refuses.
pub fn png(figure: &Figure) -> Result<Vec<u8>, String> {
    encoded(&painted(figure)?, &figure.title, &figure.settings)
}

/// A drawing's pixels.
fn painted(figure: &Figure) -> Result<RgbImage, String> {
    let tree = Tree::from_str(&svg(figure), &Options::default()).map_err(|e| e.to_string())?;
    let [width, height] = figure.size.map(|length| (length * SCALE).ceil());
    if !(width <= LARGEST && height <= LARGEST) {
        return Err(format!("{width} x {height} pixels, at most {LARGEST} a side are drawn; take the SVG"));
    }
    let mut pixels = Pixmap::new(width as u32, height as u32).ok_or("it has no size")?;
    pixels.fill(Color::WHITE);
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    let fonts = Fonts::new()?;
    for mark in &figure.marks {
        fonts.write(mark, &mut pixels);
    }
    let (width, height) = (pixels.width(), pixels.height());
    // The ground is white and opaque: nothing is to be divided by its opacity.
    let rgb = pixels.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    RgbImage::from_raw(width, height, rgb).ok_or_else(|| "its pixels do not fill it".to_string())
}

/// Letters: of the first font that has them.
struct Fonts([FontRef<'static>; 2]);

impl Fonts {
    fn new() -> Result<Self, String> {
        let font = |bytes| FontRef::new(bytes).map_err(|e| e.to_string());
        Ok(Fonts([font(UBUNTU_LIGHT)?, font(HACK_REGULAR)?]))
    }

    /// The font that has a character, and its glyph there; that of what is missing where neither has it.
    fn glyph(&self, c: char) -> (&FontRef<'static>, GlyphId) {
        let found = self.0.iter().find_map(|font| Some((font, font.charmap().map(c)?)));
        found.unwrap_or((&self.0[0], GlyphId::NOTDEF))
    }

    /// Draws a text; any other mark is not drawn.
    fn write(&self, mark: &Mark, onto: &mut Pixmap) {
        let Mark::Text { at: [x, y], text, size, align, ink, bold } = mark else { return };
        let mut pen = Pen { path: PathBuilder::new(), x: 0.0 };
        for c in text.chars() {
            let (font, glyph) = self.glyph(c);
            let (size, nowhere) = (Size::new(*size), LocationRef::default());
            if let Some(outline) = font.outline_glyphs().get(glyph) {
                // One that is broken leaves its place empty.
                let _ = outline.draw(DrawSettings::unhinted(size, nowhere), &mut pen);
            }
            pen.x += font.glyph_metrics(size, nowhere).advance_width(glyph).unwrap_or_default();
        }
        let Pen { path, x: width } = pen;
        let Some(path) = path.finish() else { return };
        let left = match align {
            Align::Start => *x,
            Align::Middle => x - width / 2.0,
            Align::End => x - width,
        };
        // Letters stand on their line, upwards.
        let place = Transform::from_row(1.0, 0.0, 0.0, -1.0, left, y + BASELINE * size);
        let place = place.post_scale(SCALE, SCALE);
        let paint = paint(*ink);
        let width = size * if *bold { BOLD } else { ORDINARY };
        onto.fill_path(&path, &paint, FillRule::Winding, place, None);
        onto.stroke_path(&path, &paint, &Stroke { width, ..Stroke::default() }, place, None);
    }
}

fn paint(ink: Ink) -> Paint<'static> {
    let [r, g, b, a] = ink.on_paper();
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, a);
    paint
}

/// Puts one letter after the other on a path.
struct Pen {
    path: PathBuilder,
    /// Where the next letter begins.
    x: f32,
}

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.path.move_to(self.x + x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.path.line_to(self.x + x, y);
    }

    fn quad_to(&mut self, cx: f32, cy: f32, x: f32, y: f32) {
        self.path.quad_to(self.x + cx, cy, self.x + x, y);
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        self.path.cubic_to(self.x + cx0, cy0, self.x + cx1, cy1, self.x + x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &str, align: Align) -> Figure {
        let mut figure = Figure::new([100.0, 40.0], "words");
        figure.add(Mark::text([50.0, 20.0], words, 12.0, align, Ink::Text));
        figure
    }

    /// Columns and rows that have something darker than half, the first and the last.
    fn extent(figure: &Figure) -> Option<[u32; 4]> {
        let pixels = painted(figure).unwrap();
        let dark = |found: &(u32, u32, &image::Rgb<u8>)| found.2.0[0] < 128;
        let places: Vec<(u32, u32)> =
            pixels.enumerate_pixels().filter(dark).map(|(x, y, _)| (x, y)).collect();
        let (xs, ys) = (places.iter().map(|p| p.0), places.iter().map(|p| p.1));
        Some([xs.clone().min()?, xs.max()?, ys.clone().min()?, ys.max()?])
    }

    #[test]
    fn words_stand_where_they_are_put() {
        let [start, middle, end] =
            [Align::Start, Align::Middle, Align::End].map(|align| extent(&text("HOHOH", align)).unwrap());
        let width = start[1] - start[0];
        assert!((60..130).contains(&width), "five letters of 12 points: {width} pixels");
        assert!(start[0] >= 100 && start[0] < 106 && end[1] <= 100 && end[1] > 94, "{start:?} {end:?}");
        assert!((middle[0] + middle[1]).abs_diff(200) <= 2, "{middle:?}");
        assert!((start[2] + start[3]).abs_diff(80) <= 4, "capitals lie about their middle: {start:?}");
        assert!(start[3] - start[2] < 24);
    }

    #[test]
    fn letters_are_upright_and_those_that_no_font_has_are_boxes() {
        // An L is darkest at its foot.
        let pixels = painted(&text("L", Align::Middle)).unwrap();
        let [_, _, top, bottom] = extent(&text("L", Align::Middle)).unwrap();
        let dark = |y: u32| (0..pixels.width()).filter(|&x| pixels.get_pixel(x, y).0[0] < 128).count();
        assert!(dark(bottom).max(dark(bottom - 1)) > dark(top + 1));
        for words in ["→", "é", "字"] {
            assert!(extent(&text(words, Align::Middle)).is_some(), "{words}");
        }
        assert!(extent(&text(" ", Align::Middle)).is_none());
        let bold = |bold: bool| {
            let mut figure = Figure::new([100.0, 40.0], "words");
            let at = [50.0, 20.0];
            figure.add(match bold {
                true => Mark::bold(at, "words", 12.0, Align::Middle, Ink::Text),
                false => Mark::text(at, "words", 12.0, Align::Middle, Ink::Text),
            });
            painted(&figure).unwrap().pixels().map(|pixel| u64::from(255 - pixel.0[0])).sum::<u64>()
        };
        assert!(bold(true) * 10 > bold(false) * 11, "heavy letters are darker");
    }

    #[test]
    fn the_file_holds_the_drawing_twice_as_large_and_always_the_same() {
        let mut figure = text("layer", Align::Start);
        figure.settings = vec![("model".to_string(), "SmolVLM".to_string())];
        figure.add(Mark::filled([0.0, 0.0, 10.0, 10.0], Ink::rgb([230, 159, 0])));
        let bytes = png(&figure).unwrap();
        assert_eq!(bytes, png(&figure).unwrap());
        let read = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(read.dimensions(), (200, 80));
        assert_eq!((read.get_pixel(10, 10).0, read.get_pixel(190, 10).0), ([230, 159, 0], [255; 3]));
        assert!(png(&Figure::new([1e6, 10.0], "long")).unwrap_err().contains("take the SVG"));
    }
}
