//! Numbers at strides: matrices and stacks of them, wherever they lie in a slice.
//!
//! [`Rows`] is `[rows, width]`, [`Cube`] `[heads, rows, width]`. Knows strides only; does not know what
//! multiplies them.

#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use burn::backend::flex::FlexTensor;

use super::lanes::{MOST, Number, PANEL};

/// Rows of numbers at a stride, the numbers of a row side by side.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) data: &'a [T],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
}

impl<'a, T> Rows<'a, T> {
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.width]
    }
}

/// `[heads, rows, width]` in any strides.
#[derive(Clone, Copy)]
pub(super) struct Cube<'a, T> {
    pub(super) data: &'a [T],
    pub(super) shape: [usize; 3],
    pub(super) strides: [usize; 3],
}

impl<'a, T: Number> Cube<'a, T> {
    pub(super) fn new(x: &'a FlexTensor) -> Option<Self> {
        let (layout, shape) = (x.layout(), *x.layout().shape().as_slice().as_array()?);
        let strides: [isize; 3] = *layout.strides().as_array()?;
        if x.dtype() != T::dtype() || strides.iter().any(|&s| s < 0) {
            return None;
        }
        let data = x.storage::<T>().get(layout.start_offset()..)?;
        Some(Cube { data, shape, strides: strides.map(|s| s as usize) })
    }

    /// A row whose numbers lie side by side.
    #[inline(always)]
    pub(super) fn row(&self, head: usize, row: usize) -> &'a [T] {
        &self.data[head * self.strides[0] + row * self.strides[1]..][..self.shape[2]]
    }
}

/// Writes `rows` rows of one length as the first columns of a matrix of `columns`.
#[inline]
pub(super) fn interleave<'a, T: Copy + 'a>(
    rows: usize,
    row: impl Fn(usize) -> &'a [T],
    to: &mut [T],
    columns: usize,
) {
    /// Of many, so many are written side by side: streams that a core still follows.
    const ABREAST: usize = 8;
    macro_rules! interleave {
        ($($n:literal)*) => {
            match rows {
                $($n if columns == $n => abreast::<T, $n>(std::array::from_fn(row), to, 0, $n),)*
                _ => {
                    let whole = rows / ABREAST * ABREAST;
                    for at in (0..whole).step_by(ABREAST) {
                        abreast::<T, ABREAST>(std::array::from_fn(|r| row(at + r)), to, at, columns);
                    }
                    for at in whole..rows {
                        abreast([row(at)], to, at, columns);
                    }
                }
            }
        };
    }
    // The rows of a tile are all of its columns.
    interleave!(1 2 3 4 5 6 7 8 9 10 11 12);
}
const _: () = assert!(MOST == 12);

/// Writes `R` rows as columns `at..at + R`, in the order in which these lie.
#[inline(always)]
fn abreast<T: Copy, const R: usize>(rows: [&[T]; R], to: &mut [T], at: usize, columns: usize) {
    let rows = rows.map(|row| &row[..to.len() / columns]);
    for (i, to) in to.chunks_exact_mut(columns).enumerate() {
        let to = &mut to[at..at + R];
        for r in 0..R {
            to[r] = rows[r][i];
        }
    }
}

/// The next whole number of panels, an odd one: rows at such a stride spread over all of a cache.
pub(super) fn spread(n: usize) -> usize {
    (n.div_ceil(PANEL) | 1) * PANEL
}
