//! One file a view, and the registry that opens them.

pub(crate) mod answer;
pub(crate) mod cut;
pub(crate) mod flow;
pub(crate) mod image;
mod map;
pub(crate) mod pane;
pub(crate) mod question;
pub(crate) mod registry;
