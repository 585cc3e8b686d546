//! The window: start-up, what goes between it and the worker, what it is given (dialogs, drops,
//! pastes, the pointer), what outlives it, the log.
//!
//! The only room that knows eframe's window. What is on screen is `ui`'s; what a model does is `worker`'s.

pub mod app;
mod dialogs;
mod log;
mod pace;
pub mod pump;
mod saved;
mod thumbnails;
mod unhurried;
