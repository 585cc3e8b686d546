//! The papers' figures, over the image on show or a folder of images.

pub(super) mod clicked;
pub(super) mod drawn;
pub(super) mod offers;
pub(crate) mod view;
