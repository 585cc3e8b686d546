//! Textures behind the objects: eight kinds, each drawn from noise that is different in every scene.

use serde::Serialize;

use crate::statistics::dice::Dice;

/// What is behind the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Background {
    Grass,
    Sand,
    Water,
    Snow,
    Bricks,
    Wood,
    Clouds,
    Stars,
}

impl Background {
    /// All backgrounds.
    pub const ALL: [Background; 8] = [
        Background::Grass,
        Background::Sand,
        Background::Water,
        Background::Snow,
        Background::Bricks,
        Background::Wood,
        Background::Clouds,
        Background::Stars,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Background::Grass => "grass",
            Background::Sand => "sand",
            Background::Water => "water",
            Background::Snow => "snow",
            Background::Bricks => "bricks",
            Background::Wood => "wood",
            Background::Clouds => "clouds",
            Background::Stars => "stars",
        }
    }

    /// Colours in 0..255, row by row, of a `size` x `size` picture.
    pub(super) fn paint(self, dice: &mut Dice, size: u32) -> Vec<[f32; 3]> {
        let noise = Noise { salt: dice.bits() };
        let (dx, dy) = (dice.between(0.0, 64.0), dice.between(0.0, 64.0));
        let unit = 192.0 / size as f32; // textures scale with the picture, as objects do
        let mut pixels = Vec::with_capacity((size * size) as usize);
        for y in 0..size {
            for x in 0..size {
                pixels.push(self.color(&noise, x as f32 * unit + dx, y as f32 * unit + dy));
            }
        }
        pixels
    }

    fn color(self, noise: &Noise, x: f32, y: f32) -> [f32; 3] {
        match self {
            Background::Grass => {
                let blade = noise.smooth(x * 0.55, y * 0.16);
                let patch = noise.smooth(x * 0.05 + 40.0, y * 0.05);
                mix([70.0, 120.0, 45.0], [135.0, 185.0, 85.0], 0.65 * blade + 0.35 * patch)
            }
            Background::Sand => {
                let ripple = noise.smooth(x * 0.04, y * 0.14);
                let grain = noise.at(x.floor(), y.floor());
                mix([196.0, 168.0, 118.0], [236.0, 214.0, 166.0], 0.7 * ripple + 0.3 * grain)
            }
            Background::Water => {
                let sway = noise.smooth(x * 0.06, y * 0.06);
                let wave = 0.5 + 0.5 * (y * 0.42 + 9.0 * sway).sin();
                mix([38.0, 98.0, 150.0], [105.0, 165.0, 205.0], 0.6 * wave + 0.4 * sway)
            }
            Background::Snow => {
                let drift = noise.smooth(x * 0.05, y * 0.08);
                let glint = if noise.at(x.floor(), y.floor()) > 0.97 { 14.0 } else { 0.0 };
                mix([206.0, 214.0, 230.0], [240.0, 243.0, 250.0], drift).map(|v| v + glint)
            }
            Background::Bricks => {
                let row = (y / 14.0).floor();
                let along = x / 30.0 + 0.5 * row;
                let (u, v) = (along.fract() * 30.0, y - row * 14.0);
                if u < 2.0 || v < 2.0 {
                    return [196.0, 188.0, 178.0];
                }
                let tone = noise.at(along.floor() + 7.0, row);
                mix(
                    [132.0, 66.0, 50.0],
                    [178.0, 98.0, 76.0],
                    0.75 * tone + 0.25 * noise.smooth(x * 0.4, y * 0.4),
                )
            }
            Background::Wood => {
                let plank = (y / 32.0).floor();
                if y - plank * 32.0 < 1.5 {
                    return [84.0, 58.0, 36.0];
                }
                let grain = noise.smooth(x * 0.035 + 31.0 * plank, y * 0.45);
                mix([122.0, 84.0, 50.0], [176.0, 132.0, 86.0], 0.75 * grain + 0.25 * noise.at(plank, 3.0))
            }
            Background::Clouds => {
                let puff = 0.6 * noise.smooth(x * 0.025, y * 0.045) + 0.4 * noise.smooth(x * 0.07, y * 0.11);
                mix([120.0, 176.0, 232.0], [246.0, 249.0, 252.0], ((puff - 0.42) * 4.0).clamp(0.0, 1.0))
            }
            Background::Stars => {
                let (cx, cy) = ((x / 9.0).floor(), (y / 9.0).floor());
                let (sx, sy) = (noise.at(cx, cy) * 7.0 + 1.0, noise.at(cy + 91.0, cx) * 7.0 + 1.0);
                let (du, dv) = (x - cx * 9.0 - sx, y - cy * 9.0 - sy);
                let shine = noise.at(cx + 13.0, cy + 57.0) * (1.3 - (du * du + dv * dv)).clamp(0.0, 1.0);
                let sky = mix([10.0, 12.0, 34.0], [34.0, 30.0, 66.0], noise.smooth(x * 0.03, y * 0.03));
                mix(sky, [255.0, 250.0, 220.0], shine)
            }
        }
    }
}

fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// Value noise on the integer grid.
struct Noise {
    salt: u32,
}

impl Noise {
    /// Uniform in [0, 1), fixed for each pair of whole numbers.
    fn at(&self, x: f32, y: f32) -> f32 {
        let mut h = (x as i32 as u32).wrapping_mul(0x9E37_79B1) ^ (y as i32 as u32).wrapping_mul(0x85EB_CA77);
        h ^= self.salt;
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        ((h ^ (h >> 15)) >> 8) as f32 / (1 << 24) as f32
    }

    /// Smooth between grid points.
    fn smooth(&self, x: f32, y: f32) -> f32 {
        let (x0, y0) = (x.floor(), y.floor());
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (ease(x - x0), ease(y - y0));
        let top = self.at(x0, y0) + (self.at(x0 + 1.0, y0) - self.at(x0, y0)) * u;
        let low = self.at(x0, y0 + 1.0) + (self.at(x0 + 1.0, y0 + 1.0) - self.at(x0, y0 + 1.0)) * u;
        top + (low - top) * v
    }
}
