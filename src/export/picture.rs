//! Pictures without a window: a heatmap PNG for an answer token.
//!
//! A heatmap lays one value a patch over the image; all pictures of one trace share the range that
//! is passed in, so that they can be compared. The colour bar says which it is.

use std::io::Cursor;

use image::{Pixel as _, Rgb, RgbImage};

use crate::{
    export::error::ExportError,
    files::output::Output,
    trace::{
        geometry::{Patch, Stretch},
        palette::Colormap,
    },
};

/// How strongly the map covers the image.
const OPACITY: f32 = 0.65;
/// From the image to the colour bar, and from there to its numbers, in pixels.
const GAP: u32 = 2;
/// Height of the colour bar.
const BAR: u32 = 10;
/// Side of a dot of its numbers.
const DOT: u32 = 2;
/// From one slanted line to the next, over what the model never saw.
const HATCH: u32 = 8;
/// Narrowest picture: both numbers have room.
const NARROWEST: u32 = 96;
/// A small image is enlarged until a patch has so many pixels a side ..
const SEEN: f32 = 4.0;
/// .. but to no more than so many pixels a side.
const ENLARGED: u32 = 1024;

/// Paints `values[i]` over `patches[i]`, colours running from 0 to `max`, with a colour bar below that names both
/// ends; `+` after the upper one says that larger values have its colour too.
///
/// A pixel under several patches has the mean of their values by area. An image whose patches are smaller than
/// its pixels is enlarged by a whole number. Beside tiles, the view of the whole is painted.
pub fn heatmap(image: &RgbImage, patches: &[Patch], values: &[f32], max: f32) -> RgbImage {
    let whole = patches.iter().any(|patch| patch.whole);
    let shown = patches.iter().zip(values).filter(|(patch, _)| patch.whole == whole);
    let shown: Vec<([f32; 4], f32)> = shown.map(|(patch, &value)| (patch.rect, value)).collect();
    let scale = enlargement(image, &shown);
    let (width, height) = (image.width() * scale, image.height() * scale);
    let colour = |value: f32| {
        let share = if max > 0.0 { value / max } else { 0.0 };
        Colormap::default().rgb8(share)
    };
    let cells: Vec<(Stretch, Stretch, f64)> = (shown.iter())
        .map(|&(rect, value)| {
            let [x0, y0, x1, y1] = rect.map(|edge| edge * scale as f32);
            (Stretch::new(x0, x1, width), Stretch::new(y0, y1, height), f64::from(value))
        })
        .collect();
    let mut out = RgbImage::from_pixel(width.max(NARROWEST), height + below(), Rgb([255; 3]));
    for y in 0..height {
        // Of every pixel, the area that lies under patches, and the sum of their values by area.
        let mut row = vec![(0.0, 0.0); width as usize];
        for (xs, ys, value) in cells.iter().filter(|(_, ys, _)| ys.of(y) > 0.0) {
            for x in xs.pixels() {
                let area = xs.of(x) * ys.of(y);
                let pixel: &mut (f64, f64) = &mut row[x as usize];
                *pixel = (pixel.0 + area, pixel.1 + area * value);
            }
        }
        for (x, (area, sum)) in (0..).zip(row) {
            // Without its colours: every colour that is seen is the map's.
            let [grey] = image.get_pixel(x / scale, y / scale).to_luma().0;
            let pixel = match area > 0.0 {
                true => mixed(colour((sum / area) as f32), grey, OPACITY * area.min(1.0) as f32),
                false => unseen(grey, x, y),
            };
            out.put_pixel(x, y, Rgb(pixel));
        }
    }
    let clipped = shown.iter().any(|(_, value)| *value > max);
    draw_bar(&mut out, height + GAP, max, clipped, &colour);
    out
}

/// A colour of the map over a grey of the image.
fn mixed(map: [u8; 3], grey: u8, opacity: f32) -> [u8; 3] {
    map.map(|level| (f32::from(level) * opacity + f32::from(grey) * (1.0 - opacity)) as u8)
}

/// What no patch shows, the model never saw: dark, with slanted lines.
fn unseen(grey: u8, x: u32, y: u32) -> [u8; 3] {
    let line = (x + y) % HATCH < HATCH / 4;
    [if line { grey / 2 + 96 } else { grey / 3 }; 3]
}

/// The height of what lies below the image.
fn below() -> u32 {
    GAP + BAR + GAP + 5 * DOT + GAP
}

/// How many pixels a side become of one, so that the smallest patch is seen.
fn enlargement(image: &RgbImage, shown: &[([f32; 4], f32)]) -> u32 {
    let sides = shown.iter().flat_map(|([x0, y0, x1, y1], _)| [x1 - x0, y1 - y0]);
    let smallest = sides.filter(|side| *side > 0.0).fold(f32::INFINITY, f32::min);
    let most = ENLARGED / image.width().max(image.height()).max(1);
    // Casts saturate: of an image without patches nothing has to be seen.
    ((SEEN / smallest).ceil() as u32).min(most).max(1)
}

/// The colour bar at `top`, and under it the numbers at its ends.
fn draw_bar(out: &mut RgbImage, top: u32, max: f32, clipped: bool, colour: &dyn Fn(f32) -> [u8; 3]) {
    let width = out.width();
    for x in 0..width {
        let map = colour(max * x as f32 / (width - 1) as f32);
        for y in 0..BAR {
            // Over black at its top to white at its bottom: every colour of the picture is on it.
            let under = (255 * y / (BAR - 1)) as u8;
            out.put_pixel(x, top + y, Rgb(mixed(map, under, OPACITY)));
        }
    }
    let upper = format!("{}{}", level(max), if clipped { "+" } else { "" });
    // A dot lies between two characters, none after the last.
    let length = (4 * upper.len() as u32 - 1) * DOT;
    write(out, "0", (0, top + BAR + GAP));
    write(out, &upper, (width - length.min(width), top + BAR + GAP));
}

/// An end of a range in words.
pub fn level(max: f32) -> String {
    if max == 0.0 || max >= 0.001 { format!("{max:.4}") } else { format!("{max:.1e}") }
}

/// Writes a number, black, its upper left corner at a pixel.
fn write(out: &mut RgbImage, number: &str, (left, top): (u32, u32)) {
    for (place, character) in (0..).zip(number.chars()) {
        let Some((_, rows)) = GLYPHS.iter().find(|(glyph, _)| *glyph == character) else { continue };
        for (y, row) in (0..).zip(rows) {
            for x in (0..3).filter(|x| (row >> (2 - x)) & 1 == 1) {
                let (x, y) = (left + (4 * place + x) * DOT, top + y * DOT);
                for (x, y) in (0..DOT * DOT).map(|i| (x + i % DOT, y + i / DOT)) {
                    if let Some(pixel) = out.get_pixel_mut_checked(x, y) {
                        *pixel = Rgb([0; 3]);
                    }
                }
            }
        }
    }
}

/// What numbers are written with: five rows of three dots.
const GLYPHS: [(char, [u8; 5]); 14] = [
    ('0', [0b111, 0b101, 0b101, 0b101, 0b111]),
    ('1', [0b010, 0b110, 0b010, 0b010, 0b111]),
    ('2', [0b111, 0b001, 0b111, 0b100, 0b111]),
    ('3', [0b111, 0b001, 0b111, 0b001, 0b111]),
    ('4', [0b101, 0b101, 0b111, 0b001, 0b001]),
    ('5', [0b111, 0b100, 0b111, 0b001, 0b111]),
    ('6', [0b111, 0b100, 0b111, 0b101, 0b111]),
    ('7', [0b111, 0b001, 0b001, 0b001, 0b001]),
    ('8', [0b111, 0b101, 0b111, 0b101, 0b111]),
    ('9', [0b111, 0b101, 0b111, 0b001, 0b111]),
    ('.', [0b000, 0b000, 0b000, 0b000, 0b010]),
    ('+', [0b000, 0b010, 0b111, 0b010, 0b000]),
    ('-', [0b000, 0b000, 0b111, 0b000, 0b000]),
    ('e', [0b000, 0b111, 0b111, 0b100, 0b111]),
];

/// Writes a picture as PNG.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn write_png(picture: &RgbImage, name: &str, out: &Output) -> Result<(), ExportError> {
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(|e| ExportError::Encode { file: out.place(name), why: e.to_string() })?;
    Ok(out.write(name, png.get_ref())?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Patches of a grid over a rectangle.
    fn grid(rows: usize, cols: usize, width: f32, height: f32) -> Vec<Patch> {
        let (w, h) = (width / cols as f32, height / rows as f32);
        let cell = |i: usize| ((i % cols) as f32 * w, (i / cols) as f32 * h);
        let patch = |(x, y): (f32, f32)| Patch { rect: [x, y, x + w, y + h], whole: false };
        (0..rows * cols).map(|i| patch(cell(i))).collect()
    }

    fn painted(value: f32, max: f32, under: u8) -> [u8; 3] {
        mixed(Colormap::default().rgb8(value / max), under, OPACITY)
    }

    #[test]
    fn what_the_model_never_saw_is_hatched_and_the_rest_has_the_colours_of_the_bar() {
        // Of 120 x 40 pixels it saw the middle third; the image is red.
        let image = RgbImage::from_pixel(120, 40, Rgb([250, 20, 20]));
        let [grey] = Rgb([250, 20, 20]).to_luma().0;
        let patch = Patch { rect: [40.0, 0.0, 80.0, 40.0], whole: false };
        let picture = heatmap(&image, &[patch], &[0.5], 1.0);
        let column = |x: u32| (0..40).map(|y| picture.get_pixel(x, y).0).collect::<BTreeSet<_>>();
        assert_eq!(column(60), [painted(0.5, 1.0, grey)].into());
        for x in [0, 39, 80, 119] {
            assert_eq!(column(x).len(), 2, "lines at {x}");
            assert!(column(x).iter().all(|[r, g, b]| r == g && g == b), "no colour of the map");
        }
        // The bar has that colour, at its number, between black and white.
        let bar: Vec<[u8; 3]> = (0..BAR).map(|y| picture.get_pixel(60, 40 + GAP + y).0).collect();
        let near = |a: &[u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 20);
        assert!(bar.iter().any(|colour| near(colour, painted(0.5, 1.0, grey))), "{bar:?}");
    }

    #[test]
    fn a_patch_has_its_pixels_and_its_colour() {
        let image = RgbImage::from_pixel(120, 40, Rgb([200; 3]));
        let values = [0.0, 0.5, 1.0];
        let picture = heatmap(&image, &grid(1, 3, 120.0, 40.0), &values, 1.0);
        assert_eq!(picture.dimensions(), (120, 40 + below()));
        for (x, y, pixel) in picture.enumerate_pixels().filter(|(_, y, _)| *y < 40) {
            assert_eq!(pixel.0, painted(values[x as usize / 40], 1.0, 200), "{x}, {y}");
        }
    }

    #[test]
    fn patches_smaller_than_a_pixel_are_all_seen() {
        // A checkerboard of 16 x 16 patches on 3 x 3 pixels.
        let image = RgbImage::from_pixel(3, 3, Rgb([200; 3]));
        let patches = grid(16, 16, 3.0, 3.0);
        let values: Vec<f32> = (0..256).map(|i| ((i / 16 + i) % 2) as f32).collect();
        let picture = heatmap(&image, &patches, &values, 1.0);
        let scale = (picture.height() - below()) / 3;
        assert!(scale as f32 * 3.0 / 16.0 >= SEEN);
        for (patch, value) in patches.iter().zip(values) {
            let [x0, y0, x1, y1] = patch.rect.map(|edge| edge * scale as f32);
            let middle = picture.get_pixel(((x0 + x1) / 2.0) as u32, ((y0 + y1) / 2.0) as u32);
            assert_eq!(middle.0, painted(value, 1.0, 200), "{patch:?}");
        }
        // Where enlarging would go too far, a pixel has the mean of its patches.
        let long = RgbImage::from_pixel(2000, 1, Rgb([200; 3]));
        let picture = heatmap(&long, &grid(4, 4, 2000.0, 1.0), &[0.25, 0.75, 0.5, 0.5].repeat(4), 1.0);
        assert_eq!(picture.dimensions(), (2000, 1 + below()));
        assert_eq!(picture.get_pixel(0, 0).0, painted(0.25, 1.0, 200));
        let columns: Vec<f32> = (0..16).map(|i| [0.0, 1.0][i / 8]).collect();
        let picture = heatmap(&long, &grid(4, 4, 2000.0, 1.0), &columns, 1.0);
        assert_eq!(picture.get_pixel(1999, 0).0, painted(0.5, 1.0, 200));
    }

    #[test]
    fn one_range_gives_one_colour_whatever_else_is_in_the_picture() {
        let image = RgbImage::from_pixel(100, 50, Rgb([0; 3]));
        let patches = grid(1, 2, 100.0, 50.0);
        let [a, b] = [[0.01, 0.02], [0.01, 0.9]].map(|values| heatmap(&image, &patches, &values, 0.05));
        assert_eq!(a.get_pixel(10, 10), b.get_pixel(10, 10));
        assert_eq!(b.get_pixel(90, 10).0, painted(1.0, 1.0, 0), "what lies above has the last colour");
        // The bars are the same, its upper number says that something was clipped.
        let part = |picture: &RgbImage, rows: std::ops::Range<u32>| -> Vec<[u8; 3]> {
            rows.flat_map(|y| (0..100).map(move |x| (x, y))).map(|(x, y)| picture.get_pixel(x, y).0).collect()
        };
        let (bar, numbers) = (50..50 + GAP + BAR, 50 + GAP + BAR..50 + below());
        assert_eq!(part(&a, bar.clone()), part(&b, bar));
        assert_ne!(part(&a, numbers.clone()), part(&b, numbers));
        assert_eq!([level(0.05), level(0.0), level(2e-5)], ["0.0500", "0.0000", "2.0e-5"]);
    }
}
