//! One file a view, and the registry that opens them.

pub(crate) mod answer;
mod apart;
pub(crate) mod compare;
pub(crate) mod compress;
pub(crate) mod cut;
pub(crate) mod effects;
mod facts;
pub(crate) mod flow;
pub(crate) mod heads;
pub(crate) mod image;
mod image_hand;
mod image_offer;
mod image_words;
pub(crate) mod layers;
pub(crate) mod lens;
mod map;
pub(crate) mod pane;
mod prompt_items;
mod prompt_tokens;
pub(crate) mod question;
pub(crate) mod registry;
mod run_table;
mod runs_list;
mod strip;
mod tint;
