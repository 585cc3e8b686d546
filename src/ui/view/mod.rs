//! One file a view.

pub mod answer;
pub mod cut;
pub mod flow;
pub mod image;
pub mod question;
