//! Where things are: the 3 x 3 grid of place words, and what "left of" and "above" mean.

use serde::{Serialize, Serializer};

/// A cell of the 3 x 3 grid: row and column from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// 0 top, 1 middle, 2 bottom.
    pub row: u8,
    /// 0 left, 1 middle, 2 right.
    pub column: u8,
}

impl Place {
    /// The nine places in reading order.
    pub fn all() -> impl Iterator<Item = Place> {
        (0..3).flat_map(|row| (0..3).map(move |column| Place { row, column }))
    }

    /// The place of a point in a `size` x `size` picture.
    pub fn of([x, y]: [f32; 2], size: u32) -> Place {
        let third = |v: f32| ((v * 3.0 / size as f32) as u8).min(2);
        Place { row: third(y), column: third(x) }
    }

    /// Its words: "top left", "center", "right".
    pub fn name(self) -> &'static str {
        const NAMES: [[&str; 3]; 3] = [
            ["top left", "top", "top right"],
            ["left", "center", "right"],
            ["bottom left", "bottom", "bottom right"],
        ];
        NAMES[usize::from(self.row)][usize::from(self.column)]
    }

    /// How far a point is from the nearest line between places, in pixels.
    pub(super) fn border_distance(point: [f32; 2], size: u32) -> f32 {
        let third = size as f32 / 3.0;
        let nearest = |v: f32| (v - third).abs().min((v - 2.0 * third).abs());
        nearest(point[0]).min(nearest(point[1]))
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A direction that questions ask about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Left,
    Above,
}

/// What stands in some direction of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// This object of the list.
    Object(usize),
    Nothing,
    /// People could disagree: not asked.
    Unclear,
}

/// The nearest object that is clearly in that direction from `from`.
///
/// With d the distance towards the direction and s the distance sideways (both in pixels of a 192 picture):
/// clearly there is d >= 24 and s <= d / 1.5; perhaps there is d > 0 and s < 1.5 d. The answer is the nearest
/// object clearly there, if it is in the same row of the grid (column, for above), 12 pixels nearer than any
/// other and nearer than anything that is perhaps there; it is nothing if nothing is even perhaps there.
pub(super) fn neighbour(centers: &[[f32; 2]], from: usize, direction: Direction, size: u32) -> Neighbour {
    let unit = 192.0 / size as f32;
    let lane = |point: [f32; 2]| {
        let place = Place::of(point, size);
        if direction == Direction::Left { place.row } else { place.column }
    };
    let mut clear: Option<(usize, f32)> = None;
    let mut others = f32::INFINITY; // the nearest of the rest
    for (index, center) in centers.iter().enumerate() {
        let (dx, dy) = ((centers[from][0] - center[0]) * unit, (centers[from][1] - center[1]) * unit);
        let (ahead, aside) = if direction == Direction::Left { (dx, dy.abs()) } else { (dy, dx.abs()) };
        if index == from || ahead <= 0.0 || aside >= 1.5 * ahead {
            continue;
        }
        let distance = ahead.hypot(aside);
        let is_clear = ahead >= 24.0 && aside <= ahead / 1.5 && lane(*center) == lane(centers[from]);
        match clear {
            Some((_, best)) if !is_clear || distance >= best => others = others.min(distance),
            None if !is_clear => others = others.min(distance),
            _ => {
                if let Some((_, best)) = clear {
                    others = others.min(best);
                }
                clear = Some((index, distance));
            }
        }
    }
    match clear {
        Some((index, distance)) if distance + 12.0 <= others => Neighbour::Object(index),
        None if others == f32::INFINITY => Neighbour::Nothing,
        _ => Neighbour::Unclear,
    }
}
