//! What every layer would say.

pub(super) mod asking;
pub(super) mod choices;
pub(super) mod lines;
pub(super) mod map;
pub(super) mod offers;
pub(super) mod places;
pub(super) mod popup;
pub(super) mod table;
pub(crate) mod view;
pub(super) mod words;
