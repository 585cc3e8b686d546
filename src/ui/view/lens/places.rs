//! Where the lens reads: rows of answer tokens, of what is selected, of the image, of the whole prompt.
//!
//! The row of a position says what comes next: row `p` predicts the token at `p + 1`. Knows runs, geometry and the
//! selection; draws nothing. What follows from them is made once for every change.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    spec::span::Span,
    trace::{
        geometry::{self, Geometry},
        tokens::{PromptToken, VisualRef},
    },
    ui::{
        store::{images::Held, run::Run, selection::Selection},
        view::lens::words::plain,
    },
    worker::protocol::{RunId, Slot},
};

/// A choice of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Those that predict the answer's tokens.
    #[default]
    Answer,
    /// Those of the pinned tokens, the locked patches and the chosen prompt tokens.
    Selected,
    /// Those of the visual tokens.
    Image,
    /// Those of every prompt position.
    Prompt,
}

impl Rows {
    /// All of them.
    pub const ALL: [Rows; 4] = [Rows::Answer, Rows::Selected, Rows::Image, Rows::Prompt];

    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            Rows::Answer => "answer rows",
            Rows::Selected => "selected",
            Rows::Image => "image",
            Rows::Prompt => "all prompt",
        }
    }

    /// What it is, in words.
    pub fn tooltip(self) -> &'static str {
        match self {
            Rows::Answer => {
                "The rows that predict the answer's tokens: each stands one position before its token"
            }
            Rows::Selected => {
                "The rows that predict the pinned tokens, the locked patches and the prompt tokens that were clicked"
            }
            Rows::Image => "The visual tokens of the image",
            Rows::Prompt => "Every position of the prompt",
        }
    }
}

/// The answer token that a row predicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its number in the answer.
    pub token: usize,
    /// Its id.
    pub id: u32,
    /// Its text.
    pub text: String,
}

/// One position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Absolute.
    pub position: usize,
    /// Its part.
    pub span: Span,
    /// What it holds: a token, or the place of a patch.
    pub holds: String,
    /// What its row predicts, where that is a token of the answer.
    pub next: Option<Next>,
    /// Of a visual token its number among those of the image.
    pub patch: Option<usize>,
}

impl Place {
    /// In words: "row 153 predicts “camera”".
    pub fn told(&self) -> String {
        match (&self.next, self.patch) {
            (Some(next), _) => format!("row {} predicts “{}”", self.position, plain(&next.text)),
            (None, Some(patch)) => format!("row {}, patch {patch}: {}", self.position, self.holds),
            (None, None) => format!("row {}, after “{}”", self.position, self.holds),
        }
    }

    /// Whether it is selected. `slot`: the slot of its run.
    pub fn is_selected(&self, selection: &Selection, slot: Option<Slot>) -> bool {
        let pinned = |next: &Next| slot == Some(selection.slot) && selection.tokens.contains(&next.token);
        self.next.as_ref().is_some_and(pinned)
            || self.patch.is_some_and(|patch| selection.patches.contains(&patch))
            || selection.positions.contains(&self.position)
    }
}

/// What places follow from.
#[derive(Debug, PartialEq)]
struct Key {
    run: RunId,
    /// Tokens of its answer so far.
    answer: usize,
    image: Option<u64>,
    rows: Rows,
    tokens: Vec<usize>,
    positions: BTreeSet<usize>,
    patches: BTreeSet<usize>,
}

impl Key {
    /// Whether it still holds; copies nothing.
    fn holds(&self, run: &Run, held: Option<&Held>, rows: Rows, selection: &Selection) -> bool {
        let own = (self.run, self.answer, self.image, self.rows);
        let selected = || {
            (&self.tokens, &self.positions, &self.patches)
                == (&selection.tokens, &selection.positions, &selection.patches)
        };
        own == (run.id, run.answer.len(), held.map(|held| held.serial), rows)
            && (rows != Rows::Selected || selected())
    }
}

/// The places of a choice of rows.
#[derive(Debug, Default)]
pub struct Places {
    key: Option<Key>,
    /// All of them, by ascending position.
    pub all: Arc<[Place]>,
    /// Their positions.
    pub positions: Arc<[usize]>,
    /// Their positions and those of all visual tokens.
    pub with_image: Arc<[usize]>,
    /// Positions of the visual tokens, by number.
    pub visual: Arc<[usize]>,
    /// Grows with every change.
    pub serial: u64,
}

impl Places {
    /// Follows run and selection; costs nothing where they are what they were. `held`: the run's image.
    pub fn follow(&mut self, run: &Run, held: Option<&Held>, rows: Rows, selection: &Selection) {
        if self.key.as_ref().is_some_and(|key| key.holds(run, held, rows, selection)) {
            return;
        }
        let visual = run.visual_keys();
        let chosen = chosen(run, &visual, rows, selection);
        let geometry = held.map(|held| &held.view.geometry);
        self.all = chosen.iter().map(|&position| place(run, &visual, geometry, position)).collect();
        self.with_image =
            chosen.iter().chain(&visual).copied().collect::<BTreeSet<_>>().into_iter().collect();
        self.positions = chosen.into_iter().collect();
        self.visual = visual.into();
        self.serial += 1;
        self.key = Some(Key {
            run: run.id,
            answer: run.answer.len(),
            image: held.map(|held| held.serial),
            rows,
            tokens: selection.tokens.clone(),
            positions: selection.positions.clone(),
            patches: selection.patches.clone(),
        });
    }
}

/// Positions, ascending. The last token of an answer was never read by the model: it has no row.
fn chosen(run: &Run, visual: &[usize], rows: Rows, selection: &Selection) -> BTreeSet<usize> {
    let before = |token: usize| run.answer.get(token)?.position.checked_sub(1);
    let mut chosen: BTreeSet<usize> = match rows {
        Rows::Answer => (0..run.answer.len()).filter_map(before).collect(),
        Rows::Image => visual.iter().copied().collect(),
        Rows::Prompt => (0..run.prompt.len()).collect(),
        Rows::Selected => {
            let patches = selection.patches.iter().filter_map(|patch| visual.get(*patch).copied());
            let tokens = selection.tokens.iter().filter_map(|token| before(*token));
            tokens.chain(patches).chain(selection.positions.iter().copied()).collect()
        }
    };
    let rows = run.prompt.len() + run.answer.len().saturating_sub(1);
    chosen.retain(|position| *position < rows);
    chosen
}

fn place(run: &Run, visual: &[usize], geometry: Option<&Geometry>, position: usize) -> Place {
    let after = (position + 1).checked_sub(run.prompt.len());
    let next = after.and_then(|token| {
        let next = run.answer.get(token)?;
        let text = if next.end { "end".to_string() } else { next.text.clone() };
        Some(Next { token, id: next.id, text })
    });
    let patch = visual.binary_search(&position).ok();
    let holds = match run.prompt.get(position) {
        Some(PromptToken { visual: Some(visual), .. }) => patch_name(*visual, geometry),
        Some(token) => plain(&token.text),
        None => {
            let at = position.checked_sub(run.prompt.len());
            at.and_then(|at| run.answer.get(at)).map_or(String::new(), |token| plain(&token.text))
        }
    };
    Place { position, span: run.span(position), holds, next, patch }
}

/// The place of a patch in its view, and which view that is.
fn patch_name(visual: VisualRef, geometry: Option<&Geometry>) -> String {
    let Some(cell) = visual.cell else { return "class token".to_string() };
    let own = format!("row {}, column {}", cell.row, cell.col);
    let tiled = geometry.filter(|geometry| geometry.is_tiled());
    match tiled.and_then(|geometry| geometry.views.get(visual.view)).map(|view| view.place) {
        Some(geometry::Place::Tile { row, col }) => format!("tile {row}:{col}, {own}"),
        Some(geometry::Place::Whole) => format!("whole, {own}"),
        None => own,
    }
}

/// Whether all of `some` are in `all`; both ascend.
pub fn contained(some: &[usize], all: &[usize]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.by_ref().any(|other| other == one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource},
        trace::tokens::{AnswerToken, Cell},
    };

    /// `<s>`, two patches, `what`, `:`, and the answer ` a`, ` duck`, end.
    fn run() -> Run {
        let mut run = Run::new(7, Experiment::ask(ImageSource::File("a.png".into()), "what", 4), None);
        let cell = |col| Some(VisualRef { image: 0, view: 0, cell: Some(Cell { row: 0, col }) });
        let prompt = [
            ("<s>", Span::Bos, None),
            ("<image>", Span::Visual, cell(0)),
            ("<image>", Span::Visual, cell(1)),
            (" what", Span::Question, None),
            (":", Span::Last, None),
        ];
        for (position, (text, span, visual)) in prompt.into_iter().enumerate() {
            run.prompt.push(PromptToken {
                position,
                id: 1,
                text: text.to_string(),
                span,
                visual,
                partial: false,
            });
        }
        for (at, text) in [" a", " duck", "</s>"].into_iter().enumerate() {
            run.answer.push(AnswerToken {
                position: 5 + at,
                id: 10 + at as u32,
                text: text.to_string(),
                span: Span::Answer,
                logprob: -0.1,
                entropy: None,
                top: Vec::new(),
                end: at == 2,
                partial: false,
            });
        }
        run
    }

    fn places(rows: Rows, selection: &Selection) -> Places {
        let mut places = Places::default();
        places.follow(&run(), None, rows, selection);
        places
    }

    #[test]
    fn a_row_predicts_the_token_after_it() {
        let places = places(Rows::Answer, &Selection::default());
        assert_eq!(*places.positions, [4, 5, 6], "the last token has no row");
        let told: Vec<String> = places.all.iter().map(Place::told).collect();
        assert_eq!(told, ["row 4 predicts “a”", "row 5 predicts “duck”", "row 6 predicts “end”"]);
        assert_eq!(places.all[1].holds, "a");
        assert_eq!(*places.with_image, [1, 2, 4, 5, 6]);
    }

    #[test]
    fn what_is_selected_is_read_where_it_has_a_row() {
        let selection = Selection {
            tokens: vec![1],
            positions: [3, 7, 99].into(),
            patches: [1, 40].into(),
            ..Selection::default()
        };
        let places = places(Rows::Selected, &selection);
        assert_eq!(*places.positions, [2, 3, 5]);
        assert_eq!(places.all[0].told(), "row 2, patch 1: row 0, column 1");
        assert_eq!(places.all[1].told(), "row 3, after “what”");
        assert!(places.all.iter().all(|place| place.is_selected(&selection, Some(0))));
        assert!(!places.all[2].is_selected(&selection, Some(1)), "a token of another run");
        assert!(!places.all[2].is_selected(&selection, None));
    }

    #[test]
    fn places_are_made_anew_only_when_they_change() {
        let (mut places, mut selection) = (Places::default(), Selection::default());
        places.follow(&run(), None, Rows::Image, &selection);
        let made = places.all.clone();
        selection.tokens = vec![0];
        places.follow(&run(), None, Rows::Image, &selection);
        assert!(Arc::ptr_eq(&made, &places.all), "pins are none of the image's business");
        places.follow(&run(), None, Rows::Selected, &selection);
        assert_eq!((places.serial, &*places.positions), (2, &[4][..]));
        assert_eq!(places.visual.len(), 2);
    }

    #[test]
    fn one_list_contains_another() {
        assert!(contained(&[], &[]) && contained(&[2, 5], &[1, 2, 3, 5]));
        assert!(!contained(&[2, 4], &[1, 2, 3, 5]) && !contained(&[1], &[]));
    }
}
