//! What is on screen: views of one store, laid out as tiles, that ask for commands.
//!
//! `store` is what the window knows, `view` one file a view, `widgets` what views share, `layout` the window
//! around them. Nothing here names a tensor, a thread, a channel or a file's contents.

pub mod banner;
pub mod frame;
pub mod layout;
pub mod overlay;
pub mod shortcuts;
pub mod status_bar;
pub mod store;
pub mod theme;
pub mod tiles;
pub mod top_bar;
pub mod view;
pub mod widgets;
