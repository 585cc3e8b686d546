//! Registers of x86-64 as vectors.
//!
//! Only `widest` names these, after it has seen that the machine has what they stand for. Knows
//! instructions; does not know kernels. Numbers lie in a register in the order of their array.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_fmadd_ps, _mm256_set1_ps, _mm256_slli_epi32, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_slli_epi32,
};

use half::{bf16, f16};

use super::lanes::{LANES, MOST, Vector};

/// One register of AVX-512.
#[derive(Clone, Copy)]
pub(super) struct Avx512(__m512);

impl Vector for Avx512 {
    const FUSED: bool = true;
    const ROWS: usize = MOST;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        // SAFETY: an `Avx512` means that AVX-512F is there.
        Avx512(unsafe { _mm512_set1_ps(number) })
    }

    #[inline(always)]
    fn new(numbers: [f32; LANES]) -> Self {
        Avx512(bytemuck::cast(numbers))
    }

    #[inline(always)]
    fn widened(numbers: &[f16; LANES]) -> Self {
        let halves: __m256i = bytemuck::cast(*numbers);
        // SAFETY: as above.
        Avx512(unsafe { _mm512_cvtph_ps(halves) })
    }

    #[inline(always)]
    fn shifted(numbers: &[bf16; LANES]) -> Self {
        let halves: __m256i = bytemuck::cast(*numbers);
        // SAFETY: as above.
        Avx512(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))) })
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        // SAFETY: as above.
        Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
    }

    #[inline(always)]
    fn numbers(self) -> [f32; LANES] {
        bytemuck::cast(self.0)
    }
}

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub(super) struct Avx2([__m256; 2]);

impl Vector for Avx2 {
    const FUSED: bool = true;
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(number: f32) -> Self {
        // SAFETY: an `Avx2` means that AVX2, FMA and F16C are there.
        Avx2([unsafe { _mm256_set1_ps(number) }; 2])
    }

    #[inline(always)]
    fn new(numbers: [f32; LANES]) -> Self {
        Avx2(bytemuck::cast(numbers))
    }

    #[inline(always)]
    fn widened(numbers: &[f16; LANES]) -> Self {
        let [low, high]: [__m128i; 2] = bytemuck::cast(*numbers);
        // SAFETY: as above.
        Avx2(unsafe { [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)] })
    }

    #[inline(always)]
    fn shifted(numbers: &[bf16; LANES]) -> Self {
        let halves: [__m128i; 2] = bytemuck::cast(*numbers);
        // SAFETY: as above. The calls stand outside of closures, which may end up outside the function that has the
        // instructions.
        let [low, high] = unsafe { [_mm256_cvtepu16_epi32(halves[0]), _mm256_cvtepu16_epi32(halves[1])] };
        // SAFETY: as above.
        Avx2(unsafe {
            [
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            ]
        })
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        let ([a, b], [x, y], [s, t]) = (self.0, factor.0, sum.0);
        // SAFETY: as above.
        Avx2(unsafe { [_mm256_fmadd_ps(a, x, s), _mm256_fmadd_ps(b, y, t)] })
    }

    #[inline(always)]
    fn numbers(self) -> [f32; LANES] {
        bytemuck::cast(self.0)
    }
}
