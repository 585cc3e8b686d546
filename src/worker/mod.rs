//! Inference beside the window: a thread that owns the loaded model, and what passes between the two.
//!
//! `protocol` is what can be asked and told, `queue` what supersedes what, `thread` does it; `objects` is what is
//! known to be on an image. Knows nothing of egui.

mod objects;
pub mod protocol;
pub(crate) mod queue;
pub mod thread;
