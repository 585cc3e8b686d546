//! Words of a lens as people read and compare them, and what of them is followed through the layers.
//!
//! A rank counts the tokens that are likelier: 0 is the likeliest. Knows readings; draws nothing.

use crate::trace::{finding::LensReading, tokens::Candidate};

/// A token on one line: without the blanks around it, and with what cannot be seen written out.
pub fn plain(text: &str) -> String {
    let letters = text.trim();
    if !letters.is_empty() {
        let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        return letters.chars().map(one).collect();
    }
    match text {
        // A part of a character that the next token carries.
        "" => "·".to_string(),
        blanks if blanks.chars().all(|c| c == ' ') => "blank".to_string(),
        blanks => blanks.trim_matches(' ').escape_default().to_string(),
    }
}

/// What all spellings of a word share: its letters, whatever their case and the blank before them.
pub fn letters(text: &str) -> String {
    let word = text.trim_start_matches(|c: char| c.is_whitespace() || c == '▁' || c == 'Ġ');
    if word.is_empty() { text.to_string() } else { word.to_lowercase() }
}

/// What is followed through the layers.
#[derive(Clone, Debug, PartialEq)]
pub enum Followed {
    /// One token.
    Token {
        /// Its id.
        id: u32,
        /// Its text.
        text: String,
    },
    /// All tokens that spell a word, whatever their case and the blank before them: its [`letters`].
    Spellings(String),
    /// The word that was typed.
    Typed(String),
}

impl Followed {
    /// Its name, to show.
    pub fn name(&self) -> String {
        match self {
            Followed::Token { text, .. } => format!("“{}”", plain(text)),
            Followed::Spellings(letters) => format!("“{}”, all spellings", plain(letters)),
            Followed::Typed(word) => format!("“{word}”, typed"),
        }
    }

    /// Its probability and rank at one place; of several spellings the sum and the best. `None` where it is not among
    /// what was listed there: then neither is known.
    pub fn at(&self, reading: &LensReading) -> Option<(f32, usize)> {
        let listed = reading.top.iter().enumerate();
        match self {
            Followed::Token { id, .. } => {
                let (rank, token) = listed.into_iter().find(|(_, token)| token.id == *id)?;
                Some((token.logprob.exp(), rank))
            }
            Followed::Spellings(word) => {
                let spelt = listed.filter(|(_, token)| letters(&token.text) == *word);
                let one = |(rank, token): (usize, &Candidate)| (token.logprob.exp(), rank);
                spelt.map(one).reduce(|(sum, best), (more, rank)| (sum + more, best.min(rank)))
            }
            Followed::Typed(_) => reading.chosen.map(|(rank, probability)| (probability, rank)),
        }
    }
}

/// Follows all spellings of a word together, or no longer.
pub fn toggle_spellings(followed: &mut Vec<Followed>, text: &str) {
    let word = Followed::Spellings(letters(text));
    let before = followed.len();
    followed.retain(|other| *other != word);
    if followed.len() == before {
        let spells = |other: &Followed| match other {
            Followed::Token { text: own, .. } => letters(own) == letters(text),
            _ => false,
        };
        // A token alone becomes all spellings of its word.
        followed.retain(|other| !spells(other));
        followed.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(words: &[(u32, &str, f32)]) -> LensReading {
        let candidate =
            |(id, text, p): &(u32, &str, f32)| Candidate { id: *id, text: text.to_string(), logprob: p.ln() };
        let top = words.iter().map(candidate).collect();
        LensReading { position: 3, top, chosen: Some((41, 0.001)) }
    }

    #[test]
    fn tokens_are_written_on_one_line() {
        let all = [" duck", "▁duck", "\n", "  ", "", " a\tb"].map(plain);
        assert_eq!(all, ["duck", "▁duck", "\\n", "blank", "·", "a\\tb"]);
    }

    #[test]
    fn spellings_of_a_word_are_one_line() {
        assert_eq!([" Duck", "▁duck", "ĠDUCK", "duck"].map(letters), ["duck"; 4]);
        assert_eq!([letters(" "), letters("▁")], [" ", "▁"], "what has no letters is itself");
        let reading =
            reading(&[(1, " bus", 0.5), (2, " duck", 0.25), (3, "Duck", 0.125), (4, " ducks", 0.05)]);
        let (sum, best) = Followed::Spellings("duck".to_string()).at(&reading).unwrap();
        assert!((sum - 0.375).abs() < 1e-6 && best == 1, "{sum} {best}");
        let token = |id| Followed::Token { id, text: String::new() }.at(&reading);
        assert_eq!(token(3).map(|(_, rank)| rank), Some(2));
        assert_eq!(token(9), None, "nothing is known of what is not listed");
        assert_eq!(Followed::Typed("sand".to_string()).at(&reading), Some((0.001, 41)));
    }

    #[test]
    fn a_second_time_takes_the_group_back() {
        let mut followed = vec![Followed::Token { id: 2, text: " duck".to_string() }];
        toggle_spellings(&mut followed, "Duck");
        assert_eq!(followed, [Followed::Spellings("duck".to_string())], "the token joins its group");
        toggle_spellings(&mut followed, " bus");
        assert_eq!(followed.len(), 2);
        toggle_spellings(&mut followed, " DUCK");
        assert_eq!(followed, [Followed::Spellings("bus".to_string())]);
    }
}
