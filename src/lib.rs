//! Sightline opens up vision-language models.
#![doc = "Module map: see ARCHITECTURE.md."]

pub mod app;
pub mod device;
pub mod gpu;
pub mod knockout;
pub mod span;
pub mod trace;
pub mod ui;
pub mod worker;
