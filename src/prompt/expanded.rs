//! The text of a prompt before it is encoded, and where each stretch of it comes from.

use std::ops::Range;

use crate::{spec::span::Span, trace::tokens::VisualRef};

/// Where a stretch of the expanded text comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// The template's own words.
    Template,
    /// A person's words, or an earlier answer's, with the span they get.
    Typed(Span),
    /// What surrounds visual tokens.
    Marker,
    /// One visual token.
    Visual(VisualRef),
}

/// The expanded text and, for each stretch of it, its end and origin.
#[derive(Debug, Default)]
pub struct Expanded {
    pub text: String,
    /// Ends and origins, in order.
    pub stretches: Vec<(usize, Origin)>,
}

impl Expanded {
    /// Adds a stretch.
    pub fn push(&mut self, text: &str, origin: Origin) {
        if !text.is_empty() {
            self.text.push_str(text);
            self.stretches.push((self.text.len(), origin));
        }
    }

    /// Origins of the bytes `range`; of the byte at its start, if it is empty.
    pub fn origins(&self, range: Range<usize>) -> impl Iterator<Item = Origin> + '_ {
        let first = self.stretches.partition_point(|&(end, _)| end <= range.start);
        let mut start = range.start;
        self.stretches[first..].iter().map_while(move |&(end, origin)| {
            let covered = start < range.end || start == range.start;
            start = end;
            covered.then_some(origin)
        })
    }

    /// Maximal stretches that are typed, or that are not.
    pub fn runs(&self, typed: bool) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut start = 0;
        for &(end, origin) in &self.stretches {
            if matches!(origin, Origin::Typed(_)) == typed {
                match runs.last_mut() {
                    Some(run) if run.end == start => run.end = end,
                    _ => runs.push(start..end),
                }
            }
            start = end;
        }
        runs
    }

    /// The part that the bytes `range` play: of several, the first of image, what is typed, markers, the rest.
    pub fn part(&self, range: Range<usize>) -> (Span, Option<VisualRef>) {
        let rank = |span: Span| match span {
            Span::Visual => 3,
            Span::Question | Span::Answer => 2,
            Span::Markers => 1,
            _ => 0,
        };
        let mut part = (Span::System, None);
        for origin in self.origins(range) {
            let candidate = match origin {
                Origin::Template => (Span::System, None),
                Origin::Typed(span) => (span, None),
                Origin::Marker => (Span::Markers, None),
                Origin::Visual(place) => (Span::Visual, Some(place)),
            };
            if rank(candidate.0) > rank(part.0) {
                part = candidate;
            }
        }
        part
    }
}
