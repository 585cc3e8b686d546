//! Objects that are known to be on an image, as visual tokens and outlines: those of a folder of scenes, those that
//! COCO annotations beside the image draw, and those of masks that people give.
//!
//! Knows masks and patches; neither models nor answers.

use std::path::Path;

use crate::{
    engine::{
        error::RunError,
        see::{marked, mask_of},
    },
    image::mask::Mask,
    scenes::known_scene,
    spec::picture::{ImageSource, ObjectMask},
    studies::eval::coco::drawings,
    trace::geometry::{Geometry, Patch},
    worker::{outline::outline, protocol::ObjectView},
};

/// Most pixels of an image whose annotations are drawn: every object is looked at pixel by pixel.
const MOST_PIXELS: u64 = 16 << 20;

/// The objects of an image that lies in a folder of scenes, or whose folder has COCO annotations: those that some
/// visual token shows. `None` of any other image, and where masks or annotations are not the image's.
pub fn known_objects(source: &ImageSource, geometry: &Geometry) -> Option<Vec<ObjectView>> {
    let file = source.file()?;
    let mut objects = of_scene(file, geometry).or_else(|| of_annotations(file, geometry))?;
    objects.retain(|object| !object.patches.is_empty());
    Some(objects)
}

fn of_scene(file: &Path, geometry: &Geometry) -> Option<Vec<ObjectView>> {
    let scene = known_scene(file)?;
    let mask =
        Mask::open(&scene.mask).ok().filter(|mask| mask.size() == geometry.source && mask.exact().is_ok())?;
    let patches = geometry.patches();
    let objects = scene.classes.into_iter().zip(1u16..);
    Some(objects.map(|(name, value)| shown(name, &mask, Some(value), &patches)).collect())
}

fn of_annotations(file: &Path, geometry: &Geometry) -> Option<Vec<ObjectView>> {
    let (width, height) = geometry.source;
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return None;
    }
    let patches = geometry.patches();
    let drawn = drawings(file)?.into_iter().filter_map(|drawing| {
        let mask = drawing.mask(geometry.source)?;
        Some(shown(drawing.class, &mask, None, &patches))
    });
    Some(drawn.collect())
}

/// The object of a mask's pixels of a value, or of any but 0.
fn shown(name: String, mask: &Mask, value: Option<u16>, patches: &[Patch]) -> ObjectView {
    let shown = patches.iter().enumerate().filter(|(_, patch)| mask.covered(patch.rect, value) > 0.0);
    ObjectView { name, patches: shown.map(|(at, _)| at).collect(), outline: border(mask, value) }
}

/// The object that a mask's file shows: all that is marked in it.
///
/// # Errors
/// [`RunError::Mask`]: it cannot be read, has another size than the image, or touches no patch.
pub fn marked_object(file: &Path, geometry: &Geometry) -> Result<ObjectView, RunError> {
    let object = ObjectMask { file: file.to_path_buf(), value: None, share: 0.0 };
    let mask = mask_of(&object)?;
    let members = marked(geometry, &mask, &object)?;
    let patches = members.iter().enumerate().filter(|(_, member)| **member).map(|(at, _)| at).collect();
    let name = ImageSource::File(file.to_path_buf()).name();
    Ok(ObjectView { name, patches, outline: border(&mask, None) })
}

fn border(mask: &Mask, value: Option<u16>) -> std::sync::Arc<[[f32; 4]]> {
    let (width, height) = mask.size();
    outline(width, height, |x, y| mask.holds(x, y, value)).into()
}
