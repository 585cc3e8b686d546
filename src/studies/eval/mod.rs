//! How often a model is right.

pub mod answer;
pub mod evaluate;
pub mod folder;
pub mod localise;
pub mod score;
