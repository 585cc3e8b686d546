//! Masks: which pixels of a picture belong to which object.
//!
//! A file is opened as a picture is (`open`): by its content, whole, turned upright. Its pixels' values are then
//! the file's own, or it says that they cannot be told from each other. Knows nothing of models.

use std::{io::Cursor, path::Path};

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageFormat, codecs::pnm::PnmDecoder, metadata::Orientation,
};

use crate::{
    image::{
        error::{ImageError, MAX_PIXELS},
        open::{self, Upright},
    },
    trace::geometry::Stretch,
};

/// What a mask says of every pixel of the upright picture that it was made for.
///
/// A grey pixel's value is its level, in 8 or 16 bits; that of a PNG with a palette of colours its index, as in
/// COCO's and VOC's masks; a wholly transparent pixel's is 0. Pixels of value 0 belong to no object.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    size: (u32, u32),
    /// Row by row.
    values: Vec<u16>,
    exact: Result<(), &'static str>,
}

const LOSSY: &str = "its format changes values when it saves them";
const COLOURS: &str = "it is in colour, which says nothing of numbers";
const GREYS: &str = "its palette is of greys whose levels are not their indices";
const STRETCHED: &str = "its levels are stretched to the range of 8 or 16 bits";

/// One pixel of a file.
#[derive(Clone, Copy, PartialEq)]
enum Dot {
    /// Wholly transparent.
    Clear,
    /// Its level.
    Grey(u16),
    /// Its highest channel.
    Colour(u16),
}

impl Mask {
    /// Reads a mask's file.
    ///
    /// # Errors
    /// [`ImageError`], as of a picture; [`ImageError::Decode`] also for pixels that are no whole numbers.
    pub fn open(path: &Path) -> Result<Mask, ImageError> {
        Mask::decode(&open::bytes(path)?, &path.display().to_string())
    }

    /// [`Mask::open`] for a file in memory; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Mask::open`].
    pub fn decode(bytes: &[u8], name: &str) -> Result<Mask, ImageError> {
        let file = open::upright(bytes, name)?;
        let failed = |reason: &str| ImageError::Decode { name: name.to_owned(), reason: reason.to_owned() };
        let dots =
            dots(&file.image).ok_or_else(|| failed("a mask's pixels are whole numbers, not floats"))?;
        let size = (file.image.width(), file.image.height());
        let (values, exact): (Vec<u16>, Result<(), &'static str>) = if is_lossy(file.format, bytes) {
            // Values near 0 are what is left of 0: only the two halves can be told apart.
            (dots.map(|dot| u16::from(dot.level() >= 128)).collect(), Err(LOSSY))
        } else if let Some(indices) = indices(bytes, &file).transpose().map_err(|e| failed(&e))? {
            by_palette(dots, &indices)
        } else {
            let mut coloured = false;
            let values = dots.inspect(|dot| coloured |= matches!(dot, Dot::Colour(_))).map(Dot::level);
            let values = values.collect();
            match coloured {
                true => (values, Err(COLOURS)),
                false if is_stretched(&file, bytes) => (values, Err(STRETCHED)),
                false => (values, Ok(())),
            }
        };
        Ok(Mask { size, values, exact })
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        self.size
    }

    /// Whether one object's pixels can be told from another's by their value.
    ///
    /// # Errors
    /// Why not.
    pub fn exact(&self) -> Result<(), &'static str> {
        self.exact
    }

    /// Whether a pixel is an object's: of this value, or of any but 0. What lies beside the picture is none's.
    pub fn holds(&self, x: u32, y: u32, value: Option<u16>) -> bool {
        let (width, height) = self.size;
        let inside = x < width && y < height;
        let found = self.values.get(y as usize * width as usize + x as usize).copied().unwrap_or(0);
        inside && value.map_or(found > 0, |value| found == value)
    }

    /// The share of a patch that an object covers: pixels of this value, or of any but 0. Measured by area, in
    /// the part of the patch that lies on the picture: `rect` is `[x0, y0, x1, y1]` in its pixels. 0 where the
    /// patch shows none of it.
    pub fn covered(&self, [x0, y0, x1, y1]: [f32; 4], value: Option<u16>) -> f32 {
        let (width, height) = self.size;
        let (xs, ys) = (Stretch::new(x0, x1, width), Stretch::new(y0, y1, height));
        let (mut inside, mut all) = (0.0, 0.0);
        for y in ys.pixels() {
            let row = &self.values[y as usize * width as usize..][..width as usize];
            for x in xs.pixels() {
                let (area, found) = (xs.of(x) * ys.of(y), row[x as usize]);
                all += area;
                if value.map_or(found > 0, |value| found == value) {
                    inside += area;
                }
            }
        }
        if all > 0.0 { (inside / all) as f32 } else { 0.0 }
    }
}

/// Of levels that are values.
impl From<GrayImage> for Mask {
    fn from(levels: GrayImage) -> Mask {
        let values = levels.as_raw().iter().map(|&level| u16::from(level)).collect();
        Mask { size: levels.dimensions(), values, exact: Ok(()) }
    }
}

impl Dot {
    /// From the channels of a pixel: grey or colour, and opacity if there is a second or fourth.
    fn new<S: Copy + Into<u16>>(channels: &[S]) -> Dot {
        let (colour, alpha) = match channels {
            [colour @ .., alpha] if channels.len().is_multiple_of(2) => (colour, Some(*alpha)),
            colour => (colour, None),
        };
        let levels = || colour.iter().map(|&level| -> u16 { level.into() });
        let (lowest, highest) = (levels().min().unwrap_or(0), levels().max().unwrap_or(0));
        match alpha.map(|alpha| -> u16 { alpha.into() }) {
            Some(0) => Dot::Clear,
            _ if lowest == highest => Dot::Grey(highest),
            _ => Dot::Colour(highest),
        }
    }

    fn level(self) -> u16 {
        match self {
            Dot::Clear => 0,
            Dot::Grey(level) | Dot::Colour(level) => level,
        }
    }
}

/// The pixels, row by row; `None` of floats.
fn dots(image: &DynamicImage) -> Option<Box<dyn Iterator<Item = Dot> + '_>> {
    let dots: Box<dyn Iterator<Item = Dot> + '_> = match image {
        DynamicImage::ImageLuma8(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageLumaA8(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageRgb8(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageRgba8(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageLuma16(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageLumaA16(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageRgb16(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        DynamicImage::ImageRgba16(image) => Box::new(image.pixels().map(|pixel| Dot::new(&pixel.0))),
        _ => return None,
    };
    Some(dots)
}

/// Values of a file with a palette. A palette of greys is a picture's rather than a list of objects: its levels
/// are the values, and where indices say otherwise nobody knows which was meant.
fn by_palette(dots: impl Iterator<Item = Dot>, indices: &GrayImage) -> (Vec<u16>, Result<(), &'static str>) {
    let (mut coloured, mut alike) = (false, true);
    let mut by_level = Vec::with_capacity(indices.len());
    let mut by_index = Vec::with_capacity(indices.len());
    for (dot, &index) in dots.zip(indices.as_raw()) {
        let (level, index) = (dot.level(), if dot == Dot::Clear { 0 } else { u16::from(index) });
        coloured |= matches!(dot, Dot::Colour(_));
        alike &= level == index;
        by_level.push(level);
        by_index.push(index);
    }
    match (coloured, alike) {
        (true, _) => (by_index, Ok(())),
        (false, true) => (by_level, Ok(())),
        (false, false) => (by_level, Err(GREYS)),
    }
}

/// The palette's indices, upright, of a PNG that has one.
fn indices(bytes: &[u8], file: &Upright) -> Option<Result<GrayImage, String>> {
    // The colour type lies at a fixed place: signature, length and name of the header, sides, depth.
    let has_palette = file.format == ImageFormat::Png && bytes.get(25) == Some(&3);
    has_palette.then(|| read_indices(bytes, file.orientation).map_err(|e| e.to_string()))
}

fn read_indices(bytes: &[u8], orientation: Orientation) -> Result<GrayImage, png::DecodingError> {
    let limits = png::Limits { bytes: MAX_PIXELS as usize * 2 };
    let mut reader = png::Decoder::new_with_limits(Cursor::new(bytes), limits).read_info()?;
    let mut packed = vec![0; reader.output_buffer_size().ok_or(png::DecodingError::LimitsExceeded)?];
    let info = reader.next_frame(&mut packed)?;
    let depth = info.bit_depth as usize;
    let index = |row: &[u8], x: usize| {
        let first = x * depth;
        // Leftmost pixels lie in the highest bits.
        (row[first / 8] >> (8 - depth - first % 8)) & (0xFFu8 >> (8 - depth))
    };
    let mut indices = GrayImage::new(info.width, info.height);
    let rows = indices.chunks_exact_mut(info.width as usize);
    for (row, stored) in rows.zip(packed.chunks_exact(info.line_size)) {
        row.iter_mut().enumerate().for_each(|(x, slot)| *slot = index(stored, x));
    }
    let mut indices = DynamicImage::from(indices);
    indices.apply_orientation(orientation);
    Ok(indices.into_luma8())
}

/// Whether a format keeps pixels only nearly: JPEG, and WebP in its lossy kind.
fn is_lossy(format: ImageFormat, bytes: &[u8]) -> bool {
    format == ImageFormat::Jpeg || format == ImageFormat::WebP && webp_is_lossy(bytes)
}

fn webp_is_lossy(bytes: &[u8]) -> bool {
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"VP8 " => return true,
            b"VP8L" => return false,
            // The chunks of an animation's frame lie inside it, after 16 bytes of its own.
            b"ANMF" => at += 24,
            _ => at += 8 + size + size % 2,
        }
    }
    false
}

/// Whether greys of fewer levels were spread over the whole range.
fn is_stretched(file: &Upright, bytes: &[u8]) -> bool {
    match file.format {
        // The header's depth and colour type lie at fixed places.
        ImageFormat::Png => matches!(bytes.get(24..26), Some([1 | 2 | 4, 0])),
        ImageFormat::Pnm if file.stored != ExtendedColorType::L1 => {
            let highest = PnmDecoder::new(bytes).map(|decoder| decoder.into_inner().1.maximal_sample());
            !matches!(highest, Ok(255 | 65_535))
        }
        _ => file.stored == ExtendedColorType::L1,
    }
}

#[cfg(test)]
mod tests {
    use image::ImageEncoder;

    use super::*;

    const CLEAR: [u8; 4] = [255, 255, 255, 0];

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn mask(image: impl Into<DynamicImage>, format: ImageFormat) -> Mask {
        Mask::decode(&encoded(image, format), "mask").unwrap()
    }

    /// A PNG with a palette, of 2 bits a pixel: 4 x 1 pixels of these indices.
    fn indexed(palette: &[[u8; 3]], transparent: &[u8], indices: [u8; 4]) -> Mask {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 4, 1);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Two);
        encoder.set_palette(palette.concat());
        if !transparent.is_empty() {
            encoder.set_trns(transparent.to_vec());
        }
        let packed = indices.iter().fold(0u8, |byte, index| (byte << 2) | index);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[packed]).unwrap();
        writer.finish().unwrap();
        Mask::decode(&bytes, "mask").unwrap()
    }

    #[test]
    fn ids_are_the_files_own_or_refused() {
        let ids16 = image::ImageBuffer::from_fn(3, 1, |x, _| image::Luma([[0u16, 1, 257][x as usize]]));
        for bytes in [
            encoded(ids16.clone(), ImageFormat::Png),
            encoded(ids16, ImageFormat::Tiff),
            b"P2 3 1 65535 0 1 257".to_vec(),
        ] {
            let found = Mask::decode(&bytes, "mask").unwrap();
            assert_eq!((&found.values[..], found.exact), (&[0, 1, 257][..], Ok(())), "{bytes:?}");
        }
        let ids8 = GrayImage::from_fn(3, 1, |x, _| image::Luma([[0u8, 1, 2][x as usize]]));
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Pnm, ImageFormat::Bmp] {
            let found = mask(ids8.clone(), format);
            assert_eq!((&found.values[..], found.exact), (&[0, 1, 2][..], Ok(())), "{format:?}");
        }
        let grey = DynamicImage::from(ids8).into_rgb8();
        assert_eq!(mask(grey, ImageFormat::Png).exact, Ok(()), "greys that are stored as colours");
        let blue = image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([0, 0, x as u8]));
        let blue = mask(blue, ImageFormat::Png);
        assert_eq!((&blue.values[..], blue.exact), (&[0, 1][..], Err(COLOURS)), "any but black is marked");
        let lossy = GrayImage::from_fn(64, 8, |x, _| image::Luma([if x < 32 { 0 } else { 255 }]));
        let lossy = mask(lossy, ImageFormat::Jpeg);
        assert_eq!(lossy.exact, Err(LOSSY));
        assert!((0..64 * 8).all(|i| lossy.values[i] == u16::from(i % 64 >= 32)), "nothing rings");
        for (text, exact) in [("P2 2 1 255 0 1", Ok(())), ("P2 2 1 3 0 1", Err(STRETCHED))] {
            let found = Mask::decode(text.as_bytes(), "mask").unwrap();
            assert_eq!((found.values[1] > 0, found.exact), (true, exact), "{text}");
        }
        assert_eq!(Mask::decode(b"P1 2 1 0 1", "mask").unwrap().exact, Err(STRETCHED));
    }

    #[test]
    fn a_palettes_indices_are_ids_but_of_greys() {
        let (black, red, green, white) = ([0; 3], [128, 0, 0], [0, 128, 0], [255; 3]);
        let voc = indexed(&[black, red, green], &[], [0, 1, 2, 1]);
        assert_eq!((&voc.values[..], voc.exact), (&[0, 1, 2, 1][..], Ok(())));
        let clear = indexed(&[red, green, white], &[255, 0], [0, 1, 2, 1]);
        assert_eq!(clear.values, [0, 0, 2, 0]);
        let ramp = indexed(&[black, [1; 3], [2; 3]], &[], [0, 1, 2, 1]);
        assert_eq!((&ramp.values[..], ramp.exact), (&[0, 1, 2, 1][..], Ok(())));
        // As programs write black and white that save every bit.
        let inverse = indexed(&[white, black], &[], [0, 1, 0, 1]);
        assert_eq!((&inverse.values[..], inverse.exact), (&[255, 0, 255, 0][..], Err(GREYS)));
    }

    #[test]
    fn what_is_transparent_is_no_object() {
        let rgba =
            image::RgbaImage::from_fn(3, 1, |x, _| image::Rgba([CLEAR, [7, 7, 7, 1], [9; 4]][x as usize]));
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
            let found = mask(rgba.clone(), format);
            assert_eq!((&found.values[..], found.exact), (&[0, 7, 9][..], Ok(())), "{format:?}");
        }
        let grey = image::GrayAlphaImage::from_fn(2, 1, |x, _| image::LumaA([9, x as u8]));
        assert_eq!(mask(grey, ImageFormat::Png).values, [0, 9]);
    }

    #[test]
    fn a_mask_is_turned_as_its_picture_is() {
        // One EXIF entry: orientation 6, to be turned by 90 degrees to the right.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let stored = GrayImage::from_fn(3, 2, |x, y| image::Luma([(10 * y + x) as u8]));
        let mut bytes = Vec::new();
        let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        stored.write_with_encoder(encoder).unwrap();
        let mask = Mask::decode(&bytes, "mask").unwrap();
        assert_eq!((mask.size, &mask.values[..]), ((2, 3), &[10, 0, 11, 1, 12, 2][..]));
    }

    #[test]
    fn a_pixel_is_an_objects_by_its_value() {
        let mask: Mask = GrayImage::from_fn(4, 2, |x, y| image::Luma([(x * y) as u8])).into();
        assert!(mask.holds(3, 1, None) && mask.holds(3, 1, Some(3)) && !mask.holds(3, 1, Some(2)));
        assert!(!mask.holds(3, 0, None) && mask.holds(3, 0, Some(0)));
        assert!(!mask.holds(4, 0, Some(0)) && !mask.holds(0, 2, Some(0)));
    }

    #[test]
    fn coverage_is_a_share_of_area() {
        let mask: Mask = GrayImage::from_fn(4, 4, |x, _| image::Luma([x as u8])).into();
        assert_eq!(mask.covered([0.0, 0.0, 4.0, 4.0], Some(3)), 0.25);
        assert_eq!(mask.covered([0.0, 0.0, 2.0, 4.0], None), 0.5);
        assert_eq!(mask.covered([0.0; 4], None), 0.0);
        // Smaller than a pixel, on the border of two, and half beside the picture.
        assert_eq!(mask.covered([1.25, 1.25, 1.5, 1.5], Some(1)), 1.0);
        assert_eq!(mask.covered([0.75, 0.0, 1.75, 0.5], Some(1)), 0.75);
        assert_eq!(mask.covered([-4.0, 0.0, 4.0, 4.0], Some(3)), 0.25);
        assert_eq!(mask.covered([4.0, 0.0, 8.0, 4.0], None), 0.0);
    }
}
