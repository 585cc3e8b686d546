//! The question, and the prompt as tokens.

pub(super) mod items;
pub(super) mod talk;
pub(super) mod tokens;
pub(crate) mod view;
