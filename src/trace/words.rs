//! Words and phrases of a token sequence, by position.
//!
//! A word may take several tokens, and may come several times: people name it by its text, and every
//! analysis by the positions found here. Knows tokens' texts; nothing of tensors.

use std::ops::RangeInclusive;

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::trace::{run::Trace, tokens::close};

/// Some consecutive tokens that form a word, or hold a phrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Their text, trimmed.
    pub text: String,
    /// Absolute positions, ascending; of a character's tokens all, though the last alone carries it.
    pub positions: Vec<usize>,
}

/// A token with its text, as [`words`] and [`find`] take it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Absolute position.
    pub position: usize,
    /// Text that the token adds.
    pub text: &'a str,
    /// Whether it ends within a character, which the next token that does not carries.
    pub partial: bool,
}

/// The answer's tokens, the end token left out.
pub fn answer(trace: &Trace) -> Vec<Piece<'_>> {
    let said = trace.answer.iter().filter(|t| !t.end);
    said.map(|t| Piece { position: t.position, text: &t.text, partial: t.partial }).collect()
}

/// The prompt's tokens that carry text.
pub fn prompt(trace: &Trace) -> Vec<Piece<'_>> {
    let text = trace.prompt.iter().filter(|t| t.visual.is_none());
    text.map(|t| Piece { position: t.position, text: &t.text, partial: t.partial }).collect()
}

/// The words of a sequence: tokens up to the next that begins with, or follows, a blank.
pub fn words(pieces: &[Piece<'_>]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open = false;
    for piece in pieces {
        let text = piece.text.trim();
        // A token of a character's beginning may have no text of its own.
        let is_part = !text.is_empty() || piece.partial;
        let joins = open && !piece.text.starts_with(char::is_whitespace) && is_part;
        match words.last_mut().filter(|_| joins) {
            Some(word) => {
                word.text.push_str(text);
                word.positions.push(piece.position);
            }
            None if !is_part => {}
            None => words.push(Word { text: text.to_string(), positions: vec![piece.position] }),
        }
        open = piece.partial || (!text.is_empty() && !piece.text.ends_with(char::is_whitespace));
    }
    if let (Some(piece), Some(word)) = (pieces.last(), words.last_mut()) {
        close(&mut word.text, piece.partial);
    }
    words
}

/// Every place where a phrase stands as whole words, whatever its case and blanks; the tokens that hold
/// it, in order.
pub fn find(pieces: &[Piece<'_>], phrase: &str) -> Vec<Word> {
    let wanted: Vec<char> =
        phrase.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase().chars().collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let Letters { text, from } = Letters::of(pieces);
    let edges = edges(&text);
    (0..(text.len() + 1).saturating_sub(wanted.len()))
        .map(|at| at..at + wanted.len())
        .filter(|here| text[here.clone()] == wanted[..] && edges[here.start] && edges[here.end])
        .map(|here| {
            let mut tokens: Vec<usize> = from[here.clone()].iter().cloned().flatten().collect();
            tokens.sort_unstable();
            tokens.dedup();
            Word {
                text: text[here].iter().collect(),
                positions: tokens.into_iter().map(|n| pieces[n].position).collect(),
            }
        })
        .collect()
}

/// A text in lower case, runs of blanks as one, and which tokens each character came from.
struct Letters {
    text: Vec<char>,
    from: Vec<RangeInclusive<usize>>,
}

impl Letters {
    fn of(pieces: &[Piece<'_>]) -> Self {
        let mut letters = Letters { text: Vec::new(), from: Vec::new() };
        // The first token of a character that is still to come.
        let mut first = None;
        for (n, piece) in pieces.iter().enumerate() {
            for c in piece.text.chars() {
                let from = first.take().unwrap_or(n)..=n;
                for c in c.to_lowercase() {
                    letters.push(if c.is_whitespace() { ' ' } else { c }, from.clone());
                }
            }
            if piece.partial {
                first = first.or(Some(n));
            }
        }
        letters
    }

    fn push(&mut self, c: char, from: RangeInclusive<usize>) {
        if c != ' ' || self.text.last().is_some_and(|&last| last != ' ') {
            self.text.push(c);
            self.from.push(from);
        }
    }
}

/// Before which characters, and after the last, a phrase may begin or end: between words, and never within what
/// is one character to a reader. Where letters touch, Unicode's rules say whether they are one word: those of scripts
/// that are written without blanks need not be.
fn edges(text: &[char]) -> Vec<bool> {
    fn starts<'a>(parts: impl Iterator<Item = &'a str>, len: usize) -> Vec<bool> {
        let mut starts = vec![false; len + 1];
        let mut at = 0;
        starts[at] = true;
        for part in parts {
            at += part.chars().count();
            starts[at] = true;
        }
        starts
    }
    let whole: String = text.iter().collect();
    let characters = starts(whole.graphemes(true), text.len());
    let words = starts(whole.split_word_bounds(), text.len());
    let letter = |at: usize| text.get(at).is_some_and(|c| c.is_alphanumeric());
    let touch = |at: usize| at > 0 && letter(at - 1) && letter(at);
    (0..=text.len()).map(|at| characters[at] && (words[at] || !touch(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'a>(texts: &[&'a str]) -> Vec<Piece<'a>> {
        texts.iter().zip(10..).map(|(text, position)| Piece { position, text, partial: false }).collect()
    }

    const TEXT: [&str; 9] = ["A", " fire", "truck", " and", " a", " Fire", " truck", "s", "."];

    #[test]
    fn tokens_are_joined_into_words() {
        let words = words(&pieces(&TEXT));
        let texts: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
        assert_eq!(texts, ["A", "firetruck", "and", "a", "Fire", "trucks."]);
        assert_eq!(words[1].positions, [11, 12]);
    }

    #[test]
    fn phrases_are_found_as_whole_words_wherever_they_stand() {
        let at = |phrase: &str| -> Vec<Vec<usize>> {
            find(&pieces(&TEXT), phrase).into_iter().map(|w| w.positions).collect()
        };
        assert_eq!(at("a"), [vec![10], vec![14]]);
        assert_eq!(at("firetruck"), [vec![11, 12]]);
        assert_eq!(at("FIRE  trucks"), [vec![15, 16, 17]]);
        assert!(at("fire truck").is_empty(), "trucks is another word");
        assert!(at("truck").is_empty());
        assert!(at(" ").is_empty());
        assert_eq!(find(&pieces(&["un", "happy", " é", "t", "é"]), "été")[0].positions, [12, 13, 14]);
    }
    /// Like [`pieces`]; `~` marks those that end within a character.
    fn broken<'a>(texts: &[&'a str]) -> Vec<Piece<'a>> {
        let mut pieces = pieces(texts);
        for piece in &mut pieces {
            (piece.partial, piece.text) = (piece.text.ends_with('~'), piece.text.trim_end_matches('~'));
        }
        pieces
    }

    fn at(pieces: &[Piece<'_>], phrase: &str) -> Vec<Vec<usize>> {
        find(pieces, phrase).into_iter().map(|w| w.positions).collect()
    }

    #[test]
    fn the_tokens_of_one_character_are_one_word_and_are_found_with_it() {
        // A blank may come with the first byte of what follows it, and a token end one character and begin another.
        let pieces = broken(&["a", " ~", "~", "\u{1F436}", " ~", "字~", "符", "号", " dog"]);
        let found: Vec<(String, Vec<usize>)> =
            words(&pieces).into_iter().map(|w| (w.text, w.positions)).collect();
        let words = |all: &[(&str, &[usize])]| -> Vec<(String, Vec<usize>)> {
            all.iter().map(|(text, at)| ((*text).to_string(), at.to_vec())).collect()
        };
        let expected: [(&str, &[usize]); 4] =
            [("a", &[10]), ("\u{1F436}", &[11, 12, 13]), ("字符号", &[14, 15, 16, 17]), ("dog", &[18])];
        assert_eq!(found, words(&expected));
        assert_eq!(at(&pieces, "\u{1F436}"), [vec![11, 12, 13]]);
        assert_eq!(at(&pieces, "字符"), [vec![14, 15, 16]]);
        assert_eq!(at(&pieces, "符"), [vec![15, 16]]);
        assert_eq!(at(&pieces, "号 dog"), [vec![17, 18]]);
        // What never became a character stands for itself, once.
        let lost = super::words(&broken(&["a", " ~", "~"]));
        assert_eq!((lost[1].text.as_str(), &lost[1].positions[..]), ("\u{FFFD}", &[11, 12][..]));
    }

    #[test]
    fn a_phrase_is_found_in_scripts_without_blanks_and_never_within_a_character() {
        let count = |whole: &str, phrase: &str| {
            find(&[Piece { position: 0, text: whole, partial: false }], phrase).len()
        };
        for (whole, phrase) in [
            ("看汉字符号吧", "字符"),
            ("ここは猫です", "猫"),
            ("ฉันรักแมว", "แมว"),
            ("cafe\u{301} noir", "cafe\u{301}"),
            ("\u{1F44B}\u{1F3FD} hi", "\u{1F44B}\u{1F3FD}"),
            ("color:red", "red"),
            ("don't", "don't"),
        ] {
            assert_eq!(count(whole, phrase), 1, "{phrase} in {whole}");
        }
        for (whole, phrase) in [
            ("cafe\u{301} noir", "cafe"),
            ("\u{1F44B}\u{1F3FD} hi", "\u{1F44B}"),
            // A family, of which the woman is no part; a flag, of which no letter is.
            ("\u{1F469}\u{200D}\u{1F467}", "\u{1F469}"),
            ("\u{1F1EB}\u{1F1F7}", "\u{1F1EB}"),
            ("고양이가", "고양이"),
            ("firetruck", "fire"),
        ] {
            assert_eq!(count(whole, phrase), 0, "{phrase} in {whole}");
        }
    }
}
