//! Products of a few rows with a few columns, in registers.
//!
//! The first factor is at most [`MOST`] rows of float32, `[rows, width]` or interleaved, `[width, rows]`; the
//! second a matrix `[width, columns]` of either format, of which [`PANEL`] columns are taken at a time.
//! Knows how many rows there are registers for; does not know threads, nor where the numbers go.

#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use std::borrow::Cow;

use super::{
    flex::in_runs,
    kernel::{Kernel, widest},
    lanes::{LANES, MOST, Number, PANEL, Vector, fetch},
    strides::{Rows, interleave},
};

/// Rows as [`tile`] reads them fastest: a few together, interleaved.
pub(super) struct Tiles<'a> {
    data: Cow<'a, [f32]>,
    /// Rows of every tile but the last, which may have fewer.
    pub(super) each: usize,
    pub(super) k: usize,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(x: Rows<'a, f32>) -> Self {
        let each = x.rows.div_ceil(x.rows.div_ceil(widest(RowsOfATile)));
        if each == 1 {
            return Tiles { data: Cow::Borrowed(x.data), each, k: x.width };
        }
        let data = in_runs(x.rows * x.width, each * x.width, |n, tile| {
            let rows = tile.len() / x.width;
            for r in 0..rows {
                interleave(x.row(n * each + r), tile, r, rows);
            }
        });
        Tiles { data: Cow::Owned(data), each, k: x.width }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks(self.each * self.k)
    }
}

/// At most [`Vector::ROWS`] rows of the same width.
#[derive(Clone, Copy)]
pub(super) enum Few<'a> {
    /// `[width, rows]`, and how many rows.
    Interleaved(&'a [f32], usize),
    /// As they lie.
    Apart(Rows<'a, f32>),
}

/// Where [`tile`] finds its rows.
trait Left<const R: usize>: Copy {
    fn number(self, i: usize, row: usize) -> f32;
}

impl<const R: usize> Left<R> for &[[f32; R]] {
    #[inline(always)]
    fn number(self, i: usize, row: usize) -> f32 {
        self[i][row]
    }
}

impl<const R: usize> Left<R> for [&[f32]; R] {
    #[inline(always)]
    fn number(self, i: usize, row: usize) -> f32 {
        self[row][i]
    }
}

/// `x[r] . b[.., at + c]` of `R` rows and `C` vectors of columns. Every number is one chain of fused
/// products in the order of `i`: it does not depend on the other rows and columns of the tile. Meanwhile
/// `ahead`, which comes next, is fetched from memory.
#[inline(always)]
fn tile<V: Vector, T: Number, const R: usize, const C: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    at: usize,
    ahead: &[T],
) -> [[V; C]; R] {
    let mut sums = [[V::splat(0.0); C]; R];
    let stride = ahead.len().div_ceil(b.rows.max(1));
    // Plain loops: what is in a closure may end up outside the function that has the instructions.
    for i in 0..b.rows {
        if let Some(next) = ahead.get(i * stride) {
            fetch(next);
        }
        let columns = b.data[i * b.stride + at..][..C * LANES].as_chunks::<LANES>().0;
        let mut vectors = [V::splat(0.0); C];
        for c in 0..C {
            vectors[c] = T::vector(&columns[c]);
        }
        for r in 0..R {
            let x = V::splat(x.number(i, r));
            for c in 0..C {
                sums[r][c] = x.times_plus(vectors[c], sums[r][c]);
            }
        }
    }
    sums
}

/// [`PANEL`] columns for `R` rows, as many at a time as there are registers for.
#[inline(always)]
fn panel<V: Vector, T: Number, const R: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    at: usize,
    ahead: &[T],
    sums: &mut [[f32; PANEL]; MOST],
) {
    if V::ROWS == MOST || R <= 2 {
        let made = tile::<V, T, R, 2>(x, b, at, ahead);
        for r in 0..R {
            sums[r][..LANES].copy_from_slice(&made[r][0].numbers());
            sums[r][LANES..].copy_from_slice(&made[r][1].numbers());
        }
    } else {
        for from in [0, LANES] {
            let made = tile::<V, T, R, 1>(x, b, at + from, ahead);
            for r in 0..R {
                sums[r][from..from + LANES].copy_from_slice(&made[r][0].numbers());
            }
        }
    }
}

/// Columns `at..at + PANEL` of a product, which `b` must have; rows that `x` lacks are zeros.
#[inline(always)]
pub(super) fn tile_of<V: Vector, T: Number>(
    x: Few<'_>,
    b: Rows<'_, T>,
    at: usize,
    ahead: &[T],
) -> [[f32; PANEL]; MOST] {
    let mut sums = [[0.0; PANEL]; MOST];
    macro_rules! by_rows {
        ($rows:expr, $($r:literal)*) => {
            match ($rows, x) {
                $(($r, Few::Interleaved(x, _)) if $r <= V::ROWS => {
                    panel::<V, T, $r>(x.as_chunks::<$r>().0, b, at, ahead, &mut sums);
                })*
                $(($r, Few::Apart(x)) if $r <= V::ROWS => {
                    let mut rows: [&[f32]; $r] = [&[]; $r];
                    for r in 0..$r {
                        rows[r] = x.row(r);
                    }
                    panel::<V, T, $r>(rows, b, at, ahead, &mut sums);
                })*
                _ => unreachable!("no row, or more than a tile has"),
            }
        };
    }
    let rows = match x {
        Few::Interleaved(_, rows) => rows,
        Few::Apart(rows) => rows.rows,
    };
    by_rows!(rows, 1 2 3 4 5 6 7 8 9 10 11 12);
    sums
}
const _: () = assert!(MOST == 12);

/// How many rows [`tile`] has registers for on this machine.
struct RowsOfATile;

impl Kernel for RowsOfATile {
    type Out = usize;

    #[inline(always)]
    fn run<V: Vector>(self) -> usize {
        V::ROWS
    }
}
