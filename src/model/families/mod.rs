//! The model families, one file each, over the parts that they share.
//!
//! `family` is the seam, `registry` the list; `text` and `conversation` are what several share, `qwen` what Qwen's
//! generations do. A family is added by a file here and a line there:
//! CONTRIBUTING.md has the recipe.

mod conversation;
pub mod family;
pub mod idefics3;
pub mod internvl;
pub mod internvl_chat;
pub mod llava;
pub mod qwen;
pub mod qwen2_vl;
pub mod qwen3_vl;
pub mod registry;
mod text;
