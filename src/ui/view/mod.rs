//! One file a view, and the registry that opens them.

pub(crate) mod answer;
pub(crate) mod compress;
pub(crate) mod cut;
mod cut_add;
mod cut_editor;
mod cut_line;
mod cut_patches;
mod cut_table;
pub(crate) mod effects;
mod effects_agreement;
mod effects_controls;
mod effects_mask;
mod effects_offers;
pub(crate) mod flow;
pub(crate) mod heads;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod lens;
mod map;
pub(crate) mod pane;
pub(crate) mod question;
pub(crate) mod registry;
