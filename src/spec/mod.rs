//! What people write.

pub mod ablation;
pub mod experiment;
pub mod knockout;
pub mod sets;
pub mod span;
