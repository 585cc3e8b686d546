//! Sightline opens up vision-language models: it runs them, shows where every word of an answer
//! looked, and cuts those paths. The map of the rooms and the vocabulary are in ARCHITECTURE.md.

pub mod bundled;
pub mod checkpoint;
pub mod device;
pub mod engine;
pub mod export;
pub mod files;
pub mod hub;
pub mod image;
pub mod model;
pub mod progress;
pub mod prompt;
pub mod scenes;
pub mod spec;
pub(crate) mod statistics;
pub mod studies;
pub mod trace;
pub mod ui;
pub mod window;
pub mod worker;
