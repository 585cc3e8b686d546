//! The model families, one file each, over the parts that they share.
//!
//! `family` is the seam, `registry` the list; `text` and `conversation` are what several share. A family is added by a file here and a line there:
//! CONTRIBUTING.md has the recipe.

mod conversation;
pub mod family;
pub mod idefics3;
pub mod internvl;
pub mod internvl_chat;
pub mod llava;
pub mod registry;
mod text;
