//! Models, runs and traces, called as a library.
#![allow(clippy::unwrap_used)]

mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod decoding;
mod finite;
mod flow;
mod internvl;
mod loading;
mod parity;
mod remote;
mod runs;
mod studies;
mod trace;
mod worker;
