//! Numbers at strides: matrices and stacks of them, wherever they lie in a slice.
//!
//! [`Rows`] is `[rows, width]`, [`Cube`] `[heads, rows, width]`. Knows strides only; does not know what
//! multiplies them.

use burn::backend::flex::FlexTensor;

use super::lanes::{Number, PANEL};

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

/// Writes a row as column `at` of a matrix of `columns` columns.
#[inline]
pub(super) fn interleave<T: Copy>(row: &[T], to: &mut [T], at: usize, columns: usize) {
    to.iter_mut().skip(at).step_by(columns).zip(row).for_each(|(to, from)| *to = *from);
}

/// The next whole number of panels, an odd one: rows at such a stride spread over all of a cache.
pub(super) fn spread(n: usize) -> usize {
    (n.div_ceil(PANEL) | 1) * PANEL
}
