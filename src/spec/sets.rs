//! Sets of positions as people write them, and what they mean on a prompt.
//!
//! The part of the grammar that knockouts (`knockout`), ablations (`ablation`) and recordings (`record`)
//! share. Here are its words; `parse` reads them, `resolve` says what they mean on a prompt. Knows spans,
//! and patches by their place in a grid; knows nothing of tensors, nor how the named patch sets are
//! computed.
//!
//! # Grammar
//! ```text
//! set      := term { ("+" | "-") term }              from left to right: added, taken away
//! term     := name [ "[" places "]" ] [ "~" n ]      "visual[12,30-34]", "object~1"
//! name     := "bos" | "system" | "markers" | "visual" | "question" | "last"
//!           | "answer" | "decode" | "all" | "pos"
//!           | "whole" | "lastrow" | "object" | "register" | "sink" | "gradient" | "random"
//! places   := place { "," place }
//! place    := range | n [ "-" n ] ":" n [ "-" n ]    by number, or rows ":" columns of the patch grid
//! numbers  := "all" | [ "!" ] range { "," range }    "!": all but these
//! range    := n | n "-" n | n "-" | n "~" n          zero-based, both ends included; "8-": from 8 on;
//!                                                    "12~4": 12 and 4 on either side, clipped
//! ```
//! Blanks are free and case does not matter. `NAME[i]` counts inside the named set, `pos[i]` counts
//! absolutely over prompt and answer. `~n` adds the patches within `n` rings (8 neighbours) of a set of
//! visual tokens, in the view that shows them.
//!
//! # Patch sets
//! `whole`: the view of the whole image beside tiles; all visual tokens where there are no tiles.
//! `lastrow`: the last row of each image's last view. `object`: patches that the given mask covers.
//! The rest are ranked, so that `random[0-39]` are 40 random visual tokens and `gradient[0-39]` the 40
//! with the highest gradient; `engine/patches.rs` defines them. With tiles, `rows ":" columns` counts on the
//! grid of all tiles together, or on the whole view after `whole`.
//!
//! # Rows
//! As query rows, `answer` means the rows that *predict* answer tokens: `last` and the decode rows, so
//! `answer[0]` is the last prompt row; `decode` leaves `last` out, so `decode[0]` is the row of the
//! first answer token. As keys, `answer` and `decode` both mean the generated positions.

use std::fmt;

use crate::spec::span::Span;

/// Terms, added or taken away from left to right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(pub Vec<Term>);

/// A named set of positions, whole or in part, with its neighbourhood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Taken away rather than added.
    pub minus: bool,
    /// Which set.
    pub name: Name,
    /// Places inside it.
    pub places: Places,
    /// Rings of neighbouring patches added to it.
    pub rings: usize,
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
    /// Some visual tokens.
    Patches(PatchSet),
}

/// Named sets of visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PatchSet {
    /// The view of the whole image.
    Whole,
    /// Last row of each image's last view.
    LastRow,
    /// What the object's mask touches.
    Object,
    /// Unusually long embeddings, longest first.
    Register,
    /// Tokens that every answer row looks at, most first.
    Sink,
    /// All visual tokens, highest integrated gradient first.
    Gradient,
    /// All visual tokens, shuffled by the run's seed.
    Random,
}

impl PatchSet {
    /// All of them.
    pub const ALL: [PatchSet; 7] = [
        PatchSet::Whole,
        PatchSet::LastRow,
        PatchSet::Object,
        PatchSet::Register,
        PatchSet::Sink,
        PatchSet::Gradient,
        PatchSet::Random,
    ];

    /// The name in the grammar.
    pub fn word(self) -> &'static str {
        match self {
            PatchSet::Whole => "whole",
            PatchSet::LastRow => "lastrow",
            PatchSet::Object => "object",
            PatchSet::Register => "register",
            PatchSet::Sink => "sink",
            PatchSet::Gradient => "gradient",
            PatchSet::Random => "random",
        }
    }
}

impl Name {
    /// Every word of the grammar.
    pub const WORDS: &str = "bos, system, markers, visual, question, last, answer, decode, all, pos, whole, \
                             lastrow, object, register, sink, gradient, random";

    pub(super) fn parse(word: &str) -> Option<Self> {
        let patches = || PatchSet::ALL.into_iter().find(|s| s.word() == word).map(Name::Patches);
        Some(match word {
            "decode" => Name::Decode,
            "all" => Name::All,
            "pos" => Name::Pos,
            _ => Span::ALL.into_iter().find(|s| s.name() == word).map(Name::Span).or_else(patches)?,
        })
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Name::Span(s) => s.name(),
            Name::Decode => "decode",
            Name::All => "all",
            Name::Pos => "pos",
            Name::Patches(p) => p.word(),
        }
    }

    pub(super) fn is_generated(self) -> bool {
        matches!(self, Name::Span(Span::Answer) | Name::Decode | Name::All | Name::Pos)
    }
}

/// Numbers of layers, heads or rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Everything there is.
    #[default]
    All,
    /// These.
    Of(Vec<Range>),
    /// Everything but these.
    Except(Vec<Range>),
}

/// Some consecutive numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Both ends included.
    Between(usize, usize),
    /// From here on.
    From(usize),
    /// A number and so many on either side.
    Around(usize, usize),
}

impl Range {
    pub(super) fn ends(self) -> (usize, usize) {
        match self {
            Range::Between(a, b) => (a, b),
            Range::From(a) => (a, usize::MAX),
            Range::Around(c, r) => (c.saturating_sub(r), c.saturating_add(r)),
        }
    }

    fn contains(self, n: usize) -> bool {
        let (a, b) = self.ends();
        (a..=b).contains(&n)
    }

    /// The largest number that must exist.
    pub(super) fn needs(self) -> usize {
        match self {
            Range::Between(_, b) => b,
            Range::From(a) | Range::Around(a, _) => a,
        }
    }
}

impl Numbers {
    /// One inclusive range.
    pub fn range(first: usize, last: usize) -> Self {
        Numbers::Of(vec![Range::Between(first, last)])
    }

    /// Whether `n` is in it.
    pub fn contains(&self, n: usize) -> bool {
        match self {
            Numbers::All => true,
            Numbers::Of(ranges) => ranges.iter().any(|r| r.contains(n)),
            Numbers::Except(ranges) => !ranges.iter().any(|r| r.contains(n)),
        }
    }

    /// Membership of each of `0..len`.
    ///
    /// # Errors
    /// [`SetError::OutOfRange`], and [`SetError::Empty`] when nothing is left.
    pub fn resolve(&self, what: &str, len: usize) -> Result<Vec<bool>, SetError> {
        if let Numbers::Of(ranges) | Numbers::Except(ranges) = self {
            ranges.iter().try_for_each(|r| in_range(what, r.needs(), len))?;
        }
        let members: Vec<bool> = (0..len).map(|n| self.contains(n)).collect();
        if members.contains(&true) {
            Ok(members)
        } else {
            let there = format!("valid {what}s are {}", valid(len));
            Err(SetError::Empty { set: format!("{what}s {self}"), there })
        }
    }
}

/// Which members of a named set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Places {
    /// Every one.
    All,
    /// These.
    Of(Vec<Place>),
}

/// A choice inside a named set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By number, in the set's order.
    Index(Range),
    /// Rows and columns of the patch grid, both ends included.
    Cells((usize, usize), (usize, usize)),
}

/// Why a set cannot be read or resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// A number lies outside what the model or the prompt has.
    #[error("{what} {found} does not exist: {}", valid_are(*len))]
    OutOfRange {
        /// Layer, head, patch row or column, or the set's name.
        what: String,
        /// The number found.
        found: usize,
        /// How many there are.
        len: usize,
    },
    /// Nothing is in it.
    #[error("`{set}` is empty: {there}")]
    Empty {
        /// As written.
        set: String,
        /// What there is instead.
        there: String,
    },
    /// A patch set that has no members, or cannot be computed.
    #[error("`{set}` names no visual token: {why}")]
    Unknown {
        /// Its name.
        set: String,
        /// Why not.
        why: String,
    },
    /// A grid operation on something that is not in a grid.
    #[error("`{set}`: only visual tokens have a place in the image's grid, and neighbours")]
    NoGrid {
        /// As written.
        set: String,
    },
}

pub(super) fn in_range(what: &str, found: usize, len: usize) -> Result<(), SetError> {
    if found < len { Ok(()) } else { Err(SetError::OutOfRange { what: what.to_string(), found, len }) }
}

fn valid(len: usize) -> String {
    match len {
        0 => "none".to_string(),
        n => format!("0 to {}", n - 1),
    }
}

fn valid_are(len: usize) -> String {
    if len == 0 { "there are none".to_string() } else { format!("valid are {}", valid(len)) }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.0.iter().enumerate() {
            match (i, term.minus) {
                (0, _) => write!(f, "{term}")?,
                (_, false) => write!(f, " + {term}")?,
                (_, true) => write!(f, " - {term}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.word())?;
        if let Places::Of(places) = &self.places {
            write!(f, "[{}]", listed(places))?;
        }
        if self.rings > 0 {
            write!(f, "~{}", self.rings)?;
        }
        Ok(())
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Numbers::All => f.write_str("all"),
            Numbers::Of(ranges) => f.write_str(&listed(ranges)),
            Numbers::Except(ranges) => write!(f, "!{}", listed(ranges)),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Range::Between(a, b) if a == b => write!(f, "{a}"),
            Range::Between(a, b) => write!(f, "{a}-{b}"),
            Range::From(a) => write!(f, "{a}-"),
            Range::Around(c, r) => write!(f, "{c}~{r}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Place::Index(range) => write!(f, "{range}"),
            Place::Cells((r0, r1), (c0, c1)) => {
                write!(f, "{}:{}", Range::Between(r0, r1), Range::Between(c0, c1))
            }
        }
    }
}

fn listed<T: ToString>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}
