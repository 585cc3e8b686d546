//! Maps as PNG: the image, the map over it, and below it a colour bar with numbers.
//!
//! One value a patch, straight or smooth; the colours are those of the [`MapSheet`], so that pictures of one range can
//! be compared. What it was drawn from is in the file too, as text that any viewer of PNG shows.

use image::{Pixel as _, Rgb, RgbImage};

use crate::{
    export::digits::{HEIGHT, length, write},
    trace::{
        geometry::Stretch,
        sheet::{MapSheet, Underlay},
    },
};

/// From the image to the colour bar, and from there to its numbers, in pixels.
const GAP: u32 = 2;
/// Height of the colour bar.
const BAR: u32 = 10;
/// From one slanted line to the next, over what the model never saw.
const HATCH: u32 = 8;
/// From one number to the next.
const APART: u32 = 8;
/// Narrowest picture: the numbers at both ends have room.
const NARROWEST: u32 = 160;
/// A small image is enlarged by a whole number until its longer side has so many pixels ..
const AT_LEAST: u32 = 512;
/// .. and a patch so many a side ..
const SEEN: f32 = 4.0;
/// .. but, for the sake of patches, to no more than so many.
const ENLARGED: u32 = 1024;
/// Width of a frame's white line; black ones lie at its sides.
const FRAME: f32 = 2.0;
/// Longest keyword of a text in a PNG file.
const KEYWORD: usize = 79;

/// The bytes of a map's file.
///
/// # Errors
/// The encoder's word.
pub fn png(sheet: &MapSheet) -> Result<Vec<u8>, String> {
    encoded(&heatmap(sheet), &sheet.caption.join("\n"), &sheet.settings)
}

/// A picture as PNG, with what it shows and what it was drawn from as text.
pub(super) fn encoded(
    picture: &RgbImage,
    title: &str,
    settings: &[(String, String)],
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let caption = [("Title", title), ("Software", "sightline")];
    let caption = caption.into_iter().filter(|(_, text)| !text.is_empty());
    let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, text) in caption.chain(settings) {
        let (keyword, text) = (keyword(name), text.replace('\0', "\u{FFFD}"));
        let added = match text.is_ascii() {
            true => encoder.add_text_chunk(keyword, text),
            false => encoder.add_itxt_chunk(keyword, text),
        };
        added.map_err(|e| e.to_string())?;
    }
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(picture.as_raw()).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// A name as the format allows it: printable ASCII here, single blanks within.
fn keyword(name: &str) -> String {
    let safe: String = name.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
    let mut safe = safe.split_whitespace().collect::<Vec<_>>().join(" ");
    safe.truncate(KEYWORD);
    if safe.is_empty() { "setting".to_string() } else { safe.trim_end().to_string() }
}

/// Paints a map over its picture, with a colour bar below that names both ends and the middle; `+` after the upper
/// number and `<` before the lower one say that values beyond have its colour too.
///
/// A pixel under several patches has the mean of their values by area. A small image, or one whose patches are
/// smaller than its pixels, is enlarged by a whole number. What no patch covers was never seen: it is hatched.
pub fn heatmap(sheet: &MapSheet) -> RgbImage {
    let image = &*sheet.picture;
    let (across, down) = (
        image.width() as f32 / sheet.source.0.max(1) as f32,
        image.height() as f32 / sheet.source.1.max(1) as f32,
    );
    let scale = enlargement(sheet, across, down);
    let (width, height) = (image.width() * scale, image.height() * scale);
    let (x_scale, y_scale) = (across * scale as f32, down * scale as f32);
    let cells: Vec<Cell> = (sheet.patches.iter())
        .map(|&([x0, y0, x1, y1], value)| Cell {
            xs: Stretch::new(x0 * x_scale, x1 * x_scale, width),
            ys: Stretch::new(y0 * y_scale, y1 * y_scale, height),
            value,
        })
        .collect();
    let mut out = RgbImage::from_pixel(width.max(NARROWEST), height + below(), Rgb([255; 3]));
    for y in 0..height {
        for (x, covered) in (0..).zip(row(&cells, y, width)) {
            let under = *image.get_pixel(x / scale, y / scale);
            let value = match sheet.smooth {
                true => sheet.smoothed((x as f32 + 0.5) / x_scale, (y as f32 + 0.5) / y_scale),
                false => (covered.valued > 0.0).then(|| (covered.sum / covered.valued) as f32),
            };
            let pixel = match value {
                _ if covered.area <= 0.0 => unseen(under.to_luma().0[0], x, y),
                Some(value) => {
                    let share = if sheet.smooth { covered.area } else { covered.valued };
                    mixed(sheet, value, under, share.min(1.0) as f32)
                }
                None => beneath(sheet.underlay, under),
            };
            out.put_pixel(x, y, Rgb(pixel));
        }
    }
    for [x0, y0, x1, y1] in &sheet.outlines {
        frame(&mut out, [x0 * x_scale, y0 * y_scale, x1 * x_scale, y1 * y_scale], (width, height));
    }
    draw_bar(&mut out, height + GAP, sheet);
    out
}

/// A patch on the picture that is painted.
struct Cell {
    xs: Stretch,
    ys: Stretch,
    value: f32,
}

/// What lies over a pixel.
#[derive(Clone, Copy, Default)]
struct Covered {
    /// How much of it is under patches, 1 for all of it; more where patches overlap.
    area: f64,
    /// How much of it is under patches that have a value.
    valued: f64,
    /// Their values by area.
    sum: f64,
}

/// What lies over every pixel of a row.
fn row(cells: &[Cell], y: u32, width: u32) -> Vec<Covered> {
    let mut row = vec![Covered::default(); width as usize];
    for Cell { xs, ys, value } in cells.iter().filter(|cell| cell.ys.of(y) > 0.0) {
        for x in xs.pixels() {
            let Some(pixel) = row.get_mut(x as usize) else { continue };
            let area = xs.of(x) * ys.of(y);
            pixel.area += area;
            if !value.is_nan() {
                pixel.valued += area;
                pixel.sum += area * f64::from(*value);
            }
        }
    }
    row
}

/// A pixel of the image as it lies under the map.
fn beneath(underlay: Underlay, pixel: Rgb<u8>) -> [u8; 3] {
    match underlay {
        // Without its colours: every colour that is seen is the map's.
        Underlay::Grey => [pixel.to_luma().0[0]; 3],
        Underlay::Colour => pixel.0,
        Underlay::Nothing => [255; 3],
    }
}

/// A colour of the map over a pixel of the image, of which it covers a share.
fn mixed(sheet: &MapSheet, value: f32, pixel: Rgb<u8>, share: f32) -> [u8; 3] {
    over(sheet.colour(value), beneath(sheet.underlay, pixel), opacity(sheet) * share)
}

/// How strongly the map covers what lies under it.
fn opacity(sheet: &MapSheet) -> f32 {
    if sheet.underlay == Underlay::Nothing { 1.0 } else { sheet.opacity.clamp(0.0, 1.0) }
}

fn over(map: [u8; 3], under: [u8; 3], opacity: f32) -> [u8; 3] {
    std::array::from_fn(|i| (f32::from(map[i]) * opacity + f32::from(under[i]) * (1.0 - opacity)) as u8)
}

/// What no patch shows, the model never saw: dark, with slanted lines.
fn unseen(grey: u8, x: u32, y: u32) -> [u8; 3] {
    let line = (x + y) % HATCH < HATCH / 4;
    [if line { grey / 2 + 96 } else { grey / 3 }; 3]
}

/// The height of what lies below the image.
fn below() -> u32 {
    GAP + BAR + GAP + HEIGHT + GAP
}

/// How many pixels a side become of one, so that the picture can be looked at, and its smallest patch is seen.
fn enlargement(sheet: &MapSheet, across: f32, down: f32) -> u32 {
    let longer = sheet.picture.width().max(sheet.picture.height()).max(1);
    let sides = sheet.patches.iter().flat_map(|([x0, y0, x1, y1], _)| [(x1 - x0) * across, (y1 - y0) * down]);
    let smallest = sides.filter(|side| *side > 0.0).fold(f32::INFINITY, f32::min);
    // Casts saturate: of an image without patches nothing has to be seen.
    let seen = ((SEEN / smallest).ceil() as u32).min(ENLARGED / longer);
    seen.max(AT_LEAST.div_ceil(longer)).max(1)
}

/// A rectangle's border, white between black lines, so that it is seen on every colour.
fn frame(out: &mut RgbImage, [x0, y0, x1, y1]: [f32; 4], (width, height): (u32, u32)) {
    let half = FRAME / 2.0;
    let grown = |by: f32| [x0 - by, y0 - by, x1 + by, y1 + by];
    let within = |[x0, y0, x1, y1]: [f32; 4], x: f32, y: f32| x0 <= x && x < x1 && y0 <= y && y < y1;
    // Casts saturate at the picture's edges.
    let [from_x, from_y, to_x, to_y] = grown(half + 1.0).map(|edge| edge.ceil() as u32);
    for y in from_y.saturating_sub(1)..to_y.saturating_add(1).min(height) {
        for x in from_x.saturating_sub(1)..to_x.saturating_add(1).min(width) {
            let at = |by: f32| within(grown(by), x as f32 + 0.5, y as f32 + 0.5);
            if at(half) && !at(-half) {
                out.put_pixel(x, y, Rgb([255; 3]));
            } else if at(half + 1.0) && !at(-half - 1.0) {
                out.put_pixel(x, y, Rgb([0; 3]));
            }
        }
    }
}

/// The colour bar at `top`, and under it the numbers at its ends and in its middle.
fn draw_bar(out: &mut RgbImage, top: u32, sheet: &MapSheet) {
    let (width, opacity) = (out.width(), opacity(sheet));
    for x in 0..width {
        let map = sheet.colormap.rgb8(x as f32 / (width - 1) as f32);
        for y in 0..BAR {
            // Over black at its top to white at its bottom: every colour over a grey image is on it.
            let under = (255 * y / (BAR - 1)) as u8;
            out.put_pixel(x, top + y, Rgb(over(map, [under; 3], opacity)));
        }
    }
    let (low, high) = sheet.range;
    let (is_below, is_above) = sheet.clipped();
    let lower = format!("{}{}", if is_below { "<" } else { "" }, short_level(low));
    let upper = format!("{}{}", level(high), if is_above { "+" } else { "" });
    let middle = short_level(sheet.value_at(0.5));
    let top = top + BAR + GAP;
    let (from, to) = (length(&lower), width - length(&upper).min(width));
    write(out, &lower, (0, top));
    write(out, &upper, (to, top));
    let left = (width - length(&middle).min(width)) / 2;
    // Left out where it would touch another number, or say the same.
    if high > low && left > from + APART && left + length(&middle) + APART < to {
        write(out, &middle, (left, top));
    }
}

/// An end of a range in words.
pub fn level(value: f32) -> String {
    if value == 0.0 || value.abs() >= 0.001 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// The same; nought without digits that say nothing.
fn short_level(value: f32) -> String {
    if value == 0.0 { "0".to_string() } else { level(value) }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io::Cursor, sync::Arc};

    use super::*;
    use crate::trace::geometry::{Geometry, Grid, Place, View};

    /// A map of one view of all the picture.
    fn sheet(image: RgbImage, rows: usize, cols: usize, values: &[f32], max: f32) -> MapSheet {
        let source = image.dimensions();
        let rect = [0.0, 0.0, source.0 as f32, source.1 as f32];
        let view = View { place: Place::Whole, rect, grid: Grid { rows, cols }, lead: 0 };
        let geometry = Geometry { source, rows: 0, cols: 0, views: vec![view] };
        MapSheet::new(Arc::new(image), &geometry, values, true, (0.0, max))
    }

    fn plain(width: u32, height: u32, level: u8) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb([level; 3]))
    }

    /// What a value looks like over a grey.
    fn painted(sheet: &MapSheet, value: f32, under: u8) -> [u8; 3] {
        mixed(sheet, value, Rgb([under; 3]), 1.0)
    }

    fn part(picture: &RgbImage, xs: std::ops::Range<u32>, ys: std::ops::Range<u32>) -> Vec<[u8; 3]> {
        ys.flat_map(|y| xs.clone().map(move |x| (x, y))).map(|(x, y)| picture.get_pixel(x, y).0).collect()
    }

    #[test]
    fn what_the_model_never_saw_is_hatched_and_the_rest_has_the_colours_of_the_bar() {
        // Of 600 x 200 pixels it saw the middle third; the image is red.
        let image = RgbImage::from_pixel(600, 200, Rgb([250, 20, 20]));
        let [grey] = Rgb([250, 20, 20]).to_luma().0;
        let mut map = sheet(image, 1, 1, &[0.5], 1.0);
        map.patches[0].0 = [200.0, 0.0, 400.0, 200.0];
        let picture = heatmap(&map);
        let column = |x: u32| part(&picture, x..x + 1, 0..200).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(column(300), [painted(&map, 0.5, grey)].into());
        for x in [0, 199, 400, 599] {
            assert_eq!(column(x).len(), 2, "lines at {x}");
            assert!(column(x).iter().all(|[r, g, b]| r == g && g == b), "no colour of the map");
        }
        // The bar has that colour, at its number, between black and white.
        let bar = part(&picture, 300..301, 200 + GAP..200 + GAP + BAR);
        let near = |a: &[u8; 3], b: [u8; 3]| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) < 20);
        assert!(bar.iter().any(|colour| near(colour, painted(&map, 0.5, grey))), "{bar:?}");
        // In colour, what is under the map keeps its own; alone, the map has all.
        let coloured = MapSheet { underlay: Underlay::Colour, ..map.clone() };
        let [r, _, b] = heatmap(&coloured).get_pixel(300, 0).0;
        let [r_grey, _, b_grey] = picture.get_pixel(300, 0).0;
        assert!(r > r_grey && b < b_grey);
        let alone = MapSheet { underlay: Underlay::Nothing, ..map };
        assert_eq!(heatmap(&alone).get_pixel(300, 0).0, alone.colour(0.5));
    }

    #[test]
    fn a_patch_has_its_pixels_and_its_colour_and_one_without_a_value_has_none() {
        let values = [0.0, 0.5, f32::NAN];
        let map = sheet(plain(600, 200, 200), 1, 3, &values, 1.0);
        let picture = heatmap(&map);
        assert_eq!(picture.dimensions(), (600, 200 + below()));
        for (x, y, pixel) in picture.enumerate_pixels().filter(|(_, y, _)| *y < 200) {
            let value = values[x as usize / 200];
            let expected = if value.is_nan() { [200; 3] } else { painted(&map, value, 200) };
            assert_eq!(pixel.0, expected, "{x}, {y}");
        }
    }

    #[test]
    fn small_pictures_are_enlarged_by_whole_numbers_and_patches_keep_their_places() {
        let map = sheet(plain(120, 40, 200), 1, 3, &[0.0, 0.5, 1.0], 1.0);
        let picture = heatmap(&map);
        assert_eq!(picture.dimensions(), (600, 200 + below()));
        assert_eq!(picture.get_pixel(199, 0).0, painted(&map, 0.0, 200));
        assert_eq!(picture.get_pixel(200, 0).0, painted(&map, 0.5, 200));
        // A picture that is smaller than its source: the patches are the source's.
        let small = MapSheet { picture: Arc::new(plain(60, 20, 200)), ..map.clone() };
        let picture = heatmap(&small);
        assert_eq!(picture.dimensions(), (540, 180 + below()));
        assert_eq!(picture.get_pixel(180, 0).0, painted(&map, 0.5, 200));
    }

    #[test]
    fn patches_smaller_than_a_pixel_are_all_seen() {
        // A checkerboard of 16 x 16 patches on 3 x 3 pixels.
        let values: Vec<f32> = (0..256).map(|i| ((i / 16 + i) % 2) as f32).collect();
        let map = sheet(plain(3, 3, 200), 16, 16, &values, 1.0);
        let picture = heatmap(&map);
        let scale = (picture.height() - below()) / 3;
        assert!(scale as f32 * 3.0 / 16.0 >= SEEN);
        for (rect, value) in &map.patches {
            let [x0, y0, x1, y1] = rect.map(|edge| edge * scale as f32);
            let middle = picture.get_pixel(((x0 + x1) / 2.0) as u32, ((y0 + y1) / 2.0) as u32);
            assert_eq!(middle.0, painted(&map, *value, 200), "{rect:?}");
        }
        // Where enlarging would go too far, a pixel has the mean of its patches.
        let long = plain(2000, 1, 200);
        let map = sheet(long.clone(), 4, 4, &[0.25, 0.75, 0.5, 0.5].repeat(4), 1.0);
        let picture = heatmap(&map);
        assert_eq!(picture.dimensions(), (2000, 1 + below()));
        assert_eq!(picture.get_pixel(0, 0).0, painted(&map, 0.25, 200));
        let columns: Vec<f32> = (0..16).map(|i| [0.0, 1.0][i / 8]).collect();
        let picture = heatmap(&sheet(long, 4, 4, &columns, 1.0));
        assert_eq!(picture.get_pixel(1999, 0).0, painted(&map, 0.5, 200));
    }

    #[test]
    fn one_range_gives_one_colour_whatever_else_is_in_the_picture() {
        let maps = [[0.01, 0.02], [0.01, 0.9]].map(|values| sheet(plain(600, 300, 0), 1, 2, &values, 0.05));
        let [a, b] = [heatmap(&maps[0]), heatmap(&maps[1])];
        assert_eq!(a.get_pixel(10, 10), b.get_pixel(10, 10));
        assert_eq!(b.get_pixel(590, 10).0, painted(&maps[1], 0.05, 0), "what lies above has the last colour");
        // The bars are the same, its upper number says that something was clipped.
        let (bar, numbers) = (300..300 + GAP + BAR, 300 + GAP + BAR..300 + below());
        assert_eq!(part(&a, 0..600, bar.clone()), part(&b, 0..600, bar));
        assert_ne!(part(&a, 300..600, numbers.clone()), part(&b, 300..600, numbers.clone()));
        assert_eq!(part(&a, 0..300, numbers.clone()), part(&b, 0..300, numbers.clone()));
        // The middle has its number, black on white; what lies below a range is said at its lower end.
        let black = |xs: std::ops::Range<u32>| part(&a, xs, numbers.clone()).contains(&[0; 3]);
        assert!(black(250..350) && !black(100..200));
        let raised = MapSheet { range: (0.015, 0.05), ..maps[0].clone() };
        let level_low = MapSheet { patches: raised.patches[1..].to_vec(), ..raised.clone() };
        assert_ne!(
            part(&heatmap(&raised), 0..200, numbers.clone()),
            part(&heatmap(&level_low), 0..200, numbers)
        );
        assert_eq!(
            [0.05, 0.0, 2e-5, -1.5, -2e-5].map(level),
            ["0.0500", "0.0000", "2.0e-5", "-1.5000", "-2.0e-5"]
        );
    }

    #[test]
    fn a_smooth_map_has_no_steps_and_an_outline_is_seen() {
        let map = sheet(plain(600, 200, 0), 1, 2, &[0.0, 1.0], 1.0);
        let smooth = heatmap(&MapSheet { smooth: true, ..map.clone() });
        let levels =
            |picture: &RgbImage| part(picture, 0..600, 100..101).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(levels(&heatmap(&map)).len(), 2);
        assert!(levels(&smooth).len() > 50);
        for (x, value) in [(10, 0.0), (590, 1.0)] {
            assert_eq!(smooth.get_pixel(x, 100).0, painted(&map, value, 0));
        }
        let framed = heatmap(&MapSheet { outlines: vec![[100.0, 50.0, 200.0, 150.0]], ..map.clone() });
        let crossed: Vec<[u8; 3]> = part(&framed, 97..103, 100..101);
        let inside = painted(&map, 0.0, 0);
        assert_eq!(crossed, [inside, [0; 3], [255; 3], [255; 3], [0; 3], inside]);
        assert_eq!(framed.get_pixel(150, 100), heatmap(&map).get_pixel(150, 100));
        // One that reaches beyond the picture stays on it.
        let beyond = heatmap(&MapSheet { outlines: vec![[-50.0, -9.0, 900.0, 999.0]], ..map.clone() });
        assert_eq!(part(&beyond, 0..600, 200 + GAP..220), part(&heatmap(&map), 0..600, 200 + GAP..220));
    }

    #[test]
    fn the_file_holds_the_picture_and_what_it_was_drawn_from() {
        let mut map = sheet(plain(8, 8, 100), 1, 1, &[0.5], 1.0);
        map.caption = vec!["duck".to_string(), "layer 3".to_string()];
        let settings = [("model", "SmolVLM"), ("question", "was ist das? 字"), (" \u{1}ö\n", "a\0b")];
        map.settings = settings.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let bytes = png(&map).unwrap();
        let read = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(read, heatmap(&map));
        let reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
        let info = reader.info();
        let latin: Vec<(&str, &str)> =
            info.uncompressed_latin1_text.iter().map(|t| (t.keyword.as_str(), t.text.as_str())).collect();
        assert_eq!(latin, [("Title", "duck\nlayer 3"), ("Software", "sightline"), ("model", "SmolVLM")]);
        let other: Vec<(String, String)> =
            info.utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap())).collect();
        let expected = [("question", "was ist das? 字"), ("setting", "a\u{FFFD}b")];
        assert_eq!(other, expected.map(|(name, text)| (name.to_string(), text.to_string())));
        assert_eq!(keyword(&"long ".repeat(40)).len(), 79);
    }
}
