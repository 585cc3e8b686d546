//! What lies under a map: the image, or one view of it, with or without its colours.
//!
//! Textures are kept by the image's serial number, for as long as they are the last few on show. Knows pixels; nothing
//! of maps.

use std::sync::Arc;

use egui::{Color32, ColorImage, Rect, TextureHandle, TextureId, TextureOptions, Ui, pos2};
use image::{Pixel as _, Rgb, RgbImage};

use crate::{
    trace::sheet::Underlay,
    ui::{store::images::Held, widgets::lattice::Sight},
};

/// Textures that are kept: two images, each with and without its colours.
const KEPT: usize = 4;

/// Which pixels: the image's serial number, the view if it is one by itself, whether in grey.
type Key = (u64, Option<usize>, bool);

/// See the module.
#[derive(Default)]
pub struct Grounds {
    /// The last one on show last.
    held: Vec<(Key, TextureHandle)>,
    last: Option<TextureId>,
}

impl std::fmt::Debug for Grounds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.held.iter().map(|(key, _)| key)).finish()
    }
}

impl Grounds {
    /// What was drawn last; `None` where that was nothing.
    pub fn last(&self) -> Option<TextureId> {
        self.last
    }

    /// Draws it.
    pub fn draw(&mut self, ui: &Ui, rect: Rect, held: &Held, sight: Sight, underlay: Underlay) {
        self.last = None;
        let Some((view, pixels)) = pixels(held, sight).filter(|_| underlay != Underlay::Nothing) else {
            ui.painter().rect_filled(rect, 0.0, ui.visuals().extreme_bg_color);
            return;
        };
        let key = (held.serial, view, underlay == Underlay::Grey);
        let at = self.held.iter().position(|(own, _)| *own == key);
        let texture = match at {
            Some(at) => self.held.remove(at).1,
            None => texture(ui, pixels, underlay),
        };
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        ui.painter().image(texture.id(), rect, whole, Color32::WHITE);
        self.last = Some(texture.id());
        self.held.push((key, texture));
        if self.held.len() > KEPT {
            drop(self.held.remove(0));
        }
    }
}

/// The pixels of a picture, and the view that they are.
fn pixels(held: &Held, sight: Sight) -> Option<(Option<usize>, &Arc<RgbImage>)> {
    match sight {
        Sight::View(view) => held.view.views.get(view).map(|pixels| (Some(view), pixels)),
        Sight::Tiles | Sight::Whole => Some((None, &held.view.picture)),
    }
}

fn texture(ui: &Ui, pixels: &RgbImage, underlay: Underlay) -> TextureHandle {
    let size = [pixels.width() as usize, pixels.height() as usize];
    let image = match underlay {
        Underlay::Grey => {
            let grey = |pixel: &Rgb<u8>| Color32::from_gray(pixel.to_luma().0[0]);
            ColorImage::new(size, pixels.pixels().map(grey).collect())
        }
        Underlay::Colour | Underlay::Nothing => ColorImage::from_rgb(size, pixels.as_raw()),
    };
    ui.ctx().load_texture("image", image, TextureOptions::LINEAR)
}
