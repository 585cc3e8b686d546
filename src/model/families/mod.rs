//! The model families, one file each, over the parts that they share.
//!
//! `family` is the seam, `registry` the list. A family is added by a file here and a line there:
//! CONTRIBUTING.md has the recipe.

pub mod family;
pub mod idefics3;
pub mod llava;
pub mod registry;
