//! One view: the image is resized, then cut or padded around its centre. CLIP's way.
//!
//! Mirrors the Pillow backend of transformers' `CLIPImageProcessor`.

use image::RgbImage;
use serde_json::Value;

use crate::{
    checkpoint::json::JsonError,
    image::{
        error::{ImageError, MAX_PIXELS, check_input},
        plan::{Levels, Plan, Processed},
        resample,
        settings::Settings,
    },
    trace::geometry::{Geometry, Grid, Place, View},
};

/// The mean of CLIP's training images.
pub const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
/// Their standard deviation.
pub const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Crop {
    size: Size,
    crop: Option<(u32, u32)>,
    /// Visual tokens of the view.
    grid: Grid,
    /// Tokens before them.
    lead: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    ShortestEdge(u32),
    Exact(u32, u32),
}

impl Crop {
    /// Reads `size`, `crop_size` and `do_center_crop`; what the view becomes is for the model to say.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(settings: &Settings<'_>, grid: Grid, lead: usize) -> Result<Self, JsonError> {
        if settings.0.get("pad_size").is_some() {
            return Err(settings.0.wrong("pad_size", "no such key (padding is not implemented)"));
        }
        let size = match settings.0.get("size") {
            None => Size::ShortestEdge(224),
            Some(number @ Value::Number(_)) => Size::ShortestEdge(settings.edge("size", number)?),
            Some(_) => {
                if let Some([edge]) = settings.edges("size", ["shortest_edge"])? {
                    Size::ShortestEdge(edge)
                } else if let Some([width, height]) = settings.edges("size", ["width", "height"])? {
                    Size::Exact(width, height)
                } else {
                    return Err(settings.0.wrong("size", "{shortest_edge} or {height, width}"));
                }
            }
        };
        let crop = match settings.0.get("crop_size") {
            _ if !settings.step("do_center_crop", true)? => None,
            None => {
                settings.not_null(&["crop_size"])?;
                Some((224, 224))
            }
            Some(number @ Value::Number(_)) => {
                let edge = settings.edge("crop_size", number)?;
                Some((edge, edge))
            }
            Some(_) => match settings.edges("crop_size", ["width", "height"])? {
                Some([width, height]) => Some((width, height)),
                None => return Err(settings.0.wrong("crop_size", "a length or {height, width}")),
            },
        };
        if let Some(Err(_)) = crop.map(check_input) {
            return Err(settings.0.wrong("crop_size", &format!("at most {MAX_PIXELS} pixels")));
        }
        Ok(Crop { size, crop, grid, lead })
    }

    fn resized(&self, source: (u32, u32), levels: &Levels) -> (u32, u32) {
        match self.size {
            _ if !levels.resize => source,
            Size::Exact(width, height) => (width, height),
            Size::ShortestEdge(edge) => {
                let (short, long) = (source.0.min(source.1), source.0.max(source.1));
                let long = (f64::from(edge) * f64::from(long) / f64::from(short)) as u32;
                if source.0 <= source.1 { (edge, long) } else { (long, edge) }
            }
        }
    }
}

impl Plan for Crop {
    fn process(&self, image: &RgbImage, levels: &Levels) -> Result<Processed, ImageError> {
        let source = image.dimensions();
        let resized = self.resized(source, levels);
        let size = self.crop.unwrap_or(resized);
        check_input(size)?;
        // Position of the view on the resized image; negative where the view is larger (padding).
        let origin = |full: u32, view: u32| (i64::from(full) - i64::from(view)).div_euclid(2);
        let (left, top) = (origin(resized.0, size.0), origin(resized.1, size.1));
        // Only the visible part of the resized image is computed.
        let seen = |origin: i64, full: u32, view: u32| {
            origin.max(0) as u32..(origin + i64::from(view)).min(i64::from(full)) as u32
        };
        let (xs, ys) = (seen(left, resized.0, size.0), seen(top, resized.1, size.1));
        let window = resample::resize_window(image, resized, xs.clone(), ys.clone(), levels.filter);
        let view = if window.dimensions() == size {
            window
        } else {
            let mut padded = RgbImage::new(size.0, size.1); // black, as transformers pads
            let (x, y) = (i64::from(xs.start) - left, i64::from(ys.start) - top);
            image::imageops::replace(&mut padded, &window, x, y);
            padded
        };
        let (sx, sy) =
            (f64::from(source.0) / f64::from(resized.0), f64::from(source.1) / f64::from(resized.1));
        let rect = [
            left as f64 * sx,
            top as f64 * sy,
            (left + i64::from(size.0)) as f64 * sx,
            (top + i64::from(size.1)) as f64 * sy,
        ];
        let input = levels.input(&view, (0, 0), size);
        let rect = rect.map(|v| v as f32);
        let views = vec![View { place: Place::Whole, rect, grid: self.grid, lead: self.lead }];
        Ok(Processed { inputs: vec![input], geometry: Geometry { source, rows: 0, cols: 0, views }, resized })
    }
}
