//! A loaded model that runs: it loads (`load`), sees (`see`) and runs (`run`): an experiment in, a report out.
//!
//! `folder` is a model without its weights, and `check` says from there what is wrong with an experiment.
//! `answer` collects an answer from the start, `baseline` is what a run leaves to start others from, `resume`
//! starts an intervention from there, `control` repeats it on random patches, `inside` looks into a kept run.
//! `resolve` says what an intervention means on a prompt, `change` holds it, `masks` is what one pass blocks.
//! `decoding` is one sequence under cuts; what comes out of it is checked for numbers that are none, and `place`
//! names where they arose. `stem` is what an earlier turn of a conversation has of a prompt. `memory` says what a run
//! holds, `room` whether a model fits into what the machine has left, `parts` holds rows of many passes, `watch` says what
//! is recorded of each and holds what all rows give to each span. Knows neither studies nor windows nor what files a
//! run ends up in.

mod answer;
pub mod baseline;
mod change;
pub mod check;
pub mod control;
pub mod decoding;
pub mod error;
pub mod event;
mod fills;
pub mod folder;
pub mod gradient;
pub mod inside;
pub mod load;
pub mod logits;
pub mod many;
pub(crate) mod masks;
mod memory;
mod parts;
pub(crate) mod patches;
pub mod place;
mod resolve;
pub mod resume;
pub mod room;
pub mod run;
mod sampling;
pub mod see;
mod stem;
mod watch;
