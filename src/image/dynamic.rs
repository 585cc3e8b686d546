//! One view of about the image's own size and shape, in whole visual tokens: no tiles, no crop. Qwen's way.
//!
//! Mirrors the Pillow backend of transformers' `Qwen2VLImageProcessor`, which Qwen3-VL uses too.

use image::RgbImage;
use serde_json::Value;

use crate::{
    checkpoint::json::{JsonError, Section},
    image::{
        error::{ImageError, check_input},
        patches::Patches,
        plan::{Levels, Plan, Processed},
        resample,
        settings::Settings,
    },
    trace::geometry::{Geometry, Grid, Place, View},
};

/// Longer images are refused.
const MAX_RATIO: u32 = 200;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Dynamic {
    /// Side of what one visual token shows, in pixels of the view.
    unit: u32,
    /// Fewest and most pixels of a view; a very long image may exceed the most.
    min: u64,
    max: u64,
}

impl Dynamic {
    /// Reads the limits: `min_pixels` and `max_pixels`, or `size`, whose edges count pixels too. How the view is
    /// cut into patches is for the model to say, and for the settings to repeat.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(settings: &Settings<'_>, patches: Patches) -> Result<Self, JsonError> {
        if !settings.step("do_resize", true)? {
            return Err(settings.0.wrong("do_resize", "true (a view is made of whole patches)"));
        }
        let Patches { side, merge, frames } = patches;
        for (key, usual, own) in
            [("patch_size", 14, side), ("merge_size", 2, merge), ("temporal_patch_size", 2, frames)]
        {
            settings.not_null(&[key])?;
            if settings.0.count_or(key, usual, 1, usize::MAX)? != own {
                return Err(settings.0.wrong(key, &format!("{own}, as in config.json")));
            }
        }
        let size = settings.0.section("size")?;
        let limit = |own: &str, edge: &str, usual: u64| match settings.0.absent(own) {
            false => count(&settings.0, own),
            true if size.exists() => count(&size, edge),
            true => Ok(usual),
        };
        let min = limit("min_pixels", "shortest_edge", 56 * 56)?;
        let max = limit("max_pixels", "longest_edge", 28 * 28 * 1280)?;
        if max < min {
            let (at, key) = match settings.0.absent("max_pixels") && size.exists() {
                true => (&size, "longest_edge"),
                false => (&settings.0, "max_pixels"),
            };
            return Err(at.wrong(key, &format!("at least the {min} pixels of the smallest view")));
        }
        Ok(Dynamic { unit: patches.unit() as u32, min, max })
    }

    /// `smart_resize`: width and height of the view, in whole visual tokens; `None` for too long an image.
    pub fn view(&self, (width, height): (u32, u32)) -> Option<(u32, u32)> {
        if u64::from(width.max(height)) > u64::from(MAX_RATIO) * u64::from(width.min(height)) {
            return None;
        }
        let unit = f64::from(self.unit);
        let [w, h] = [width, height].map(f64::from);
        // In its floating-point arithmetic; Python rounds halves to even. A side of 0 is mended below.
        let [cols, rows] = [w, h].map(|side| (side / unit).round_ties_even());
        let pixels = rows * unit * cols * unit;
        let [cols, rows] = if pixels > self.max as f64 {
            let factor = (h * w / self.max as f64).sqrt();
            [w, h].map(|side| (side / factor / unit).floor().max(1.0))
        } else if pixels < self.min as f64 {
            let factor = (self.min as f64 / (h * w)).sqrt();
            [w, h].map(|side| (side * factor / unit).ceil())
        } else {
            [cols, rows]
        };
        Some(((cols * unit) as u32, (rows * unit) as u32))
    }
}

/// A number of pixels.
fn count(section: &Section<'_>, key: &str) -> Result<u64, JsonError> {
    let found = section.get(key).and_then(Value::as_u64).filter(|&n| n > 0);
    found.ok_or_else(|| section.wrong(key, "a number of pixels, 1 at least"))
}

impl Plan for Dynamic {
    fn process(&self, image: &RgbImage, levels: &Levels) -> Result<Processed, ImageError> {
        let source @ (width, height) = image.dimensions();
        let size = self.view(source).ok_or(ImageError::TooLong { width, height, ratio: MAX_RATIO })?;
        check_input(size)?;
        let picture = resample::resize(image, size.0, size.1, levels.filter);
        let tokens = |side: u32| (side / self.unit) as usize;
        let grid = Grid { rows: tokens(size.1), cols: tokens(size.0) };
        let rect = [0.0, 0.0, width as f32, height as f32];
        let view = View { place: Place::Whole, rect, grid, lead: 0 };
        Ok(Processed {
            inputs: vec![levels.input(&picture, (0, 0), size)],
            geometry: Geometry { source, rows: 0, cols: 0, views: vec![view] },
            resized: size,
        })
    }
}
