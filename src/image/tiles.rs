//! Square tiles and a view of the whole: the longest edge is resized, the image cut into a grid. Idefics3's
//! way.
//!
//! Mirrors the Pillow backend of transformers' `Idefics3ImageProcessor` (also SmolVLM's).

use image::RgbImage;

use crate::{
    checkpoint::json::JsonError,
    image::{
        error::{ImageError, check_input},
        plan::{Levels, Plan, Processed},
        resample,
        settings::Settings,
    },
    trace::geometry::{Geometry, Grid, Place, View},
};

/// Images are resized to at most this on the longest edge, whatever the settings ask (`MAX_IMAGE_SIZE`).
const MAX_SIDE: u32 = 4096;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    size: Size,
    /// Side of a tile in pixels.
    side: u32,
    split: bool,
    /// Visual tokens of a tile.
    grid: Grid,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Size {
    LongestEdge(u32),
    Exact(u32, u32),
}

impl Tiles {
    /// Reads `size`, `max_image_size` and `do_image_splitting`; how many visual tokens a tile becomes is for
    /// the model to say.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(settings: &Settings<'_>, grid: Grid) -> Result<Self, JsonError> {
        let size = if settings.0.absent("size") {
            Size::LongestEdge(4 * 364)
        } else if let Some([edge]) = settings.edges("size", ["longest_edge"])? {
            Size::LongestEdge(edge)
        } else if let Some([width, height]) = settings.edges("size", ["width", "height"])? {
            if width.max(height) > MAX_SIDE {
                return Err(settings.0.wrong("size", &format!("edges of at most {MAX_SIDE} pixels")));
            }
            Size::Exact(width, height)
        } else {
            return Err(settings.0.wrong("size", "{longest_edge} or {height, width}"));
        };
        settings.not_null(&["max_image_size"])?;
        let side = if settings.0.absent("max_image_size") {
            364
        } else {
            match settings.edges("max_image_size", ["longest_edge"])? {
                // Below 8 pixels an image would be millions of tiles.
                Some([side]) if (8..=MAX_SIDE).contains(&side) => side,
                _ => {
                    let expected = format!("{{longest_edge}} from 8 to {MAX_SIDE} pixels");
                    return Err(settings.0.wrong("max_image_size", &expected));
                }
            }
        };
        Ok(Tiles { size, side, split: settings.step("do_image_splitting", true)?, grid })
    }
}

impl Plan for Tiles {
    fn process(&self, image: &RgbImage, levels: &Levels) -> Result<Processed, ImageError> {
        let (source, side) = (image.dimensions(), self.side);
        let resized = match self.size {
            _ if !levels.resize => source,
            Size::Exact(width, height) => (width, height),
            Size::LongestEdge(edge) => longest_edge_size(source, edge),
        };
        // Without splitting the image is squeezed into one square tile.
        let full = if self.split { multiples_of(resized, side) } else { (side, side) };
        check_input(full)?;
        let first = resample::resize(image, resized.0, resized.1, levels.filter);
        let picture = resample::resize(&first, full.0, full.1, levels.filter);
        drop(first);
        let tiles = (full.1 / side, full.0 / side);
        // The reference makes the global view from the enlarged image, not from the source.
        let whole = || resample::resize(&picture, side, side, levels.filter);
        let cut = Cut { source, side, tiles, grid: self.grid };
        Ok(Processed { resized, ..cut.views(&picture, levels, Some(&whole)) })
    }
}

/// How a picture is cut into tiles.
pub(super) struct Cut {
    /// Size of the upright source image.
    pub(super) source: (u32, u32),
    /// Side of a tile in pixels.
    pub(super) side: u32,
    /// Rows and columns of tiles.
    pub(super) tiles: (u32, u32),
    /// Visual tokens of a tile.
    pub(super) grid: Grid,
}

impl Cut {
    /// The tiles of `picture`, which is the source at the size of all tiles together, row by row; then, if there are
    /// several, the view of the whole that `whole` makes. A single tile is a view of the whole.
    pub(super) fn views(
        &self,
        picture: &RgbImage,
        levels: &Levels,
        whole: Option<&dyn Fn() -> RgbImage>,
    ) -> Processed {
        let Cut { source, side, tiles: (rows, cols), grid } = *self;
        let (mut inputs, mut views) = (Vec::new(), Vec::new());
        let mut add = |pixels: &RgbImage, origin: (u32, u32), place: Place, rect: [f32; 4]| {
            inputs.push(levels.input(pixels, origin, (side, side)));
            views.push(View { place, rect, grid, lead: 0 });
        };
        let all = [0.0, 0.0, source.0 as f32, source.1 as f32];
        let tiled = rows * cols > 1;
        if tiled {
            let edge = |length: u32, index: u32, count: u32| {
                (f64::from(length) * f64::from(index) / f64::from(count)) as f32
            };
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                let rect = [
                    edge(source.0, col, cols),
                    edge(source.1, row, rows),
                    edge(source.0, col + 1, cols),
                    edge(source.1, row + 1, rows),
                ];
                let place = Place::Tile { row: row as usize, col: col as usize };
                add(picture, (col * side, row * side), place, rect);
            }
            if let Some(whole) = whole {
                add(&whole(), (0, 0), Place::Whole, all);
            }
        } else {
            add(picture, (0, 0), Place::Whole, all);
        }
        let (rows, cols) = if tiled { (rows as usize, cols as usize) } else { (0, 0) };
        let geometry = Geometry { source, rows, cols, views };
        Processed { inputs, geometry, resized: picture.dimensions() }
    }
}

/// Idefics3's first resize: the longest edge becomes `edge`, the other is truncated, then rounded up
/// to even. (`_resize_output_size_rescale_to_max_len` and `.._scale_below_upper_bound`, in their
/// floating-point arithmetic.)
fn longest_edge_size(source: (u32, u32), edge: u32) -> (u32, u32) {
    let even = |v: u32| v + v % 2;
    let ratio = f64::from(source.0) / f64::from(source.1);
    let (width, height) = if source.0 >= source.1 {
        (edge, even((f64::from(edge) / ratio) as u32).max(1))
    } else {
        (even((f64::from(edge) * ratio) as u32).max(1), edge)
    };
    if width.max(height) <= MAX_SIDE {
        return (width, height);
    }
    let ratio = f64::from(width) / f64::from(height);
    let bound = f64::from(MAX_SIDE);
    if width >= height {
        (MAX_SIDE, ((bound / ratio) as u32).max(1))
    } else {
        (((bound * ratio) as u32).max(1), MAX_SIDE)
    }
}

/// Idefics3's second resize: the longer edge up to a multiple of `side`, the other scaled with it,
/// truncated, and up to a multiple too (`resize_for_vision_encoder`).
fn multiples_of(size: (u32, u32), side: u32) -> (u32, u32) {
    let up = |v: u32| v.div_ceil(side).max(1) * side;
    let ratio = f64::from(size.0) / f64::from(size.1);
    if size.0 >= size.1 {
        let width = up(size.0);
        (width, up((f64::from(width) / ratio) as u32))
    } else {
        let height = up(size.1);
        (up((f64::from(height) * ratio) as u32), height)
    }
}
