//! One run as far as it is known: its prompt, its tokens and their attention, and the mean over them.
//!
//! Knows what came of one run; nothing of other runs, of drawing or of channels.

use std::{borrow::Cow, sync::Arc};

use crate::{
    device::shared::ResidentRow,
    spec::{experiment::Experiment, span::Span},
    trace::{
        flow::{self, Shares},
        pattern::PatternRow,
        report::{Effect, End, Start},
        tokens::{AnswerToken, PromptToken},
    },
    ui::store::setup::Setup,
    worker::protocol::{Row, RunId, ToldRow},
};

/// How attention divides among the spans: of the mean of all heads, and of each.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    /// `[layers]`.
    mean: Vec<Shares>,
    /// `[layers, heads]`, layers slowest.
    heads: Vec<Shares>,
}

impl Flow {
    fn of_row(row: &PatternRow, span: impl Fn(usize) -> Span) -> Self {
        Flow { mean: flow::of_row(row, &span), heads: flow::of_heads(row, &span) }
    }

    fn n_heads(&self) -> usize {
        self.heads.len() / self.mean.len().max(1)
    }

    /// Layer by layer, the shares of one head, or of the mean of all.
    pub fn of(&self, head: Option<usize>) -> Cow<'_, [Shares]> {
        let n_heads = self.n_heads();
        match head.filter(|&head| head < n_heads) {
            None => Cow::Borrowed(&self.mean),
            Some(head) => self.heads.iter().skip(head).step_by(n_heads).copied().collect(),
        }
    }

    /// The share of one span in one layer; 0 where there is no such layer.
    pub fn share(&self, layer: usize, head: Option<usize>, span: Span) -> f32 {
        let n_heads = self.n_heads();
        let shares = match head.filter(|&head| head < n_heads) {
            None => self.mean.get(layer),
            Some(head) => self.heads.get(layer * n_heads + head),
        };
        shares.map_or(0.0, |shares| shares[span.index()])
    }

    /// Moves every share by `share` of the way to that of `row`, and adds to the sums of squared distances
    /// (Welford's method).
    fn fold(&mut self, squares: &mut Flow, row: &Flow, share: f32) {
        let parts = [
            (&mut self.mean, &mut squares.mean, &row.mean),
            (&mut self.heads, &mut squares.heads, &row.heads),
        ];
        for (to, squares, from) in parts {
            to.resize(from.len(), [0.0; Span::COUNT]);
            squares.resize(from.len(), [0.0; Span::COUNT]);
            for ((to, squares), from) in to.iter_mut().zip(squares).zip(from) {
                for ((mean, square), part) in to.iter_mut().zip(squares).zip(from) {
                    let before = part - *mean;
                    *mean += before * share;
                    *square += before * (part - *mean);
                }
            }
        }
    }
}

/// The attention that predicted one token.
#[derive(Clone, Debug)]
pub struct RowView {
    /// The numbers.
    pub pattern: PatternRow,
    /// Where they lie on the window's own device, if the model runs there.
    pub resident: Option<ResidentRow>,
    /// Every layer, summed by span. Taken once, when the row arrives.
    pub flow: Flow,
}

/// One token of the uncut answer as an intervention scores it.
#[derive(Clone, Debug)]
pub struct ScoredToken {
    /// The token, with the log probability that it has now.
    pub token: AnswerToken,
    /// What the intervention did to it.
    pub effect: Effect,
    /// The attention that predicted it, if it was kept.
    pub row: Option<Arc<RowView>>,
}

/// The mean of an answer's rows so far. It grows by one row at a time: a whole answer is never summed anew.
#[derive(Clone, Debug, Default)]
pub struct Mean {
    /// Rows in it.
    pub rows: usize,
    /// Attention to the prompt's positions; `None` before the first row.
    pub pattern: Option<PatternRow>,
    /// Shares of the spans, layer by layer.
    pub flow: Flow,
    /// Sums of squared distances from these.
    squares: Flow,
    /// What a key would get on average if each row spread its attention evenly over all that it sees.
    pub uniform: f32,
}

impl Mean {
    /// Standard deviation of a span's share over the rows; 0 of a single row.
    pub fn deviation(&self, layer: usize, head: Option<usize>, span: Span) -> f32 {
        (self.squares.share(layer, head, span) / self.rows.max(1) as f32).max(0.0).sqrt()
    }

    /// The mean of some rows, of which the first `n_keys` keys count.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a RowView>, n_keys: usize) -> Self {
        let mut mean = Mean::default();
        rows.into_iter().for_each(|row| mean.fold(row, n_keys));
        mean
    }

    /// Takes in one more row, of which the first `n_keys` keys count.
    fn fold(&mut self, row: &RowView, n_keys: usize) {
        self.rows += 1;
        let share = 1.0 / self.rows as f32;
        let from = &row.pattern;
        let mean = self.pattern.get_or_insert_with(|| PatternRow {
            n_layers: from.n_layers,
            n_heads: from.n_heads,
            n_keys,
            data: Arc::new(vec![0.0; from.n_layers * from.n_heads * n_keys]),
        });
        // Copied when a map on screen still holds it, so that what is drawn does not change underneath.
        let data = Arc::make_mut(&mut mean.data);
        for (to, from) in data.chunks_exact_mut(n_keys.max(1)).zip(from.data.chunks_exact(from.n_keys.max(1)))
        {
            to.iter_mut().zip(from).for_each(|(m, p)| *m += (p - *m) * share);
        }
        self.flow.fold(&mut self.squares, &row.flow, share);
        self.uniform += (row.pattern.uniform() - self.uniform) * share;
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// What was asked.
    pub experiment: Experiment,
    /// The uncut run on show when it was asked; `None` for an uncut run.
    pub base: Option<RunId>,
    /// The state that it was asked in.
    pub setup: Setup,
    /// Its letter: 0 is A.
    pub letter: usize,
    /// Prompt positions; empty until the worker has begun.
    pub prompt: Vec<PromptToken>,
    /// Words of the prompt that the tokenizer does not know.
    pub unknown_words: Vec<String>,
    /// Where an intervention started, once that is known.
    pub start: Option<Start>,
    /// The uncut answer, scored under the intervention.
    pub scored: Vec<ScoredToken>,
    /// Answer tokens so far.
    pub answer: Vec<AnswerToken>,
    /// One an answer token; `None` where its attention is not kept.
    pub rows: Vec<Option<Arc<RowView>>>,
    /// The mean of those rows.
    pub mean: Mean,
    /// How it ended; `None` while it runs.
    pub end: Option<End>,
}

impl Run {
    /// A run that has not begun.
    pub fn new(id: RunId, experiment: Experiment, base: Option<RunId>) -> Self {
        Run {
            id,
            experiment,
            base,
            setup: Setup::default(),
            letter: 0,
            prompt: Vec::new(),
            unknown_words: Vec::new(),
            start: None,
            scored: Vec::new(),
            answer: Vec::new(),
            rows: Vec::new(),
            mean: Mean::default(),
            end: None,
        }
    }

    /// Whether it has something to show.
    pub fn has_answer(&self) -> bool {
        !self.answer.is_empty()
    }

    /// The span of any position.
    pub fn span(&self, position: usize) -> Span {
        self.prompt.get(position).map_or(Span::Answer, |t| t.span)
    }

    /// Absolute positions of the visual tokens of the first image, in prompt order.
    pub fn visual_keys(&self) -> Vec<usize> {
        let first = |t: &&PromptToken| t.span == Span::Visual && t.visual.is_none_or(|v| v.image == 0);
        self.prompt.iter().filter(first).map(|t| t.position).collect()
    }

    /// Bytes of the attention that it holds.
    pub fn bytes(&self) -> usize {
        let rows =
            self.rows.iter().flatten().chain(self.scored.iter().filter_map(|scored| scored.row.as_ref()));
        // Rows that are told once are held once.
        let mut held: Vec<(*const f32, usize)> =
            rows.map(|row| (row.pattern.data.as_ptr(), row.pattern.data.len())).collect();
        held.sort_unstable();
        held.dedup();
        held.iter().map(|(_, len)| 4 * len).sum()
    }

    /// Whether both are about the same prompt, position by position.
    pub fn same_prompt(&self, other: &Run) -> bool {
        let same = |(a, b): (&PromptToken, &PromptToken)| a.id == b.id && a.span == b.span;
        self.prompt.len() == other.prompt.len() && self.prompt.iter().zip(&other.prompt).all(same)
    }

    /// Takes one token of the uncut answer.
    pub fn score(&mut self, token: AnswerToken, effect: Effect, row: Option<Row>) {
        let row = row.map(|row| self.view(row));
        self.scored.push(ScoredToken { token, effect, row });
    }

    /// Takes one more token of the answer.
    pub fn push(&mut self, token: AnswerToken, row: ToldRow) {
        let row = match row {
            ToldRow::Nothing => None,
            ToldRow::AsScored => self.scored.get(self.answer.len()).and_then(|scored| scored.row.clone()),
            ToldRow::New(row) => Some(self.view(row)),
        };
        if let Some(row) = &row {
            self.mean.fold(row, self.prompt.len());
        }
        self.answer.push(token);
        self.rows.push(row);
    }

    fn view(&self, row: Row) -> Arc<RowView> {
        let flow = Flow::of_row(&row.pattern, |key| self.span(key));
        Arc::new(RowView { pattern: row.pattern, resident: row.resident, flow })
    }
}
