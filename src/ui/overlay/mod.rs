//! What lies over the window for a while.

pub mod drop;
pub mod keys;
pub mod palette;
