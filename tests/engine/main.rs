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
mod places;
mod remote;
mod runs;
mod studies;
mod surveys;
mod tampered;
mod trace;
mod worker;
