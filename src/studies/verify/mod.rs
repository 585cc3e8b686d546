//! Parity with a stored reference: every tensor of every case, its largest error and its tolerance.
//!
//! A folder holds config.json, model.safetensors, reference.safetensors and reference.json; no
//! tokenizer is needed, the end token does not stop generation, and a generated image id is text.
//! The reference implementation is transformers (eager attention, float32). Knows the model and
//! decoding, not prompts or spans: references name rows and keys by position.
//!
//! `run` goes through the cases, `reference` reads the files, `case` compares and keeps the list, `report` is
//! what comes out. What is compared, in order: `input` (up to the decoder; `patches` where images are kept so), `base` (one forward),
//! `generation`, `interventions`.

mod base;
mod case;
mod compare;
mod generation;
mod input;
mod interventions;
mod patches;
mod reference;
mod report;
mod run;

pub use report::{Check, Report, VerifyError};
pub use run::verify;
