//! Rotary position embedding of queries and keys.
//!
//! By halves as in transformers (not by interleaved pairs): number `i` of a head's first half is turned with
//! number `i` of its second. A position has three axes (time, height, width), of which plain text uses one:
//! all three are alike there, and where a model has one axis only the first counts. Knows positions as
//! numbers; not what stands at them.

use burn::tensor::{Device, Tensor, TensorData};

use crate::{checkpoint::config::TextConfig, model::cpu};

/// Where a row stands, by axis.
pub type Position = [u32; 3];

/// Positions of rows that stand one after another, from `first` on, alike on every axis.
pub fn consecutive(first: usize, n: usize) -> Vec<Position> {
    (first..first + n).map(|position| [position as u32; 3]).collect()
}

/// The turns of given positions.
pub struct Rotary {
    /// `[1, rows, head width / 2]`.
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotary {
    /// Angles are computed in float32, as the reference does.
    pub fn new(positions: &[Position], c: &TextConfig, device: &Device) -> Self {
        let half = c.head_dim / 2;
        let factor = |i: usize| c.rope.factors.get(i).copied().unwrap_or(1.0);
        let frequency =
            |i: usize| 1.0 / (factor(i) * (c.rope.theta as f32).powf((2 * i) as f32 / c.head_dim as f32));
        let pairs: Vec<(usize, f32)> =
            (0..half).map(|i| (c.rope.axes.get(i).copied().unwrap_or(0), frequency(i))).collect();
        let angles = positions.iter().flat_map(|p| pairs.iter().map(move |&(axis, f)| p[axis] as f32 * f));
        let turns = Self::by(&angles.collect::<Vec<f32>>(), half, device);
        match c.rope.attention {
            1.0 => turns,
            factor => Rotary { cos: turns.cos * factor, sin: turns.sin * factor },
        }
    }

    /// By given angles, `[rows, half]` where `half` is half the width of a head, one row at least.
    pub fn by(angles: &[f32], half: usize, device: &Device) -> Self {
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            Tensor::from_data(TensorData::new(values, [1, angles.len() / half, half]), device)
        };
        Rotary { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Cosines and sines of every number of a head, `[rows, head width]`: both halves are turned alike.
    pub fn tables(&self) -> [Tensor<2>; 2] {
        [&self.cos, &self.sin].map(|half| Tensor::cat(vec![half.clone(); 2], 2).squeeze_dim(0))
    }

    /// Splits `[rows, heads * head width]` into heads and turns them: `[heads, rows, head width]`.
    pub fn turn(&self, x: Tensor<2>, heads: usize) -> Tensor<3> {
        if let Some(turned) = cpu::rotate(&x, heads, [&self.cos, &self.sin]) {
            return turned;
        }
        let [rows, all] = x.dims();
        let x = x.reshape([rows, heads, all / heads]).swap_dims(0, 1);
        let half = all / heads / 2;
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![first, b * cos + a * sin], 2)
    }
}
