//! Words and phrases of a token sequence, by position.
//!
//! A word may take several tokens, and may come several times: people name it by its text, and every
//! analysis by the positions found here. Knows tokens' texts; nothing of tensors.

use std::ops::Range;

use serde::Serialize;
use unicode_segmentation::UnicodeSegmentation;

use crate::trace::run::Trace;

/// Some consecutive tokens that form a word, or hold a phrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Word {
    /// Their text, trimmed.
    pub text: String,
    /// Absolute positions, ascending.
    pub positions: Vec<usize>,
}

/// A token with its text, as [`words`] and [`find`] take it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Absolute position.
    pub position: usize,
    /// Text that the token adds; none where it begins a character that the next one ends.
    pub text: &'a str,
}

/// The answer's tokens, the end token left out.
pub fn answer(trace: &Trace) -> Vec<Piece<'_>> {
    let said = trace.answer.iter().filter(|t| !t.end);
    said.map(|t| Piece { position: t.position, text: &t.text }).collect()
}

/// The prompt's tokens that carry text.
pub fn prompt(trace: &Trace) -> Vec<Piece<'_>> {
    let text = trace.prompt.iter().filter(|t| t.visual.is_none());
    text.map(|t| Piece { position: t.position, text: &t.text }).collect()
}

/// A sequence as one text.
struct Text {
    text: String,
    /// For every piece with text, where its text ends, and which pieces share it: those before it without text
    /// begin a character that it ends.
    carriers: Vec<(usize, Range<usize>)>,
}

impl Text {
    fn of(pieces: &[Piece<'_>]) -> Self {
        let (mut text, mut carriers, mut first) = (String::new(), Vec::new(), 0);
        for (n, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.text.is_empty()) {
            text.push_str(piece.text);
            carriers.push((text.len(), first..n + 1));
            first = n + 1;
        }
        Text { text, carriers }
    }

    /// Positions of the pieces that carry the bytes `range`.
    fn positions(&self, pieces: &[Piece<'_>], range: Range<usize>) -> Vec<usize> {
        let first = self.carriers.partition_point(|(end, _)| *end <= range.start);
        let behind = self.carriers[first..].partition_point(|(end, _)| *end < range.end);
        let carriers = self.carriers.iter().skip(first).take(behind + 1);
        carriers.flat_map(|(_, shared)| &pieces[shared.clone()]).map(|piece| piece.position).collect()
    }
}

/// The words of a sequence: what stands between blanks.
pub fn words(pieces: &[Piece<'_>]) -> Vec<Word> {
    let all = Text::of(pieces);
    let mut next = 0;
    let word = |part: &str| {
        let start = next;
        next += part.len();
        let text = part.trim_end();
        let word =
            || Word { text: text.to_string(), positions: all.positions(pieces, start..start + text.len()) };
        (!text.is_empty()).then(word)
    };
    all.text.split_inclusive(char::is_whitespace).filter_map(word).collect()
}

/// What people see as one character, whatever its case and kind of blank.
fn folded(grapheme: &str) -> String {
    match grapheme.chars().all(char::is_whitespace) {
        true => " ".to_string(),
        false => grapheme.chars().flat_map(char::to_lowercase).collect(),
    }
}

/// Every place where a phrase stands as whole words, whatever its case and blanks; the tokens that hold
/// it, in order. Characters are what people see as one: half of an emoji is not found.
pub fn find(pieces: &[Piece<'_>], phrase: &str) -> Vec<Word> {
    let phrase = phrase.split_whitespace().collect::<Vec<_>>().join(" ");
    let wanted: Vec<String> = phrase.graphemes(true).map(folded).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let all = Text::of(pieces);
    // What is seen, runs of blanks as one, and where each begins and ends.
    let mut seen: Vec<(String, Range<usize>)> = Vec::new();
    for (start, grapheme) in all.text.grapheme_indices(true) {
        let (shown, end) = (folded(grapheme), start + grapheme.len());
        match seen.last_mut() {
            Some((last, place)) if shown == " " && last.as_str() == " " => place.end = end,
            _ => seen.push((shown, start..end)),
        }
    }
    let breaks: Vec<usize> = all.text.split_word_bound_indices().map(|(at, _)| at).collect();
    let letter = |at: Option<usize>| {
        at.and_then(|at| seen.get(at)).is_some_and(|(shown, _)| shown.chars().any(char::is_alphanumeric))
    };
    // Between two letters, unless of a script that writes words without blanks.
    let joined = |at: usize| {
        letter(at.checked_sub(1))
            && letter(Some(at))
            && seen.get(at).is_some_and(|(_, place)| breaks.binary_search(&place.start).is_err())
    };
    let places = seen.windows(wanted.len()).enumerate();
    places
        .filter(|(at, window)| {
            window.iter().map(|(shown, _)| shown).eq(&wanted) && !joined(*at) && !joined(at + wanted.len())
        })
        .map(|(_, window)| {
            let (from, to) = (window[0].1.start, window[window.len() - 1].1.end);
            Word { text: wanted.concat(), positions: all.positions(pieces, from..to) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces<'a>(texts: &[&'a str]) -> Vec<Piece<'a>> {
        texts.iter().zip(10..).map(|(text, position)| Piece { position, text }).collect()
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

    /// Pieces without text begin a character that the next one ends.
    const SPLIT: [&str; 10] = ["a", "", "", " 🐶", "", "字", "", "符", " dog", ""];

    #[test]
    fn all_tokens_of_a_character_are_its_words() {
        let words = words(&pieces(&SPLIT));
        let found: Vec<(&str, &[usize])> =
            words.iter().map(|w| (w.text.as_str(), &w.positions[..])).collect();
        let all: [(&str, &[usize]); 3] =
            [("a", &[10]), ("🐶字符", &[11, 12, 13, 14, 15, 16, 17]), ("dog", &[18])];
        assert_eq!(found, all);
        // A token that ends one word and begins the next is of both.
        let words = super::words(&pieces(&["is", " it\n\nA", "n", " ", " \u{E9}"]));
        let found: Vec<&[usize]> = words.iter().map(|w| &w.positions[..]).collect();
        let all: [&[usize]; 4] = [&[10], &[11], &[11, 12], &[14]];
        assert_eq!(found, all);
    }

    #[test]
    fn characters_are_found_with_all_their_tokens() {
        let at = |texts: &[&str], phrase: &str| -> Vec<Vec<usize>> {
            find(&pieces(texts), phrase).into_iter().map(|w| w.positions).collect()
        };
        assert_eq!(at(&SPLIT, "🐶"), [[11, 12, 13]]);
        assert_eq!(at(&SPLIT, "字符"), [[14, 15, 16, 17]]);
        assert_eq!(at(&SPLIT, "符 dog"), [[16, 17, 18]]);
        // Words that no blank parts from their neighbours.
        assert_eq!(at(&["一个", "字符", "很"], "字符"), [[11]]);
        // One sign of several characters is found whole or not at all.
        let signs = ["see", " 👩", "\u{200D}", "💻", " 🇩", "🇪", " 👍", "\u{1F3FD}", " cafe", "\u{301}"];
        assert_eq!(at(&signs, "👩\u{200D}💻"), [[11, 12, 13]]);
        assert_eq!(at(&signs, "🇩🇪"), [[14, 15]]);
        assert_eq!(at(&signs, "👍\u{1F3FD}"), [[16, 17]]);
        assert_eq!(at(&signs, "CAFE\u{301}"), [[18, 19]]);
        for part in ["👩", "💻", "🇩", "👍", "cafe"] {
            assert!(at(&signs, part).is_empty(), "{part}");
        }
    }
}
