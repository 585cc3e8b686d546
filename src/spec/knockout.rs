//! Knockouts: which query positions may not look at which key positions, in which layers and heads.
//!
//! Holds the text form that people type and the window shows, and its meaning on a sequence whose
//! spans are known. Knows nothing of tensors: the run turns a [`Cut`] into what a pass blocks.
//!
//! # Grammar
//! ```text
//! knockout := set "->" set "@" layers [ "#" heads ]  "answer -> visual[12,30-34] @ 8-15 # 0,2"
//! edge     := set "->" set [ "#" heads ]             where layers come from elsewhere: a slider, a study
//! layers   := numbers
//! heads    := numbers
//! ```
//! `set` and `numbers` are those of [`crate::spec::sets`]. Left of the arrow stand query rows, right of it
//! key positions.

use std::{fmt, str::FromStr};

use crate::spec::{
    parse::{parse_numbers, parse_set},
    resolve::{Positions, Scope},
    sets::{Numbers, Set, SetError},
    text::as_text,
};

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

as_text!(Knockout);

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
    /// A set, a layer or a head that is not there.
    #[error(transparent)]
    Set(#[from] SetError),
    /// The same cut twice: neither's proof would mean anything by itself.
    #[error("it cuts the very pairs that `{other}` cuts: give one of them")]
    Twice {
        /// The earlier one.
        other: String,
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

/// What is cut, without the layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Rows that lose sight.
    pub query: Set,
    /// Positions that they can no longer see.
    pub key: Set,
    /// Zero-based query heads.
    pub heads: Numbers,
}

impl Edge {
    /// The knockout of this edge in some layers.
    pub fn at(self, layers: Numbers) -> Knockout {
        Knockout { query: self.query, key: self.key, layers, heads: self.heads }
    }

    /// Reads `SET -> SET` and the text of the heads.
    fn parse(sets: &str, heads: Option<&str>) -> Result<Self, String> {
        let (query, key) = sets.split_once("->").ok_or("there is no `->`")?;
        Ok(Edge {
            query: parse_set(query).map_err(|w| format!("query: {w}"))?,
            key: parse_set(key).map_err(|w| format!("key: {w}"))?,
            heads: heads.map_or(Ok(Numbers::All), parse_numbers).map_err(|w| format!("heads: {w}"))?,
        })
    }
}

impl FromStr for Edge {
    type Err = KnockoutError;

    fn from_str(text: &str) -> Result<Self, KnockoutError> {
        let lower = text.to_lowercase();
        let (sets, heads) = lower.split_once('#').map_or((lower.as_str(), None), |(s, h)| (s, Some(h)));
        Edge::parse(sets, heads).map_err(|why| KnockoutError::Syntax { text: text.to_string(), why })
    }
}

impl FromStr for Knockout {
    type Err = KnockoutError;

    fn from_str(text: &str) -> Result<Self, KnockoutError> {
        let fail = |why: String| KnockoutError::Syntax { text: text.to_string(), why };
        let lower = text.to_lowercase();
        let (sets, rest) = match lower.split_once('@') {
            Some(parts) => parts,
            None if !lower.contains("->") => return Err(fail("there is no `->`".into())),
            None => return Err(fail("there is no `@ LAYERS`".into())),
        };
        let (layers, heads) = rest.split_once('#').map_or((rest, None), |(l, h)| (l, Some(h)));
        let edge = Edge::parse(sets, heads).map_err(fail)?;
        Ok(edge.at(parse_numbers(layers).map_err(|w| fail(format!("layers: {w}")))?))
    }
}

impl fmt::Display for Knockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} @ {}", self.query, self.key, self.layers)?;
        match self.heads {
            Numbers::All => Ok(()),
            _ => write!(f, " # {}", self.heads),
        }
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

impl Knockout {
    /// Checks layers and heads against a model with so many.
    ///
    /// # Errors
    /// [`KnockoutError::Set`], naming the number and its valid range.
    pub fn check_model(&self, n_layers: usize, n_heads: usize) -> Result<(), KnockoutError> {
        self.layers.resolve("layer", n_layers)?;
        self.heads.resolve("head", n_heads)?;
        Ok(())
    }

    /// Checks every number against the model and the prompt.
    ///
    /// # Errors
    /// [`KnockoutError::Set`], naming the part and its valid range.
    pub fn resolve(&self, scope: &Scope<'_>) -> Result<Cut, KnockoutError> {
        Ok(Cut {
            layers: self.layers.resolve("layer", scope.n_layers)?,
            heads: self.heads.resolve("head", scope.n_heads)?,
            rows: self.query.resolve(scope, true)?,
            keys: self.key.resolve(scope, false)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{resolve::Patches, span::Span};

    static NO_PATCHES: Patches = Patches { spots: Vec::new(), sets: std::collections::BTreeMap::new() };

    fn scope(spans: &[Span]) -> Scope<'_> {
        Scope { spans, patches: &NO_PATCHES, max_new: 4, n_layers: 8, n_heads: 4 }
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
    fn an_edge_takes_its_layers_from_elsewhere() {
        let edge: Edge = "answer -> visual[3] # 0,2".parse().unwrap();
        assert_eq!(edge.at(Numbers::range(1, 2)).to_string(), "answer -> visual[3] @ 1-2 # 0,2");
        assert!("answer - visual".parse::<Edge>().unwrap_err().to_string().contains("no `->`"));
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
            ("answer -> visual @ -", "not a number"),
            ("answer -> visual @ 3-1", "backwards"),
            ("answer -> visual @ +1", "not a number"),
            ("answer -> visual @", "not a number"),
            ("pos -> visual @ 1", "pos[3-5]"),
            ("answer -> visual @ 8", "layer 8 does not exist: valid are 0 to 7"),
            ("answer -> visual @ 1 # 4", "head 4 does not exist: valid are 0 to 3"),
            ("answer -> visual[3] @ 1", "visual 3 does not exist: valid are 0 to 2"),
            ("answer -> markers[0] @ 1", "markers 0 does not exist: there are none"),
            ("answer -> markers @ 1", "`markers` is empty: the prompt has bos 1, system 1, visual 3"),
            ("answer -> object @ 1", "`object` names no visual token: it was not computed"),
            ("answer -> visual~1 @ 1", "only visual tokens have a place"),
            ("answer -> visual @ !0-", "`layers !0-` is empty"),
            ("answer -> pos[11] @ 1", "pos 11 does not exist: valid are 0 to 10"),
            ("answer -> visual @ 99999999999999999999", "not a number"),
        ] {
            let message = error(text).to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
