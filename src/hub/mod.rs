//! The hub of models: a name and a revision become a folder of the ordinary Hugging Face cache, which Python's
//! huggingface_hub shares.
//!
//! Knows the hub's interface and the cache's layout; not what a model is, nor what its files say, but for the list of
//! weight files. `id`: names as people write them. `place`: a folder, or a name. `table`: models that are known by
//! name. `cache`: what is there, and that it stays inside. `names`: which files are fetched, and which names no server
//! may give. `api`: what the hub says of a model. `patience`: what is tried again, and when. `part`: a file on its way.
//! `download`: all of it, file by file.

pub mod api;
pub mod cache;
pub mod control;
pub mod download;
pub mod error;
pub mod id;
pub(crate) mod names;
pub(crate) mod part;
pub(crate) mod patience;
pub mod place;
pub mod table;
