//! One file a view, and the registry that opens them.

pub mod answer;
pub mod cut;
pub mod flow;
pub mod image;
mod map;
pub mod pane;
pub mod question;
pub mod registry;
