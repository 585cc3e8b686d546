//! Pixels as the model sees them: decoding an image file, and the reference image processors.
//!
//! Knows nothing of tokens, tensors or windows. What it mirrors, in transformers: the Pillow
//! backends of `CLIPImageProcessor` (LLaVA-1.5) and `Idefics3ImageProcessor` (also SmolVLM's).
//!
//! Layouts: images are 8-bit RGB, rows from the top; tile pixels are `[3, height, width]` f32,
//! normalised; sizes are (width, height) in pixels. Every tile knows which rectangle of the upright
//! source image it shows, so that a cell of its token grid can be drawn over that image.

use std::io::Cursor;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage, RgbaImage};
use serde_json::Value;
use thiserror::Error;

use crate::{checkpoint::json::shorten, image::resample::{self, Filter}};

/// Longest edge of an image that is opened, in pixels.
pub const MAX_SIDE: u32 = 65_535;
/// Most pixels of an image that is opened: about 0.3 GB as RGB, 0.8 GB while a 16-bit file with
/// alpha is decoded.
pub const MAX_PIXELS: u64 = 100_000_000;
/// Most pixels that the model is given of one image, all tiles together: 0.4 GB as f32. The largest
/// Idefics3 setting stays well below.
const MAX_INPUT_PIXELS: u64 = 32 << 20;
/// Idefics3 resizes to at most this on the longest edge, whatever its settings ask (`MAX_IMAGE_SIZE`).
const IDEFICS3_MAX_SIDE: u32 = 4096;

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
    /// The model folder has no image processor settings.
    #[error(
        "{dir} has neither preprocessor_config.json nor an image_processor in processor_config.json: the \
         model's image size and normalisation are unknown"
    )]
    NoSettings {
        /// The model folder.
        dir: PathBuf,
    },
    /// A setting is malformed, or asks for something that is not implemented.
    #[error("{file}: `{key}` is {found}; expected {expected}")]
    Setting {
        /// The settings file.
        file: PathBuf,
        /// The key in it.
        key: &'static str,
        /// Its value, as JSON.
        found: String,
        /// What is supported.
        expected: String,
    },
    /// A settings file is not JSON.
    #[error("{file} is not valid JSON: {reason}")]
    NotJson {
        /// The settings file.
        file: PathBuf,
        /// Where it breaks.
        reason: String,
    },
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

// ------------------------------------------------------------------------------------- decoding

/// Reads an image file: turned upright as its EXIF orientation says, alpha composited on white,
/// 8-bit RGB. The first frame of an animation.
pub fn open(path: &Path) -> Result<RgbImage, ImageError> {
    let bytes =
        std::fs::read(path).map_err(|source| ImageError::Read { path: path.to_path_buf(), source })?;
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

// ------------------------------------------------------------------------------------ processing

/// The image processor of one model folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageProcessor {
    plan: Plan,
    filter: Filter,
    do_resize: bool,
    /// Multiplies 8-bit levels, when asked for.
    rescale: Option<f64>,
    /// Mean and standard deviation per channel, when asked for.
    normalise: Option<([f32; 3], [f32; 3])>,
}

/// What the two families do differently.
#[derive(Clone, Debug, PartialEq)]
enum Plan {
    /// One tile: resize, then cut or pad to `crop` around the centre.
    Clip { size: ClipSize, crop: Option<(u32, u32)> },
    /// Resize the longest edge, cut into square tiles of `side`, add a view of the whole.
    Idefics3 { size: Idefics3Size, side: u32, split: bool },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ClipSize {
    ShortestEdge(u32),
    Exact(u32, u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Idefics3Size {
    LongestEdge(u32),
    Exact(u32, u32),
}

/// One image, ready for the vision encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// In the order in which the model takes them: the grid row by row, then the whole view.
    pub tiles: Vec<Tile>,
    /// Width and height of every tile.
    pub tile_size: (u32, u32),
    /// Rows of the tile grid; 0 when the image is a single tile.
    pub rows: u32,
    /// Columns of the tile grid; 0 when the image is a single tile.
    pub cols: u32,
    /// Size of the upright source image.
    pub source: (u32, u32),
    /// Size after the first resize (LLaVA: before the crop).
    pub resized: (u32, u32),
}

/// One input of the vision encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Tile {
    /// `[3, height, width]`, rescaled and normalised.
    pub pixels: Vec<f32>,
    /// Its place in the grid.
    pub place: Place,
    /// `[x0, y0, x1, y1]` of the upright source image, in source pixels: what the tile shows. It
    /// exceeds the image where the model sees padding.
    pub source_rect: [f32; 4],
}

/// Where a tile stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A cell of the tile grid, from 0.
    Cell {
        /// Row of the grid.
        row: u32,
        /// Column of the grid.
        col: u32,
    },
    /// The whole image (Idefics3: the global view, after the grid).
    Whole,
}

impl Processed {
    /// What was done to the image, in words.
    pub fn describe(&self) -> String {
        let ((w, h), (rw, rh), (tw, th)) = (self.source, self.resized, self.tile_size);
        let resized = format!("{w}x{h}, resized to {rw}x{rh}");
        match self.rows * self.cols {
            0 if (rw, rh) == (tw, th) => resized,
            0 => format!("{resized}, of which the model sees the central {tw}x{th}"),
            _ => format!(
                "{resized}, cut into {} x {} tiles of {tw}x{th} beside a view of the whole",
                self.rows, self.cols
            ),
        }
    }

    /// The part of the source image, `[x0, y0, x1, y1]` in source pixels, behind the token at `row`,
    /// `col` of a tile whose tokens form a `grid_rows` x `grid_cols` grid over all of it. `None` if
    /// there is no such tile or cell.
    pub fn token_rect(
        &self,
        tile: usize,
        row: usize,
        col: usize,
        grid_rows: usize,
        grid_cols: usize,
    ) -> Option<[f32; 4]> {
        let [x0, y0, x1, y1] = self.tiles.get(tile)?.source_rect;
        if row >= grid_rows || col >= grid_cols {
            return None;
        }
        let x = |col: usize| x0 + (x1 - x0) * col as f32 / grid_cols as f32;
        let y = |row: usize| y0 + (y1 - y0) * row as f32 / grid_rows as f32;
        Some([x(col), y(row), x(col + 1), y(row + 1)])
    }
}

impl ImageProcessor {
    /// The processor that a Hugging Face folder describes. Absent keys take the defaults of the
    /// processor's class.
    pub fn from_dir(dir: &Path) -> Result<ImageProcessor, ImageError> {
        // transformers 5 writes everything into processor_config.json, and reads that first.
        let nested = dir.join("processor_config.json");
        if let Some(Value::Object(mut all)) = read_json(&nested)?
            && let Some(settings) = all.remove("image_processor")
        {
            return ImageProcessor::from_json(&Settings { file: nested, values: settings });
        }
        let file = dir.join("preprocessor_config.json");
        match read_json(&file)? {
            Some(values) => ImageProcessor::from_json(&Settings { file, values }),
            None => Err(ImageError::NoSettings { dir: dir.to_path_buf() }),
        }
    }

    fn from_json(settings: &Settings) -> Result<ImageProcessor, ImageError> {
        let class = settings.class()?;
        let idefics3 = class == Class::Idefics3;
        let plan = if idefics3 { settings.idefics3_plan()? } else { settings.clip_plan(class)? };
        let code = settings.unsigned("resample")?.unwrap_or(if idefics3 { 1 } else { 3 });
        let filter = Filter::from_pil_code(code)
            .ok_or_else(|| settings.bad("resample", "a Pillow filter from 1 (Lanczos) to 5 (Hamming)"))?;
        let rescale = if settings.flag("do_rescale", true)? {
            Some(settings.factor("rescale_factor")?.unwrap_or(1.0 / 255.0))
        } else {
            None
        };
        let normalise = if settings.flag("do_normalize", true)? {
            let (mean, std) = if idefics3 { ([0.5; 3], [0.5; 3]) } else { (CLIP_MEAN, CLIP_STD) };
            let mean = settings.channels("image_mean", -FACTORS.end())?.unwrap_or(mean);
            let std = settings.channels("image_std", *FACTORS.start())?.unwrap_or(std);
            Some((mean, std))
        } else {
            None
        };
        Ok(ImageProcessor { plan, filter, do_resize: settings.flag("do_resize", true)?, rescale, normalise })
    }

    /// Resizes, cuts and normalises an image as the reference processor does.
    pub fn process(&self, image: &RgbImage) -> Result<Processed, ImageError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        match &self.plan {
            Plan::Clip { size, crop } => self.process_clip(image, *size, *crop),
            Plan::Idefics3 { size, side, split } => self.process_idefics3(image, *size, *side, *split),
        }
    }

    fn process_clip(
        &self,
        image: &RgbImage,
        size: ClipSize,
        crop: Option<(u32, u32)>,
    ) -> Result<Processed, ImageError> {
        let source = image.dimensions();
        let resized = match size {
            _ if !self.do_resize => source,
            ClipSize::Exact(width, height) => (width, height),
            ClipSize::ShortestEdge(edge) => {
                let (short, long) = (source.0.min(source.1), source.0.max(source.1));
                let long = (f64::from(edge) * f64::from(long) / f64::from(short)) as u32;
                if source.0 <= source.1 { (edge, long) } else { (long, edge) }
            }
        };
        let tile_size = crop.unwrap_or(resized);
        check_input(tile_size)?;
        // Position of the tile on the resized image; negative where the tile is larger (padding).
        let origin = |full: u32, tile: u32| (i64::from(full) - i64::from(tile)).div_euclid(2);
        let (left, top) = (origin(resized.0, tile_size.0), origin(resized.1, tile_size.1));
        // Only the visible part of the resized image is computed.
        let seen = |origin: i64, full: u32, tile: u32| {
            origin.max(0) as u32..(origin + i64::from(tile)).min(i64::from(full)) as u32
        };
        let (xs, ys) = (seen(left, resized.0, tile_size.0), seen(top, resized.1, tile_size.1));
        let window = resample::resize_window(image, resized, xs.clone(), ys.clone(), self.filter);
        let tile = if window.dimensions() == tile_size {
            window
        } else {
            let mut padded = RgbImage::new(tile_size.0, tile_size.1); // black, as transformers pads
            let (x, y) = (i64::from(xs.start) - left, i64::from(ys.start) - top);
            image::imageops::replace(&mut padded, &window, x, y);
            padded
        };
        let (sx, sy) =
            (f64::from(source.0) / f64::from(resized.0), f64::from(source.1) / f64::from(resized.1));
        let rect = [
            left as f64 * sx,
            top as f64 * sy,
            (left + i64::from(tile_size.0)) as f64 * sx,
            (top + i64::from(tile_size.1)) as f64 * sy,
        ];
        let tile = Tile {
            pixels: self.normalised(&tile, (0, 0), tile_size),
            place: Place::Whole,
            source_rect: rect.map(|v| v as f32),
        };
        Ok(Processed { tiles: vec![tile], tile_size, rows: 0, cols: 0, source, resized })
    }

    fn process_idefics3(
        &self,
        image: &RgbImage,
        size: Idefics3Size,
        side: u32,
        split: bool,
    ) -> Result<Processed, ImageError> {
        let source = image.dimensions();
        let resized = match size {
            _ if !self.do_resize => source,
            Idefics3Size::Exact(width, height) => (width, height),
            Idefics3Size::LongestEdge(edge) => longest_edge_size(source, edge),
        };
        // Without splitting the image is squeezed into one square tile.
        let grid = if split { multiples_of(resized, side) } else { (side, side) };
        check_input(grid)?;
        let first = resample::resize(image, resized.0, resized.1, self.filter);
        let picture = resample::resize(&first, grid.0, grid.1, self.filter);
        drop(first);
        let (mut rows, mut cols) = (grid.1 / side, grid.0 / side);
        let whole = [0.0, 0.0, source.0 as f32, source.1 as f32];
        let mut tiles = Vec::new();
        if rows * cols > 1 {
            let edge = |length: u32, index: u32, count: u32| {
                (f64::from(length) * f64::from(index) / f64::from(count)) as f32
            };
            for row in 0..rows {
                for col in 0..cols {
                    tiles.push(Tile {
                        pixels: self.normalised(&picture, (col * side, row * side), (side, side)),
                        place: Place::Cell { row, col },
                        source_rect: [
                            edge(source.0, col, cols),
                            edge(source.1, row, rows),
                            edge(source.0, col + 1, cols),
                            edge(source.1, row + 1, rows),
                        ],
                    });
                }
            }
            // The reference makes the global view from the enlarged image, not from the source.
            let global = resample::resize(&picture, side, side, self.filter);
            let pixels = self.normalised(&global, (0, 0), (side, side));
            tiles.push(Tile { pixels, place: Place::Whole, source_rect: whole });
        } else {
            (rows, cols) = (0, 0);
            let pixels = self.normalised(&picture, (0, 0), (side, side));
            tiles.push(Tile { pixels, place: Place::Whole, source_rect: whole });
        }
        Ok(Processed { tiles, tile_size: (side, side), rows, cols, source, resized })
    }

    /// A `size` window of an image at `origin`, as `[3, height, width]`.
    fn normalised(&self, image: &RgbImage, origin: (u32, u32), size: (u32, u32)) -> Vec<f32> {
        // Rounded where the reference rounds: after the rescale, and after each step of the
        // normalisation. There are only 256 levels per channel.
        let level = |channel: usize, level: usize| {
            let value = self.rescale.map_or(level as f32, |factor| (level as f64 * factor) as f32);
            self.normalise.map_or(value, |(mean, std)| (value - mean[channel]) / std[channel])
        };
        let mut pixels = Vec::with_capacity(3 * size.0 as usize * size.1 as usize);
        let row_length = image.width() as usize * 3;
        for channel in 0..3 {
            let table: Vec<f32> = (0..256).map(|v| level(channel, v)).collect();
            for row in image.as_raw().chunks_exact(row_length).skip(origin.1 as usize).take(size.1 as usize) {
                let row = &row[origin.0 as usize * 3..(origin.0 + size.0) as usize * 3];
                pixels.extend(row.iter().skip(channel).step_by(3).map(|&v| table[usize::from(v)]));
            }
        }
        pixels
    }
}

fn check_input((width, height): (u32, u32)) -> Result<(), ImageError> {
    if u64::from(width) * u64::from(height) > MAX_INPUT_PIXELS {
        return Err(ImageError::InputTooLarge { width, height });
    }
    Ok(())
}

/// Idefics3's first resize: the longest edge becomes `edge`, the other is truncated, then rounded up
/// to even. (`_resize_output_size_rescale_to_max_len` and `.._scale_below_upper_bound`, in their
/// floating-point arithmetic.)
fn longest_edge_size(source: (u32, u32), edge: u32) -> (u32, u32) {
    let even = |v: u32| v + v % 2;
    let ratio = f64::from(source.0) / f64::from(source.1);
    let (width, height) = if source.0 >= source.1 {
        (edge, even((f64::from(edge) / ratio) as u32).max(1))
    } else {
        (even((f64::from(edge) * ratio) as u32).max(1), edge)
    };
    if width.max(height) <= IDEFICS3_MAX_SIDE {
        return (width, height);
    }
    let ratio = f64::from(width) / f64::from(height);
    let bound = f64::from(IDEFICS3_MAX_SIDE);
    if width >= height {
        (IDEFICS3_MAX_SIDE, ((bound / ratio) as u32).max(1))
    } else {
        (((bound * ratio) as u32).max(1), IDEFICS3_MAX_SIDE)
    }
}

/// Idefics3's second resize: the longer edge up to a multiple of `side`, the other scaled with it,
/// truncated, and up to a multiple too (`resize_for_vision_encoder`).
fn multiples_of(size: (u32, u32), side: u32) -> (u32, u32) {
    let up = |v: u32| v.div_ceil(side).max(1) * side;
    let ratio = f64::from(size.0) / f64::from(size.1);
    if size.0 >= size.1 {
        let width = up(size.0);
        (width, up((f64::from(width) / ratio) as u32))
    } else {
        let height = up(size.1);
        (up((f64::from(height) * ratio) as u32), height)
    }
}

// -------------------------------------------------------------------------------------- settings

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// What pixels may be scaled by: far beyond, they would all be alike, or infinite.
const FACTORS: RangeInclusive<f64> = 1e-6..=1e6;

#[derive(Clone, Copy, PartialEq)]
enum Class {
    Clip,
    Llava,
    Idefics3,
}

/// A settings file, and typed access to its keys; `null` counts as absent.
struct Settings {
    file: PathBuf,
    values: Value,
}

impl Settings {
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|v| !v.is_null())
    }

    fn bad(&self, key: &'static str, expected: impl Into<String>) -> ImageError {
        let found = self.get(key).map_or("missing".to_owned(), |v| shorten(&v.to_string(), 60));
        ImageError::Setting { file: self.file.clone(), key, found, expected: expected.into() }
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ImageError> {
        match self.get(key) {
            None => Ok(default),
            Some(v) => v.as_bool().ok_or_else(|| self.bad(key, "true or false")),
        }
    }

    fn factor(&self, key: &'static str) -> Result<Option<f64>, ImageError> {
        let read = |v: &Value| v.as_f64().filter(|v| FACTORS.contains(v));
        self.get(key).map(|v| read(v).ok_or_else(|| self.bad(key, "a number from 1e-6 to 1e6"))).transpose()
    }

    fn unsigned(&self, key: &'static str) -> Result<Option<u64>, ImageError> {
        self.get(key).map(|v| v.as_u64().ok_or_else(|| self.bad(key, "a whole number"))).transpose()
    }

    /// One number for all channels, or one for each.
    fn channels(&self, key: &'static str, least: f64) -> Result<Option<[f32; 3]>, ImageError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let read = |v: &Value| v.as_f64().filter(|v| (least..=*FACTORS.end()).contains(v)).map(|v| v as f32);
        let numbers: Option<Vec<f32>> = match value {
            Value::Array(list) => list.iter().map(read).collect(),
            other => read(other).map(|v| vec![v; 3]),
        };
        match numbers.as_deref() {
            Some(&[r, g, b]) => Ok(Some([r, g, b])),
            _ => Err(self.bad(key, format!("three numbers from {least:e} to {:e}", FACTORS.end()))),
        }
    }

    /// A length in pixels inside a size object.
    fn edge(&self, key: &'static str, value: &Value) -> Result<u32, ImageError> {
        (value.as_u64().filter(|v| (1..=u64::from(MAX_SIDE)).contains(v)))
            .map(|v| v as u32)
            .ok_or_else(|| self.bad(key, format!("lengths from 1 to {MAX_SIDE} pixels")))
    }

    /// The only keys of a size object, if they are exactly `names`.
    fn edges<const N: usize>(
        &self,
        key: &'static str,
        names: [&str; N],
    ) -> Result<Option<[u32; N]>, ImageError> {
        let Some(Value::Object(object)) = self.get(key) else { return Ok(None) };
        let given = object.iter().filter(|(_, v)| !v.is_null());
        if given.clone().count() != N || !given.clone().all(|(k, _)| names.contains(&k.as_str())) {
            return Ok(None);
        }
        let mut out = [0; N];
        for (slot, name) in out.iter_mut().zip(names) {
            *slot = self.edge(key, object.get(name).unwrap_or(&Value::Null))?;
        }
        Ok(Some(out))
    }

    fn class(&self) -> Result<Class, ImageError> {
        const EXPECTED: &str = "CLIPImageProcessor, LlavaImageProcessor, Idefics3ImageProcessor or \
                                SmolVLMImageProcessor (the models supported here use these)";
        for key in ["image_processor_type", "feature_extractor_type", "processor_class"] {
            let Some(value) = self.get(key) else { continue };
            let name = value.as_str().unwrap_or("");
            let name = name.strip_suffix("Fast").or(name.strip_suffix("Pil")).unwrap_or(name);
            return match name {
                "CLIPImageProcessor" | "CLIPFeatureExtractor" | "LlavaProcessor" => Ok(Class::Clip),
                "LlavaImageProcessor" => Ok(Class::Llava),
                "Idefics3ImageProcessor"
                | "SmolVLMImageProcessor"
                | "Idefics3Processor"
                | "SmolVLMProcessor" => Ok(Class::Idefics3),
                _ => Err(self.bad(key, EXPECTED)),
            };
        }
        Err(self.bad("image_processor_type", EXPECTED))
    }

    fn clip_plan(&self, class: Class) -> Result<Plan, ImageError> {
        // LlavaImageProcessor can pad to a square first; the others only pad batches.
        if class == Class::Llava && self.flag("do_pad", false)? {
            return Err(self.bad("do_pad", "false (padding to a square is not implemented)"));
        }
        if self.get("pad_size").is_some() {
            return Err(self.bad("pad_size", "no such key (padding is not implemented)"));
        }
        let size = match self.get("size") {
            None => ClipSize::ShortestEdge(224),
            Some(number @ Value::Number(_)) => ClipSize::ShortestEdge(self.edge("size", number)?),
            Some(_) => {
                if let Some([edge]) = self.edges("size", ["shortest_edge"])? {
                    ClipSize::ShortestEdge(edge)
                } else if let Some([width, height]) = self.edges("size", ["width", "height"])? {
                    ClipSize::Exact(width, height)
                } else {
                    return Err(self.bad("size", "{shortest_edge} or {height, width}"));
                }
            }
        };
        let crop = match self.get("crop_size") {
            _ if !self.flag("do_center_crop", true)? => None,
            None => Some((224, 224)),
            Some(number @ Value::Number(_)) => {
                let edge = self.edge("crop_size", number)?;
                Some((edge, edge))
            }
            Some(_) => match self.edges("crop_size", ["width", "height"])? {
                Some([width, height]) => Some((width, height)),
                None => return Err(self.bad("crop_size", "a length or {height, width}")),
            },
        };
        if let Some(crop) = crop {
            check_input(crop)?;
        }
        Ok(Plan::Clip { size, crop })
    }

    fn idefics3_plan(&self) -> Result<Plan, ImageError> {
        let size = if self.get("size").is_none() {
            Idefics3Size::LongestEdge(4 * 364)
        } else if let Some([edge]) = self.edges("size", ["longest_edge"])? {
            Idefics3Size::LongestEdge(edge)
        } else if let Some([width, height]) = self.edges("size", ["width", "height"])? {
            if width.max(height) > IDEFICS3_MAX_SIDE {
                return Err(self.bad("size", format!("edges of at most {IDEFICS3_MAX_SIDE} pixels")));
            }
            Idefics3Size::Exact(width, height)
        } else {
            return Err(self.bad("size", "{longest_edge} or {height, width}"));
        };
        let side = if self.get("max_image_size").is_none() {
            364
        } else {
            match self.edges("max_image_size", ["longest_edge"])? {
                // Below 8 pixels an image would be millions of tiles.
                Some([side]) if (8..=IDEFICS3_MAX_SIDE).contains(&side) => side,
                _ => {
                    return Err(self.bad(
                        "max_image_size",
                        format!("{{longest_edge}} from 8 to {IDEFICS3_MAX_SIDE} pixels"),
                    ));
                }
            }
        };
        Ok(Plan::Idefics3 { size, side, split: self.flag("do_image_splitting", true)? })
    }
}

/// A JSON file, or `None` if there is no such file.
fn read_json(path: &Path) -> Result<Option<Value>, ImageError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ImageError::Read { path: path.to_path_buf(), source }),
    };
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(e) => Err(ImageError::NotJson { file: path.to_path_buf(), reason: e.to_string() }),
    }
}
