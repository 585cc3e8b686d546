//! The system's files: what is read is a regular file, what is written is whole and of one run.
//!
//! `input` opens files that people name, `sum` tells them apart by what is in them, `output` writes a folder, or one
//! file, `name` makes names of text. Knows paths and bytes; not what they mean.

pub mod error;
pub mod input;
pub mod name;
pub mod output;
pub(crate) mod sum;
