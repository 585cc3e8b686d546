//! What maps and charts are about: a token, a phrase or a whole answer, and its difference to another run.
//!
//! Means and differences are taken once for every change, not every frame. Knows runs; draws nothing.

use std::sync::Arc;

use crate::{
    device::shared::ResidentRow,
    trace::pattern::PatternRow,
    ui::store::{
        lane::Lane,
        run::{Flow, Mean, RowView, Run},
        runs::Runs,
        selection::Selection,
    },
    worker::protocol::{RunId, Slot},
};

/// What maps and charts show.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The run.
    pub slot: Slot,
    /// That run.
    pub run: &'a Run,
    /// Attention: of the token's row, or the mean over those of the phrase or the answer.
    pub pattern: &'a PatternRow,
    /// The same numbers on the window's device, if they are there.
    pub resident: Option<&'a ResidentRow>,
    /// Every layer and head, summed by span.
    pub flow: &'a Flow,
    /// The mean that it is; `None` of a single token.
    pub mean: Option<&'a Mean>,
    /// What a key would get if attention were spread evenly over all that is seen.
    pub uniform: f32,
    /// Whether it is of the run that was asked for, rather than of the one before.
    pub fresh: bool,
}

/// What a mean over a phrase was taken from: the rows are held, so that no others come to lie at their address.
type PhraseKey = (RunId, Vec<Arc<RowView>>);

/// What differs between two runs.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Attention of the run on show less that of the other one, `[layers, heads, keys]` over the prompt's keys.
    pub pattern: PatternRow,
    /// The other run.
    pub against: Slot,
    /// What both were taken from: holds them, so that nothing else can come to lie at their address.
    of: [Arc<Vec<f32>>; 2],
}

/// What is costly to remake for every frame.
#[derive(Debug, Default)]
pub struct Kept {
    phrase: Option<(PhraseKey, Mean)>,
    /// The same tokens in the run that is compared with.
    other: Option<(PhraseKey, Mean)>,
    difference: Option<Difference>,
}

impl Kept {
    /// What the selection is about; `None` where there is nothing yet.
    pub fn subject<'a>(&'a self, runs: &'a Runs, selection: &Selection) -> Option<Subject<'a>> {
        let (slot, tokens) = selection.subject();
        subject(runs.lane(slot), slot, &tokens, self.phrase.as_ref())
    }

    /// How it differs from the run that is compared with; `None` where none is, or the two do not fit.
    pub fn difference(&self) -> Option<&Difference> {
        self.difference.as_ref()
    }

    /// Follows runs and selection; costs nothing where they are what they were.
    pub fn follow(&mut self, runs: &Runs, selection: &Selection) {
        let (slot, tokens) = selection.subject();
        // A word under the pointer leaves the phrase's mean where it is: it is wanted again at once.
        if selection.hovered.is_none() {
            follow_phrase(&mut self.phrase, runs.lane(slot), &tokens);
        }
        let against = selection.against.filter(|other| *other != slot && runs.has(*other));
        let Some(other) = against else {
            (self.other, self.difference) = (None, None);
            return;
        };
        follow_phrase(&mut self.other, runs.lane(other), &tokens);
        let one = subject(runs.lane(slot), slot, &tokens, self.phrase.as_ref());
        let two = subject(runs.lane(other), other, &tokens, self.other.as_ref());
        self.difference = match (one, two) {
            (Some(one), Some(two)) => difference(one, two, self.difference.take()),
            _ => None,
        };
    }
}

/// Takes the mean over some tokens of a run, where it is not at hand.
fn follow_phrase(kept: &mut Option<(PhraseKey, Mean)>, lane: Lane<'_>, tokens: &[usize]) {
    let Some(run) = lane.view().filter(|_| tokens.len() > 1) else {
        *kept = None;
        return;
    };
    // While a run streams in, rows of the one before stand in for those that are still to come.
    let rows: Vec<&Arc<RowView>> = tokens.iter().filter_map(|&at| Some(lane.row(at)?.0)).collect();
    let same = |((id, held), _): &(PhraseKey, Mean)| {
        *id == run.id && held.len() == rows.len() && held.iter().zip(&rows).all(|(a, b)| Arc::ptr_eq(a, b))
    };
    if !kept.as_ref().is_some_and(same) {
        let mean = Mean::of(rows.iter().map(|row| row.as_ref()), run.prompt.len());
        *kept = Some(((run.id, rows.into_iter().cloned().collect()), mean));
    }
}

fn subject<'a>(
    lane: Lane<'a>,
    slot: Slot,
    tokens: &[usize],
    phrase: Option<&'a (PhraseKey, Mean)>,
) -> Option<Subject<'a>> {
    let run = lane.view()?;
    let of_mean = |mean: &'a Mean, fresh| {
        let (pattern, flow, uniform) = (mean.pattern.as_ref()?, &mean.flow, mean.uniform);
        Some(Subject { slot, run, pattern, resident: None, flow, mean: Some(mean), uniform, fresh })
    };
    match tokens {
        [] => of_mean(lane.mean()?, !lane.stale()),
        &[at] => {
            let (row, fresh) = lane.row(at)?;
            let (pattern, flow, resident) = (&row.pattern, &row.flow, row.resident.as_ref());
            let uniform = pattern.uniform();
            Some(Subject { slot, run, pattern, resident, flow, mean: None, uniform, fresh })
        }
        _ => of_mean(phrase.map(|(_, mean)| mean)?, !lane.stale()),
    }
}

/// One less the other, over the keys of the prompt that both share.
fn difference(one: Subject<'_>, two: Subject<'_>, held: Option<Difference>) -> Option<Difference> {
    let (a, b) = (one.pattern, two.pattern);
    let of = [a.data.clone(), b.data.clone()];
    let same = |held: &Difference| {
        held.against == two.slot && held.of.iter().zip(&of).all(|(held, new)| Arc::ptr_eq(held, new))
    };
    if let Some(held) = held.filter(same) {
        return Some(held);
    }
    if (a.n_layers, a.n_heads) != (b.n_layers, b.n_heads) || !one.run.same_prompt(two.run) {
        return None;
    }
    let n_keys = one.run.prompt.len();
    let rows = a.data.chunks_exact(a.n_keys.max(1)).zip(b.data.chunks_exact(b.n_keys.max(1)));
    let data: Vec<f32> = rows.flat_map(|(a, b)| a.iter().zip(b).take(n_keys).map(|(a, b)| a - b)).collect();
    let full = data.len() == a.n_layers * a.n_heads * n_keys;
    let pattern = PatternRow { n_layers: a.n_layers, n_heads: a.n_heads, n_keys, data: data.into() };
    full.then_some(Difference { pattern, against: two.slot, of })
}
