//! Sums, the exponential and the softmax of one row.
//!
//! Rows are slices of float32. Does not know matrices, tensors or threads.

#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use super::lanes::{LANES, Vector, fma};

/// Registers that a row is taken up by at a time, so that no step waits for the one before.
const STEP: usize = 2;

/// By halves.
#[inline(always)]
fn total(sums: [[f32; LANES]; STEP]) -> f32 {
    let [a, b] = sums;
    let mut v = a;
    for i in 0..LANES {
        v[i] += b[i];
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            v[i] += v[i + half];
        }
        half /= 2;
    }
    v[0]
}

/// The sum of `f` over a row.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (steps, rest) = x.as_chunks::<{ STEP * LANES }>();
    let mut sums = [0.0; STEP * LANES];
    for v in steps {
        for i in 0..STEP * LANES {
            sums[i] += f(v[i]);
        }
    }
    let sums: [[f32; LANES]; STEP] = bytemuck::cast(sums);
    rest.iter().fold(total(sums), |sum, &v| sum + f(v))
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (steps, rest) = x.as_chunks::<{ STEP * LANES }>();
    let mut max = [f32::MIN; STEP * LANES];
    for v in steps {
        for i in 0..STEP * LANES {
            max[i] = if v[i] > max[i] { v[i] } else { max[i] };
        }
    }
    max.iter().chain(rest).copied().fold(f32::MIN, f32::max)
}

/// The exponential, to a few units in the last place; exactly 0 where it would be below the smallest
/// normal number.
#[inline(always)]
pub(super) fn exp<V: Vector>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Written so that a NaN passes through.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > 88.0 { 88.0 } else { bounded };
    let rounded = fma::<V>(bounded, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    // ln 2 in two parts, so that the product is exact.
    let rest = fma::<V>(whole, -0.693_359_4, bounded);
    let rest = fma::<V>(whole, 2.121_944_4e-4, rest);
    let p = fma::<V>(1.987_569_2e-4, rest, 1.398_2e-3);
    let p = fma::<V>(p, rest, 8.333_452e-3);
    let p = fma::<V>(p, rest, 4.166_579_6e-2);
    let p = fma::<V>(p, rest, 1.666_666_6e-1);
    let p = fma::<V>(p, rest, 0.5);
    let p = fma::<V>(p, rest * rest, rest + 1.0);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < LOWEST { 0.0 } else { p * power }
}

/// The exponentials of a row less its largest, and their sum, added up as [`sum`] does.
#[inline(always)]
fn exponentials<V: Vector>(row: &mut [f32], max: f32) -> f32 {
    let (steps, rest) = row.as_chunks_mut::<{ STEP * LANES }>();
    let mut sums = [0.0; STEP * LANES];
    for v in steps {
        for i in 0..STEP * LANES {
            v[i] = exp::<V>(v[i] - max);
            sums[i] += v[i];
        }
    }
    let sums: [[f32; LANES]; STEP] = bytemuck::cast(sums);
    rest.iter_mut().fold(total(sums), |sum, v| {
        *v = exp::<V>(*v - max);
        sum + *v
    })
}

#[inline(always)]
pub(super) fn softmax<V: Vector>(row: &mut [f32]) {
    let max = largest(row);
    let scale = 1.0 / exponentials::<V>(row, max);
    row.iter_mut().for_each(|v| *v *= scale);
}
