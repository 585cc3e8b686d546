//! From a conversation to token ids, each with its span.
//!
//! `chat_template` writes the conversation as the model's own template says, `build` expands images and
//! encodes, `detokenizer` makes text of answers. Knows tokenizer, template and spans; nothing of pixels, tensors or
//! windows.

mod alphabet;
pub mod build;
pub(crate) mod chat_template;
pub mod detokenizer;
pub mod error;
mod expanded;
mod folder;
