//! Vectors as wide as a register, and the formats of the numbers that fill them.
//!
//! A vector is [`LANES`] numbers, computed in float32; matrices hold float32, float16 or bfloat16. Knows how many rows
//! and columns a tile has registers for; does not know what is computed with them, nor tensors.

use bytemuck::Pod;
use half::{bf16, f16};

use crate::checkpoint::numbers::Format;

/// Numbers in a [`Vector`].
pub(super) const LANES: usize = 16;
/// Columns that `tile` makes at a time.
pub(super) const PANEL: usize = 2 * LANES;
/// Most rows that it makes at a time.
pub(super) const MOST: usize = 12;

/// [`LANES`] numbers.
pub(super) trait Vector: Copy {
    /// Whether a product and a sum are one instruction.
    const FUSED: bool;
    /// Rows that `tile` has registers for: [`MOST`] with two vectors of columns, fewer with one.
    const ROWS: usize;
    fn splat(number: f32) -> Self;
    fn new(numbers: [f32; LANES]) -> Self;
    fn widened(numbers: &[f16; LANES]) -> Self;
    /// Of bfloat16, which is float32 without its lower half: exact.
    fn shifted(numbers: &[bf16; LANES]) -> Self;
    /// `self * factor + sum`.
    fn times_plus(self, factor: Self, sum: Self) -> Self;
    fn numbers(self) -> [f32; LANES];
}

/// What the compiler makes of it.
impl Vector for [f32; LANES] {
    const FUSED: bool = cfg!(target_arch = "aarch64");
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

    #[inline(always)]
    fn splat(number: f32) -> Self {
        [number; LANES]
    }

    #[inline(always)]
    fn new(numbers: [f32; LANES]) -> Self {
        numbers
    }

    #[inline(always)]
    fn widened(numbers: &[f16; LANES]) -> Self {
        numbers.map(Number::widen)
    }

    #[inline(always)]
    fn shifted(numbers: &[bf16; LANES]) -> Self {
        numbers.map(Number::widen)
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        std::array::from_fn(|i| fma::<Self>(self[i], factor[i], sum[i]))
    }

    #[inline(always)]
    fn numbers(self) -> [f32; LANES] {
        self
    }
}

/// A format of matrices.
pub(super) trait Number: Format + Pod {
    fn widen(self) -> f32;
    fn vector<V: Vector>(numbers: &[Self; LANES]) -> V;
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f32; LANES]) -> V {
        V::new(*numbers)
    }
}

impl Number for f16 {
    /// By moving the exponent with a product, which is right for subnormals too.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        if bits & 0x7c00 == 0x7c00 {
            return self.to_f32();
        }
        let size = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f16; LANES]) -> V {
        V::widened(numbers)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[bf16; LANES]) -> V {
        V::shifted(numbers)
    }
}

/// `a * b + c`, fused where the machine can.
#[inline(always)]
pub(super) fn fma<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Asks for the memory around a number, to be near when it is read.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
pub(super) fn fetch<T>(number: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has it, and it is a hint about memory that is there.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(number).cast()) }
    }
}
