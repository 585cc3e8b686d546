//! Whole analyses.

pub mod compression;
pub mod eval;
pub mod lens;
pub mod localisation;
pub mod session;
pub mod verify;
