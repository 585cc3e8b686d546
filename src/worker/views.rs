//! An opened image as the window is told of it: small enough to be drawn, as the encoder takes it, and what is known
//! to be on it.

use std::sync::Arc;

use image::RgbImage;

use crate::{
    image::plan::ImageProcessor,
    worker::{
        held::Held,
        objects::known_objects,
        protocol::{ImageView, PICTURE_SIDE},
    },
};

/// Tells of an image. `processor` is the one that made its views.
pub fn image_view(processor: &ImageProcessor, held: &Held) -> ImageView {
    let geometry = held.processed.geometry.clone();
    ImageView {
        source: held.source.clone(),
        picture: drawable(&held.pixels),
        objects: known_objects(&held.source, &geometry),
        geometry,
        description: held.processed.describe(),
        views: processor.pictures(&held.processed).into_iter().map(Arc::new).collect(),
    }
}

/// An image, shrunk where it is too large to be drawn: here, since it takes long for the largest.
pub fn drawable(pixels: &Arc<RgbImage>) -> Arc<RgbImage> {
    let (w, h) = pixels.dimensions();
    if w.max(h) <= PICTURE_SIDE {
        return pixels.clone();
    }
    let scale = f64::from(PICTURE_SIDE) / f64::from(w.max(h));
    let fit = |n: u32| ((f64::from(n) * scale).round() as u32).clamp(1, PICTURE_SIDE);
    Arc::new(image::imageops::thumbnail(pixels.as_ref(), fit(w), fit(h)))
}
