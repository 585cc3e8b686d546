//! Inference beside the window: a thread that owns the loaded model, and what passes between the two.
//!
//! `protocol` is what can be asked and told, `queue` what supersedes what, `thread` does it. `held` is what it keeps at
//! hand, `study` what it does when nothing else is to be done, `survey` a study over images, `hold` what new answers wait
//! for. `tell` and `views` make events of runs and images; `objects` is what is known to be on an image, `outline` their
//! borders. Knows nothing of egui.

mod held;
mod hold;
mod objects;
mod outline;
pub mod protocol;
pub(crate) mod queue;
mod study;
mod survey;
mod tell;
pub mod thread;
pub(crate) mod views;
