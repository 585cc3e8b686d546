//! From a conversation to token ids, each with its span.
//!
//! `chat_template` writes the conversation as the model's own template says, `build` expands images and
//! encodes, `detokenizer` makes text of answers. `folder` finds template and tokenizer in a folder's files; what was
//! written before there was a tokenizer.json is read by `vocabulary` and `sentencepiece`, with the tokens that are
//! `added`. Knows tokenizer, template and spans; nothing of pixels, tensors or
//! windows.

mod added;
mod alphabet;
pub mod build;
pub(crate) mod chat_template;
pub mod detokenizer;
pub mod error;
mod expanded;
mod folder;
mod sentencepiece;
mod vocabulary;
