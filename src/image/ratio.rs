//! Square tiles in the grid whose aspect ratio is the picture's closest, and a view of the whole. InternVL's way.
//!
//! Mirrors the Pillow backend of transformers' `GotOcr2ImageProcessor`, which makes the tiles that InternVL's own
//! `dynamic_preprocess` does. The aspect ratio is not kept: the picture is stretched to the grid.

use image::RgbImage;

use crate::{
    checkpoint::json::JsonError,
    image::{
        error::{ImageError, check_input},
        plan::{Levels, Plan, Processed},
        resample,
        settings::Settings,
        tiles::Cut,
    },
    trace::geometry::Grid,
};

/// More tiles than any model takes.
const MAX_TILES: u64 = 1024;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Side of a tile in pixels.
    side: u32,
    /// Fewest and most tiles, the view of the whole not counted.
    tiles: (u32, u32),
    /// Whether a view of the whole comes after several tiles.
    thumbnail: bool,
    /// Visual tokens of a tile.
    grid: Grid,
}

impl Ratio {
    /// Reads `size`, `min_patches`, `max_patches` and `use_thumbnail`; how many visual tokens a tile becomes is for the
    /// model to say. `crop_to_patches` is not asked: the processor's calls overrule it.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(settings: &Settings<'_>, grid: Grid) -> Result<Self, JsonError> {
        settings.not_null(&["size"])?;
        let side = match settings.edges("size", ["height", "width"])? {
            None if settings.0.absent("size") => 384,
            Some([height, width]) if height == width && check_input((width, height)).is_ok() => height,
            _ => return Err(settings.0.wrong("size", "{height, width}, both the side of a tile")),
        };
        if !settings.step("do_resize", true)? {
            return Err(settings.0.wrong("do_resize", "true (tiles have one size)"));
        }
        let count = |key: &str, default: u64, least: u64| match settings.unsigned(key)?.unwrap_or(default) {
            n if (least..=MAX_TILES).contains(&n) => Ok(n as u32),
            _ => Err(settings.0.wrong(key, &format!("a whole number from {least} to {MAX_TILES}"))),
        };
        let fewest = count("min_patches", 1, 1)?;
        let tiles = (fewest, count("max_patches", 12, u64::from(fewest))?);
        Ok(Ratio { side, tiles, thumbnail: settings.step("use_thumbnail", true)?, grid })
    }

    /// Rows and columns of tiles for a picture.
    fn tiles_for(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let (fewest, most) = self.tiles;
        let mut grids: Vec<(u32, u32)> = (1..=most)
            .flat_map(|cols| (1..=most / cols).map(move |rows| (cols, rows)))
            .filter(|(cols, rows)| cols * rows >= fewest)
            .collect();
        // By tiles, then by columns.
        grids.sort_by_key(|&(cols, rows)| (cols * rows, cols));
        let ratio = f64::from(width) / f64::from(height);
        let area = f64::from(width) * f64::from(height);
        let (mut best, mut closest) = ((1, 1), f64::INFINITY);
        for (cols, rows) in grids {
            let far = (ratio - f64::from(cols) / f64::from(rows)).abs();
            let tiles = f64::from(cols) * f64::from(rows) * f64::from(self.side) * f64::from(self.side);
            // Of two as close, the larger, if the picture fills more than half of it.
            if far < closest || far == closest && area > 0.5 * tiles {
                (best, closest) = ((rows, cols), far);
            }
        }
        best
    }
}

impl Plan for Ratio {
    fn process(&self, image: &RgbImage, levels: &Levels) -> Result<Processed, ImageError> {
        let (source, side) = (image.dimensions(), self.side);
        let tiles = self.tiles_for(source);
        let (width, height) = (tiles.1 * side, tiles.0 * side);
        check_input((width, height))?;
        let picture = resample::resize(image, width, height, levels.filter);
        // Of the source, not of the stretched picture.
        let whole = || resample::resize(image, side, side, levels.filter);
        let whole: Option<&dyn Fn() -> RgbImage> = if self.thumbnail { Some(&whole) } else { None };
        Ok(Cut { source, side, tiles, grid: self.grid }.views(&picture, levels, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get_optimal_tiled_canvas` of transformers for many sizes, ties among them, in five settings.
    #[test]
    fn grids_are_the_references() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/processing/processing_internvl.json");
        let reference: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let mut seen = 0;
        for table in reference["internvl"]["grids"].as_object().unwrap().values() {
            let number = |value: &serde_json::Value| value.as_u64().unwrap() as u32;
            let (side, most) = (number(&table["side"]), number(&table["max_patches"]));
            let plan = Ratio { side, tiles: (1, most), thumbnail: true, grid: Grid { rows: 1, cols: 1 } };
            for row in table["grids"].as_array().unwrap() {
                let [width, height, cols, rows] = [0, 1, 2, 3].map(|i| number(&row[i]));
                assert_eq!(
                    plan.tiles_for((width, height)),
                    (rows, cols),
                    "{width} x {height}, {side}, {most}"
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 300);
    }
}
