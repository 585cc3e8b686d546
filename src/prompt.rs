//! From a conversation to token ids, each with its span.
