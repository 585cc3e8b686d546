//! The window: its logic without any drawing, its views as snapshots, and its shader against the CPU.
//! Drawing needs a graphics adapter; without one these tests say that they were skipped, unless
//! `SIGHTLINE_REQUIRE_GPU=1`, when they fail.
#![allow(clippy::unwrap_used)]

mod bench;
mod cuts;
mod effects;
mod first_sight;
mod flow;
mod image;
mod in_force;
mod layers;
mod lens;
mod logic;
#[path = "../made_up/mod.rs"]
mod made_up;
mod mean;
mod models;
mod pointer;
mod remote;
mod runs;
mod saved;
mod shader;
mod shell;
mod steps;
mod studies;
mod talk;
mod views;
mod whole;
