//! The analyses, one file each. They read traces or recordings and return plain data; they do not
//! know how a run was made or how its pictures look.

pub mod diff;
pub mod flow;
pub mod gradient;
pub mod localisation;
pub mod logit_lens;
