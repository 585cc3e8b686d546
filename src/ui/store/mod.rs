//! What the window knows: runs, images, the selection, settings, commands. No drawing, no channels, no
//! threads.

mod act;
mod arriving;
pub mod command;
pub mod command_line;
pub mod cut_list;
mod cuts;
pub mod elsewhere;
mod first_look;
pub(crate) mod images;
pub(crate) mod lane;
pub mod models;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod saved;
pub mod selection;
pub mod settings;
pub(crate) mod setup;
#[expect(clippy::module_inception, reason = "the store is what the room is named after")]
pub mod store;
pub mod studies;
pub(crate) mod subject;
mod surveying;
pub mod surveys;
pub mod talk;
pub(crate) mod undo;
pub mod view_id;
mod wanted;
