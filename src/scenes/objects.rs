//! The objects that scenes are made of: 40 pictures and 6 tints.
//!
//! Pictures are SVG bodies on a 32 x 32 view box, embedded from `assets/objects/objects.json`.

use std::sync::OnceLock;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;
use serde::{Deserialize, Serialize, Serializer};

const VIEW_BOX: f32 = 32.0;

#[derive(Deserialize)]
struct Catalogue {
    objects: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    class: String,
    body: String,
}

struct Picture {
    class: String,
    tree: usvg::Tree,
}

/// The embedded pictures. They are part of the program and a test draws them all, hence the `expect`s.
fn pictures() -> &'static [Picture] {
    static PICTURES: OnceLock<Vec<Picture>> = OnceLock::new();
    PICTURES.get_or_init(|| {
        let catalogue: Catalogue = serde_json::from_str(include_str!("../../assets/objects/objects.json"))
            .expect("the embedded catalogue is JSON");
        catalogue.objects.into_iter().map(Picture::parse).collect()
    })
}

impl Picture {
    fn parse(entry: Entry) -> Self {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 32 32\" width=\"32\" height=\"32\">{}</svg>",
            entry.body
        );
        let tree =
            usvg::Tree::from_str(&svg, &usvg::Options::default()).expect("the embedded pictures are SVG");
        Picture { class: entry.class, tree }
    }
}

/// The classes' words, in the catalogue's order.
pub fn classes() -> impl ExactSizeIterator<Item = &'static str> {
    pictures().iter().map(|picture| picture.class.as_str())
}

/// The word of one class.
pub fn class_name(class: usize) -> &'static str {
    &pictures()[class].class
}

pub(super) fn class_word<S: Serializer>(class: &usize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class_name(*class))
}

/// A colour that an object can be tinted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Tint {
    Red,
    Yellow,
    Green,
    Cyan,
    Blue,
    Purple,
}

impl Tint {
    /// All tints.
    pub const ALL: [Tint; 6] = [Tint::Red, Tint::Yellow, Tint::Green, Tint::Cyan, Tint::Blue, Tint::Purple];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Tint::Red => "red",
            Tint::Yellow => "yellow",
            Tint::Green => "green",
            Tint::Cyan => "cyan",
            Tint::Blue => "blue",
            Tint::Purple => "purple",
        }
    }

    fn rgb(self) -> [f32; 3] {
        match self {
            Tint::Red => [1.0, 0.16, 0.14],
            Tint::Yellow => [1.0, 0.9, 0.1],
            Tint::Green => [0.2, 0.85, 0.2],
            Tint::Cyan => [0.1, 0.9, 0.95],
            Tint::Blue => [0.16, 0.3, 1.0],
            Tint::Purple => [0.72, 0.2, 0.95],
        }
    }

    /// The object's grey levels, lifted a little so that black parts take the colour too, times the colour.
    fn apply(self, [r, g, b]: [f32; 3]) -> [f32; 3] {
        let grey = 0.22 + 0.78 * (0.3 * r + 0.59 * g + 0.11 * b);
        self.rgb().map(|c| c * grey)
    }
}

/// A drawn object: straight (not premultiplied) colours in 0..1 and coverage, row by row.
pub(super) struct Sprite {
    pub side: u32,
    pub pixels: Vec<([f32; 3], f32)>,
}

impl Sprite {
    /// Draws a class with its view box `length` pixels wide, turned by `degrees` about its middle. The sprite is
    /// square and large enough for the turned view box.
    pub fn draw(class: usize, length: f32, degrees: f32, tint: Option<Tint>) -> Sprite {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let side = (length * (sin.abs() + cos.abs())).ceil() as u32 + 2;
        let half = side as f32 / 2.0;
        let scale = length / VIEW_BOX;
        let transform = Transform::from_scale(scale, scale)
            .post_translate(-length / 2.0, -length / 2.0)
            .post_concat(Transform::from_row(cos, sin, -sin, cos, 0.0, 0.0))
            .post_translate(half, half);
        let mut pixmap = Pixmap::new(side, side).expect("a sprite has a size");
        resvg::render(&pictures()[class].tree, transform, &mut pixmap.as_mut());
        let pixels = pixmap
            .pixels()
            .iter()
            .map(|p| {
                let alpha = f32::from(p.alpha()) / 255.0;
                if p.alpha() == 0 {
                    return ([0.0; 3], 0.0);
                }
                let straight = p.demultiply();
                let rgb = [straight.red(), straight.green(), straight.blue()].map(|v| f32::from(v) / 255.0);
                (tint.map_or(rgb, |tint| tint.apply(rgb)), alpha)
            })
            .collect();
        Sprite { side, pixels }
    }

    /// A pixel belongs to the object where the object covers more than half of it.
    pub fn covers(&self, x: u32, y: u32) -> bool {
        self.pixels[(y * self.side + x) as usize].1 > 0.5
    }

    /// Left, top, right and bottom (both past the end) of what is covered.
    pub fn bounds(&self) -> Option<[u32; 4]> {
        let mut bounds: Option<[u32; 4]> = None;
        for y in 0..self.side {
            for x in 0..self.side {
                if self.covers(x, y) {
                    let b = bounds.get_or_insert([x, y, x + 1, y + 1]);
                    *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
                }
            }
        }
        bounds
    }
}
