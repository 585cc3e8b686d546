//! What people write: spans, sets of positions, knockouts, ablations, recordings, and the experiment that
//! holds them all.
//!
//! Plain data and its text forms; the lowest floor. Knows nothing of tensors, models, files or windows.

pub mod ablation;
pub mod experiment;
pub mod knockout;
pub mod parse;
pub mod picture;
pub mod record;
pub mod resolve;
pub mod sets;
pub mod span;
pub mod study;
mod text;
pub mod turn;
