//! Words and phrases of a token sequence, by position.
//!
//! A word may take several tokens, and may come several times: people name it by its text, and every
//! analysis by the positions found here. Knows tokens' texts; nothing of tensors.

use serde::Serialize;

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
    /// Text that the token adds.
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

/// The words of a sequence: tokens up to the next that begins with, or follows, a blank.
pub fn words(pieces: &[Piece<'_>]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open = false;
    for piece in pieces {
        let text = piece.text.trim();
        let joins = open && !piece.text.starts_with(char::is_whitespace) && !text.is_empty();
        match words.last_mut().filter(|_| joins) {
            Some(word) => {
                word.text.push_str(text);
                word.positions.push(piece.position);
            }
            None if text.is_empty() => {}
            None => words.push(Word { text: text.to_string(), positions: vec![piece.position] }),
        }
        open = !text.is_empty() && !piece.text.ends_with(char::is_whitespace);
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
    // The text in lower case, runs of blanks as one, and which token each character came from.
    let (mut text, mut from): (Vec<char>, Vec<usize>) = (Vec::new(), Vec::new());
    for (n, piece) in pieces.iter().enumerate() {
        for c in piece.text.chars().flat_map(char::to_lowercase) {
            let c = if c.is_whitespace() { ' ' } else { c };
            if c != ' ' || text.last().is_some_and(|&last| last != ' ') {
                text.push(c);
                from.push(n);
            }
        }
    }
    let letter = |at: Option<&char>| at.is_some_and(|c| c.is_alphanumeric());
    let stands_alone = |at: usize| {
        let end = at + wanted.len();
        let before = at.checked_sub(1).and_then(|b| text.get(b));
        let joined = |outside, inside| letter(outside) && letter(inside);
        !joined(before, wanted.first()) && !joined(text.get(end), wanted.last())
    };
    (0..(text.len() + 1).saturating_sub(wanted.len()))
        .filter(|&at| text[at..at + wanted.len()] == wanted[..] && stands_alone(at))
        .map(|at| {
            let mut tokens = from[at..at + wanted.len()].to_vec();
            tokens.dedup();
            Word {
                text: text[at..at + wanted.len()].iter().collect(),
                positions: tokens.into_iter().map(|n| pieces[n].position).collect(),
            }
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
}
