//! The window.

pub mod app;
