//! The beginning of a conversation, as an earlier run left it: a further question runs only the rows behind it.
//!
//! Rows count as the same where id, patch and rotary position are, and so does everything before them. Residuals are
//! `[rows, width]`. Knows kept runs and prompts; runs nothing.

use burn::tensor::Tensor;

use crate::{
    engine::{baseline::Baseline, decoding::Rows},
    model::kv_cache::KvCache,
    prompt::build::Prompt,
    spec::{experiment::Experiment, span::Span},
    trace::flow::{RowFlow, Shares},
};

/// The first rows of a prompt, in an uncut run that has them already.
pub(super) struct Stem<'a> {
    before: &'a Baseline,
    /// What each span of that run is now: the last turn's question has been answered.
    now: [Option<Span>; Span::COUNT],
    /// How many there are.
    pub rows: usize,
}

impl<'a> Stem<'a> {
    /// The rows that a prompt shares with an earlier run; `None` where they cannot be taken over. `rows` are the
    /// prompt's, of which the last is always run: it predicts the answer.
    pub fn of(before: &'a Baseline, experiment: &Experiment, prompt: &Prompt, rows: &Rows) -> Option<Self> {
        let (old, new) = (&before.experiment, experiment);
        let kept_alike = |e: &Experiment| (e.record.residuals_every, e.record.half);
        let uncut = old.intervention.is_empty() && new.intervention.is_empty();
        if !uncut || kept_alike(old) != kept_alike(new) || !new.begins_with_images_of(old) {
            return None;
        }
        let mut now = [None; Span::COUNT];
        let most = before.n_rows().min(prompt.len().saturating_sub(1));
        let positions = before.cache.positions();
        let answer = before.trace.answer.iter().map(|token| (token.id, None));
        let held = before.prompt.tokens.iter().map(|token| (token.id, token.visual)).chain(answer);
        let same =
            held.zip(&prompt.tokens).take(most).enumerate().take_while(|(at, ((id, visual), token))| {
                let place = &mut now[before.trace.span(*at).index()];
                // Sums by span are taken over whole: a span cannot have become two.
                (*id, *visual) == (token.id, token.visual)
                    && positions.get(*at) == rows.positions.get(*at)
                    && *place.get_or_insert(token.span) == token.span
            });
        let rows = same.count();
        (rows > 0).then_some(Stem { before, now, rows })
    }

    /// Keys and values.
    pub fn cache(&self) -> KvCache {
        let mut cache = self.before.cache.clone();
        cache.truncate(self.rows);
        cache
    }

    /// What each row gives to each span, as the spans are now.
    pub fn flow(&self, prompt: &Prompt) -> RowFlow {
        let flow = &self.before.flow;
        let moved = |shares: &Shares| {
            let mut moved = [0.0; Span::COUNT];
            for (share, now) in shares.iter().zip(self.now) {
                // A span that no shared row has got nothing from any.
                moved[now.unwrap_or(Span::System).index()] += share;
            }
            moved
        };
        let rows = (0..flow.n_layers).flat_map(|layer| flow.layer(layer).iter().take(self.rows).map(&moved));
        let data = rows.flatten().collect();
        RowFlow { n_layers: flow.n_layers, spans: prompt.spans()[..self.rows].to_vec(), data }
    }

    /// What was kept of residuals: by the layer that they enter, and the decoder's output under `n_layers`.
    pub fn residuals(&self, n_layers: usize) -> impl Iterator<Item = (usize, Tensor<2>)> + '_ {
        let after = (n_layers, &self.before.resid_post);
        let all = self.before.resid_pre.iter().map(|(layer, resid)| (*layer, resid)).chain([after]);
        all.map(|(layer, resid)| (layer, resid.clone().narrow(0, 0, self.rows)))
    }
}
