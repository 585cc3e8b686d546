//! From a conversation to token ids.

pub mod build;
pub mod chat_template;
