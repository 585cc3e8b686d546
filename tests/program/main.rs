//! The program from outside: its options, its mistakes, what it prints and what it writes.
#![allow(clippy::unwrap_used)]

mod analyses;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod conversations;
mod early;
mod eval;
mod every_family;
mod files;
mod golden;
mod hub;
mod installed;
mod memory;
mod options;
mod remote;
mod study;
