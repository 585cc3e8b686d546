//! Sightline opens up vision-language models: it runs them, shows where every word of an answer
//! looked, and cuts those paths. The module map and the vocabulary are in ARCHITECTURE.md.

pub mod app;
pub mod bundled;
pub mod colormap;
pub mod decoding;
pub mod device;
pub mod eval;
pub mod export;
pub mod gpu;
pub mod interp;
pub mod knockout;
pub mod masks;
pub mod model;
pub mod prompt;
pub mod run;
pub mod scenes;
pub mod span;
pub mod trace;
pub mod ui;
pub mod verify;
pub mod worker;
