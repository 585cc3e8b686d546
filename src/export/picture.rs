//! Pictures without a window: a heatmap PNG for an answer token, and the flow chart as SVG.
//!
//! A heatmap lays one value a patch over the image; all pictures of one trace share the range that
//! is passed in, so that they can be compared.

use std::{fmt::Write as _, fs, path::Path};

use image::{Rgb, RgbImage};

use crate::export::error::ExportError;
use crate::{spec::span::Span, trace::{flow, palette::Colormap, run::Trace}};

/// How strongly the map covers the image.
const OPACITY: f32 = 0.65;
/// Height of the colour bar under the image, in pixels.
const BAR: u32 = 12;

/// Paints `values[i]` over `patches[i]` (`[x0, y0, x1, y1]` in image pixels), colours running from 0
/// to `max`, with a colour bar from 0 to `max` below.
pub fn heatmap(image: &RgbImage, patches: &[[f32; 4]], values: &[f32], max: f32) -> RgbImage {
    let (width, height) = image.dimensions();
    let colour = |value: f32| {
        let share = if max > 0.0 { value / max } else { 0.0 };
        Colormap::default().rgb(share).map(|c| (c * 255.0).round() as u8)
    };
    let mut out = RgbImage::from_pixel(width, height + BAR, Rgb([255; 3]));
    image::imageops::replace(&mut out, image, 0, 0);
    for (&[x0, y0, x1, y1], &value) in patches.iter().zip(values) {
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

/// Saves a picture.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn save_png(picture: &RgbImage, file: &Path) -> Result<(), ExportError> {
    picture
        .save_with_format(file, image::ImageFormat::Png)
        .map_err(|e| ExportError::Encode { file: file.to_path_buf(), why: e.to_string() })
}

/// One colour a span, in the order of [`Span::ALL`]; told apart by people with colour-blindness too
/// (Okabe and Ito's palette).
pub const SPAN_COLOURS: [[u8; 3]; 7] =
    [[0, 0, 0], [153, 153, 153], [204, 121, 167], [213, 94, 0], [0, 114, 178], [86, 180, 233], [0, 158, 115]];

/// Saves the answer's mean attention to every span, layer by layer, as one line a span.
///
/// # Errors
/// [`ExportError`], naming the file.
pub fn save_flow_svg(trace: &Trace, file: &Path) -> Result<(), ExportError> {
    let (layers, answer, spans) = (trace.kept.layers.len(), trace.pattern.len().max(1), Span::ALL.len());
    let flow = flow::of_trace(trace);
    let share = |layer: usize, span: usize| {
        let rows = flow.iter().skip(layer * answer * spans + span).step_by(spans).take(answer);
        rows.sum::<f32>() / answer as f32
    };
    let (left, top, width, height) = (50.0, 20.0, 480.0, 260.0);
    let x = |layer: usize| left + width * layer as f32 / (layers.max(2) - 1) as f32;
    let y = |share: f32| top + height * (1.0 - share);
    let mut svg = String::from(
        "<svg xmlns='http://www.w3.org/2000/svg' width='660' height='330' font-family='sans-serif' font-size='12'>\n<rect width='660' height='330' fill='white'/>\n",
    );
    for tick in 0..=4 {
        let share = tick as f32 / 4.0;
        let at = y(share);
        let _ = writeln!(
            svg,
            "<path d='M{left} {at}h{width}' stroke='#ddd'/><text x='{}' y='{}' text-anchor='end'>{share}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for layer in 0..layers {
        let _ = writeln!(
            svg,
            "<text x='{}' y='{}' text-anchor='middle'>{}</text>",
            x(layer),
            top + height + 16.0,
            trace.kept.layers[layer]
        );
    }
    for (s, span) in Span::ALL.into_iter().enumerate() {
        let [r, g, b] = SPAN_COLOURS[s];
        let points: Vec<String> = (0..layers).map(|l| format!("{:.1},{:.1}", x(l), y(share(l, s)))).collect();
        let at = top + 16.0 * s as f32 + 8.0;
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='rgb({r},{g},{b})' stroke-width='2'/>\n<text x='545' y='{at}' fill='rgb({r},{g},{b})'>{}</text>",
            points.join(" "),
            span.name()
        );
    }
    let _ = writeln!(
        svg,
        "<text x='{}' y='{}' text-anchor='middle'>layer; share of the answer's attention, mean over heads and tokens</text>\n</svg>",
        left + width / 2.0,
        top + height + 36.0
    );
    fs::write(file, svg).map_err(|source| ExportError::Write { file: file.to_path_buf(), source })
}
