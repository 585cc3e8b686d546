//! One file a view, and the registry that opens them.

pub(crate) mod answer;
pub(crate) mod compress;
pub(crate) mod cut;
pub(crate) mod effects;
pub(crate) mod flow;
pub(crate) mod heads;
mod heads_given;
mod heads_grid;
mod heads_matrix;
mod heads_places;
mod heads_values;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod lens;
mod map;
pub(crate) mod pane;
pub(crate) mod question;
pub(crate) mod registry;
