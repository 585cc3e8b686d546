//! The inference thread.

pub mod thread;
