//! How vocabularies write bytes: a letter for every byte (GPT-2's), or names like `<0xE5>` for what they lack
//! (SentencePiece's).
//!
//! Knows tokens by name and byte; nothing of texts, prompts or models.

use std::collections::HashMap;

use tokenizers::DecoderWrapper;

/// How a vocabulary writes bytes.
#[derive(Debug)]
pub enum Alphabet {
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
pub fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("<0x{byte:02X}>")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_character_show_by_value() {
        assert_eq!(readable(&[b'a', 0xE5, 0xAD]), "a<0xE5><0xAD>");
        assert_eq!(readable("字\u{FFFD}".as_bytes()), "字\u{FFFD}");
        assert_eq!(Alphabet::Names.bytes("<0xE5>"), Some(vec![0xE5]));
        assert_eq!(Alphabet::Names.bytes("<unk>"), None);
    }

    #[test]
    fn every_byte_has_its_letter() {
        let letters = letters();
        let known = [('!', b'!'), ('Ġ', b' '), ('Ċ', b'\n'), ('Ń', 0xAD), ('ÿ', 0xFF), ('ł', 0xA0)];
        assert_eq!(letters.len(), 256);
        assert!(known.iter().all(|(letter, byte)| letters[letter] == *byte));
    }
}
