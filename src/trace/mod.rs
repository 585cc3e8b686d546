//! What a run leaves, as plain data: tokens, attention, what interventions did, and what can be read off
//! them at once.
//!
//! `run` holds one answer, `report` a whole experiment; `geometry` says where patches lie, `palette` what
//! colours numbers and spans have everywhere. What views give away is plain data too: `figure`, `table`, `sheet` (a
//! map over an image), `tensors`, and `offer`, which is any of them. Knows nothing of tensors of a device, models,
//! files or windows.

pub mod diff;
pub mod figure;
pub mod finding;
pub mod flow;
pub mod geometry;
pub mod offer;
pub mod palette;
pub mod pattern;
pub mod report;
pub mod run;
pub mod sheet;
pub mod sinks;
pub mod table;
pub mod tensors;
pub mod tokens;
pub mod words;
