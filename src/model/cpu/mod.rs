//! Kernels of our own for the CPU, where burn's operators on flex are the limit: products with
//! weights, attention, activations, norms, rotary embedding.
//!
//! Every public function takes tensors and declines (`None`, or the argument given back) unless all
//! of them are plain flex tensors in a format that it knows: those on a GPU and those that carry
//! gradients take burn's own path, which the callers keep beside it. Knows shapes and numbers; does
//! not know models, spans or files.
//!
//! Layouts as in the callers: activations `[rows, width]`, heads `[heads, rows, width]`, row-major in
//! float32; matrices as [`Panels`] in float32, float16 or bfloat16, cached keys and values as [`append`] lays
//! them, in float32 or float16. Sums are float32, whatever the matrices are.
//!
//! All products are made by one function, `tiles::tile`: every number is a single chain of fused products
//! in the order of the inner dimension, however many rows go through together. **A row comes out the
//! same to the last bit, alone or among others**: a resumed run can equal one from scratch.
//!
//! Plain Rust over arrays as wide as a vector register, compiled for several instruction sets, chosen
//! when the program runs (`kernel::widest`). Tasks go to rayon's pool, on which burn-flex runs too.

mod attention;
mod cache;
mod flex;
mod kernel;
mod lanes;
mod math;
mod panels;
mod pointwise;
mod product;
mod strides;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

pub(super) use flex::tensor;
pub use {
    attention::{Attend, attention},
    cache::{Lie, append},
    flex::{is_plain, on_pool},
    panels::Panels,
    pointwise::{gated, layer_norm, rms_norm, rotate},
    product::{Layer, linear, linear_activated, linear_onto},
};
