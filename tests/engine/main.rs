//! Models, runs and traces, called as a library.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod decoding;
mod finite;
mod flow;
mod loading;
mod parity;
mod remote;
mod runs;
mod studies;
mod trace;
mod worker;
