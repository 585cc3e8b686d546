//! Sets of positions as people write them, and what they mean on a prompt.
//!
//! The part of the grammar that knockouts (`knockout`), ablations (`ablation`) and recordings (`spec`)
//! share. Knows spans, and patches by their place in a grid; knows nothing of tensors, nor how the
//! named patch sets are computed (`patch_sets`).
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
//! `lastrow`: the last row of each image's last view. `object`: patches that the given mask touches.
//! The rest are ranked, so that `random[0-39]` are 40 random visual tokens and `gradient[0-39]` the 40
//! with the highest gradient; `patch_sets` defines them. With tiles, `rows ":" columns` counts on the
//! grid of all tiles together, or on the whole view after `whole`.
//!
//! # Rows
//! As query rows, `answer` means the rows that *predict* answer tokens: `last` and the decode rows, so
//! `answer[0]` is the last prompt row; `decode` leaves `last` out, so `decode[0]` is the row of the
//! first answer token. As keys, `answer` and `decode` both mean the generated positions.

use std::{collections::BTreeMap, fmt};

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

    fn parse(word: &str) -> Option<Self> {
        let patches = || PatchSet::ALL.into_iter().find(|s| s.word() == word).map(Name::Patches);
        Some(match word {
            "decode" => Name::Decode,
            "all" => Name::All,
            "pos" => Name::Pos,
            _ => Span::ALL.into_iter().find(|s| s.name() == word).map(Name::Span).or_else(patches)?,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Name::Span(s) => s.name(),
            Name::Decode => "decode",
            Name::All => "all",
            Name::Pos => "pos",
            Name::Patches(p) => p.word(),
        }
    }

    fn is_generated(self) -> bool {
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
    fn ends(self) -> (usize, usize) {
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
    fn needs(self) -> usize {
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

fn in_range(what: &str, found: usize, len: usize) -> Result<(), SetError> {
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

// ---------------------------------------------------------------------------------------- reading

/// Reads a set from lower-case text.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_set(text: &str) -> Result<Set, String> {
    let mut terms = Vec::new();
    let (mut minus, mut start, mut depth) = (false, 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '+' | '-' if depth == 0 => {
                terms.push(parse_term(&text[start..at], minus)?);
                (minus, start) = (c == '-', at + 1);
            }
            _ => {}
        }
    }
    terms.push(parse_term(&text[start..], minus)?);
    Ok(Set(terms))
}

fn parse_term(text: &str, minus: bool) -> Result<Term, String> {
    let text = text.trim();
    // A `~` inside brackets belongs to a range.
    let after = text.rfind(']').map_or(0, |at| at + 1);
    let (body, rings) = match text[after..].find('~') {
        Some(at) => (text[..after + at].trim(), parse_number(&text[after + at + 1..])?),
        None => (text, 0),
    };
    let (word, places) = match body.split_once('[') {
        Some((word, rest)) => {
            let inside = rest.strip_suffix(']').ok_or_else(|| format!("`{body}` has no closing `]`"))?;
            (word.trim(), parse_places(inside)?)
        }
        None => (body, Places::All),
    };
    let name = Name::parse(word).ok_or_else(|| format!("`{word}` is none of {}", Name::WORDS))?;
    if name == Name::Pos && places == Places::All {
        return Err("`pos` needs positions, as in `pos[3-5]`".to_string());
    }
    Ok(Term { minus, name, places, rings })
}

fn parse_places(text: &str) -> Result<Places, String> {
    if text.trim() == "all" {
        return Ok(Places::All);
    }
    let place = |t: &str| match t.split_once(':') {
        None => parse_range(t).map(Place::Index),
        Some((rows, cols)) => Ok(Place::Cells(parse_between(rows)?, parse_between(cols)?)),
    };
    text.split(',').map(place).collect::<Result<_, _>>().map(Places::Of)
}

/// Reads numbers from lower-case text.
///
/// # Errors
/// What is wrong, in words.
pub fn parse_numbers(text: &str) -> Result<Numbers, String> {
    let text = text.trim();
    if text == "all" {
        return Ok(Numbers::All);
    }
    let (ranges, except) = text.strip_prefix('!').map_or((text, false), |rest| (rest, true));
    let ranges = ranges.split(',').map(parse_range).collect::<Result<_, _>>()?;
    Ok(if except { Numbers::Except(ranges) } else { Numbers::Of(ranges) })
}

fn parse_range(text: &str) -> Result<Range, String> {
    if let Some((centre, radius)) = text.split_once('~') {
        return Ok(Range::Around(parse_number(centre)?, parse_number(radius)?));
    }
    match text.trim().strip_suffix('-') {
        Some(first) => parse_number(first).map(Range::From),
        None => parse_between(text).map(|(a, b)| Range::Between(a, b)),
    }
}

fn parse_between(text: &str) -> Result<(usize, usize), String> {
    match text.split_once('-') {
        None => parse_number(text).map(|n| (n, n)),
        Some((a, b)) => match (parse_number(a)?, parse_number(b)?) {
            (a, b) if a <= b => Ok((a, b)),
            (a, b) => Err(format!("the range {a}-{b} runs backwards")),
        },
    }
}

fn parse_number(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>() {
        Ok(n) if digits => Ok(n as usize),
        _ => Err(format!("`{text}` is not a number")),
    }
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

// ---------------------------------------------------------------------------------------- meaning

/// Where a visual token's patch lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Absolute prompt position of the token.
    pub position: usize,
    /// Image, in prompt order.
    pub image: usize,
    /// Whether it belongs to a view of the whole image, rather than to the grid of all tiles.
    pub whole: bool,
    /// From the top of that view.
    pub row: usize,
    /// From its left.
    pub col: usize,
}

/// What is known of a prompt's visual tokens.
#[derive(Clone, Debug, Default)]
pub struct Patches {
    /// Tokens that show a patch, in prompt order.
    pub spots: Vec<Spot>,
    /// Named sets as absolute prompt positions, ranked; or why one is not known.
    pub sets: BTreeMap<PatchSet, Result<Vec<usize>, String>>,
}

/// What a set is resolved against.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `[prompt]`: the span of each prompt position.
    pub spans: &'a [Span],
    /// Its visual tokens.
    pub patches: &'a Patches,
    /// Generated positions there can be at most.
    pub max_new: usize,
    /// Decoder layers.
    pub n_layers: usize,
    /// Query heads a layer.
    pub n_heads: usize,
}

/// A set of positions of a sequence whose answer is still growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    /// `[prompt]`: membership of each prompt position.
    prompt: Vec<bool>,
    /// Places among the generated positions, added or taken away in order.
    answer: Vec<(bool, Vec<(usize, usize)>)>,
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
        Positions { prompt, answer: vec![(false, later)] }
    }

    /// Whether absolute position `pos` is in the set.
    pub fn contains(&self, pos: usize) -> bool {
        let Some(&member) = self.prompt.get(pos) else {
            let n = pos - self.prompt.len();
            let inside = |ranges: &[(usize, usize)]| ranges.iter().any(|&(a, b)| (a..=b).contains(&n));
            return self.answer.iter().fold(false, |member, (minus, ranges)| match inside(ranges) {
                true => !minus,
                false => member,
            });
        };
        member
    }

    /// Leaves out all of `from` and takes in `with`, all of them prompt positions.
    pub fn exchange(&mut self, from: &[usize], with: &[usize]) {
        from.iter().for_each(|&pos| self.prompt[pos] = false);
        with.iter().for_each(|&pos| self.prompt[pos] = true);
    }

    /// The members among the prompt's positions.
    pub fn in_prompt(&self) -> impl Iterator<Item = usize> + '_ {
        self.prompt.iter().enumerate().filter(|(_, member)| **member).map(|(pos, _)| pos)
    }
}

impl Set {
    /// The patch sets that it names.
    pub fn patch_sets(&self) -> impl Iterator<Item = PatchSet> + '_ {
        self.0.iter().filter_map(|term| match term.name {
            Name::Patches(set) => Some(set),
            _ => None,
        })
    }

    /// Whether it needs to know where patches lie.
    pub fn needs_patches(&self) -> bool {
        let cells = |places: &Places| match places {
            Places::All => false,
            Places::Of(places) => places.iter().any(|p| matches!(p, Place::Cells(..))),
        };
        self.0.iter().any(|t| matches!(t.name, Name::Patches(_)) || t.rings > 0 || cells(&t.places))
    }

    /// Its members; as query rows, or as keys.
    ///
    /// # Errors
    /// [`SetError`], naming the part and its valid range.
    pub fn resolve(&self, scope: &Scope<'_>, as_rows: bool) -> Result<Positions, SetError> {
        let mut set = Positions::of_prompt(vec![false; scope.spans.len()]);
        for term in &self.0 {
            term.apply(&mut set, scope, as_rows)?;
        }
        let end = scope.spans.len() + scope.max_new;
        if (0..end).any(|pos| set.contains(pos)) {
            return Ok(set);
        }
        let count = |span: &Span| scope.spans.iter().filter(|s| *s == span).count();
        let there: Vec<String> =
            Span::ALL.iter().filter(|s| count(s) > 0).map(|s| format!("{} {}", s.name(), count(s))).collect();
        Err(SetError::Empty { set: self.to_string(), there: format!("the prompt has {}", there.join(", ")) })
    }
}

impl Term {
    /// Lists the positions that the name stands for, in order, keeps the places asked for, adds the
    /// rings, and adds or takes away the result.
    fn apply(&self, set: &mut Positions, scope: &Scope<'_>, as_rows: bool) -> Result<(), SetError> {
        let listed = self.listed(scope, as_rows)?;
        let word = self.name.word();
        let generated = self.name.is_generated();
        let len = listed.len() + if generated { scope.max_new } else { 0 };
        let mut chosen = vec![false; scope.spans.len()];
        let mut later = Vec::new();
        let all = [Place::Index(Range::From(0))];
        let places = match &self.places {
            Places::All => all.as_slice(),
            Places::Of(places) => places,
        };
        for place in places {
            match place {
                Place::Index(range) => {
                    if self.places != Places::All {
                        in_range(word, range.needs(), len)?;
                    }
                    let (a, b) = range.ends();
                    listed.iter().take(b.saturating_add(1)).skip(a).for_each(|&pos| chosen[pos] = true);
                    if generated && b >= listed.len() {
                        later.push((a.saturating_sub(listed.len()), b - listed.len()));
                    }
                }
                Place::Cells(rows, cols) => {
                    for spot in self.cells(scope, &listed)? {
                        let inside = |(a, b): (usize, usize), n: usize| (a..=b).contains(&n);
                        chosen[spot.position] |= inside(*rows, spot.row) && inside(*cols, spot.col);
                    }
                }
            }
        }
        if self.rings > 0 {
            self.dilate(&mut chosen, scope)?;
        }
        for (pos, _) in chosen.iter().enumerate().filter(|(_, c)| **c) {
            set.prompt[pos] = !self.minus;
        }
        if !later.is_empty() {
            set.answer.push((self.minus, later));
        }
        Ok(())
    }

    /// Prompt positions that the name stands for, in the order that places count.
    fn listed(&self, scope: &Scope<'_>, as_rows: bool) -> Result<Vec<usize>, SetError> {
        let spans = scope.spans;
        let by_span = |is: &dyn Fn(Span) -> bool| (0..spans.len()).filter(|&pos| is(spans[pos])).collect();
        Ok(match self.name {
            Name::Span(Span::Answer) => by_span(&|s| as_rows && s == Span::Last),
            Name::Span(span) => by_span(&|s| s == span),
            Name::Decode => Vec::new(),
            Name::All | Name::Pos => (0..spans.len()).collect(),
            Name::Patches(set) => match scope.patches.sets.get(&set) {
                Some(Ok(positions)) => positions.clone(),
                other => {
                    let why = match other {
                        Some(Err(why)) => why.clone(),
                        _ => "it was not computed for this prompt".to_string(),
                    };
                    return Err(SetError::Unknown { set: set.word().to_string(), why });
                }
            },
        })
    }

    /// The spots that `rows:columns` counts on; checks the cells against their grid.
    fn cells<'a>(&self, scope: &Scope<'a>, listed: &[usize]) -> Result<Vec<&'a Spot>, SetError> {
        let mut member = vec![false; scope.spans.len()];
        listed.iter().for_each(|&pos| member[pos] = true);
        let mut spots: Vec<&Spot> = scope.patches.spots.iter().filter(|s| member[s.position]).collect();
        if spots.iter().any(|s| !s.whole) {
            spots.retain(|s| !s.whole);
        }
        let extent = |of: fn(&Spot) -> usize| spots.iter().map(|s| of(s) + 1).max();
        let (Some(rows), Some(cols)) = (extent(|s| s.row), extent(|s| s.col)) else {
            return Err(SetError::NoGrid { set: self.to_string() });
        };
        if let Places::Of(places) = &self.places {
            for place in places {
                if let Place::Cells((_, row), (_, col)) = place {
                    in_range("patch row", *row, rows)?;
                    in_range("patch column", *col, cols)?;
                }
            }
        }
        Ok(spots)
    }

    fn dilate(&self, chosen: &mut [bool], scope: &Scope<'_>) -> Result<(), SetError> {
        let spots = &scope.patches.spots;
        let members: Vec<Spot> = spots.iter().filter(|s| chosen[s.position]).copied().collect();
        if members.is_empty() || members.len() < chosen.iter().filter(|c| **c).count() {
            return Err(SetError::NoGrid { set: self.to_string() });
        }
        for spot in spots {
            let near = |m: &Spot| {
                (m.image, m.whole) == (spot.image, spot.whole)
                    && m.row.abs_diff(spot.row) <= self.rings
                    && m.col.abs_diff(spot.col) <= self.rings
            };
            chosen[spot.position] |= members.iter().any(near);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // bos, a 3 x 3 grid of patches, question, last
    fn spans() -> Vec<Span> {
        let mut spans = vec![Span::Bos];
        spans.extend([Span::Visual; 9]);
        spans.extend([Span::Question, Span::Last]);
        spans
    }

    fn patches() -> Patches {
        let spot = |i: usize| Spot { position: i + 1, image: 0, whole: true, row: i / 3, col: i % 3 };
        let sets = BTreeMap::from([
            (PatchSet::Object, Ok(vec![1])),
            (PatchSet::Random, Ok(vec![9, 2, 5, 1, 3, 4, 6, 7, 8])),
            (PatchSet::Register, Ok(Vec::new())),
            (PatchSet::Sink, Err("no run was made".to_string())),
        ]);
        Patches { spots: (0..9).map(spot).collect(), sets }
    }

    fn members(text: &str) -> Result<Vec<usize>, String> {
        let (spans, patches) = (spans(), patches());
        let scope = Scope { spans: &spans, patches: &patches, max_new: 3, n_layers: 4, n_heads: 2 };
        let set = parse_set(text)?;
        assert_eq!(parse_set(&set.to_string())?, set, "{text} prints as {set}");
        let set = set.resolve(&scope, false).map_err(|e| e.to_string())?;
        Ok((0..15).filter(|&pos| set.contains(pos)).collect())
    }

    #[test]
    fn sets_are_added_and_taken_away_from_left_to_right() {
        assert_eq!(members("visual - object").unwrap(), [2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(members("visual - object + visual[0]").unwrap(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(members("all - visual - answer").unwrap(), [0, 10, 11]);
        assert_eq!(members("answer - answer[1]").unwrap(), [12, 14]);
        assert!(members("object - visual").unwrap_err().contains("`object - visual` is empty"));
        assert!(members("register").unwrap_err().contains("the prompt has bos 1, visual 9"));
    }

    #[test]
    fn patches_have_neighbours_and_cells() {
        assert_eq!(members("object~1").unwrap(), [1, 2, 4, 5]);
        assert_eq!(members("object~2").unwrap().len(), 9);
        assert_eq!(members("visual[2:2]~1").unwrap(), [5, 6, 8, 9]);
        assert_eq!(members("visual[0-1:1, 8]").unwrap(), [2, 5, 9]);
        assert_eq!(members("random[0-2]").unwrap(), [2, 5, 9]);
        assert!(
            members("visual[0:3]").unwrap_err().contains("patch column 3 does not exist: valid are 0 to 2")
        );
        assert!(members("question~1").unwrap_err().contains("only visual tokens"));
        assert!(members("question[0:0]").unwrap_err().contains("only visual tokens"));
        assert!(members("sink").unwrap_err().contains("no run was made"));
        assert!(members("gradient").unwrap_err().contains("not computed"));
    }

    #[test]
    fn numbers_have_windows_open_ends_and_exceptions() {
        let members = |text: &str, len| -> Result<Vec<usize>, String> {
            let numbers = parse_numbers(text)?;
            assert_eq!(parse_numbers(&numbers.to_string()), Ok(numbers.clone()));
            let members = numbers.resolve("layer", len).map_err(|e| e.to_string())?;
            Ok((0..len).filter(|&n| members[n]).collect())
        };
        assert_eq!(members("6-", 8).unwrap(), [6, 7]);
        assert_eq!(members("!1-6", 8).unwrap(), [0, 7]);
        assert_eq!(members("1~2", 8).unwrap(), [0, 1, 2, 3]);
        assert_eq!(members("7~1, 0", 8).unwrap(), [0, 6, 7]);
        assert!(members("8-", 8).unwrap_err().contains("layer 8 does not exist: valid are 0 to 7"));
        assert!(members("8~3", 8).unwrap_err().contains("layer 8"));
        assert!(members("!0-7", 8).unwrap_err().contains("`layers !0-7` is empty: valid layers are 0 to 7"));
        assert!(members("!9", 8).unwrap_err().contains("layer 9"));
        assert!(members("3-1", 8).unwrap_err().contains("backwards"));
    }
}
