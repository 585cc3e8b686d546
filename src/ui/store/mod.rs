//! What the window knows: runs, images, the selection, settings, commands. No drawing, no channels, no
//! threads.

pub mod command;
mod cuts;
pub mod images;
pub mod lane;
pub mod run;
pub mod runs;
pub mod selection;
pub mod settings;
#[expect(clippy::module_inception, reason = "the store is what the room is named after")]
pub mod store;
pub mod undo;
mod wanted;
