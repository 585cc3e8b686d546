//! What is read and what reads on a flow chart: spans, each by itself or several under one name.
//!
//! Knows spans and how many positions of a run they have; not where they are drawn.

use crate::{spec::span::Span, trace::palette::span_rgb, ui::store::run::Run};

/// What is read and what reads: one span, or several under one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its spans.
    pub spans: Vec<Span>,
    /// Positions of all of them.
    pub positions: usize,
}

impl Node {
    /// Those of a sequence, from top to bottom. `present`: how many positions each span has; without `all`, bos,
    /// template and markers are one.
    pub fn of(present: &[usize; Span::COUNT], all: bool) -> Vec<Node> {
        use Span::{Answer, Bos, Last, Markers, Question, System, Visual};
        let groups: &[&[Span]] = match all {
            true => &[&[Visual], &[Question], &[Bos], &[System], &[Markers], &[Last], &[Answer]],
            false => &[&[Visual], &[Question], &[Bos, System, Markers], &[Last], &[Answer]],
        };
        let node = |group: &&[Span]| {
            let here = group.iter().copied().filter(|span| present[span.index()] > 0);
            let spans: Vec<Span> = here.collect();
            let positions = spans.iter().map(|span| present[span.index()]).sum();
            (!spans.is_empty()).then_some(Node { spans, positions })
        };
        groups.iter().filter_map(node).collect()
    }

    /// Its name on the chart.
    pub fn name(&self) -> &'static str {
        match self.spans[..] {
            [Span::Visual] => "image",
            _ => self.word(),
        }
    }

    /// Its name in sentences and tables: that of the grammar, where it is one span.
    pub fn word(&self) -> &'static str {
        match self.spans[..] {
            [one] => one.name(),
            _ => "text",
        }
    }

    /// The span that its colour is of.
    pub fn first(&self) -> Span {
        // `text` is mostly template.
        let system = self.spans.iter().copied().find(|span| *span == Span::System);
        system.or(self.spans.first().copied()).unwrap_or(Span::System)
    }

    /// Its colour.
    pub fn rgb(&self) -> [u8; 3] {
        span_rgb(self.first())
    }
}

/// How many positions of a run each span has.
pub fn positions(run: &Run) -> [usize; Span::COUNT] {
    let mut present = [0; Span::COUNT];
    run.prompt.iter().for_each(|token| present[token.span.index()] += 1);
    present[Span::Answer.index()] += run.answer.len();
    present
}

/// What a span is that its name alone does not tell.
pub fn meaning(node: &Node) -> Option<String> {
    Some(match node.spans[..] {
        [Span::Last] => "The last prompt row predicts the first token of the answer".to_string(),
        [Span::Answer] => {
            "Answer tokens that were fed back: each row predicts the token after it".to_string()
        }
        [_] => return None,
        _ => {
            let names: Vec<&str> = node.spans.iter().map(|span| span.name()).collect();
            format!("text is {}", names.join(", "))
        }
    })
}

/// `1 row`, `12 rows`.
pub fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_node_unless_all_spans_are_wanted() {
        let present = [1, 3, 0, 9, 4, 1, 0];
        let names = |all| Node::of(&present, all).iter().map(Node::name).collect::<Vec<_>>();
        assert_eq!(names(false), ["image", "question", "text", "last"]);
        assert_eq!(names(true), ["image", "question", "bos", "system", "last"]);
        let text = &Node::of(&present, false)[2];
        assert_eq!((text.positions, text.first()), (4, Span::System));
    }
}
