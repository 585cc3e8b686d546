//! A prompt as people read it: one item a token, the visual ones folded into one a view; and how much a word looks at
//! each.
//!
//! Knows tokens, spans and attention; draws nothing.

use std::sync::Arc;

use crate::{
    spec::span::Span,
    trace::{
        geometry::Geometry,
        pattern::PatternRow,
        tokens::{PromptToken, VisualRef},
    },
    ui::{
        store::{run::Run, store::Store},
        widgets::word_flow::Piece,
    },
    worker::protocol::RunId,
};

/// Some consecutive positions that are shown as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The first position.
    pub first: usize,
    /// The last: of a character that is split over several tokens, that which carries it.
    pub last: usize,
    /// Their part.
    pub span: Span,
    /// What stands on it.
    pub text: String,
    /// Token ids; none of visual tokens.
    pub ids: Vec<u32>,
    /// Image and view of visual tokens.
    pub view: Option<(usize, usize)>,
}

impl Item {
    /// As words flow: each with a gap before it.
    pub fn piece(&self) -> Piece {
        Piece { text: format!(" {}", self.text), first: self.first, last: self.last, breaks: false }
    }
}

/// The items of a prompt.
pub fn items(prompt: &[PromptToken], geometry: Option<&Geometry>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open = false;
    for token in prompt {
        let view = token.visual.map(|VisualRef { image, view, .. }| (image, view));
        let visual = token.span == Span::Visual;
        let joins = |item: &&mut Item| match visual {
            true => item.span == Span::Visual && item.view == view,
            false => open && item.span != Span::Visual,
        };
        match items.last_mut().filter(joins) {
            Some(item) => {
                item.last = token.position;
                if !visual {
                    item.ids.push(token.id);
                    item.text = written(&format!("{}{}", item.text.trim_matches('·'), token.text));
                }
            }
            None => items.push(Item {
                first: token.position,
                last: token.position,
                span: token.span,
                text: if visual { String::new() } else { written(&token.text) },
                ids: if visual { Vec::new() } else { vec![token.id] },
                view,
            }),
        }
        open = token.partial && !visual;
    }
    for item in items.iter_mut().filter(|item| item.span == Span::Visual) {
        item.text = folded(item, geometry);
    }
    items
}

/// A token's text; blanks are made visible.
fn written(text: &str) -> String {
    match text.trim() {
        "" if text.contains('\n') => "\\n".to_string(),
        "" => "·".to_string(),
        text => text.replace('\n', "\\n"),
    }
}

/// "visual 144 · 12 x 12".
fn folded(item: &Item, geometry: Option<&Geometry>) -> String {
    let n = item.last - item.first + 1;
    let view = item.view.filter(|(image, _)| *image == 0).map(|(_, view)| view);
    let view = view.and_then(|view| geometry?.views.get(view));
    match view.filter(|view| view.lead + view.grid.len() == n) {
        Some(view) => format!("visual {n} · {} x {}", view.grid.rows, view.grid.cols),
        None => format!("visual {n}"),
    }
}

/// How many positions each span has.
pub fn counts(prompt: &[PromptToken]) -> [usize; Span::COUNT] {
    let mut counts = [0; Span::COUNT];
    prompt.iter().for_each(|token| counts[token.span.index()] += 1);
    counts
}

/// How much the word on show looks at each item, in the layer and head on show.
#[derive(Debug)]
pub struct Looks {
    /// Whose prompt, and whose word.
    runs: [RunId; 2],
    /// Layer and head.
    at: (usize, Option<usize>),
    /// What it was taken from: holds it, so that nothing else can come to lie at its address.
    of: Arc<Vec<f32>>,
    /// One an item.
    pub shares: Vec<f32>,
    /// The item that is looked at most, and how much.
    pub highest: Option<(usize, f32)>,
}

/// Follows selection, layer and head; `None` where no word is selected, or its prompt is another. Costs nothing where
/// they are what they were.
pub fn follow(held: Option<Looks>, store: &Store, run: &Run, items: &[Item]) -> Option<Looks> {
    let subject = store.subject().filter(|_| !store.selection.subject().1.is_empty())?;
    let (runs, at, pattern) = ([run.id, subject.run.id], store.selection.looked_at(), subject.pattern);
    let same = |held: &Looks| {
        held.runs == runs
            && held.at == at
            && Arc::ptr_eq(&held.of, &pattern.data)
            && held.shares.len() == items.len()
    };
    if let Some(held) = held.filter(same) {
        return Some(held);
    }
    if run.id != subject.run.id && !run.same_prompt(subject.run) {
        return None;
    }
    let shares = shares(pattern, at, items)?;
    let highest = shares.iter().copied().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    let highest = highest.filter(|(_, share)| *share > 0.0);
    Some(Looks { runs, at, of: pattern.data.clone(), shares, highest })
}

/// The attention to each item, of a head or of the mean of all; `None` where there is no such layer.
fn shares(pattern: &PatternRow, (layer, head): (usize, Option<usize>), items: &[Item]) -> Option<Vec<f32>> {
    if layer >= pattern.n_layers {
        return None;
    }
    let values = match head.filter(|&head| head < pattern.n_heads) {
        Some(head) => pattern.head(layer, head).to_vec(),
        None => pattern.head_mean(layer),
    };
    let share = |item: &Item| values.get(item.first..=item.last).map_or(0.0, |values| values.iter().sum());
    Some(items.iter().map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        geometry::{Grid, Place, View},
        tokens::Cell,
    };

    fn token(position: usize, text: &str, span: Span, partial: bool) -> PromptToken {
        PromptToken { position, id: 7, text: text.to_string(), span, visual: None, partial }
    }

    /// bos, two views of 2 x 2 with a marker between them, a character of two tokens, a line break, last.
    fn prompt() -> Vec<PromptToken> {
        let mut prompt = vec![token(0, "<s>", Span::Bos, false)];
        for view in 0..2 {
            for i in 0..4 {
                let cell = Some(Cell { row: i / 2, col: i % 2 });
                let visual = Some(VisualRef { image: 0, view, cell });
                let at = prompt.len();
                prompt.push(PromptToken { visual, ..token(at, "<image>", Span::Visual, false) });
            }
            let at = prompt.len();
            prompt.push(token(at, "<row>", Span::Markers, false));
        }
        for (text, span, partial) in [
            ("", Span::Question, true),
            ("猫", Span::Question, false),
            ("\n", Span::System, false),
            (":", Span::Last, false),
        ] {
            let at = prompt.len();
            prompt.push(token(at, text, span, partial));
        }
        prompt
    }

    fn geometry() -> Geometry {
        let view = View {
            place: Place::Whole,
            rect: [0.0, 0.0, 8.0, 8.0],
            grid: Grid { rows: 2, cols: 2 },
            lead: 0,
        };
        Geometry { source: (8, 8), rows: 1, cols: 1, views: vec![view; 2] }
    }

    #[test]
    fn views_are_folded_and_split_characters_are_one() {
        let items = items(&prompt(), Some(&geometry()));
        let told: Vec<(&str, usize, usize)> =
            items.iter().map(|item| (item.text.as_str(), item.first, item.last)).collect();
        assert_eq!(
            told,
            [
                ("<s>", 0, 0),
                ("visual 4 · 2 x 2", 1, 4),
                ("<row>", 5, 5),
                ("visual 4 · 2 x 2", 6, 9),
                ("<row>", 10, 10),
                ("猫", 11, 12),
                ("\\n", 13, 13),
                (":", 14, 14)
            ]
        );
        assert_eq!(items[5].ids, [7, 7]);
        let all = counts(&prompt());
        assert_eq!((all[Span::Visual.index()], all.iter().sum::<usize>()), (8, 15));
    }

    #[test]
    fn a_view_of_another_size_has_no_grid() {
        let items = items(&prompt()[..4], Some(&geometry()));
        assert_eq!(items[1].text, "visual 3");
    }

    #[test]
    fn a_folded_view_is_looked_at_as_all_its_tokens() {
        let mut data = vec![0.05; 15];
        data[0] = 0.3;
        let row = PatternRow { n_layers: 1, n_heads: 1, n_keys: 15, data: Arc::new(data) };
        let items = items(&prompt(), None);
        let shares = shares(&row, (0, None), &items).unwrap();
        assert!((shares[0] - 0.3).abs() < 1e-6 && (shares[1] - 0.2).abs() < 1e-6);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(super::shares(&row, (1, None), &items).is_none());
    }
}
