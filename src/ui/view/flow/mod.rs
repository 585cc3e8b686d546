//! Who reads what, layer by layer, and what that does.

pub(super) mod columns;
pub(super) mod edge_effects;
pub(super) mod nodes;
pub(super) mod readings;
pub(super) mod ribbons;
pub(super) mod share_chart;
pub(super) mod share_lines;
pub(crate) mod view;
