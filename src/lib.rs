//! Sightline opens up vision-language models.
#![doc = "Module map: see ARCHITECTURE.md."]

pub mod model;
pub mod prompt;
pub mod span;
