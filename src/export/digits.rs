//! Numbers on pictures: dots, so that no font is needed.

use image::{Rgb, RgbImage};

/// Side of a dot.
const DOT: u32 = 2;
/// Height of a number.
pub const HEIGHT: u32 = 5 * DOT;

/// The width of a number: a dot lies between two characters, none after the last.
pub fn length(number: &str) -> u32 {
    (4 * number.len() as u32).saturating_sub(1) * DOT
}

/// Writes a number, black, its upper left corner at a pixel.
pub fn write(out: &mut RgbImage, number: &str, (left, top): (u32, u32)) {
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
const GLYPHS: [(char, [u8; 5]); 15] = [
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
    ('<', [0b001, 0b010, 0b100, 0b010, 0b001]),
    ('-', [0b000, 0b000, 0b111, 0b000, 0b000]),
    ('e', [0b000, 0b111, 0b111, 0b100, 0b111]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_fills_its_width_and_stays_on_its_picture() {
        let mut picture = RgbImage::from_pixel(60, 12, Rgb([255; 3]));
        let black = |picture: &RgbImage| {
            let dots = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0 == [0; 3]);
            dots.map(|(x, y, _)| (x, y)).collect::<Vec<_>>()
        };
        write(&mut picture, "<-1.5e", (3, 1));
        let dots = black(&picture);
        let columns = (dots.iter().map(|(x, _)| *x).min(), dots.iter().map(|(x, _)| *x).max());
        assert_eq!(columns, (Some(3), Some(3 + length("<-1.5e") - 1)));
        assert!(dots.iter().all(|(_, y)| (1..1 + HEIGHT).contains(y)));
        assert_eq!(length(""), 0);
        // What lies beyond the picture is cut off.
        write(&mut picture, "888", (50, 6));
        assert!(black(&picture).len() > dots.len());
    }
}
