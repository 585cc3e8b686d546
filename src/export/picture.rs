//! Pictures without a window: a heatmap PNG for an answer token.
//!
//! A heatmap lays one value a patch over the image; all pictures of one trace share the range that
//! is passed in, so that they can be compared.

use std::io::Cursor;

use image::{Rgb, RgbImage};

use crate::{
    export::error::ExportError,
    files::output::Output,
    trace::{geometry::Patch, palette::Colormap},
};

/// How strongly the map covers the image.
const OPACITY: f32 = 0.65;
/// Height of the colour bar under the image, in pixels.
const BAR: u32 = 12;

/// Paints `values[i]` over `patches[i]`, colours running from 0
/// to `max`, with a colour bar from 0 to `max` below.
pub fn heatmap(image: &RgbImage, patches: &[Patch], values: &[f32], max: f32) -> RgbImage {
    let (width, height) = image.dimensions();
    let colour = |value: f32| {
        let share = if max > 0.0 { value / max } else { 0.0 };
        Colormap::default().rgb8(share)
    };
    let mut out = RgbImage::from_pixel(width, height + BAR, Rgb([255; 3]));
    image::imageops::replace(&mut out, image, 0, 0);
    for (patch, &value) in patches.iter().zip(values) {
        let [x0, y0, x1, y1] = patch.rect;
        let map = colour(value);
        // Float to integer casts saturate: a patch that reaches into padding is clipped.
        for y in y0.round() as u32..(y1.round() as u32).min(height) {
            for x in x0.round() as u32..(x1.round() as u32).min(width) {
                let Rgb(under) = *image.get_pixel(x, y);
                let mix = |c: usize| f32::from(map[c]) * OPACITY + f32::from(under[c]) * (1.0 - OPACITY);
                out.put_pixel(x, y, Rgb([0, 1, 2].map(|c| mix(c) as u8)));
            }
        }
    }
    for x in 0..width {
        let map = colour(max * x as f32 / (width.max(2) - 1) as f32);
        for y in height + 2..height + BAR {
            out.put_pixel(x, y, Rgb(map));
        }
    }
    out
}

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
