//! From a conversation to token ids, each with its span.
//!
//! `chat_template` writes the conversation as the model's own template says, `build` expands images and
//! encodes, `spelling` reads tokens as text again. Knows tokenizer, template and spans; nothing of pixels, tensors or windows.

pub mod build;
pub(crate) mod chat_template;
pub mod error;
mod expanded;
mod folder;
pub mod spelling;
