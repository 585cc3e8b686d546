//! Pillow's image resize: what the reference processors call to bring an image to the model's size.
//!
//! Knows nothing of tiles, settings or normalisation; images are 8-bit RGB, sizes are (width,
//! height) in pixels.
//!
//! The result depends on the order of the two passes and on what is kept between them. Pillow rounds
//! and clips to 8 bits after each pass; which comes first, Pillow 13 decides by the sizes
//! ([`vertical_first`]). `fast_image_resize` has Pillow's kernels, but it always runs the vertical
//! pass of an 8-bit image first, and rounds the weights to 16 bits. So each pass is a call of its own
//! here, in floating point (double weights and sums), and the rounding is done here too. What
//! remains is ties: Pillow keeps weights to 22 bits, so a sum within a few millionths of one half may
//! round the other way and move one level. The processing tests count how often that happens.

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeError, ResizeOptions, Resizer};
use image::RgbImage;

/// Samples converted to floating point at a time, so that a large image is never held in `f32`.
const STRIP_SAMPLES: usize = 4 << 20;

/// The resampling kernels of Pillow, by their Pillow names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Lanczos, three lobes.
    Lanczos,
    /// Triangle.
    Bilinear,
    /// Cubic convolution, a = -0.5.
    Bicubic,
    /// Average of the covered pixels.
    Box,
    /// Hamming window.
    Hamming,
}

impl Filter {
    /// Kernel of a `resample` value of a processor file (`PIL.Image.Resampling`). Nearest (0) has
    /// no kernel and is not supported.
    pub fn from_pil_code(code: u64) -> Option<Filter> {
        Some(match code {
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            _ => return None,
        })
    }

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
            Filter::Box => FilterType::Box,
            Filter::Hamming => FilterType::Hamming,
        })
    }

    /// Half width of the kernel in pixels, at scale 1.
    fn support(self) -> f64 {
        match self {
            Filter::Lanczos => 3.0,
            Filter::Bicubic => 2.0,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Box => 0.5,
        }
    }
}

/// The whole image at another size.
pub fn resize(source: &RgbImage, width: u32, height: u32, filter: Filter) -> Result<RgbImage, ResizeError> {
    resize_window(source, (width, height), 0..width, 0..height, filter)
}

/// The columns `xs` and rows `ys` of the image resized to `full`: the same pixels as resizing all of
/// it and cutting them out, at the cost of the window only. A 10000 x 10 strip whose short edge
/// becomes 336 is 336000 pixels wide, of which a model sees 336.
pub fn resize_window(
    source: &RgbImage,
    full: (u32, u32),
    xs: Range<u32>,
    ys: Range<u32>,
    filter: Filter,
) -> Result<RgbImage, ResizeError> {
    let x = Axis { from: source.width(), to: full.0, window: xs };
    let y = Axis { from: source.height(), to: full.1, window: ys };
    if vertical_first(source.dimensions(), full) {
        let columns = x.reach(filter);
        let narrow = vertical(source, columns.clone(), 0, &y, filter)?;
        let all = 0..narrow.height();
        horizontal(&narrow, all, columns.start, &x, filter)
    } else {
        let rows = y.reach(filter);
        let narrow = horizontal(source, rows.clone(), 0, &x, filter)?;
        let all = 0..narrow.width();
        vertical(&narrow, all, rows.start, &y, filter)
    }
}

/// Which pass Pillow 13 runs first: the vertical one if it takes away more than twice as many rows as
/// the horizontal one takes away columns. Earlier versions ran the horizontal pass first, but for
/// shrinking images more than 100 times as high as wide.
fn vertical_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let rows = i64::from(from.1) - i64::from(to.1);
    let columns = i64::from(from.0) - i64::from(to.0);
    rows > 0 && rows > 2 * columns
}

/// One edge of an image: its length, its length after the resize, and the part of that which is
/// wanted.
struct Axis {
    from: u32,
    to: u32,
    window: Range<u32>,
}

impl Axis {
    fn scale(&self) -> f64 {
        f64::from(self.from) / f64::from(self.to)
    }

    fn out(&self) -> u32 {
        self.window.end - self.window.start
    }

    /// Source pixels that the window depends on.
    fn reach(&self, filter: Filter) -> Range<u32> {
        if self.from == self.to {
            return self.window.clone();
        }
        let scale = self.scale();
        let reach = filter.support() * scale.max(1.0) + 1.0; // one more: rounding must not cost a pixel
        let first = (f64::from(self.window.start) * scale - reach).floor().max(0.0) as u32;
        let last = (f64::from(self.window.end) * scale + reach).ceil().min(f64::from(self.from)) as u32;
        first..last
    }

    /// Where the window lies on `length` source pixels from `first` on: start and length.
    fn source_box(&self, first: u32, length: u32) -> (f64, f64) {
        let start = f64::from(self.window.start) * self.scale() - f64::from(first);
        let end = f64::from(self.window.end) * self.scale() - f64::from(first);
        // The end may exceed the image by a rounding error, which the resizer would refuse.
        (start, end.min(f64::from(length)) - start)
    }
}

/// Rows `rows` of an image whose columns are the source's from `first` on: their width resized.
fn horizontal(
    image: &RgbImage,
    rows: Range<u32>,
    first: u32,
    x: &Axis,
    filter: Filter,
) -> Result<RgbImage, ResizeError> {
    let mut out = RgbImage::new(x.out(), rows.end - rows.start);
    let (in_row, out_row) = (image.width() as usize * 3, x.out() as usize * 3);
    let samples = &image.as_raw()[rows.start as usize * in_row..rows.end as usize * in_row];
    if x.from == x.to {
        let start = (x.window.start - first) as usize * 3;
        for (row, target) in samples.chunks_exact(in_row).zip(out.chunks_exact_mut(out_row)) {
            target.copy_from_slice(&row[start..start + out_row]);
        }
        return Ok(out);
    }
    let (left, width) = x.source_box(first, image.width());
    let strip = (STRIP_SAMPLES / in_row.max(out_row)).max(1);
    let mut resizer = Resizer::new();
    for (input, output) in samples.chunks(strip * in_row).zip(out.chunks_mut(strip * out_row)) {
        let height = (input.len() / in_row) as u32;
        let options =
            ResizeOptions::new().resize_alg(filter.algorithm()).crop(left, 0.0, width, f64::from(height));
        let pixels: Vec<F32x3> = input.chunks_exact(3).map(to_float).collect();
        let mut resized = TypedImage::<F32x3>::new(x.out(), height);
        resizer.resize_typed(&view(image.width(), height, &pixels)?, &mut resized, &options)?;
        for (target, pixel) in output.chunks_exact_mut(3).zip(resized.pixels()) {
            target.copy_from_slice(&to_levels(pixel));
        }
    }
    Ok(out)
}

/// Columns `columns` of an image whose rows are the source's from `first` on: their height resized.
fn vertical(
    image: &RgbImage,
    columns: Range<u32>,
    first: u32,
    y: &Axis,
    filter: Filter,
) -> Result<RgbImage, ResizeError> {
    let mut out = RgbImage::new(columns.end - columns.start, y.out());
    let (in_row, out_row) = (image.width() as usize * 3, out.width() as usize * 3);
    let left = columns.start as usize * 3;
    if y.from == y.to {
        let rows = image.as_raw().chunks_exact(in_row).skip((y.window.start - first) as usize);
        for (row, target) in rows.zip(out.chunks_exact_mut(out_row)) {
            target.copy_from_slice(&row[left..left + out_row]);
        }
        return Ok(out);
    }
    let (top, height) = y.source_box(first, image.height());
    let strip = (STRIP_SAMPLES / 3 / image.height().max(y.out()) as usize).max(1);
    let mut resizer = Resizer::new();
    for start in (0..out_row).step_by(strip * 3) {
        let part = start..(start + strip * 3).min(out_row);
        let width = (part.len() / 3) as u32;
        let options =
            ResizeOptions::new().resize_alg(filter.algorithm()).crop(0.0, top, f64::from(width), height);
        let pixels: Vec<F32x3> = (image.as_raw().chunks_exact(in_row))
            .flat_map(|row| row[left + part.start..left + part.end].chunks_exact(3))
            .map(to_float)
            .collect();
        let mut resized = TypedImage::<F32x3>::new(width, y.out());
        resizer.resize_typed(&view(width, image.height(), &pixels)?, &mut resized, &options)?;
        for (target, pixels) in
            out.chunks_exact_mut(out_row).zip(resized.pixels().chunks_exact(width as usize))
        {
            for (levels, pixel) in target[part.clone()].chunks_exact_mut(3).zip(pixels) {
                levels.copy_from_slice(&to_levels(pixel));
            }
        }
    }
    Ok(out)
}

fn view(width: u32, height: u32, pixels: &[F32x3]) -> Result<TypedImageRef<'_, F32x3>, ResizeError> {
    // The length is right by construction; the error only has to be of the caller's type.
    TypedImageRef::new(width, height, pixels).map_err(|_| ResizeError::PixelTypesAreDifferent)
}

fn to_float(rgb: &[u8]) -> F32x3 {
    F32x3::new([f32::from(rgb[0]), f32::from(rgb[1]), f32::from(rgb[2])])
}

/// Pillow's rounding (half up) and clipping to 8 bits.
fn to_levels(pixel: &F32x3) -> [u8; 3] {
    // `as` saturates at 0 and 255.
    pixel.0.map(|v| (f64::from(v) + 0.5).floor() as u8)
}
