//! burn's tensors as slices of memory, and slices as tensors.
//!
//! A tensor that is not on flex, or that carries gradients, has no slice: `None`, or it is given back.
//! Knows shapes, formats and rayon's pool; does not know what the numbers are for. Tensors of any shape,
//! row-major where they are taken as [`plain`] or made here.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]

use std::mem::MaybeUninit;

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Element, Shape, Tensor},
};
use bytemuck::Pod;
use rayon::prelude::*;

/// Whether these kernels can work on `x` and on what is computed from it.
pub fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    flex(x).is_some()
}

/// Runs `work` on a thread of the pool, so that each of its many small parallel steps only has to
/// wake the others; where `x` does not lie on the CPU, runs it here.
pub fn on_pool<const D: usize, T: Send>(x: &Tensor<D>, work: impl FnOnce() -> T + Send) -> T {
    if is_plain(x) { rayon::scope(|_| work()) } else { work() }
}

pub(super) fn flex<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok()
}

/// As [`flex`], in row-major order, float32.
pub(super) fn plain<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    let x = flex(x).filter(|x| x.dtype() == DType::F32)?;
    Some(if x.is_contiguous() { x } else { x.to_contiguous() })
}

pub(super) fn values<T: Element + Pod>(x: &FlexTensor) -> Option<&[T]> {
    x.as_slice()
}

/// A tensor on the CPU, in the memory of `values`.
pub(in crate::model) fn tensor<const D: usize, T: Element + Pod + Send + Sync>(
    values: Vec<T>,
    shape: [usize; D],
) -> Tensor<D> {
    let layout = Layout::contiguous(Shape::from(shape));
    Tensor::from_primitive::<Flex>(FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()))
}

/// `n` numbers that `write` makes run by run, on all cores where there is more than one run. It gets a
/// run's number and zeros, fresh in the cache of the core that is to write over them.
pub(super) fn in_runs(n: usize, run: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut all = Vec::with_capacity(n);
    let make = |(number, place): (usize, &mut [MaybeUninit<f32>])| {
        place.fill(MaybeUninit::new(0.0));
        // SAFETY: filled just now.
        #[allow(unsafe_code)]
        write(number, unsafe { place.assume_init_mut() });
    };
    let place = &mut all.spare_capacity_mut()[..n];
    if n <= run {
        make((0, place));
    } else {
        place.par_chunks_mut(run).enumerate().for_each(make);
    }
    // SAFETY: every run has been filled.
    #[allow(unsafe_code)]
    unsafe {
        all.set_len(n);
    }
    all
}

/// The storage of a row-major float32 tensor, to be changed in place; copied first if it is shared.
pub(super) fn owned<const D: usize>(x: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
    match plain(&x) {
        // The clone inside must be gone for the storage to be unique.
        Some(view)
            if view.layout().start_offset() == 0 && view.bytes().len() == 4 * x.shape().num_elements() =>
        {
            drop(x);
            Ok(view)
        }
        _ => Err(x),
    }
}
