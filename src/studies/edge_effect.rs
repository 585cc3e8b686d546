//! The effect of edges: how much a phrase depends on what one span reads from another, layer by layer.
//!
//! Every pair of spans of which some row sees some key is cut in a window of layers around every layer, and the uncut
//! answer scored. As query rows, `last` is the last prompt row and `answer` the rows of answer tokens: those that the
//! grammar calls `decode`. The span of the first position has no edge to itself: that position would have nothing
//! left to look at.

use crate::{
    engine::{baseline::Baseline, error::RunError, load::Engine, see::Seen},
    progress::Cancel,
    spec::{span::Span, study::EdgeEffect},
    studies::phrase::Phrase,
    trace::finding::{EdgeFound, Finding},
};

/// The effects of edges under way.
#[derive(Debug)]
pub struct EdgeEffects {
    study: EdgeEffect,
    phrase: Phrase,
    /// Query and key.
    edges: Vec<(Span, Span)>,
    n_layers: usize,
    done: usize,
}

impl EdgeEffects {
    /// Before the first edge.
    ///
    /// # Errors
    /// [`RunError`]: a token that there is not, or a window without a middle.
    pub fn new(engine: &Engine, baseline: &Baseline, study: &EdgeEffect) -> Result<EdgeEffects, RunError> {
        if study.width.is_multiple_of(2) {
            let expected = "an odd number of layers: one in the middle".to_string();
            return Err(RunError::Spec { what: "the window's width", found: study.width, expected });
        }
        let phrase = Phrase::new(baseline, &study.tokens)?;
        let edges = edges(&spans(baseline));
        Ok(EdgeEffects { study: study.clone(), phrase, edges, n_layers: engine.info.n_layers, done: 0 })
    }

    /// Cuts the next edge in the next window, the layers of one edge one after the other; `None` when all is done.
    ///
    /// # Errors
    /// [`RunError`]; a cancelled step can be taken again.
    pub fn step(
        &mut self,
        engine: &Engine,
        baseline: &Baseline,
        images: &[&Seen],
        cancel: &Cancel,
    ) -> Result<Option<Finding>, RunError> {
        let Some(&(query, key)) = self.edges.get(self.done / self.n_layers) else { return Ok(None) };
        let layer = self.done % self.n_layers;
        let intervention = self.study.intervention(query, key, layer);
        let delta = self.phrase.delta(engine, baseline, &intervention, images, cancel)?;
        self.done += 1;
        Ok(Some(Finding::Edge(EdgeFound { query, key, layer, delta })))
    }

    /// Steps done, and in all.
    pub fn steps(&self) -> (usize, usize) {
        (self.done, self.edges.len() * self.n_layers)
    }
}

/// The span of every row that ran.
fn spans(baseline: &Baseline) -> Vec<Span> {
    let mut spans = baseline.prompt.spans();
    spans.resize(baseline.n_rows(), Span::Answer);
    spans
}

/// Every pair of spans of which a row sees a key, `[rows]` being given; those that reach the image come first.
fn edges(spans: &[Span]) -> Vec<(Span, Span)> {
    let first = |span: Span| spans.iter().position(|&other| other == span);
    let last = |span: Span| spans.iter().rposition(|&other| other == span);
    let pairs = Span::ALL.into_iter().flat_map(|query| Span::ALL.map(|key| (query, key)));
    let sees = |&(query, key): &(Span, Span)| match (last(query), first(key)) {
        (Some(row), Some(at)) => at <= row && !(query == key && at == 0),
        _ => false,
    };
    let mut edges: Vec<(Span, Span)> = pairs.filter(sees).collect();
    edges.sort_by_key(|(_, key)| *key != Span::Visual);
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_what_some_row_sees_and_the_image_comes_first() {
        use Span::{Answer, Bos, Last, Question, Visual};
        let found = edges(&[Bos, Visual, Visual, Question, Last, Answer]);
        assert_eq!(found[..4], [(Visual, Visual), (Question, Visual), (Last, Visual), (Answer, Visual)]);
        assert_eq!(found[4..6], [(Visual, Bos), (Question, Bos)]);
        assert!(found.contains(&(Last, Last)) && found.contains(&(Answer, Answer)));
        for none in [(Bos, Bos), (Bos, Visual), (Visual, Question), (Last, Answer)] {
            assert!(!found.contains(&none), "{none:?}");
        }
        assert_eq!(found.len(), 14);
        // A question in two parts sees what stands between them; the answer's only token is predicted alone.
        let split = edges(&[Question, Visual, Question, Last]);
        assert!(split.contains(&(Question, Visual)) && split.contains(&(Visual, Question)));
        assert!(!split.contains(&(Question, Question)), "its first row would have nothing left");
        assert!(split.iter().all(|(query, key)| *query != Answer && *key != Answer));
    }
}
