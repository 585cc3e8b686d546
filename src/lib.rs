//! Sightline opens up vision-language models: it runs them, shows where every word of an answer
//! looked, and cuts those paths. The module map and the vocabulary are in ARCHITECTURE.md.

pub mod ablation;
pub mod answer;
pub mod app;
pub mod bundled;
pub mod colormap;
pub mod decoding;
pub mod device;
pub mod eval;
pub mod experiment;
pub mod export;
pub mod gpu;
pub mod interp;
pub mod intervention;
pub mod knockout;
pub mod masks;
pub mod model;
pub mod patch_sets;
pub mod prompt;
pub mod resume;
pub mod run;
pub mod sampling;
pub mod scenes;
pub mod sets;
pub mod span;
pub mod spec;
pub mod trace;
pub mod ui;
pub mod verify;
pub mod words;
pub mod worker;
