//! The tokens of a run: what each position holds.

use std::ops::Not;

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
    /// is the last one's.
    pub text: String,
    /// Its part.
    pub span: Span,
    /// Which patch it holds, for visual tokens.
    #[serde(flatten)]
    pub visual: Option<VisualRef>,
    /// Whether it ends within a character, which the next token that does not carries.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub partial: bool,
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
    /// tokens, it is the last one's.
    pub text: String,
    /// Always [`Span::Answer`].
    pub span: Span,
    /// Natural log probability that the model gave it.
    pub logprob: f32,
    /// Entropy of the distribution that it was chosen from, in nats; unknown in files of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f32>,
    /// The likeliest tokens at this place, best first.
    pub top: Vec<Candidate>,
    /// Whether it is the token that ends an answer.
    pub end: bool,
    /// Whether it ends within a character, which the next token that does not carries: both are one to a reader.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub partial: bool,
}

/// A token that could have come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Token id.
    pub id: u32,
    /// Its text.
    pub text: String,
    /// Natural log probability.
    pub logprob: f32,
}

/// An answer as text, without its end token. A character of which the rest never came is one U+FFFD.
pub fn said<'a>(answer: impl IntoIterator<Item = &'a AnswerToken>) -> String {
    written(answer).trim().to_string()
}

/// The same with the blanks around it, as it goes on behind a given beginning.
pub fn written<'a>(answer: impl IntoIterator<Item = &'a AnswerToken>) -> String {
    let mut text = String::new();
    let mut open = false;
    for token in answer.into_iter().filter(|token| !token.end) {
        text.push_str(&token.text);
        open = token.partial;
    }
    close(&mut text, open);
    text
}

/// Ends a text whose last token is partial, or is not.
pub(super) fn close(text: &mut String, partial: bool) {
    if partial && !text.ends_with(char::REPLACEMENT_CHARACTER) {
        text.push(char::REPLACEMENT_CHARACTER);
    }
}

/// Absolute positions of all visual tokens.
pub fn visual(prompt: &[PromptToken]) -> Vec<usize> {
    prompt.iter().filter(|t| t.span == Span::Visual).map(|t| t.position).collect()
}
