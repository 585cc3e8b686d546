//! The tokens of a run: what each position holds.

use serde::{Deserialize, Serialize};

use crate::spec::span::Span;

/// One prompt position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptToken {
    /// Zero-based, absolute.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// The part of the prompt's text that this token adds. Where a character takes several tokens, it
    /// is the last one's, and empty for those before.
    pub text: String,
    /// Its part.
    pub span: Span,
    /// Which patch it holds, for visual tokens.
    #[serde(flatten)]
    pub visual: Option<VisualRef>,
}

/// Which piece of which image a visual token holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisualRef {
    /// Image, in prompt order.
    pub image: usize,
    /// View of that image: the tiles row by row, then the whole; 0 for a single view.
    #[serde(rename = "tile")]
    pub view: usize,
    /// Its place in the view's grid of tokens; `None` for a class token, which shows no patch.
    #[serde(flatten)]
    pub cell: Option<Cell>,
}

/// A place in a view's grid of visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// From the top.
    pub row: usize,
    /// From the left.
    pub col: usize,
}

/// One answer position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerToken {
    /// Zero-based, absolute: prompt length plus place in the answer.
    pub position: usize,
    /// Token id.
    pub id: u32,
    /// The text that this token adds to the answer, leading blank included. Where a character takes several
    /// tokens, it is the last one's, and empty for those before; U+FFFD for bytes that are no character.
    pub text: String,
    /// Always [`Span::Answer`].
    pub span: Span,
    /// Natural log probability that the model gave it.
    pub logprob: f32,
    /// The likeliest tokens at this place, best first.
    pub top: Vec<Candidate>,
    /// Whether it is the token that ends an answer.
    pub end: bool,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its text; bytes that are no character by themselves show by value: `<0xE5>`.
    pub text: String,
    /// Natural log probability.
    pub logprob: f32,
}

/// Absolute positions of all visual tokens.
pub fn visual(prompt: &[PromptToken]) -> Vec<usize> {
    prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect()
}
