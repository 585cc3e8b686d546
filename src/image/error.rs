//! What can go wrong between an image file and pixels, and the limits.

use std::path::PathBuf;

use thiserror::Error;

use crate::checkpoint::json::JsonError;

/// Longest edge of an image that is opened, in pixels.
pub const MAX_SIDE: u32 = 65_535;
/// Most pixels of an image that is opened: about 0.3 GB as RGB, 0.8 GB while a 16-bit file with
/// alpha is decoded.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most pixels that the model is given of one image, all views together: 0.4 GB as f32.
const MAX_INPUT_PIXELS: u64 = 32 << 20;

/// What can go wrong between an image file and pixels.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The content is not an image that can be decoded.
    #[error("{name} is not a readable image: {reason}. Supported: PNG, JPEG, WebP, GIF, BMP, TIFF, PNM")]
    Decode {
        /// The file, or what was pasted.
        name: String,
        /// What the decoder found.
        reason: String,
    },
    /// The image exceeds [`MAX_SIDE`] or [`MAX_PIXELS`].
    #[error(
        "{name} is {width} x {height} pixels; the limit is {MAX_SIDE} on a side and {MAX_PIXELS} in all: \
         scale it down first"
    )]
    TooLarge {
        /// The file, or what was pasted.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// There is no pixel to show to the model.
    #[error("an image of {width} x {height} pixels has nothing to look at")]
    Empty {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The model's processor takes no image of this shape.
    #[error(
        "an image of {width} x {height} pixels is more than {ratio} times as long as it is wide, which this \
         model's processor refuses: crop it first"
    )]
    TooLong {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// How many times as long as wide it may be.
        ratio: u32,
    },
    /// The model folder has no image processor settings.
    #[error(
        "{dir} has neither preprocessor_config.json nor an image_processor in processor_config.json: the \
         model's image size and normalisation are unknown"
    )]
    NoSettings {
        /// The model folder.
        dir: PathBuf,
    },
    /// A settings file is malformed, or asks for something that is not implemented.
    #[error(transparent)]
    Settings(#[from] JsonError),
    /// The settings lead to more pixels than any supported model takes.
    #[error(
        "the image processor settings turn this image into {width} x {height} pixels; the limit is \
         {MAX_INPUT_PIXELS} in all"
    )]
    InputTooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

/// Refuses more pixels than any supported model takes.
///
/// # Errors
/// [`ImageError::InputTooLarge`].
pub fn check_input((width, height): (u32, u32)) -> Result<(), ImageError> {
    if u64::from(width) * u64::from(height) > MAX_INPUT_PIXELS {
        return Err(ImageError::InputTooLarge { width, height });
    }
    Ok(())
}
