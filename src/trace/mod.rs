//! What a run leaves.

pub mod diff;
pub mod flow;
pub mod palette;
pub mod run;
pub mod words;
