//! What a run tells while it goes on.

use burn::tensor::Tensor;

use crate::{
    progress::Progress,
    prompt::build::Prompt,
    trace::{
        pattern::PatternRow,
        report::{Effect, Start},
        tokens::AnswerToken,
    },
};

/// What a run tells while it goes on. Every row of attention is told once.
#[derive(Debug)]
pub enum RunEvent<'a> {
    /// The prompt is built.
    Prompt(&'a Prompt),
    /// Something that takes time goes on.
    Progress(Progress),
    /// The uncut answer was scored under the intervention, from here on.
    Start(Option<Start>),
    /// One token of the uncut answer as the intervention scores it.
    Scored {
        /// The token, with the log probability that it has now.
        token: &'a AnswerToken,
        /// What the intervention did to it.
        effect: &'a Effect,
        /// The attention that predicted it, of the kept layers and heads; `None` if the row is not kept.
        row: Option<&'a PatternRow>,
    },
    /// One more token of the answer that was asked for.
    Token {
        /// The token.
        token: &'a AnswerToken,
        /// The attention that predicted it.
        row: Told<'a>,
    },
}

/// The attention that predicted a token.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// It is not kept.
    Nothing,
    /// That of the scored token at the same place, which was told with it.
    AsScored,
    /// A new row.
    New {
        /// Of the kept layers and heads.
        row: &'a PatternRow,
        /// The same numbers where the model left them, `[layers, heads, keys]`, if that is a device's memory.
        resident: Option<&'a Tensor<3>>,
    },
}
