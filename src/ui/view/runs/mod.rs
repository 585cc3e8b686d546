//! Runs, word by word, and what they are compared with.

pub(crate) mod compare;
pub(super) mod facts;
pub(super) mod list;
pub(super) mod strip;
pub(super) mod table;
pub(super) mod tint;
pub(crate) mod view;
