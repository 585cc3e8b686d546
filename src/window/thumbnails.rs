//! Small pictures of the sample scenes, made on a thread of their own.
//!
//! Knows files and textures; not where they are shown.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    thread,
};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};
use image::DynamicImage;

use crate::image::open;

/// Longest side, in pixels.
const SIDE: u32 = 96;

/// Pictures on their way.
pub struct Thumbnails(Receiver<(PathBuf, TextureHandle)>);

impl Thumbnails {
    /// Begins to make those of `files`; one that cannot be read has none.
    pub fn begin(ctx: &Context, files: Vec<PathBuf>) -> Self {
        let (made, come) = channel();
        let ctx = ctx.clone();
        thread::spawn(move || {
            for file in files {
                let Ok(picture) = open::open(&file) else { continue };
                let small = DynamicImage::from(picture).thumbnail(SIDE, SIDE).into_rgb8();
                let size = [small.width() as usize, small.height() as usize];
                let picture = ColorImage::from_rgb(size, small.as_raw());
                let texture = ctx.load_texture("thumbnail", picture, TextureOptions::LINEAR);
                if made.send((file, texture)).is_err() {
                    // The window closed.
                    return;
                }
            }
        });
        Thumbnails(come)
    }

    /// The next that is ready.
    pub fn poll(&self) -> Option<(PathBuf, TextureHandle)> {
        self.0.try_recv().ok()
    }
}
