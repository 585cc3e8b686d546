//! Image files as upright 8-bit RGB, and the one way in which any image file is opened.
//!
//! Rows from the top; sizes are (width, height) in pixels. Knows nothing of models.

use std::{io::Cursor, path::Path};

use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage,
    RgbaImage, metadata::Orientation,
};

use crate::{
    checkpoint::json::shorten,
    files::input,
    image::{
        error::{ImageError, MAX_PIXELS, MAX_SIDE},
        whole,
    },
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
    decode(&bytes(path)?, &path.display().to_string())
}

/// A file's bytes.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, ImageError> {
    input::read(path).map_err(|source| ImageError::Read { path: path.to_path_buf(), source })
}

/// [`open`] for an image in memory; `name` is what errors call it.
///
/// 16-bit samples keep their high byte, as Pillow does when it reads colour; 16-bit *grey*, which
/// Pillow (mode `I;16`, and so transformers' `load_image`) clips at level 255, showing the model a white
/// sheet, is scaled like colour: the model should see what a person sees.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage, ImageError> {
    Ok(to_rgb(upright(bytes, name)?.image))
}

/// A decoded file, with the samples that it has.
pub(super) struct Upright {
    /// Turned as its EXIF orientation says.
    pub image: DynamicImage,
    /// How it was turned.
    pub orientation: Orientation,
    /// What its first bytes say it is.
    pub format: ImageFormat,
    /// Its samples as they are stored.
    pub stored: ExtendedColorType,
}

/// Decodes a file by its content, whatever its name ends in.
pub(super) fn upright(bytes: &[u8], name: &str) -> Result<Upright, ImageError> {
    let failed = |reason: String| ImageError::Decode { name: name.to_owned(), reason: shorten(&reason, 300) };
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.to_string()))?;
    let Some(format) = reader.format() else {
        return Err(failed("its first bytes belong to no known image format".to_owned()));
    };
    if let Some(reason) = whole::cut_short(format, bytes) {
        return Err(failed(reason.to_owned()));
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
    let stored = decoder.original_color_type();
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failed(e.to_string()))?;
    image.apply_orientation(orientation);
    Ok(Upright { image, orientation, format, stored })
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
