//! What the window knows: runs, images, the selection, settings, commands. No drawing, no channels, no
//! threads.

pub mod command;
mod cuts;
mod first_look;
pub(crate) mod images;
pub(crate) mod lane;
pub(crate) mod run;
pub(crate) mod runs;
pub mod selection;
pub mod settings;
#[expect(clippy::module_inception, reason = "the store is what the room is named after")]
pub mod store;
pub(crate) mod undo;
mod wanted;
