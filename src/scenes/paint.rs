//! Lays a scene out and draws it: which objects, where, what hides what.

use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::scenes::backgrounds::Background;
use crate::scenes::objects::{Sprite, Tint, classes};
use crate::scenes::place::Place;
use crate::scenes::scene::{SceneObject, SceneOptions};
use crate::statistics::dice::Dice;

/// At least this share of every object stays visible.
pub(super) const LEAST_VISIBLE: f32 = 0.7;
/// Object centres keep this many pixels (of a 192 picture) from the lines between places.
const BORDER: f32 = 5.0;
const TURN: f32 = 20.0;
const NOISE_SD: f32 = 5.0;

pub(super) struct Painted {
    pub image: RgbImage,
    pub mask: GrayImage,
    pub background: Background,
    pub objects: Vec<SceneObject>,
}

/// An object that has been drawn but not yet put on the picture.
struct Cutout {
    class: usize,
    color: Option<Tint>,
    sprite: Sprite,
    /// Where the sprite's corner lands.
    corner: [i64; 2],
    center: [f32; 2],
    area: u32,
}

pub(super) fn paint(dice: &mut Dice, options: &SceneOptions) -> Painted {
    let size = options.size;
    let background = Background::ALL[dice.below(Background::ALL.len())];
    let behind = background.paint(dice, size);
    let wanted = options.min_objects + dice.below(options.max_objects - options.min_objects + 1);
    let (cutouts, mask) = arrange(dice, options, wanted);
    let image = compose(dice, size, behind, &cutouts);
    let visible = measure(&mask, cutouts.len());
    let objects: Vec<SceneObject> = cutouts
        .iter()
        .zip(&visible)
        .map(|(cutout, &(area, bbox))| SceneObject {
            class: cutout.class,
            color: cutout.color,
            place: Place::of(cutout.center, size),
            center: cutout.center,
            bbox,
            visible: area as f32 / cutout.area as f32,
        })
        .collect();
    reading_order(Painted { image, mask, background, objects })
}

/// Puts objects one by one, each where it hides too little of the others to matter. An object that finds no
/// room in forty tries is left out, unless it is the first.
fn arrange(dice: &mut Dice, options: &SceneOptions, wanted: usize) -> (Vec<Cutout>, GrayImage) {
    let size = options.size;
    let apart = options.max_objects <= SceneOptions::MOST_APART;
    let mut free: Vec<Place> = Place::all().collect();
    let mut fresh: Vec<usize> = (0..classes().len()).collect();
    let mut mask = GrayImage::new(size, size);
    let mut cutouts: Vec<Cutout> = Vec::new();
    for _ in 0..wanted {
        // Now and then a class comes twice: descriptions must cope, questions leave it alone.
        let class = match cutouts.first() {
            Some(first) if dice.chance(0.03) => first.class,
            _ => dice.draw(&mut fresh),
        };
        for _ in 0..40 {
            let Some(cutout) = cut_out(dice, class, size) else { continue };
            let place = Place::of(cutout.center, size);
            if apart && !free.contains(&place) {
                continue;
            }
            if let Some(with) = put(&mask, &cutouts, &cutout) {
                mask = with;
                free.retain(|&p| p != place);
                cutouts.push(cutout);
                break;
            }
        }
    }
    (cutouts, mask)
}

/// Draws an object and drops it somewhere inside the picture; none where its centre would be near a line
/// between places.
fn cut_out(dice: &mut Dice, class: usize, size: u32) -> Option<Cutout> {
    let unit = size as f32 / 192.0;
    let color = dice.chance(0.5).then(|| Tint::ALL[dice.below(Tint::ALL.len())]);
    let longest = if dice.chance(0.12) { dice.between(24.0, 36.0) } else { dice.between(36.0, 72.0) } * unit;
    let degrees = dice.between(-TURN, TURN);
    // The view box has margins: draw, measure, and draw again at the length that gives the wanted extent.
    let [left, top, right, bottom] = Sprite::draw(class, 48.0, degrees, None).bounds()?;
    let extent = (right - left).max(bottom - top) as f32;
    let sprite = Sprite::draw(class, 48.0 * (longest - 0.5) / extent, degrees, color);
    let [left, top, right, bottom] = sprite.bounds()?;
    let (width, height) = (right - left, bottom - top);
    if width >= size || height >= size {
        return None;
    }
    let (x, y) =
        (dice.below((size - width + 1) as usize) as u32, dice.below((size - height + 1) as usize) as u32);
    let center = [x as f32 + width as f32 / 2.0, y as f32 + height as f32 / 2.0];
    if Place::border_distance(center, size) < BORDER * unit {
        return None;
    }
    let area = (0..sprite.side).flat_map(|y| (0..sprite.side).map(move |x| (x, y)));
    let area = area.filter(|&(x, y)| sprite.covers(x, y)).count() as u32;
    let corner = [i64::from(x) - i64::from(left), i64::from(y) - i64::from(top)];
    Some(Cutout { class, color, sprite, corner, center, area })
}

/// The mask with this object on top, or none if it would hide too much of another.
fn put(mask: &GrayImage, below: &[Cutout], cutout: &Cutout) -> Option<GrayImage> {
    let mut with = mask.clone();
    let label = Luma([below.len() as u8 + 1]);
    cutout.each_covered(|x, y| with.put_pixel(x, y, label));
    let visible = measure(&with, below.len());
    let clear = below.iter().zip(visible).all(|(c, (area, _))| area as f32 >= LEAST_VISIBLE * c.area as f32);
    clear.then_some(with)
}

impl Cutout {
    fn each_covered(&self, mut visit: impl FnMut(u32, u32)) {
        for y in 0..self.sprite.side {
            for x in 0..self.sprite.side {
                if self.sprite.covers(x, y) {
                    // Covered pixels are inside the picture: `cut_out` placed their box there.
                    visit((self.corner[0] + i64::from(x)) as u32, (self.corner[1] + i64::from(y)) as u32);
                }
            }
        }
    }
}

/// Visible pixels and box (left, top, width, height) of every object.
fn measure(mask: &GrayImage, objects: usize) -> Vec<(u32, [u32; 4])> {
    let mut found = vec![(0, [u32::MAX, u32::MAX, 0, 0]); objects];
    for (x, y, label) in mask.enumerate_pixels() {
        if let Some((area, b)) = usize::from(label[0]).checked_sub(1).and_then(|index| found.get_mut(index)) {
            *area += 1;
            *b = [b[0].min(x), b[1].min(y), b[2].max(x + 1), b[3].max(y + 1)];
        }
    }
    for (area, b) in &mut found {
        *b = if *area == 0 { [0; 4] } else { [b[0], b[1], b[2] - b[0], b[3] - b[1]] };
    }
    found
}

/// Background, objects from the lowest up, then light and noise over everything.
fn compose(dice: &mut Dice, size: u32, mut pixels: Vec<[f32; 3]>, cutouts: &[Cutout]) -> RgbImage {
    for cutout in cutouts {
        let side = i64::from(cutout.sprite.side);
        for (i, (rgb, alpha)) in cutout.sprite.pixels.iter().enumerate() {
            let x = cutout.corner[0] + i as i64 % side;
            let y = cutout.corner[1] + i as i64 / side;
            if *alpha > 0.0 && (0..i64::from(size)).contains(&x) && (0..i64::from(size)).contains(&y) {
                let under = &mut pixels[(y * i64::from(size) + x) as usize];
                for (u, v) in under.iter_mut().zip(rgb) {
                    *u += (v * 255.0 - *u) * alpha;
                }
            }
        }
    }
    let light = dice.between(0.85, 1.12);
    RgbImage::from_fn(size, size, |x, y| {
        let lit = pixels[(y * size + x) as usize].map(|v| v * light);
        Rgb(std::array::from_fn(|c| (lit[c] + noise(dice.bits())).round().clamp(0.0, 255.0) as u8))
    })
}

/// The sum of four random bytes is near enough to a normal distribution.
fn noise(bits: u32) -> f32 {
    let sum: u32 = bits.to_le_bytes().into_iter().map(u32::from).sum();
    (sum as f32 - 510.0) * (NOISE_SD / 147.8)
}

/// Sorts objects by place (then by height and left edge) and renumbers the mask to match.
fn reading_order(mut painted: Painted) -> Painted {
    let key = |o: &SceneObject| (o.place, (o.center[1] * 2.0) as u32, (o.center[0] * 2.0) as u32);
    let mut order: Vec<usize> = (0..painted.objects.len()).collect();
    order.sort_by_key(|&i| key(&painted.objects[i]));
    let mut label = vec![0; order.len() + 1];
    for (new, &old) in order.iter().enumerate() {
        label[old + 1] = new as u8 + 1;
    }
    painted.objects = order.iter().map(|&i| painted.objects[i].clone()).collect();
    for pixel in painted.mask.pixels_mut() {
        pixel[0] = label[usize::from(pixel[0])];
    }
    painted
}
