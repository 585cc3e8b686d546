//! One file a view, and the registry that opens them.

pub(crate) mod answer;
mod columns;
pub(crate) mod compress;
pub(crate) mod cut;
mod edge_effects;
pub(crate) mod effects;
pub(crate) mod flow;
pub(crate) mod heads;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod lens;
mod map;
mod nodes;
pub(crate) mod pane;
pub(crate) mod question;
mod readings;
pub(crate) mod registry;
mod ribbons;
mod share_chart;
mod share_lines;
