//! What is on screen: views of one store, laid out as tiles, that ask for commands.
//!
//! `store` is what the window knows, `view` one file a view, `widgets` what views share, `layout` the window
//! around them. Nothing here names a tensor, a thread, a channel or a file's contents.

pub(crate) mod banner;
mod device_menu;
pub(crate) mod frame;
pub mod layout;
pub(crate) mod overlay;
pub(crate) mod shortcuts;
pub(crate) mod status_bar;
pub mod store;
pub mod theme;
pub(crate) mod tiles;
pub(crate) mod top_bar;
mod typed_path;
pub(crate) mod view;
pub mod widgets;
