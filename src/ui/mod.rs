//! What is on screen.

pub mod layout;
pub mod status_bar;
pub mod store;
pub mod theme;
pub mod top_bar;
pub mod view;
pub mod widgets;
