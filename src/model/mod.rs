//! The vision-language model: encoder, projector, decoder, and what each family makes of them.
//!
//! `families` has what differs (one file a family), the other files the parts that are shared; `cpu` our own
//! kernels. Gets pixels, ids, positions and masks; does not know prompts, spans, knockouts or windows.
//! Everything is one sequence at a time, without a batch dimension, but for passes that follow one cache (`together`);
//! each file's first lines say its layouts.

pub(crate) mod cpu;
pub mod decoder;
pub mod encoder;
pub mod families;
pub mod hooks;
pub mod kv_cache;
pub mod names;
pub mod nn;
pub(crate) mod projector;
pub mod qwen_vision;
pub mod rotary;
pub mod together;
pub(crate) mod vision;
pub mod vlm;
