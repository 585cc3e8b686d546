//! Which objects count: those whose pixels are known, of which the image shows one, that are neither too small nor too
//! large, and without which the model no longer gives the right answer.
//!
//! The last is asked of the picture itself: the object's pixels become uniform noise, and an answer that stays right was
//! not about them. Knows one image; not what is ablated.

use std::{cell::OnceCell, slice::from_ref};

use image::{Rgb, RgbImage};

use crate::{
    engine::see::Seen,
    image::{mask::Mask, open},
    spec::experiment::Experiment,
    statistics::dice::Dice,
    studies::{
        eval::score::ClassNames,
        survey::{ablate::prompts::Prompt, bench::Bench, error::SurveyError},
    },
};

/// The largest share of the image that an object may cover.
const MOST: f32 = 0.25;

/// An object that may be overwritten.
pub struct Candidate {
    /// Its class.
    pub class: String,
    /// The share of the image that it covers.
    pub area: f32,
    /// The image with the object marked.
    pub marked: Seen,
    /// Its place among the image's objects.
    number: usize,
    mask: Mask,
    value: Option<u16>,
    /// The picture with the object's pixels as noise, once something asked for it.
    noised: OnceCell<Seen>,
}

/// The objects of an image that may be overwritten; the others are left out aloud.
///
/// # Errors
/// [`SurveyError`]: a mask cannot be used.
pub fn candidates(bench: &mut Bench<'_>) -> Result<Vec<Candidate>, SurveyError> {
    let objects = &bench.subject.objects;
    if objects.is_empty() {
        bench.left_out("", "which objects it shows is not known");
    }
    let mut found = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        let mut alike = objects.iter().enumerate().filter(|(_, other)| other.class == object.class);
        let (first, n) = (alike.next().map(|(first, _)| first), 1 + alike.count());
        if n > 1 {
            // Once for all of them.
            if first == Some(number) {
                let why = format!("the image shows {n} of them: which one an answer means is not known");
                bench.left_out(&*object.class, why);
            }
            continue;
        }
        match candidate(bench, number)? {
            Ok(candidate) => found.push(candidate),
            Err(why) => bench.left_out(&*object.class, why),
        }
    }
    Ok(found)
}

/// An object; or why it is left out.
fn candidate(bench: &Bench<'_>, number: usize) -> Result<Result<Candidate, String>, SurveyError> {
    let size = bench.seen.geometry.source;
    let (width, height) = (size.0 as f32, size.1 as f32);
    let Some((mask, value)) = bench.subject.mask(number, size)? else {
        return Ok(Err("its pixels are not known".to_string()));
    };
    let area = mask.covered([0.0, 0.0, width, height], value);
    let of_patch = |[x0, y0, x1, y1]: [f32; 4]| (x1 - x0) * (y1 - y0) / (width * height);
    let patches = bench.patches().iter().map(|patch| of_patch(patch.rect)).filter(|&share| share > 0.0);
    if let Err(why) = fits(area, patches.fold(f32::INFINITY, f32::min)) {
        return Ok(Err(why));
    }
    let Some(marked) = bench.marked(number)? else {
        return Ok(Err("it lies outside what the model sees of the image".to_string()));
    };
    let class = bench.subject.objects[number].class.clone();
    Ok(Ok(Candidate { class, area, marked, number, mask, value, noised: OnceCell::new() }))
}

/// Whether an object is neither too small nor too large: shares of the image that it and one patch cover.
fn fits(area: f32, patch: f32) -> Result<(), String> {
    let told = format!("it covers {:.2} % of the image", 100.0 * area);
    if area < patch {
        return Err(format!("{told}, less than one patch ({:.2} %)", 100.0 * patch));
    }
    if area > MOST {
        return Err(format!("{told}, more than {} %", 100.0 * MOST));
    }
    Ok(())
}

impl Candidate {
    /// Whether a right answer is wrong once the object's pixels are noise.
    ///
    /// # Errors
    /// [`SurveyError`]; also when cancelled.
    pub fn is_lost(
        &self,
        bench: &Bench<'_>,
        prompt: Prompt,
        experiment: &Experiment,
        names: &ClassNames,
    ) -> Result<bool, SurveyError> {
        let seen = self.noised(bench)?;
        let replies = bench.engine.replies(from_ref(experiment), &[seen], bench.cancel, &mut || {});
        let replies = replies.map_err(|e| bench.of_image(e))?;
        Ok(!replies.iter().any(|reply| prompt.is_right(&reply.text, &self.class, names)))
    }

    /// The picture with noise in the object's place, as the model sees it.
    fn noised(&self, bench: &Bench<'_>) -> Result<&Seen, SurveyError> {
        if let Some(seen) = self.noised.get() {
            return Ok(seen);
        }
        let mut dice = Dice::new(bench.settings.seed, self.number as u64);
        let picture = noised(open::open(&bench.subject.image)?, &self.mask, self.value, &mut dice);
        let processed = bench.engine.folder.process(&picture).map_err(|e| bench.of_image(e))?;
        let seen = bench.engine.see(&processed, bench.cancel, &mut |_| {}).map_err(|e| bench.of_image(e))?;
        Ok(self.noised.get_or_init(|| seen))
    }
}

/// A picture in which an object's pixels are drawn uniformly.
fn noised(mut picture: RgbImage, mask: &Mask, value: Option<u16>, dice: &mut Dice) -> RgbImage {
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        if mask.holds(x, y, value) {
            *pixel = Rgb([(); 3].map(|()| dice.below(256) as u8));
        }
    }
    picture
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma};

    use super::*;

    #[test]
    fn an_object_covers_a_patch_at_least_and_a_quarter_at_most() {
        assert_eq!(fits(0.01, 0.01), Ok(()));
        assert_eq!(fits(0.25, 0.01), Ok(()));
        let small = fits(0.004, 0.01).unwrap_err();
        assert!(small.contains("0.40 % of the image, less than one patch (1.00 %)"), "{small}");
        let large = fits(0.26, 0.01).unwrap_err();
        assert!(large.contains("26.00 % of the image, more than 25 %"), "{large}");
    }

    #[test]
    fn noise_falls_on_the_objects_pixels_and_is_drawn_by_the_seed() {
        let mask: Mask = GrayImage::from_fn(16, 16, |x, _| Luma([(x / 4) as u8])).into();
        let grey = RgbImage::from_pixel(16, 16, Rgb([100; 3]));
        let draw = |seed, value| noised(grey.clone(), &mask, value, &mut Dice::new(seed, 0));
        let changed = |picture: &RgbImage, from: u32, to: u32| {
            let inside = picture.enumerate_pixels().filter(|(x, _, _)| (from..to).contains(x));
            inside.filter(|(_, _, pixel)| pixel.0 != [100; 3]).count()
        };
        let second = draw(1, Some(2));
        assert_eq!((changed(&second, 0, 8), changed(&second, 12, 16)), (0, 0), "others stay as they are");
        assert!(changed(&second, 8, 12) >= 60, "64 pixels become noise");
        assert!(changed(&draw(1, None), 4, 16) > 180, "all but value 0");
        assert_eq!(draw(1, Some(2)), second);
        assert_ne!(draw(2, Some(2)), second);
    }
}
