//! Whole analyses: functions over a loaded engine, from single runs to folders of images.
//!
//! One file, or one folder, a study: `session`, `pasted` and `replay` (experiments as files), `lens`, `compression`,
//! `localisation` (a measure), `eval` (a folder of questions), `verify` (parity with transformers). `images`
//! is what studies over a folder share. Knows the engine and plain data; not windows, nor how figures look.

pub mod compression;
pub mod eval;
pub mod images;
pub mod lens;
pub(crate) mod localisation;
mod pasted;
pub mod replay;
pub mod session;
pub mod verify;
