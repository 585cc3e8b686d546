//! The model families, one file each, over the parts that they share.
//!
//! `family` is the seam, `registry` the list, `qwen` what Qwen's generations share. A family is added by a file here and a line there:
//! CONTRIBUTING.md has the recipe.

pub mod family;
pub mod idefics3;
pub mod llava;
pub mod qwen;
pub mod qwen2_vl;
pub mod qwen3_vl;
pub mod registry;
