//! Runs as files for others.

pub mod error;
pub mod picture;
pub mod trace;
