//! A model on its way, and what was before it was asked for: where it never comes, that is so again.
//!
//! Plain data; the store does both.

use std::path::PathBuf;

use crate::{spec::turn::Turn, ui::store::elsewhere::Elsewhere};

/// A model on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// Its folder.
    pub folder: PathBuf,
    /// Whether the user opened it: then it is among what was opened before, once it is there.
    pub opened: bool,
}

/// What was before a model or an image was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Before {
    /// Where else the model is that is there; `None`: on this machine.
    pub elsewhere: Option<Elsewhere>,
    /// What was said so far.
    pub earlier: Vec<Turn>,
}
