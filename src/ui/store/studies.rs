//! The studies of the runs on show, and what they have found so far.
//!
//! Of each kind the last one is held. Knows findings; nothing of how they are drawn.

use std::collections::BTreeMap;

use crate::{
    spec::{
        span::Span,
        study::{Study, StudyKind},
    },
    trace::finding::{Agreement, Block, Compression, Finding, LensReading},
    worker::protocol::RunId,
};

/// How far a study is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// It found everything.
    Whole,
    /// It was given up.
    Dropped,
    /// It cannot be done.
    Failed(String),
}

/// One study.
#[derive(Clone, Debug)]
pub struct StudyRun {
    /// Its name.
    pub id: RunId,
    /// What it is to find out.
    pub study: Study,
    /// The run that it is about.
    pub base: RunId,
    /// That run's letter.
    pub base_name: String,
    /// What it found.
    pub found: Found,
    /// Steps done, and steps in all; 0 of 0 before the first.
    pub steps: (usize, usize),
    /// How far it is.
    pub state: State,
    /// Grows with every finding, so that what is drawn of them can be kept.
    pub serial: u64,
}

/// What a study found: only the part of its kind is filled.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Blocks of patches, in the order in which they were taken away.
    pub blocks: Vec<Block>,
    /// How effects of blocks go with attention, coarse sizes first.
    pub agreements: Vec<Agreement>,
    /// For every edge, the change by layer.
    pub edges: BTreeMap<(Span, Span), BTreeMap<usize, f32>>,
    /// For every layer and head, the change.
    pub heads: BTreeMap<(usize, usize), f32>,
    /// For every layer and position, what would be said.
    pub lens: BTreeMap<usize, BTreeMap<usize, LensReading>>,
    /// Shortened contexts.
    pub compressed: Vec<Compression>,
}

impl Found {
    fn take(&mut self, finding: Finding) {
        match finding {
            Finding::Block(block) => self.blocks.push(block),
            Finding::Agreement(agreement) => self.agreements.push(agreement),
            Finding::Edge(edge) => {
                self.edges.entry((edge.query, edge.key)).or_default().insert(edge.layer, edge.delta);
            }
            Finding::Head(head) => _ = self.heads.insert((head.layer, head.head), head.delta),
            Finding::Lens(page) => {
                let readings = page.readings.into_iter().map(|reading| (reading.position, reading));
                self.lens.entry(page.layer).or_default().extend(readings);
            }
            Finding::Compressed(compression) => self.compressed.push(compression),
        }
    }

    /// For each of `n` patches, the change of the smallest block so far that it lies in; NaN where there is none.
    pub fn effects(&self, n: usize) -> Vec<f32> {
        let mut effects = vec![(usize::MAX, f32::NAN); n];
        for block in &self.blocks {
            for &patch in &block.patches {
                if let Some(effect) = effects.get_mut(patch).filter(|(side, _)| block.side <= *side) {
                    // Of a block, every patch has its share: sizes can be compared.
                    *effect = (block.side, block.delta / block.patches.len().max(1) as f32);
                }
            }
        }
        effects.into_iter().map(|(_, effect)| effect).collect()
    }
}

/// All studies.
#[derive(Debug, Default)]
pub struct Studies {
    by_kind: BTreeMap<StudyKind, StudyRun>,
}

impl Studies {
    /// The last of a kind.
    pub fn get(&self, kind: StudyKind) -> Option<&StudyRun> {
        self.by_kind.get(&kind)
    }

    /// All that go on.
    pub fn running(&self) -> impl Iterator<Item = &StudyRun> {
        self.by_kind.values().filter(|run| run.state == State::Running)
    }

    /// Takes up a new one, in the place of the last of its kind.
    pub fn begin(&mut self, id: RunId, study: Study, base: RunId, base_name: String) {
        let (found, steps, state) = (Found::default(), (0, 0), State::Running);
        let kind = study.kind();
        self.by_kind.insert(kind, StudyRun { id, study, base, base_name, found, steps, state, serial: 0 });
    }

    fn by_id(&mut self, id: RunId) -> Option<&mut StudyRun> {
        self.by_kind.values_mut().find(|run| run.id == id)
    }

    /// Something was found.
    pub fn found(&mut self, id: RunId, finding: Finding, steps: (usize, usize)) {
        if let Some(run) = self.by_id(id) {
            run.found.take(finding);
            run.steps = steps;
            run.serial += 1;
        }
    }

    /// One ended.
    pub fn ended(&mut self, id: RunId, whole: bool) {
        if let Some(run) = self.by_id(id).filter(|run| run.state == State::Running) {
            run.state = if whole { State::Whole } else { State::Dropped };
        }
    }

    /// One cannot be done. Returns whether it was a study.
    pub fn failed(&mut self, id: RunId, why: &str) -> bool {
        let run = self.by_id(id);
        run.map(|run| run.state = State::Failed(why.to_string())).is_some()
    }

    /// None goes on: what was found stays.
    pub fn give_up(&mut self) {
        let running = self.by_kind.values_mut().filter(|run| run.state == State::Running);
        running.for_each(|run| run.state = State::Dropped);
    }

    /// Forgets all: another model makes them meaningless.
    pub fn clear(&mut self) {
        self.by_kind.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::study::{PatchEffect, Taking};

    #[test]
    fn smaller_blocks_take_the_place_of_larger_ones() {
        let mut studies = Studies::default();
        let (how, layers) = (Taking::Cut, Default::default());
        studies.begin(
            3,
            Study::Patches(PatchEffect { tokens: vec![], how, layers, coarsest: 2 }),
            1,
            "A".into(),
        );
        let block =
            |patches: &[usize], side, delta| Finding::Block(Block { patches: patches.to_vec(), side, delta });
        studies.found(3, block(&[0, 1], 2, -1.0), (1, 3));
        studies.found(3, block(&[1], 1, -0.25), (2, 3));
        studies.found(9, block(&[2], 1, -9.0), (3, 3));
        let run = studies.get(StudyKind::Patches).unwrap();
        let effects = run.found.effects(3);
        assert_eq!(effects[..2], [-0.5, -0.25]);
        assert!(effects[2].is_nan() && run.serial == 2);
        studies.ended(3, true);
        studies.ended(3, false);
        assert_eq!(studies.get(StudyKind::Patches).unwrap().state, State::Whole);
    }
}
