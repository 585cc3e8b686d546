//! Image files as upright 8-bit RGB.
//!
//! Rows from the top; sizes are (width, height) in pixels. Knows nothing of models.

use std::{io::Cursor, path::Path};

use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage, RgbaImage,
    metadata::Orientation,
};

use crate::{
    checkpoint::json::shorten,
    files::input,
    image::error::{ImageError, MAX_PIXELS, MAX_SIDE},
    spec::picture::ImageSource,
};

/// Reads an image from where it comes, as [`open`] and [`decode`] do.
///
/// # Errors
/// [`ImageError`], naming the source.
pub fn read(source: &ImageSource) -> Result<RgbImage, ImageError> {
    match source {
        ImageSource::File(path) => open(path),
        ImageSource::Bytes(bytes, name) => decode(bytes, name),
    }
}

/// Reads an image file: turned upright as its EXIF orientation says, alpha composited on white,
/// 8-bit RGB. The first frame of an animation.
pub fn open(path: &Path) -> Result<RgbImage, ImageError> {
    let bytes = input::read(path).map_err(|source| ImageError::Read { path: path.to_path_buf(), source })?;
    decode(&bytes, &path.display().to_string())
}

/// [`open`] for an image in memory; `name` is what errors call it.
///
/// 16-bit samples keep their high byte, as Pillow does when it reads colour; 16-bit *grey*, which
/// Pillow (mode `I;16`, and so transformers' `load_image`) clips at level 255, showing the model a white
/// sheet, is scaled like colour: the model should see what a person sees.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage, ImageError> {
    let failed = |reason: String| ImageError::Decode { name: name.to_owned(), reason: shorten(&reason, 300) };
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.to_string()))?;
    if reader.format().is_none() {
        return Err(failed("its first bytes belong to no known image format".to_owned()));
    }
    if reader.format() == Some(ImageFormat::WebP) && !riff_is_whole(bytes) {
        return Err(failed("it ends before one of its chunks does".to_owned()));
    }
    // Dimensions are checked below, for a better message; this bounds what a decoder allocates.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PIXELS * 8 + (64 << 20));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| failed(e.to_string()))?;
    let (width, height) = decoder.dimensions();
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { name: name.to_owned(), width, height });
    }
    // A broken EXIF block is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failed(e.to_string()))?;
    image.apply_orientation(orientation);
    Ok(to_rgb(image))
}

/// Whether the chunks of a RIFF file (WebP) lie inside it: the decoder makes room for as many bytes of
/// metadata as a chunk declares, up to 4 GB, before it looks for them.
fn riff_is_whole(bytes: &[u8]) -> bool {
    let length = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let end = length(4).unwrap_or(0).saturating_add(8).min(bytes.len());
    let mut at = 12;
    while at + 8 <= end {
        let Some(next) = length(at + 4).and_then(|size| size.checked_add(at + 8)) else { return false };
        if next > bytes.len() {
            return false;
        }
        at = next + next % 2;
    }
    true
}

fn to_rgb(image: DynamicImage) -> RgbImage {
    let high = |v: u16| (v >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(rgb) => rgb,
        DynamicImage::ImageLuma16(grey) => {
            RgbImage::from_fn(grey.width(), grey.height(), |x, y| Rgb([high(grey.get_pixel(x, y).0[0]); 3]))
        }
        DynamicImage::ImageRgb16(rgb) => {
            RgbImage::from_fn(rgb.width(), rgb.height(), |x, y| Rgb(rgb.get_pixel(x, y).0.map(high)))
        }
        DynamicImage::ImageLumaA16(grey) => RgbImage::from_fn(grey.width(), grey.height(), |x, y| {
            let [level, alpha] = grey.get_pixel(x, y).0.map(high);
            over_white([level; 3], alpha)
        }),
        DynamicImage::ImageRgba16(rgba) => RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
            let [r, g, b, alpha] = rgba.get_pixel(x, y).0.map(high);
            over_white([r, g, b], alpha)
        }),
        other if other.color().has_alpha() => {
            let rgba: RgbaImage = other.into_rgba8();
            RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
                let [r, g, b, alpha] = rgba.get_pixel(x, y).0;
                over_white([r, g, b], alpha)
            })
        }
        other => other.into_rgb8(),
    }
}

/// Pillow's `alpha_composite` onto opaque white, in its fixed-point arithmetic.
fn over_white(rgb: [u8; 3], alpha: u8) -> Rgb<u8> {
    let alpha = u32::from(alpha);
    Rgb(rgb.map(|level| {
        let blend = (u32::from(level) * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
        ((((blend >> 8) + blend) >> 8) >> 7) as u8
    }))
}
