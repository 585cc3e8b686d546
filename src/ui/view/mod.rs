//! One file or folder a view, and the registry that opens them.

pub(crate) mod compress;
pub(crate) mod cuts;
pub(crate) mod effects;
pub(crate) mod flow;
pub(crate) mod heads;
pub(crate) mod image;
pub(crate) mod layers;
pub(crate) mod lens;
mod map;
pub(crate) mod pane;
pub(crate) mod question;
pub(crate) mod registry;
pub(crate) mod runs;
pub(crate) mod studies;
