//! Sightline opens up vision-language models.
#![doc = "Module map: see ARCHITECTURE.md."]

pub mod scenes;
pub mod span;
