//! What a set means on a prompt whose spans and patches are known.
//!
//! Knows positions by number; knows nothing of tensors.

use std::collections::BTreeMap;

use crate::spec::{
    sets::{Name, PatchSet, Place, Places, Range, Set, SetError, Term, in_range},
    span::Span,
};

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
        // What an answer was given to begin with is part of it, and counts among no places: those are what was said.
        if self.places == Places::All && matches!(self.name, Name::Span(Span::Answer) | Name::Decode) {
            chosen.iter_mut().zip(scope.spans).for_each(|(chosen, span)| *chosen |= *span == Span::Answer);
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
    use crate::spec::parse::{parse_numbers, parse_set};

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
