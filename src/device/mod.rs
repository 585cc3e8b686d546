//! Where tensors live.

pub mod open;
pub mod shared;
