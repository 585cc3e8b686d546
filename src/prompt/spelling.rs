//! How tokens spell text, where a character may take several of them.
//!
//! Vocabularies write bytes in two ways: a letter for every byte (GPT-2's), or names like `<0xE5>` for what they
//! lack (SentencePiece's). Knows tokens by name and byte; nothing of templates, spans or models.

use std::{
    collections::HashMap,
    mem::{replace, take},
    str::from_utf8,
};

use tokenizers::DecoderWrapper;

/// How a vocabulary writes bytes.
#[derive(Debug)]
pub(super) enum Alphabet {
    /// Every letter of a token is a byte.
    Letters(HashMap<char, u8>),
    /// A token of its own, `<0xE5>`, is a byte.
    Names,
    /// It has whole characters only.
    Characters,
}

impl Alphabet {
    /// As the tokenizer's decoder reads it.
    pub fn of(decoder: Option<&DecoderWrapper>) -> Self {
        match decoder {
            Some(DecoderWrapper::ByteLevel(_)) => Alphabet::Letters(letters()),
            Some(DecoderWrapper::ByteFallback(_)) => Alphabet::Names,
            Some(DecoderWrapper::Sequence(all)) => {
                let mut each = all.get_decoders().iter().map(|decoder| Alphabet::of(Some(decoder)));
                each.find(|found| !matches!(found, Alphabet::Characters)).unwrap_or(Alphabet::Characters)
            }
            _ => Alphabet::Characters,
        }
    }

    /// The bytes that a token stands for; `None` for one that is read as text.
    pub fn bytes(&self, token: &str) -> Option<Vec<u8>> {
        match self {
            Alphabet::Letters(letters) => {
                let bytes = token.chars().map(|letter| letters.get(&letter).copied());
                Some(bytes.collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec()))
            }
            Alphabet::Names => {
                let byte = token.strip_prefix("<0x")?.strip_suffix('>').filter(|hex| hex.len() == 2)?;
                u8::from_str_radix(byte, 16).ok().map(|byte| vec![byte])
            }
            Alphabet::Characters => None,
        }
    }
}

/// GPT-2's letters: printable bytes stand for themselves, the others are numbered from U+0100 on.
fn letters() -> HashMap<char, u8> {
    let mut others = (0x100_u32..).filter_map(char::from_u32);
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => Some(char::from(byte)),
        _ => others.next(),
    };
    (0..=255).map(letter).zip(0..=255).filter_map(|(letter, byte)| Some((letter?, byte))).collect()
}

/// Bytes as text, those that are no character by their value: `<0xE5>`.
pub(super) fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("<0x{byte:02X}>")));
    }
    text
}

/// A text that comes token by token.
#[derive(Clone, Debug, Default)]
pub struct Spelling {
    /// Whether there is text: decoders treat its first word in a way of its own.
    pub(super) begun: bool,
    /// The bytes of tokens whose last character is not whole yet.
    open: Vec<u8>,
}

impl Spelling {
    /// The text that can be shown now that these bytes have come. A token that ends within a character adds none:
    /// it all comes with the token that ends the character. Bytes that can belong to none are U+FFFD.
    pub(super) fn add(&mut self, bytes: &[u8]) -> String {
        self.begun = true;
        self.open.extend_from_slice(bytes);
        let begun = self.open.utf8_chunks().last().map_or(0, |chunk| unfinished(chunk.invalid()));
        let whole = self.open.len() - begun;
        if begun > 0 && from_utf8(&self.open[..whole]).is_ok() {
            return String::new();
        }
        let rest = self.open.split_off(whole);
        lossy(&replace(&mut self.open, rest))
    }

    /// The text of what is left once no token follows: a character that stayed unfinished is U+FFFD.
    pub fn finish(&mut self) -> String {
        lossy(&take(&mut self.open))
    }
}

/// The length of `bytes` where more of them could make a character of them.
fn unfinished(bytes: &[u8]) -> usize {
    match from_utf8(bytes) {
        Err(e) if e.error_len().is_none() => bytes.len(),
        _ => 0,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(parts: &[&[u8]]) -> (Vec<String>, String) {
        let mut spelling = Spelling::default();
        let texts = parts.iter().map(|part| spelling.add(part)).collect();
        (texts, spelling.finish())
    }

    #[test]
    fn a_character_comes_with_the_token_that_ends_it() {
        let dog = "🐶".as_bytes();
        let (texts, rest) =
            spelled(&[b"a", &[b" ".as_slice(), &dog[..1]].concat(), &dog[1..3], &dog[3..], b" b"]);
        assert_eq!((texts.join("|"), rest.as_str()), ("a||| 🐶| b".into(), ""));
        // What ends one character and begins the next.
        let (texts, rest) = spelled(&[&[0xE5], &[0xAD, 0x97, 0xE7], &[0xAC, 0xA6]]);
        assert_eq!((texts.join("|"), rest.as_str()), ("||字符".into(), ""));
    }

    #[test]
    fn broken_bytes_are_one_replacement_sign_once_that_is_certain() {
        let (texts, rest) = spelled(&[b"a", &[0xF0], &[0x9F]]);
        assert_eq!((texts.join("|"), rest.as_str()), ("a||".into(), "\u{FFFD}"));
        let (texts, rest) = spelled(&[&[0xF0], b" dog", &[0x80], &[0xE5], &[0xE5]]);
        assert_eq!((texts.join("|"), rest.as_str()), ("|\u{FFFD} dog|\u{FFFD}||\u{FFFD}".into(), "\u{FFFD}"));
        assert_eq!(readable(&[b'a', 0xE5, 0xAD]), "a<0xE5><0xAD>");
    }

    #[test]
    fn every_byte_has_its_letter() {
        let letters = letters();
        let known = [('!', b'!'), ('Ġ', b' '), ('Ċ', b'\n'), ('Ń', 0xAD), ('ÿ', 0xFF), ('ł', 0xA0)];
        assert_eq!(letters.len(), 256);
        assert!(known.iter().all(|(letter, byte)| letters[letter] == *byte));
    }
}
