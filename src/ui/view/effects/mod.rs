//! What patches do to a word, beside how much it looks at them.

pub(super) mod agreement;
pub(super) mod controls;
pub(super) mod mask;
pub(super) mod offers;
pub(crate) mod view;
