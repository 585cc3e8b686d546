//! The analyses, one file each. They read traces or kept runs and return plain data; they do not know
//! how their pictures look.

pub mod compression;
pub mod diff;
pub mod flow;
pub mod gradient;
pub mod localisation;
pub mod logit_lens;
