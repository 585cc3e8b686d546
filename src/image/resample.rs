//! Pillow's image resize: what the reference processors call to bring an image to the model's size.
//!
//! Knows nothing of tiles, settings or normalisation; images are 8-bit RGB, sizes are (width,
//! height) in pixels.
//!
//! The result depends on the order of the two passes, on what is kept between them and on the
//! precision of the weights. Pillow rounds weights to 22 bits, rounds and clips to 8 bits after each
//! pass, and since version 13 lets the sizes decide which pass comes first (`vertical_first`). No
//! crate does: `fast_image_resize` has Pillow's kernels, but runs the vertical pass first, with
//! weights of 16 bits. So the passes are here, in Pillow's integer arithmetic, and equal Pillow's bit
//! for bit.

use std::ops::Range;

use image::RgbImage;

/// Weights are whole multiples of `1 / 2^PRECISION`: 8 bits of level and 2 of overshoot fit above.
const PRECISION: u32 = 32 - 8 - 2;

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

    /// Half width of the kernel in pixels, at scale 1.
    fn support(self) -> f64 {
        match self {
            Filter::Lanczos => 3.0,
            Filter::Bicubic => 2.0,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Box => 0.5,
        }
    }

    /// Height of the kernel at distance `x` from its centre.
    fn at(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        const PI: f64 = std::f64::consts::PI;
        let d = x.abs();
        match self {
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Bilinear if d < 1.0 => 1.0 - d,
            Filter::Bicubic if d < 1.0 => ((-0.5 + 2.0) * d - (-0.5 + 3.0)) * d * d + 1.0,
            Filter::Bicubic if d < 2.0 => (((d - 5.0) * d + 8.0) * d - 4.0) * -0.5,
            Filter::Box if x > -0.5 && x <= 0.5 => 1.0,
            Filter::Hamming if d == 0.0 => 1.0,
            Filter::Hamming if d < 1.0 => {
                let d = d * PI;
                // The window's constants are single precision in Pillow.
                d.sin() / d * (f64::from(0.54_f32) + f64::from(0.46_f32) * d.cos())
            }
            _ => 0.0,
        }
    }
}

/// The whole image at another size.
pub fn resize(source: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
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
) -> RgbImage {
    let x = Taps::new(source.width(), full.0, xs, filter);
    let y = Taps::new(source.height(), full.1, ys, filter);
    if vertical_first(source.dimensions(), full) {
        let columns = x.reach();
        horizontal(&vertical(source, columns.clone(), 0, &y), 0..y.len(), columns.start, &x)
    } else {
        let rows = y.reach();
        vertical(&horizontal(source, rows.clone(), 0, &x), 0..x.len(), rows.start, &y)
    }
}

/// Which pass Pillow 13 runs first: the vertical one if it takes away more than twice as many rows as
/// the horizontal one takes away columns. Earlier versions run the horizontal pass first, but for
/// shrinking images more than 100 times as high as wide.
fn vertical_first(from: (u32, u32), to: (u32, u32)) -> bool {
    let rows = i64::from(from.1) - i64::from(to.1);
    let columns = i64::from(from.0) - i64::from(to.0);
    rows > 0 && rows > 2 * columns
}

/// For each wanted pixel of a resized edge: the first source pixel it is made of, and the weights
/// from that one on. (`precompute_coeffs` and `normalize_coeffs_8bpc`, operation for operation.)
struct Taps(Vec<(u32, Vec<i32>)>);

impl Taps {
    /// An edge of `from` pixels resized to `to` pixels, of which `window` is wanted.
    fn new(from: u32, to: u32, window: Range<u32>, filter: Filter) -> Taps {
        let one = f64::from(1 << PRECISION);
        if from == to {
            return Taps(window.map(|x| (x, vec![1 << PRECISION])).collect());
        }
        let scale = f64::from(from) / f64::from(to);
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let taps = window.map(|x| {
            let centre = (f64::from(x) + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as u32;
            let last = ((centre + support + 0.5) as u32).min(from);
            let weights: Vec<f64> = (first..last)
                .map(|source| filter.at((f64::from(source) - centre + 0.5) * (1.0 / filter_scale)))
                .collect();
            let sum: f64 = weights.iter().sum();
            let norm = if sum == 0.0 { 1.0 } else { sum };
            // Rounds half away from zero, as Pillow does.
            (first, weights.iter().map(|w| (w / norm * one).round() as i32).collect())
        });
        Taps(taps.collect())
    }

    /// Number of wanted pixels.
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// Source pixels that the wanted ones are made of.
    fn reach(&self) -> Range<u32> {
        let first = self.0.first().map_or(0, |t| t.0);
        first..self.0.last().map_or(first, |(start, weights)| start + weights.len() as u32)
    }
}

/// Half a level: what makes the shift of [`to_level`] round.
const HALF: i32 = 1 << (PRECISION - 1);

fn to_level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Rows `rows` of an image whose columns are the source's from `first` on, their width resized.
fn horizontal(image: &RgbImage, rows: Range<u32>, first: u32, x: &Taps) -> RgbImage {
    let mut out = RgbImage::new(x.len(), rows.end - rows.start);
    let (in_row, out_row) = (image.width() as usize * 3, x.len() as usize * 3);
    let samples = image.as_raw().chunks_exact(in_row).skip(rows.start as usize);
    for (row, target) in samples.zip(out.chunks_exact_mut(out_row)) {
        for (pixel, (start, weights)) in target.chunks_exact_mut(3).zip(&x.0) {
            let mut sums = [HALF; 3];
            let from = (start - first) as usize * 3;
            for (source, &weight) in row[from..].chunks_exact(3).zip(weights) {
                for (sum, &level) in sums.iter_mut().zip(source) {
                    *sum += i32::from(level) * weight;
                }
            }
            pixel.copy_from_slice(&sums.map(to_level));
        }
    }
    out
}

/// Columns `columns` of an image whose rows are the source's from `first` on, their height resized.
fn vertical(image: &RgbImage, columns: Range<u32>, first: u32, y: &Taps) -> RgbImage {
    let mut out = RgbImage::new(columns.end - columns.start, y.len());
    let (in_row, out_row) = (image.width() as usize * 3, out.width() as usize * 3);
    let left = columns.start as usize * 3;
    let mut sums = vec![HALF; out_row];
    for (target, (start, weights)) in out.chunks_exact_mut(out_row).zip(&y.0) {
        sums.fill(HALF);
        let rows = image.as_raw().chunks_exact(in_row).skip((start - first) as usize);
        for (row, &weight) in rows.zip(weights) {
            for (sum, &level) in sums.iter_mut().zip(&row[left..left + out_row]) {
                *sum += i32::from(level) * weight;
            }
        }
        for (level, &sum) in target.iter_mut().zip(&sums) {
            *level = to_level(sum);
        }
    }
    out
}
