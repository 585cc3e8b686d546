//! What the window knows.

pub mod runs;
pub mod selection;
pub mod state;
