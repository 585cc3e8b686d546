//! From token ids back to text, all at once or token by token.
//!
//! Knows a tokenizer's decoder; nothing of prompts or models.
//!
//! A character may take several tokens: byte-level vocabularies cut where they like, others fall back on bytes. The
//! last of these tokens carries the character; those before are told apart by [`Added::partial`]. Bytes that never
//! become a character are one U+FFFD, told once it is known that nothing will come of them.

use std::{iter, str::from_utf8, sync::Arc};

use tokenizers::Tokenizer;

use crate::prompt::{
    alphabet::{Alphabet, readable},
    folder::guarded,
};

/// What stands for bytes that are no character.
const LOST: char = char::REPLACEMENT_CHARACTER;
/// Most tokens that hold only a part of one character, which has at most four bytes.
const OPEN: usize = 3;

/// Token ids as text.
#[derive(Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    alphabet: Alphabet,
    /// An ordinary token and its text, see [`Detokenizer::inside`].
    anchor: Option<(u32, String)>,
}

impl Detokenizer {
    /// For a tokenizer.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        let anchor = guarded(|| tokenizer.encode("a", false)).ok().and_then(|e| e.get_ids().last().copied());
        let alphabet = Alphabet::of(tokenizer.get_decoder());
        let mut made = Detokenizer { tokenizer, alphabet, anchor: None };
        made.anchor = anchor.map(|id| (id, made.with_special(&[id])));
        made
    }

    /// Ids as text, special tokens by name.
    pub fn with_special(&self, ids: &[u32]) -> String {
        guarded(|| self.tokenizer.decode(ids, false)).unwrap_or_default()
    }

    /// What tokens add to a text that they stand in, the leading space included.
    pub fn inside(&self, ids: &[u32]) -> String {
        // Decoders drop the space before the first word, so the tokens are decoded after another one.
        if let Some((anchor, alone)) = &self.anchor {
            let all: Vec<u32> = iter::once(*anchor).chain(ids.iter().copied()).collect();
            if let Some(text) = self.with_special(&all).strip_prefix(alone.as_str()) {
                return text.to_owned();
            }
        }
        self.with_special(ids)
    }

    /// What one token adds to a text, the leading space included; bytes that are no character by themselves by their
    /// value: `<0xE5>`.
    pub fn alone(&self, id: u32) -> String {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id);
        // Added tokens are written as they are, not in letters that stand for bytes.
        let name = self.tokenizer.id_to_token(id).filter(|_| !added);
        match name.and_then(|name| self.alphabet.bytes(&name)) {
            Some(bytes) if from_utf8(&bytes).is_err() => readable(&bytes),
            _ => self.inside(&[id]),
        }
    }

    /// Whether a token is a special one.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special)
    }

    /// A text that is about to begin.
    pub fn begin(&self) -> Spoken<'_> {
        Spoken { from: self, open: Vec::new(), told: String::new(), begun: false, lost: false }
    }

    /// A text that goes on behind another: the blank before its first word is its own.
    pub fn go_on(&self) -> Spoken<'_> {
        Spoken { begun: true, ..self.begin() }
    }
}

/// What one more token adds to a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The text.
    pub text: String,
    /// Whether the token ends within a character, which a later token carries.
    pub partial: bool,
}

/// A text as it grows.
#[derive(Clone, Debug)]
pub struct Spoken<'a> {
    from: &'a Detokenizer,
    /// The tokens since the last whole character.
    open: Vec<u32>,
    /// What was told of their text.
    told: String,
    /// Whether there was anything before them.
    begun: bool,
    /// Whether U+FFFD was told for what came right before them.
    lost: bool,
}

impl Spoken<'_> {
    /// Takes the next token. `end`: it ends the text, and is no part of it.
    pub fn push(&mut self, id: u32, end: bool) -> Added {
        if end {
            return Added { text: self.from.inside(&[id]), partial: false };
        }
        if self.from.is_special(id) {
            let text = format!("{}{}", self.rest(), self.from.inside(&[id]));
            self.close();
            return Added { text, partial: false };
        }
        self.open.push(id);
        // Whatever comes before a whole character was none.
        for from in 0..self.open.len() {
            let whole = self.text(from);
            if !whole.ends_with(LOST) {
                return Added { text: self.carried(&whole, from), partial: false };
            }
        }
        if self.open.len() > OPEN {
            // Too many for one character: the first is no part of any.
            self.open.remove(0);
            self.told.clear();
            self.begun = true;
            let text = if self.lost { String::new() } else { LOST.to_string() };
            self.lost = true;
            return Added { text, partial: true };
        }
        let whole = self.text(0);
        let sound = whole.trim_end_matches(LOST);
        let text = sound.strip_prefix(self.told.as_str()).unwrap_or_default().to_owned();
        sound.clone_into(&mut self.told);
        Added { text, partial: true }
    }

    /// What a token would show as if it came next; one that leaves a character unfinished by its bytes.
    pub fn candidate(&self, id: u32) -> String {
        if self.open.is_empty() {
            return self.from.alone(id);
        }
        let Added { text, partial } = self.clone().push(id, false);
        // What it does to the bytes before it is theirs to show.
        if partial || text.starts_with(LOST) { self.from.alone(id) } else { text }
    }

    /// What stands for the bytes that are no character yet, where nothing comes after them.
    pub fn rest(&self) -> &'static str {
        if self.open.is_empty() || self.lost { "" } else { "\u{FFFD}" }
    }

    /// The text of the open tokens from one of them on.
    fn text(&self, from: usize) -> String {
        let ids = &self.open[from..];
        if self.begun || from > 0 { self.from.inside(ids) } else { self.from.with_special(ids) }
    }

    /// What is still to be told of the open tokens, of which those from `from` on are whole characters.
    fn carried(&mut self, whole: &str, from: usize) -> String {
        let rest = if from == 0 { whole.strip_prefix(self.told.as_str()).unwrap_or(whole) } else { whole };
        let lost = !self.lost && (from > 0 || rest.starts_with(LOST));
        let text = rest.trim_start_matches(LOST);
        let text = if lost { format!("{LOST}{text}") } else { text.to_owned() };
        self.close();
        text
    }

    fn close(&mut self) {
        self.open.clear();
        self.told.clear();
        (self.begun, self.lost) = (true, false);
    }
}
