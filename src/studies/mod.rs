//! Whole analyses: functions over a loaded engine, from single runs to folders of images.
//!
//! One file, or one folder, a study: `session`, `pasted` and `replay` (experiments as files), `effect_map`, `edge_effect`,
//! `head_effect` (what a phrase depends on; `phrase` is what they share), `lens`, `compression`, `localisation` (a
//! measure), `eval` (a folder of questions), `verify` (parity with transformers). `steps` takes those of one answer a
//! step at a time. `images` is what studies over a folder share. Knows the engine and plain data; not windows, nor how
//! figures look.

pub mod compression;
pub(crate) mod edge_effect;
pub(crate) mod effect_map;
pub mod eval;
pub(crate) mod head_effect;
pub mod images;
pub mod lens;
pub(crate) mod localisation;
mod pasted;
pub(crate) mod phrase;
pub mod replay;
pub mod session;
pub mod steps;
pub mod survey;
pub mod verify;
