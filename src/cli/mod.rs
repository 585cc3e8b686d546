//! Subcommands, one file each, and what they share: progress on stderr, a summary on stdout, errors
//! as text. Exit codes: 0 done, 1 a check failed, 2 unusable input.

pub mod args;
mod bar;
mod eval;
mod lens;
mod model;
mod pictures;
mod replay;
mod run;
mod scenes;
mod subject;
mod summary;
mod verify;
mod window;
