//! What lies over the window for a while.

pub(crate) mod drop;
pub(crate) mod gallery;
pub(crate) mod keys;
pub(crate) mod models;
pub(crate) mod palette;
