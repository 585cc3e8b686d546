//! Products of a few rows with a few columns, in registers.
//!
//! The first factor is at most [`MOST`] rows of float32, `[rows, width]` or interleaved, `[width, rows]`; the
//! second a matrix `[width, columns]` of either format, of which [`PANEL`] columns are taken at a time.
//! Knows how many rows there are registers for, and in which pieces a long inner dimension stays near; does not know
//! threads, nor where the numbers go.

#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use std::{borrow::Cow, ops::Range};

use super::{
    flex::in_runs,
    kernel::{Kernel, widest},
    lanes::{LANES, MOST, Number, PANEL, Vector, fetch},
    strides::{Rows, interleave},
};

/// Steps of the inner dimension that many rows take together: so much of a panel stays in the first cache while they
/// pass.
pub(super) const PIECE: usize = 128;
/// Rows, about, that pass a piece of a panel before the next comes: of them, so much stays in the second cache.
const BLOCK: usize = 128;

/// Rows as [`tile_onto`] reads them fastest: a few together, interleaved, in the order in which they are read:
/// `[blocks of rows, pieces of the inner dimension, tiles, steps, rows]`.
pub(super) struct Tiles<'a> {
    data: Cow<'a, [f32]>,
    /// Rows of every tile but the last of a block, which may have fewer.
    pub(super) each: usize,
    /// Rows of every block but the last.
    pub(super) block: usize,
    pub(super) k: usize,
    piece: usize,
}

impl<'a> Tiles<'a> {
    pub(super) fn new(x: Rows<'a, f32>) -> Self {
        let (rows, k) = (x.rows, x.width);
        let each = rows.div_ceil(rows.div_ceil(widest(RowsOfATile)));
        if rows == 1 {
            return Tiles { data: Cow::Borrowed(x.data), each, block: 1, k, piece: k };
        }
        let block = rows.div_ceil(rows.div_ceil(BLOCK)).next_multiple_of(each).min(rows);
        // A single tile finds nothing near that another has brought: it reads every panel in one go.
        let piece = if rows == each { k } else { PIECE };
        let data = in_runs(rows * k, block * k, |n, to| {
            let (first, here) = (n * block, to.len() / k);
            for steps in pieces(k, piece) {
                let to = &mut to[steps.start * here..steps.end * here];
                for (n, tile) in to.chunks_mut(each * steps.len()).enumerate() {
                    let of_tile = tile.len() / steps.len();
                    let row = |r: usize| &x.row(first + n * each + r)[steps.clone()];
                    interleave(of_tile, row, tile, of_tile);
                }
            }
        });
        Tiles { data: Cow::Owned(data), each, block, k, piece }
    }

    /// The pieces of the inner dimension.
    pub(super) fn pieces(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        pieces(self.k, self.piece)
    }

    /// A piece of the `rows` rows of a block, tile by tile.
    pub(super) fn of(&self, block: usize, rows: usize, steps: &Range<usize>) -> impl Iterator<Item = &[f32]> {
        let data = &self.data[block * self.block * self.k + steps.start * rows..][..steps.len() * rows];
        data.chunks(self.each * steps.len())
    }
}

/// `0..n`, so many at a time.
pub(super) fn pieces(n: usize, each: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    (0..n).step_by(each).map(move |from| from..n.min(from + each))
}

/// At most [`Vector::ROWS`] rows of the same width.
#[derive(Clone, Copy)]
pub(super) enum Few<'a> {
    /// `[width, rows]`.
    Interleaved(&'a [f32]),
    /// As they lie.
    Apart(Rows<'a, f32>),
}

/// Where [`tile`] finds its rows.
trait Left<const R: usize>: Copy {
    /// Whether there are numbers for so many steps.
    fn reaches(self, steps: usize) -> bool;
    /// # Safety
    /// It must [reach](Self::reaches) behind step `i`; `row` is below `R`.
    #[allow(unsafe_code)]
    unsafe fn number(self, i: usize, row: usize) -> f32;
}

impl<const R: usize> Left<R> for &[[f32; R]] {
    #[inline(always)]
    fn reaches(self, steps: usize) -> bool {
        self.len() >= steps
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn number(self, i: usize, row: usize) -> f32 {
        // SAFETY: the caller's.
        unsafe { *self.get_unchecked(i).get_unchecked(row) }
    }
}

impl<const R: usize> Left<R> for [&[f32]; R] {
    #[inline(always)]
    fn reaches(self, steps: usize) -> bool {
        self.iter().all(|row| row.len() >= steps)
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn number(self, i: usize, row: usize) -> f32 {
        // SAFETY: the caller's.
        unsafe { *self.get_unchecked(row).get_unchecked(i) }
    }
}

/// A row's [`PANEL`] numbers as vectors.
type Lanes = [[f32; LANES]; PANEL / LANES];

/// Adds `x[r] . b[.., c]` of `R` rows and `C` vectors of columns, those of `b` and of `all` behind the first `from`.
/// Every number is one chain of fused products in the order of `i`, from what stood there on: it does not depend on
/// the other rows and columns of the tile, nor on where an inner dimension is cut into pieces. Meanwhile `ahead`, which
/// comes next, is fetched from memory.
///
/// What is asked of memory is checked once, and the steps stand side by side: with every check and jump that a
/// step has beside its products, a core that shares its front end with another thread is bound by instructions.
#[inline(always)]
#[allow(unsafe_code)]
fn tile<V: Vector, T: Number, const R: usize, const C: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    ahead: &[T],
    all: &mut [Lanes; R],
    from: usize,
) {
    /// Steps side by side.
    const ABREAST: usize = 4;
    /// Bytes that are fetched at once.
    const LINE: usize = 64;
    assert!(
        x.reaches(b.rows) && (b.rows == 0 || (b.rows - 1) * b.stride + (from + C) * LANES <= b.data.len()),
        "the inner dimension"
    );
    let mut sums = [[V::splat(0.0); C]; R];
    for r in 0..R {
        for c in 0..C {
            sums[r][c] = V::new(all[r][from + c]);
        }
    }
    // Plain loops: what is in a closure may end up outside the function that has the instructions.
    macro_rules! step {
        ($i:expr) => {
            let mut vectors = [V::splat(0.0); C];
            for c in 0..C {
                // SAFETY: `i` is below `b.rows`, and all of these columns of the last row are in `data`.
                let columns = unsafe { b.data.as_ptr().add($i * b.stride + (from + c) * LANES) };
                // SAFETY: as above.
                vectors[c] = T::vector(unsafe { &*columns.cast::<[T; LANES]>() });
            }
            for r in 0..R {
                // SAFETY: `x` reaches behind `b.rows` steps.
                let x = V::splat(unsafe { x.number($i, r) });
                for c in 0..C {
                    sums[r][c] = x.times_plus(vectors[c], sums[r][c]);
                }
            }
        };
    }
    let whole = b.rows / ABREAST;
    let stride = ahead.len().div_ceil(whole.max(1));
    // Of what a single row streams past, every line; the others have more to do, and a line here and there is enough.
    let lines = if R == 1 { stride.div_ceil(LINE / size_of::<T>()) } else { 1 };
    for n in 0..whole {
        for line in 0..lines {
            if let Some(next) = ahead.get(n * stride + line * (LINE / size_of::<T>())) {
                fetch(next);
            }
        }
        for i in 0..ABREAST {
            step!(n * ABREAST + i);
        }
    }
    for i in whole * ABREAST..b.rows {
        step!(i);
    }
    for r in 0..R {
        for c in 0..C {
            all[r][from + c] = sums[r][c].numbers();
        }
    }
}

/// [`PANEL`] columns for `R` rows, as many at a time as there are registers for.
#[inline(always)]
fn panel<V: Vector, T: Number, const R: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    ahead: &[T],
    sums: &mut [[f32; PANEL]; R],
) {
    let sums: &mut [Lanes; R] = bytemuck::cast_mut(sums);
    if V::ROWS == MOST || R <= 2 {
        tile::<V, T, R, 2>(x, b, ahead, sums, 0);
    } else {
        let (first, second) = ahead.split_at(ahead.len() / 2);
        tile::<V, T, R, 1>(x, b, first, sums, 0);
        tile::<V, T, R, 1>(x, b, second, sums, 1);
    }
}

/// Adds the first [`PANEL`] columns of a product, which `b` must have, to `sums`, `[rows, PANEL]`.
#[inline(always)]
pub(super) fn tile_onto<V: Vector, T: Number>(
    x: Few<'_>,
    b: Rows<'_, T>,
    ahead: &[T],
    sums: &mut [[f32; PANEL]],
) {
    macro_rules! by_rows {
        ($($r:literal)*) => {
            match x {
                $(Few::Interleaved(x) if $r <= V::ROWS && let Some(sums) = sums.as_mut_array::<$r>() => {
                    panel::<V, T, $r>(x.as_chunks::<$r>().0, b, ahead, sums);
                })*
                $(Few::Apart(x) if $r <= V::ROWS && let Some(sums) = sums.as_mut_array::<$r>() => {
                    let mut rows: [&[f32]; $r] = [&[]; $r];
                    for r in 0..$r {
                        rows[r] = x.row(r);
                    }
                    panel::<V, T, $r>(rows, b, ahead, sums);
                })*
                _ => unreachable!("no row, or more than a tile has"),
            }
        };
    }
    by_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
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
