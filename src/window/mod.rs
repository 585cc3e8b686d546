//! The window: start-up, what goes between it and the worker, dialogs, drops and pastes, the log.
//!
//! The only room that knows eframe's window. What is on screen is `ui`'s; what a model does is `worker`'s.

pub mod app;
mod dialogs;
mod log;
pub mod pump;
