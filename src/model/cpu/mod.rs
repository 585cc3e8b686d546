//! CPU kernels.

pub mod kernels;
