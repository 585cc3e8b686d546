//! The image with its map, its tools, and what the pointer does on it.

pub(super) mod apart;
pub(super) mod hand;
pub(super) mod offer;
pub(crate) mod view;
pub(super) mod words;
