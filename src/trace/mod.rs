//! What a run leaves, as plain data: tokens, attention, what interventions did, and what can be read off
//! them at once.
//!
//! `run` holds one answer, `report` a whole experiment; `geometry` says where patches lie, `palette` what
//! colours numbers and spans have everywhere. Knows nothing of tensors, models, files or windows.

pub mod diff;
pub mod finding;
pub mod flow;
pub mod geometry;
pub mod palette;
pub mod pattern;
pub mod report;
pub mod run;
pub mod sinks;
pub mod tokens;
pub mod words;
