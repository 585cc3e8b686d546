//! The list of studies over images.

use crate::studies::survey::{
    ablate, answer, compress, effect, heads, kind::Kind, knockout, lens, localise, share, windows,
};

/// All of them.
pub static ALL: [Kind; 10] = [
    share::KIND,
    knockout::KIND,
    localise::KIND,
    compress::KIND,
    ablate::KIND,
    lens::KIND,
    windows::KIND,
    answer::KIND,
    effect::KIND,
    heads::KIND,
];

/// The study of this name.
pub fn of(name: &str) -> Option<&'static Kind> {
    ALL.iter().find(|kind| kind.name == name)
}
