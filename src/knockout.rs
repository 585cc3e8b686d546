//! Knockouts: which query positions may not look at which key positions, in which layers and heads.
//!
//! Holds the text form that people type and the window shows, and its meaning on a sequence whose
//! spans are known. Knows nothing of tensors: the run turns a [`Cut`] into boolean masks.
//!
//! # Grammar
//! ```text
//! knockout := set "->" set "@" layers [ "#" heads ]
//! set      := term { "+" term }                      union
//! term     := name [ "[" numbers "]" ]               "visual[12,13,30-34]"
//! name     := "bos" | "system" | "markers" | "visual" | "question" | "last"
//!           | "answer" | "decode" | "all" | "pos"
//! layers   := "all" | numbers
//! heads    := "all" | numbers
//! numbers  := range { "," range }
//! range    := n | n "-" n                            zero-based, both ends included
//! ```
//! Blanks are free and case does not matter. `NAME[i]` counts inside the span, `pos[i]` counts
//! absolutely over prompt and answer.
//!
//! # Meaning
//! Left of the arrow stand query rows, right of it key positions. As a query, `answer` means the
//! rows that *predict* answer tokens: `last` and the decode rows, so `answer[0]` is the last prompt
//! row; `decode` leaves `last` out, so `decode[0]` is the row of the first answer token. As a key,
//! `answer` and `decode` both mean the generated positions. `all` is every position.

use std::{fmt, str::FromStr};

use crate::span::Span;

/// One knockout, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knockout {
    /// Rows that lose sight.
    pub query: Set,
    /// Positions that they can no longer see.
    pub key: Set,
    /// Zero-based decoder layers.
    pub layers: Numbers,
    /// Zero-based query heads.
    pub heads: Numbers,
}

/// A union of [`Term`]s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(pub Vec<Term>);

/// A named set of positions, whole or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Which set.
    pub name: Name,
    /// Places inside it.
    pub places: Numbers,
}

/// The names of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A prompt span, or the generated positions.
    Span(Span),
    /// Generated positions, as rows without the last prompt row.
    Decode,
    /// Every position.
    All,
    /// Absolute positions.
    Pos,
}

impl Name {
    const WORDS: &str = "bos, system, markers, visual, question, last, answer, decode, all, pos";

    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "decode" => Name::Decode,
            "all" => Name::All,
            "pos" => Name::Pos,
            _ => Name::Span(Span::ALL.into_iter().find(|s| s.name() == word)?),
        })
    }

    fn word(self) -> &'static str {
        match self {
            Name::Span(s) => s.name(),
            Name::Decode => "decode",
            Name::All => "all",
            Name::Pos => "pos",
        }
    }
}

/// `all`, or inclusive ranges in the order written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Everything there is.
    All,
    /// Inclusive ranges.
    Ranges(Vec<(usize, usize)>),
}

impl Numbers {
    /// One inclusive range.
    pub fn range(first: usize, last: usize) -> Self {
        Numbers::Ranges(vec![(first, last)])
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: usize) -> bool {
        match self {
            Numbers::All => true,
            Numbers::Ranges(r) => r.iter().any(|&(a, b)| (a..=b).contains(&n)),
        }
    }

    fn check(&self, what: &str, len: usize) -> Result<(), KnockoutError> {
        let Numbers::Ranges(ranges) = self else { return Ok(()) };
        match ranges.iter().find(|&&(_, last)| last >= len) {
            Some(&(_, last)) => Err(KnockoutError::OutOfRange { what: what.to_string(), found: last, len }),
            None => Ok(()),
        }
    }
}

/// Why a knockout cannot be read or applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KnockoutError {
    /// The text does not follow the grammar.
    #[error(
        "knockout `{text}`: {why}; the form is QUERY -> KEY @ LAYERS [# HEADS], for example `answer -> visual @ 8-15`"
    )]
    Syntax {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A number lies outside what the model or the prompt has.
    #[error("{what} {found} does not exist: {}", valid(*len))]
    OutOfRange {
        /// Layer, head, or the set's name.
        what: String,
        /// The number found.
        found: usize,
        /// How many there are.
        len: usize,
    },
    /// A row would have no key left, and its softmax no meaning.
    #[error(
        "the knockouts leave position {row} nothing to look at in layer {layer}, head {head}: keep at least one key, for example its own position"
    )]
    NothingLeft {
        /// Query position.
        row: usize,
        /// Layer.
        layer: usize,
        /// Query head.
        head: usize,
    },
}

fn valid(len: usize) -> String {
    match len {
        0 => "there are none".to_string(),
        n => format!("valid are 0 to {}", n - 1),
    }
}

impl FromStr for Knockout {
    type Err = KnockoutError;

    fn from_str(text: &str) -> Result<Self, KnockoutError> {
        let fail = |why: String| KnockoutError::Syntax { text: text.to_string(), why };
        let lower = text.to_lowercase();
        let (query, rest) = lower.split_once("->").ok_or_else(|| fail("there is no `->`".into()))?;
        let (key, rest) = rest.split_once('@').ok_or_else(|| fail("there is no `@ LAYERS`".into()))?;
        let (layers, heads) = match rest.split_once('#') {
            Some((layers, heads)) => (layers, parse_numbers(heads).map_err(|w| fail(format!("heads: {w}")))?),
            None => (rest, Numbers::All),
        };
        Ok(Knockout {
            query: parse_set(query).map_err(|w| fail(format!("query: {w}")))?,
            key: parse_set(key).map_err(|w| fail(format!("key: {w}")))?,
            layers: parse_numbers(layers).map_err(|w| fail(format!("layers: {w}")))?,
            heads,
        })
    }
}

fn parse_set(text: &str) -> Result<Set, String> {
    text.split('+').map(parse_term).collect::<Result<_, _>>().map(Set)
}

fn parse_term(text: &str) -> Result<Term, String> {
    let text = text.trim();
    let (word, places) = match text.split_once('[') {
        Some((word, rest)) => {
            let inside =
                rest.trim_end().strip_suffix(']').ok_or_else(|| format!("`{text}` has no closing `]`"))?;
            (word.trim(), parse_numbers(inside)?)
        }
        None => (text, Numbers::All),
    };
    let name = Name::parse(word).ok_or_else(|| format!("`{word}` is none of {}", Name::WORDS))?;
    if name == Name::Pos && places == Numbers::All {
        return Err("`pos` needs positions, as in `pos[3-5]`".to_string());
    }
    Ok(Term { name, places })
}

fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(Numbers::All);
    }
    let number = |t: &str| -> Result<usize, String> {
        let t = t.trim();
        let digits = !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        match t.parse::<u32>() {
            Ok(n) if digits => Ok(n as usize),
            _ => Err(format!("`{t}` is not a number")),
        }
    };
    let range = |t: &str| match t.split_once('-') {
        None => number(t).map(|n| (n, n)),
        Some((a, b)) => match (number(a)?, number(b)?) {
            (a, b) if a <= b => Ok((a, b)),
            (a, b) => Err(format!("the range {a}-{b} runs backwards")),
        },
    };
    text.split(',').map(range).collect::<Result<_, _>>().map(Numbers::Ranges)
}

impl fmt::Display for Knockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} @ {}", self.query, self.key, self.layers)?;
        match self.heads {
            Numbers::All => Ok(()),
            Numbers::Ranges(_) => write!(f, " # {}", self.heads),
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            let plus = if i == 0 { "" } else { " + " };
            match &term.places {
                Numbers::All => write!(f, "{plus}{}", term.name.word())?,
                places => write!(f, "{plus}{}[{places}]", term.name.word())?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbers::Ranges(ranges) = self else { return f.write_str("all") };
        for (i, &(a, b)) in ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match a == b {
                true => write!(f, "{comma}{a}")?,
                false => write!(f, "{comma}{a}-{b}")?,
            }
        }
        Ok(())
    }
}

/// A knockout on a given prompt: what it means, position by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Query rows.
    pub rows: Positions,
    /// Key positions.
    pub keys: Positions,
    /// `[n_layers]`.
    pub layers: Vec<bool>,
    /// `[n_heads]`.
    pub heads: Vec<bool>,
}

impl Cut {
    /// Whether the cut names this pair, causal or not.
    pub fn blocks(&self, row: usize, key: usize) -> bool {
        self.rows.contains(row) && self.keys.contains(key)
    }

    /// Whether every head is cut.
    pub fn every_head(&self) -> bool {
        self.heads.iter().all(|&h| h)
    }
}

/// A set of positions of a sequence whose answer is still growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// `[prompt]`: membership of each prompt position.
    prompt: Vec<bool>,
    /// Places among the generated positions, one entry a term.
    answer: Vec<Numbers>,
}

impl Positions {
    /// A set of prompt positions.
    pub fn of_prompt(prompt: Vec<bool>) -> Self {
        Positions { prompt, answer: Vec::new() }
    }

    /// Exactly these absolute positions, those past the prompt being generated ones.
    pub fn listed(prompt_len: usize, positions: &[usize]) -> Self {
        let mut prompt = vec![false; prompt_len];
        let mut later = Vec::new();
        for &pos in positions {
            match prompt.get_mut(pos) {
                Some(member) => *member = true,
                None => later.push((pos - prompt_len, pos - prompt_len)),
            }
        }
        Positions { prompt, answer: vec![Numbers::Ranges(later)] }
    }

    /// Whether absolute position `pos` is in the set.
    pub fn contains(&self, pos: usize) -> bool {
        match self.prompt.get(pos) {
            Some(&member) => member,
            None => self.answer.iter().any(|n| n.contains(pos - self.prompt.len())),
        }
    }
}

/// What a knockout is resolved against.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `[prompt]`: the span of each prompt position.
    pub spans: &'a [Span],
    /// Generated positions there can be at most.
    pub max_new: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads a layer.
    pub n_heads: usize,
}

impl Knockout {
    /// Resolves the names and checks every number against the model and the prompt.
    ///
    /// # Errors
    /// [`KnockoutError::OutOfRange`], naming the part and its valid range.
    pub fn resolve(&self, scope: &Scope<'_>) -> Result<Cut, KnockoutError> {
        self.layers.check("layer", scope.n_layers)?;
        self.heads.check("head", scope.n_heads)?;
        Ok(Cut {
            rows: self.query.resolve(scope, true)?,
            keys: self.key.resolve(scope, false)?,
            layers: (0..scope.n_layers).map(|l| self.layers.contains(l)).collect(),
            heads: (0..scope.n_heads).map(|h| self.heads.contains(h)).collect(),
        })
    }
}

impl Set {
    fn resolve(&self, scope: &Scope<'_>, as_rows: bool) -> Result<Positions, KnockoutError> {
        let mut set = Positions::of_prompt(vec![false; scope.spans.len()]);
        for term in &self.0 {
            term.add_to(&mut set, scope, as_rows)?;
        }
        Ok(set)
    }
}

impl Term {
    /// Lists the positions that the name stands for, in order, then keeps the places asked for.
    fn add_to(&self, set: &mut Positions, scope: &Scope<'_>, as_rows: bool) -> Result<(), KnockoutError> {
        let prompt: Vec<usize> = (0..scope.spans.len())
            .filter(|&pos| match self.name {
                Name::Span(Span::Answer) => as_rows && scope.spans[pos] == Span::Last,
                Name::Span(span) => scope.spans[pos] == span,
                Name::Decode => false,
                Name::All | Name::Pos => true,
            })
            .collect();
        let generated = matches!(self.name, Name::Span(Span::Answer) | Name::Decode | Name::All | Name::Pos);
        let len = prompt.len() + if generated { scope.max_new } else { 0 };
        self.places.check(self.name.word(), len)?;
        for (place, &pos) in prompt.iter().enumerate() {
            set.prompt[pos] |= self.places.contains(place);
        }
        if generated {
            set.answer.push(self.places.shifted_down(prompt.len()));
        }
        Ok(())
    }
}

impl Numbers {
    /// The numbers from `by` on, counted from there.
    fn shifted_down(&self, by: usize) -> Numbers {
        let Numbers::Ranges(ranges) = self else { return Numbers::All };
        let kept = ranges.iter().filter(|&&(_, b)| b >= by).map(|&(a, b)| (a.saturating_sub(by), b - by));
        Numbers::Ranges(kept.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(spans: &[Span]) -> Scope<'_> {
        Scope { spans, max_new: 4, n_layers: 8, n_heads: 4 }
    }

    // bos system visual visual visual question last
    const SPANS: [Span; 7] =
        [Span::Bos, Span::System, Span::Visual, Span::Visual, Span::Visual, Span::Question, Span::Last];

    fn members(p: &Positions) -> Vec<usize> {
        (0..11).filter(|&i| p.contains(i)).collect()
    }

    fn cut(text: &str) -> Cut {
        text.parse::<Knockout>().unwrap().resolve(&scope(&SPANS)).unwrap()
    }

    #[test]
    fn prints_what_it_reads() {
        for text in [
            "answer -> visual @ 8-15",
            "last -> visual[12,13,30-34] @ all # 0,2",
            "question + pos[3] -> all @ 0,2-4",
        ] {
            assert_eq!(text.parse::<Knockout>().unwrap().to_string(), text);
        }
        assert_eq!(
            " ANSWER->Visual [ 1 , 2 - 3 ]@all#all".parse::<Knockout>().unwrap().to_string(),
            "answer -> visual[1,2-3] @ all"
        );
    }

    #[test]
    fn answer_rows_begin_at_the_last_prompt_row() {
        let all = cut("answer -> visual @ all");
        assert_eq!(members(&all.rows), [6, 7, 8, 9, 10]);
        assert_eq!(members(&all.keys), [2, 3, 4]);
        assert_eq!(members(&cut("decode -> visual @ all").rows), [7, 8, 9, 10]);
        assert_eq!(members(&cut("answer[0] -> visual @ all").rows), [6]);
        assert_eq!(members(&cut("answer[1-2] -> visual @ all").rows), [7, 8]);
        assert_eq!(members(&cut("decode[0] -> visual @ all").rows), [7]);
        assert_eq!(members(&cut("last -> answer @ all").keys), [7, 8, 9, 10]);
    }

    #[test]
    fn places_count_inside_the_span_or_absolutely() {
        assert_eq!(members(&cut("last -> visual[0,2] @ all").keys), [2, 4]);
        assert_eq!(members(&cut("pos[5-8] -> bos + system @ all").rows), [5, 6, 7, 8]);
        assert_eq!(members(&cut("pos[5-8] -> bos + system @ all").keys), [0, 1]);
        let c = cut("all -> all @ 1-2 # 3");
        assert_eq!(members(&c.rows).len(), 11);
        assert_eq!(c.layers.iter().filter(|l| **l).count(), 2);
        assert!(c.heads[3] && !c.every_head());
    }

    #[test]
    fn errors_name_the_part_and_the_valid_range() {
        let error =
            |t: &str| t.parse::<Knockout>().and_then(|k| k.resolve(&scope(&SPANS)).map(|_| ())).unwrap_err();
        for (text, part) in [
            ("answer visual @ 1", "`->`"),
            ("answer -> visual", "LAYERS"),
            ("answr -> visual @ 1", "answr"),
            ("answer -> visual[ @ 1", "closing"),
            ("answer -> visual @ 1-", "not a number"),
            ("answer -> visual @ 3-1", "backwards"),
            ("answer -> visual @ +1", "not a number"),
            ("answer -> visual @", "not a number"),
            ("pos -> visual @ 1", "pos[3-5]"),
            ("answer -> visual @ 8", "layer 8 does not exist: valid are 0 to 7"),
            ("answer -> visual @ 1 # 4", "head 4 does not exist: valid are 0 to 3"),
            ("answer -> visual[3] @ 1", "visual 3 does not exist: valid are 0 to 2"),
            ("answer -> markers[0] @ 1", "markers 0 does not exist: there are none"),
            ("answer -> pos[11] @ 1", "pos 11 does not exist: valid are 0 to 10"),
            ("answer -> visual @ 99999999999999999999", "not a number"),
        ] {
            let message = error(text).to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
