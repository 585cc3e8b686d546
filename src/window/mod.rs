//! The window: start-up, what goes between it and the worker, what it is given (dialogs, drops, pastes, paths, the
//! pointer) and what it writes, sessions and what outlives it, the log.
//!
//! The only room that knows eframe's window. `start` opens it, `app` is its state. What is on screen is `ui`'s; what a model does is `worker`'s. `opening`
//! and `dialogs` read and write files, on threads of their own; `session` gathers a session, `restoring` asks one again,
//! `autosave` keeps one. `downloads` fetches models.

pub mod app;
mod autosave;
mod dialogs;
mod downloads;
mod hand;
mod log;
mod opening;
mod pace;
pub mod pump;
mod restoring;
mod saved;
mod session;
pub mod start;
mod thumbnails;
mod unhurried;
