//! How often a model is right about a folder of images.
//!
//! `folder` is what is asked about which image (our scenes, or any folder in COCO's format: `coco`), `evaluate` asks,
//! `score` says right or wrong and what a constant answer would reach, `report` prints it; `localise` holds the
//! words of descriptions against masks. Knows nothing of windows, nor how scenes are made.

pub(crate) mod coco;
pub mod error;
pub mod evaluate;
pub mod folder;
pub mod localise;
pub mod report;
pub mod score;
