//! From an upright image to the inputs of a vision encoder: what every model family's plan is made of.
//!
//! A family says which views it takes ([`Plan`]); what happens to the levels of their pixels is the same
//! for all ([`Levels`]). Pixels are `[3, height, width]` f32; sizes are (width, height). Mirrors the Pillow
//! backends of transformers' image processors. Knows nothing of tensors or prompts.

use std::{fmt, path::Path};

use image::RgbImage;
use serde_json::Value;

use crate::{
    checkpoint::json::{self, JsonError, Section},
    image::{
        error::ImageError,
        resample::Filter,
        settings::{FACTORS, Settings},
    },
    trace::geometry::Geometry,
};

/// Which views of an image a model takes.
pub trait Plan: fmt::Debug + Send + Sync {
    /// Resizes and cuts an image that has a pixel at least.
    ///
    /// # Errors
    /// [`ImageError::InputTooLarge`].
    fn process(&self, image: &RgbImage, levels: &Levels) -> Result<Processed, ImageError>;
}

/// A family's plan, and what its settings file may leave out.
#[derive(Debug)]
pub struct PixelPlan {
    /// The plan.
    pub plan: Box<dyn Plan>,
    /// `resample`, as Pillow numbers its filters.
    pub filter: u64,
    /// `image_mean`.
    pub mean: [f32; 3],
    /// `image_std`.
    pub std: [f32; 3],
}

/// What happens to the levels of pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// How images are resized.
    pub filter: Filter,
    /// Whether they are resized at all before they are cut.
    pub resize: bool,
    /// Multiplies 8-bit levels, when asked for.
    pub rescale: Option<f64>,
    /// Mean and standard deviation per channel, when asked for.
    pub normalise: Option<([f32; 3], [f32; 3])>,
}

/// One image, ready for the vision encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// One a view, in the order of the geometry's.
    pub inputs: Vec<Input>,
    /// Its views, and what every visual token shows.
    pub geometry: Geometry,
    /// Size after the first resize, before any crop.
    pub resized: (u32, u32),
}

/// The pixels of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// `[3, height, width]`, rescaled and normalised.
    pub pixels: Vec<f32>,
    /// Width and height.
    pub size: (u32, u32),
}

impl Processed {
    /// What was done to the image, in words.
    pub fn describe(&self) -> String {
        let ((w, h), (rw, rh)) = (self.geometry.source, self.resized);
        let (tw, th) = self.inputs.first().map_or((0, 0), |input| input.size);
        let resized = format!("{w}x{h}, resized to {rw}x{rh}");
        let Geometry { rows, cols, .. } = self.geometry;
        match rows * cols {
            0 if (rw, rh) == (tw, th) => resized,
            0 => format!("{resized}, {}", self.kept()),
            n if n == self.inputs.len() => format!("{resized}, cut into {rows} x {cols} tiles of {tw}x{th}"),
            _ => format!("{resized}, cut into {rows} x {cols} tiles of {tw}x{th} beside a view of the whole"),
        }
    }

    /// What became of the resized image in a single view of another size.
    fn kept(&self) -> String {
        let (tw, th) = self.inputs.first().map_or((0, 0), |input| input.size);
        let (w, h) = (self.geometry.source.0 as f32, self.geometry.source.1 as f32);
        let [x0, y0, x1, y1] = self.geometry.views.first().map_or([0.0; 4], |view| view.rect);
        let (exceeds, lacks) =
            (x0 < 0.0 || y0 < 0.0 || x1 > w || y1 > h, x0 > 0.0 || y0 > 0.0 || x1 < w || y1 < h);
        match (lacks, exceeds) {
            (false, false) => format!("then as a whole to {tw}x{th}"),
            (false, true) => format!("padded to {tw}x{th}"),
            (true, false) => format!("of which the model sees the central {tw}x{th}"),
            (true, true) => format!("of which the model sees the central {tw}x{th}, padded"),
        }
    }
}

/// The image processor of one model folder.
#[derive(Debug)]
pub struct ImageProcessor {
    plan: Box<dyn Plan>,
    levels: Levels,
    /// The file that its settings come from.
    pub file: &'static str,
}

impl ImageProcessor {
    /// The processor that a Hugging Face folder describes; `plan` is the family's reading of its settings.
    ///
    /// # Errors
    /// [`ImageError::NoSettings`] or [`ImageError::Settings`].
    pub fn from_dir(
        dir: &Path,
        plan: impl FnOnce(&Settings<'_>) -> Result<PixelPlan, JsonError>,
    ) -> Result<ImageProcessor, ImageError> {
        const NESTED: &str = "processor_config.json";
        const PLAIN: &str = "preprocessor_config.json";
        // transformers 5 writes everything into processor_config.json, and reads that first.
        let nested = dir.join(NESTED);
        let all = json::read(&nested)?;
        let settings = all.as_ref().and_then(|all| all.get("image_processor"));
        if let Some(settings) = settings.filter(|settings| !settings.is_null()) {
            return Ok(ImageProcessor::new(&Settings(Section::root(settings, &nested)?), plan, NESTED)?);
        }
        let file = dir.join(PLAIN);
        match json::read(&file)? {
            Some(values) => Ok(ImageProcessor::new(&Settings(Section::root(&values, &file)?), plan, PLAIN)?),
            None => Err(ImageError::NoSettings { dir: dir.to_path_buf() }),
        }
    }

    /// The processor of settings that a family's own code has, whatever the folder's file says.
    ///
    /// # Errors
    /// [`ImageError::Settings`].
    pub fn of_family(
        dir: &Path,
        settings: &Value,
        plan: impl FnOnce(&Settings<'_>) -> Result<PixelPlan, JsonError>,
    ) -> Result<ImageProcessor, ImageError> {
        const CONFIG: &str = "config.json";
        let file = dir.join(CONFIG);
        Ok(ImageProcessor::new(&Settings(Section::root(settings, &file)?), plan, CONFIG)?)
    }

    fn new(
        settings: &Settings<'_>,
        plan: impl FnOnce(&Settings<'_>) -> Result<PixelPlan, JsonError>,
        file: &'static str,
    ) -> Result<ImageProcessor, JsonError> {
        let PixelPlan { plan, filter, mean, std } = plan(settings)?;
        let code = settings.unsigned("resample")?.unwrap_or(filter);
        let filter = Filter::from_pil_code(code)
            .ok_or_else(|| settings.0.wrong("resample", "a Pillow filter from 1 (Lanczos) to 5 (Hamming)"))?;
        let resize = settings.step("do_resize", true)?;
        let rescale = settings.step("do_rescale", true)?;
        let normalise = settings.step("do_normalize", true)?;
        let needed: [(bool, &[&str]); 3] = [
            (resize, &["resample", "size"]),
            (rescale, &["rescale_factor"]),
            (normalise, &["image_mean", "image_std"]),
        ];
        for (_, keys) in needed.iter().filter(|(step, _)| *step) {
            settings.not_null(keys)?;
        }
        let rescale = match rescale {
            true => Some(settings.factor("rescale_factor")?.unwrap_or(1.0 / 255.0)),
            false => None,
        };
        let normalise = match normalise {
            true => Some((
                settings.channels("image_mean", -FACTORS.end())?.unwrap_or(mean),
                settings.channels("image_std", *FACTORS.start())?.unwrap_or(std),
            )),
            false => None,
        };
        Ok(ImageProcessor { plan, levels: Levels { filter, resize, rescale, normalise }, file })
    }

    /// Resizes, cuts and normalises an image as the reference processor does.
    ///
    /// # Errors
    /// [`ImageError`]: nothing to look at, or too much.
    pub fn process(&self, image: &RgbImage) -> Result<Processed, ImageError> {
        let (width, height) = image.dimensions();
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { width, height });
        }
        self.plan.process(image, &self.levels)
    }

    /// What goes into the encoder as pictures, one a view: resized, cut and padded, with the levels that the pixels
    /// had before they were rescaled and normalised.
    pub fn pictures(&self, processed: &Processed) -> Vec<RgbImage> {
        processed.inputs.iter().map(|input| self.levels.picture(input)).collect()
    }
}

impl Levels {
    /// A `size` window of an image at `origin`.
    pub fn input(&self, image: &RgbImage, origin: (u32, u32), size: (u32, u32)) -> Input {
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
        Input { pixels, size }
    }

    /// [`Levels::input`] backwards.
    fn picture(&self, input: &Input) -> RgbImage {
        let level = |channel: usize, value: f32| {
            let value = self.normalise.map_or(value, |(mean, std)| value * std[channel] + mean[channel]);
            let level = self.rescale.map_or(f64::from(value), |factor| f64::from(value) / factor);
            // Saturates, whatever the number.
            level.round() as u8
        };
        let mut picture = RgbImage::new(input.size.0, input.size.1);
        let plane = (input.pixels.len() / 3).max(1);
        for (channel, values) in input.pixels.chunks(plane).enumerate().take(3) {
            for (pixel, &value) in picture.pixels_mut().zip(values) {
                pixel.0[channel] = level(channel, value);
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_comes_back() {
        let ramp =
            RgbImage::from_fn(256, 2, |x, y| image::Rgb([x as u8, 255 - x as u8, (x / 2) as u8 + y as u8]));
        let normalise = Some(([0.48, 0.45, 0.4], [0.26, 0.5, 0.27]));
        for (rescale, normalise) in
            [(Some(1.0 / 255.0), normalise), (Some(1.0 / 127.5), None), (None, normalise), (None, None)]
        {
            let levels = Levels { filter: Filter::Bicubic, resize: true, rescale, normalise };
            let whole = levels.input(&ramp, (0, 0), (256, 2));
            assert_eq!(levels.picture(&whole), ramp, "{levels:?}");
            let part = levels.picture(&levels.input(&ramp, (7, 1), (5, 1)));
            assert_eq!((part.dimensions(), part.get_pixel(4, 0)), ((5, 1), ramp.get_pixel(11, 1)));
        }
    }
}
