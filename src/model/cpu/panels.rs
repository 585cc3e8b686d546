//! Matrices of weights as products read them.
//!
//! A matrix `[out, in]`, float32, float16 or bfloat16, lies as `[panels, in, PANEL]`. Knows how it lies, finds single
//! rows of it again and can turn it back for burn's own product; does not know the kernel that reads it.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, Tensor},
};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    flex::{flex, tensor, values},
    lanes::{Number, PANEL},
    strides::interleave,
};

/// A matrix `[out, in]` that lies as products read it, one long run of memory: `[panels, in, PANEL]`,
/// where a panel is so many neighbouring outputs, the last filled up with zeros.
#[derive(Clone, Debug)]
pub struct Panels {
    pub(super) data: Tensor<3>,
    pub(super) out: usize,
}

impl Panels {
    /// Of a matrix `[out, in]`, float32, float16 or bfloat16.
    ///
    /// # Errors
    /// Gives it back.
    pub fn new(matrix: Tensor<2>) -> Result<Self, Tensor<2>> {
        let [out, k] = matrix.dims();
        let Some(lies) = flex(&matrix).filter(|_| out * k > 0) else { return Err(matrix) };
        let lies = if lies.is_contiguous() { lies } else { lies.to_contiguous() };
        let laid = match lies.dtype() {
            DType::F32 => values::<f32>(&lies).map(|numbers| Self::laid(numbers, k)),
            DType::F16 => values::<f16>(&lies).map(|numbers| Self::laid(numbers, k)),
            DType::BF16 => values::<bf16>(&lies).map(|numbers| Self::laid(numbers, k)),
            _ => None,
        };
        let Some(data) = laid else { return Err(matrix) };
        Ok(Panels { data, out })
    }

    fn laid<T: Number>(matrix: &[T], k: usize) -> Tensor<3> {
        let panels = (matrix.len() / k).div_ceil(PANEL);
        let mut data = bytemuck::zeroed_vec::<T>(panels * k * PANEL);
        data.par_chunks_exact_mut(k * PANEL).zip(matrix.par_chunks(k * PANEL)).for_each(|(panel, rows)| {
            interleave(rows.len() / k, |column| &rows[column * k..][..k], panel, PANEL);
        });
        tensor(data, [panels, k, PANEL])
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.out, self.data.dims()[1]]
    }

    /// How the numbers are held.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// `[n, in]`, float32: single rows of the matrix.
    ///
    /// # Panics
    /// If a row is not there.
    pub fn rows(&self, rows: &[usize]) -> Tensor<2> {
        assert!(rows.iter().all(|&row| row < self.out), "rows of the matrix");
        let data = flex(&self.data).expect("made so");
        match self.dtype() {
            DType::F32 => self.rows_of::<f32>(&data, rows),
            DType::BF16 => self.rows_of::<bf16>(&data, rows),
            _ => self.rows_of::<f16>(&data, rows),
        }
    }

    fn rows_of<T: Number>(&self, data: &FlexTensor, rows: &[usize]) -> Tensor<2> {
        let (k, data) = (self.data.dims()[1], values::<T>(data).expect("of this format"));
        let row = |&row: &usize| {
            let panel = &data[row / PANEL * k * PANEL..][..k * PANEL];
            panel.iter().skip(row % PANEL).step_by(PANEL).map(|v| v.widen())
        };
        tensor(rows.iter().flat_map(row).collect(), [rows.len(), k])
    }

    /// `x W^T` by burn's own operators, for rows that the kernels decline. Laid anew as one matrix: panel by panel,
    /// the way back would sum a gradient of all rows for each. In the matrix's format, but for bfloat16, of which
    /// burn's product is a hundred times slower than of float32.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let [panels, k, _] = self.data.dims();
        let matrix = self.data.clone().swap_dims(0, 1).reshape([k, panels * PANEL]).narrow(1, 0, self.out);
        match self.dtype() {
            DType::BF16 => x.matmul(matrix.cast(DType::F32)),
            dtype => x.cast(dtype).matmul(matrix).cast(DType::F32),
        }
    }
}
