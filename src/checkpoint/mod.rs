//! A Hugging Face folder as it lies on disk: settings by key, weights by key and shape, and what ends an
//! answer.
//!
//! Knows files and number formats; not what the numbers are for.

pub mod added_tokens;
pub mod config;
pub mod end_tokens;
pub mod inventory;
pub mod json;
pub mod numbers;
pub mod shards;
pub mod weight_error;
pub mod weights;
