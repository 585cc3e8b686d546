//! Towers and decoder.

pub mod cpu;
pub mod decoder;
pub mod hooks;
pub mod kv_cache;
pub mod nn;
pub mod projector;
pub mod vision;
pub mod vlm;
