//! COCO's format as far as it is needed: which images there are, which classes, and which objects are on an image,
//! drawn or only named.
//!
//! Knows files and pixels; not what is asked about an image.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use image::{GrayImage, Luma};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::{files::input, image::mask::Mask, studies::eval::error::EvalError};

/// The file's usual name in its folder.
pub const ANNOTATIONS: &str = "annotations.json";
/// Largest file that is read for the objects of one image: it is read whole, while a person waits.
const LARGEST: u64 = 64 << 20;
/// Most corners of an object that is drawn.
const MOST_CORNERS: usize = 10_000;

/// A file in COCO's format; what is read of an annotation is for the reader to say.
#[derive(Debug, Deserialize)]
pub struct Coco<A> {
    /// Its images.
    pub images: Vec<CocoImage>,
    /// Its classes.
    pub categories: Vec<CocoCategory>,
    /// Their objects.
    pub annotations: Vec<A>,
}

/// An image.
#[derive(Debug, Deserialize)]
pub struct CocoImage {
    /// Named by annotations.
    pub id: u64,
    /// Its file: see [`find`].
    pub file_name: String,
}

/// A class.
#[derive(Debug, Deserialize)]
pub struct CocoCategory {
    /// Named by annotations.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// An object of which only the class counts.
#[derive(Debug, Deserialize)]
pub struct Named {
    /// On which image.
    pub image_id: u64,
    /// Of which class.
    pub category_id: u64,
}

/// An object with its pixels.
#[derive(Debug, Deserialize)]
pub struct Drawn {
    image_id: u64,
    category_id: u64,
    /// Which pixels it fills, where that is said.
    #[serde(default)]
    pub segmentation: Option<Shape>,
}

/// What every reader needs of an annotation.
pub trait Annotation {
    /// Numbers of its image and of its class.
    fn ids(&self) -> (u64, u64);
}

impl Annotation for Named {
    fn ids(&self) -> (u64, u64) {
        (self.image_id, self.category_id)
    }
}

impl Annotation for Drawn {
    fn ids(&self) -> (u64, u64) {
        (self.image_id, self.category_id)
    }
}

/// An image with its objects, each with its class.
pub type Listed<A> = (CocoImage, Vec<(String, A)>);

impl<A: Annotation> Coco<A> {
    /// The images as they are listed, with their objects, and the names of all classes in order. `file` is where this
    /// was read.
    ///
    /// # Errors
    /// [`EvalError::File`]: an object is of no class that is listed.
    pub fn by_image(self, file: &Path) -> Result<(Vec<Listed<A>>, Vec<String>), EvalError> {
        let names: BTreeMap<u64, String> = self.categories.into_iter().map(|c| (c.id, c.name)).collect();
        let mut objects: HashMap<u64, Vec<(String, A)>> = HashMap::new();
        for annotation in self.annotations {
            let (image, id) = annotation.ids();
            let name = names.get(&id).ok_or_else(|| EvalError::File {
                file: file.to_path_buf(),
                why: format!("an annotation has category_id {id}, which is not among the categories"),
            })?;
            objects.entry(image).or_default().push((name.clone(), annotation));
        }
        let with_objects = |image: CocoImage| {
            let objects = objects.remove(&image.id).unwrap_or_default();
            (image, objects)
        };
        let images = self.images.into_iter().map(with_objects).collect();
        Ok((images, names.into_values().collect::<BTreeSet<_>>().into_iter().collect()))
    }
}

/// Which pixels are an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Shape {
    /// Each `x, y, x, y, ..` in pixels; together they are the object.
    Polygons(Vec<Vec<f64>>),
    /// Height and width, and run lengths column by column: first outside, then inside, and so on.
    Runs { size: [u32; 2], counts: Vec<u32> },
    /// Something else.
    Unknown(#[allow(dead_code, reason = "it is there to be passed over")] IgnoredAny),
}

/// An object on an image that a person looks at.
#[derive(Debug)]
pub struct Drawing {
    /// Its class.
    pub class: String,
    shape: Shape,
}

impl Drawing {
    /// Its pixels on an image of this size: see [`Shape::mask`].
    pub fn mask(&self, size: (u32, u32)) -> Option<Mask> {
        self.shape.mask(size)
    }
}

impl Shape {
    /// Whether it is drawn in a way that is read here.
    pub fn is_known(&self) -> bool {
        !matches!(self, Shape::Unknown(_))
    }

    /// The pixels on an image of this size (width, height): 1 where the object is. `None` where it is drawn in another
    /// way, or for an image of another size.
    pub fn mask(&self, size: (u32, u32)) -> Option<Mask> {
        let mut pixels = GrayImage::new(size.0, size.1);
        match self {
            Shape::Polygons(polygons) => {
                let corners: usize = polygons.iter().map(|polygon| polygon.len() / 2).sum();
                if corners > MOST_CORNERS {
                    return None;
                }
                polygons.iter().for_each(|polygon| fill(&mut pixels, polygon));
            }
            Shape::Runs { size: [height, width], counts } => {
                let all: u64 = counts.iter().map(|&count| u64::from(count)).sum();
                if (*width, *height) != size || all != u64::from(*width) * u64::from(*height) {
                    return None;
                }
                runs(&mut pixels, counts);
            }
            Shape::Unknown(_) => return None,
        }
        Some(pixels.into())
    }
}

/// Marks the pixels whose centres lie in a polygon: those with an odd number of its sides to their left.
fn fill(pixels: &mut GrayImage, polygon: &[f64]) {
    let (width, height) = (pixels.width(), pixels.height());
    // The first pixel whose centre does not lie before `at`, of `length`.
    let pixel = |at: f64, length: u32| (at - 0.5).ceil().clamp(0.0, f64::from(length)) as u32;
    let corners: Vec<(f64, f64)> = polygon.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let mut crossings: Vec<Vec<f64>> = vec![Vec::new(); height as usize];
    for (n, &(x0, y0)) in corners.iter().enumerate() {
        let (x1, y1) = corners[(n + 1) % corners.len()];
        for y in pixel(y0.min(y1), height)..pixel(y0.max(y1), height) {
            let centre = f64::from(y) + 0.5;
            crossings[y as usize].push(x0 + (centre - y0) * (x1 - x0) / (y1 - y0));
        }
    }
    for (y, crossings) in (0..).zip(&mut crossings) {
        crossings.sort_by(f64::total_cmp);
        for pair in crossings.chunks_exact(2) {
            for x in pixel(pair[0], width)..pixel(pair[1], width) {
                pixels.put_pixel(x, y, Luma([1]));
            }
        }
    }
}

/// Marks every second run; all of them together are as long as the picture.
fn runs(pixels: &mut GrayImage, counts: &[u32]) {
    let height = u64::from(pixels.height());
    let mut at = 0;
    for (n, &count) in counts.iter().enumerate() {
        let end = at + u64::from(count);
        if n % 2 == 1 {
            (at..end).for_each(|i| pixels.put_pixel((i / height) as u32, (i % height) as u32, Luma([1])));
        }
        at = end;
    }
}

/// The objects of an image in a folder in COCO's format: [`ANNOTATIONS`] lies beside it, or beside its folder
/// `images`. `None` of any other image, and where the file cannot be used, or is too large to be waited for.
pub fn drawings(image: &Path) -> Option<Vec<Drawing>> {
    let folder = image.parent()?;
    let above = folder.parent().filter(|_| folder.ends_with("images"));
    [Some(folder), above].into_iter().flatten().find_map(|dir| drawings_in(dir, image))
}

fn drawings_in(dir: &Path, image: &Path) -> Option<Vec<Drawing>> {
    let file = dir.join(ANNOTATIONS);
    input::size(&file).ok().filter(|&size| size <= LARGEST)?;
    let coco: Coco<Drawn> = parse(&file).ok()?;
    let of = |found: &&CocoImage| places(dir, &found.file_name).iter().any(|place| place == image);
    let id = coco.images.iter().find(of)?.id;
    let drawn = coco.annotations.into_iter().filter(|object| object.image_id == id);
    let drawing = |object: Drawn| {
        let class = coco.categories.iter().find(|class| class.id == object.category_id)?;
        Some(Drawing { class: class.name.clone(), shape: object.segmentation? })
    };
    Some(drawn.filter_map(drawing).collect())
}

/// Where an image may be: COCO's own folders name it without `images/`, and so do ours.
fn places(dir: &Path, name: &str) -> [PathBuf; 2] {
    [dir.join("images").join(name), dir.join(name)]
}

/// Where an image is. One that is nowhere, or that is no file, is told of when it is opened.
pub fn find(dir: &Path, name: &str) -> PathBuf {
    let [first, second] = places(dir, name);
    if !first.exists() && second.exists() { second } else { first }
}

/// A file's text.
///
/// # Errors
/// [`EvalError::Read`].
pub fn read(file: &Path) -> Result<String, EvalError> {
    input::read_text(file).map_err(|source| EvalError::Read { file: file.to_path_buf(), source })
}

/// A JSON file.
///
/// # Errors
/// [`EvalError::Read`], [`EvalError::File`].
pub fn parse<T: DeserializeOwned>(file: &Path) -> Result<T, EvalError> {
    serde_json::from_str(&read(file)?)
        .map_err(|e| EvalError::File { file: file.to_path_buf(), why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bundled;

    fn marked(shape: Shape, size: (u32, u32)) -> Option<Vec<(u32, u32)>> {
        let mask = Drawing { class: String::new(), shape }.mask(size)?;
        let all = (0..size.1).flat_map(|y| (0..size.0).map(move |x| (x, y)));
        Some(all.filter(|&(x, y)| mask.holds(x, y, None)).collect())
    }

    #[test]
    fn polygons_hold_the_pixels_whose_centres_they_hold() {
        let square = vec![1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0];
        let found = marked(Shape::Polygons(vec![square.clone()]), (4, 3)).unwrap();
        assert_eq!(found, [(1, 0), (2, 0), (1, 1), (2, 1)]);
        // Beside the picture, of no area, of half a corner; and two that overlap are one object.
        for (polygon, n) in [
            (vec![-9.0, -9.0, 1.0, -9.0, 1.0, 1.0, -9.0, 1.0], 1),
            (vec![0.0, 0.0, 4.0, 3.0], 0),
            (vec![1.0], 0),
            (vec![], 0),
        ] {
            assert_eq!(marked(Shape::Polygons(vec![polygon]), (4, 3)).unwrap().len(), n);
        }
        assert_eq!(marked(Shape::Polygons(vec![square.clone(), square]), (4, 3)).unwrap().len(), 4);
        assert!(marked(Shape::Polygons(vec![vec![0.0; 2 * MOST_CORNERS + 2]]), (4, 3)).is_none());
    }

    #[test]
    fn run_lengths_go_down_the_columns_of_their_own_picture() {
        let runs = |counts: &[u32]| Shape::Runs { size: [3, 2], counts: counts.to_vec() };
        assert_eq!(marked(runs(&[2, 2, 2]), (2, 3)).unwrap(), [(1, 0), (0, 2)]);
        assert!(marked(runs(&[2, 2, 2]), (3, 2)).is_none(), "another size");
        assert!(marked(runs(&[2, 2, 3]), (2, 3)).is_none(), "too long");
    }

    #[test]
    fn the_sample_scenes_annotations_are_their_masks() {
        let image = bundled::sample_image();
        let mask = Mask::open(&bundled::scenes().join("masks/000000.png")).unwrap();
        let drawings = drawings(&image).unwrap();
        assert_eq!(drawings.len(), 4);
        for (drawing, value) in drawings.iter().zip(1..) {
            let own = drawing.mask(mask.size()).unwrap();
            let (width, height) = mask.size();
            let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
            for (x, y) in pixels {
                assert_eq!(own.holds(x, y, None), mask.holds(x, y, Some(value)), "{} {x} {y}", drawing.class);
            }
        }
    }

    #[test]
    fn of_what_is_not_as_it_should_be_nothing_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("a.png");
        assert!(drawings(&image).is_none());
        let write = |text: &str| fs::write(dir.path().join(ANNOTATIONS), text).unwrap();
        write("{");
        assert!(drawings(&image).is_none());
        let annotations = r#"[{"image_id": 7, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]},
            {"image_id": 7, "category_id": 1, "segmentation": {"size": [2, 2], "counts": "packed"}},
            {"image_id": 7, "category_id": 2, "segmentation": [[0, 0, 2, 0, 2, 2]]},
            {"image_id": 7, "category_id": 1}, {"image_id": 8, "category_id": 1, "segmentation": []}]"#;
        let images = r#"[{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}]"#;
        let categories = r#"[{"id": 1, "name": "dog"}]"#;
        write(&format!(
            r#"{{"images": {images}, "categories": {categories}, "annotations": {annotations}}}"#
        ));
        let found = drawings(&image).unwrap();
        let masks: Vec<bool> = found.iter().map(|drawing| drawing.mask((2, 2)).is_some()).collect();
        assert_eq!(masks, [true, false], "a class that is not listed is none");
        assert!(drawings(&dir.path().join("c.png")).is_none());
    }
}
