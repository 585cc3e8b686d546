//! Objects that are known to be on an image: those of a folder of scenes, as visual tokens.
//!
//! Knows masks and patches; neither models nor answers.

use crate::{
    image::mask::Mask, scenes::known_scene, spec::picture::ImageSource, trace::geometry::Geometry,
    worker::protocol::ObjectView,
};

/// The objects of an image that lies in a folder of scenes, those that some visual token shows; `None` of any
/// other image, and where the mask is not the image's.
pub fn known_objects(source: &ImageSource, geometry: &Geometry) -> Option<Vec<ObjectView>> {
    let ImageSource::File(file) = source else { return None };
    let scene = known_scene(file)?;
    let mask =
        Mask::open(&scene.mask).ok().filter(|mask| mask.size() == geometry.source && mask.exact().is_ok())?;
    let patches = geometry.patches();
    let objects = scene.classes.into_iter().zip(1u16..).map(|(name, value)| {
        let shows = |rect| mask.covered(rect, Some(value)) > 0.0;
        let shown = patches.iter().enumerate().filter(|(_, patch)| shows(patch.rect));
        ObjectView { name, patches: shown.map(|(at, _)| at).collect() }
    });
    Some(objects.filter(|object| !object.patches.is_empty()).collect())
}
