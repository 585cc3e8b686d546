//! One file a view, and the registry that opens them.

pub(crate) mod answer;
pub(crate) mod compress;
pub(crate) mod cut;
pub(crate) mod effects;
pub(crate) mod flow;
pub(crate) mod heads;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod lens;
mod lens_asking;
mod lens_choices;
mod lens_lines;
mod lens_map;
mod lens_offers;
mod lens_places;
mod lens_popup;
mod lens_table;
mod lens_words;
mod map;
pub(crate) mod pane;
pub(crate) mod question;
pub(crate) mod registry;
