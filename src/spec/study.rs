//! What to find out about an answer beyond its own run, as plain data.
//!
//! A study names what it is about and how finely, and what it does to the model at each step, as an intervention that
//! could be typed; its findings come one by one (`trace::finding`). Knows the grammar; knows nothing of tensors.

use serde::Serialize;

use crate::spec::{
    ablation::{Ablation, Fill},
    experiment::Intervention,
    knockout::Knockout,
    sets::{Name, Numbers, Place, Places, Range, Set, Term},
    span::Span,
};

/// A study of one answer. An empty list of tokens means all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Study {
    /// How much a phrase depends on every block of patches.
    Patches(PatchEffect),
    /// How much it depends on what one span reads from another, layer by layer.
    Edges(EdgeEffect),
    /// How much it depends on every head's view of the image.
    Heads(HeadEffect),
    /// What every layer would say at some positions.
    Lens(LensAt),
    /// What a context of which only a part is left still knows.
    Compress(Compress),
}

/// Blocks of patches, each taken away in turn, coarse ones first.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
    /// How a block is taken away.
    pub how: Taking,
    /// Layers in which a block is cut; all of them where it is overwritten.
    pub layers: Numbers,
    /// Patches along the side of the first blocks; halved down to 1.
    pub coarsest: usize,
}

impl PatchEffect {
    /// What takes a block away: visual tokens by their number among those of the first image, ascending.
    pub fn intervention(&self, patches: &[usize]) -> Intervention {
        let block = block(patches);
        match self.how {
            Taking::Cut => {
                let outside = Set(vec![term(Name::All), Term { minus: true, ..block.clone() }]);
                let cut = Knockout {
                    query: outside,
                    key: Set(vec![block]),
                    layers: self.layers.clone(),
                    heads: Numbers::All,
                };
                cutting(cut)
            }
            Taking::Mean => {
                let ablation = Ablation { tokens: Set(vec![block]), fill: Fill::Mean, deepstack: false };
                Intervention { knockouts: Vec::new(), ablations: vec![ablation] }
            }
        }
    }
}

/// How a block of patches is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Taking {
    /// No position outside the block may look at it: `all - BLOCK -> BLOCK`.
    #[default]
    Cut,
    /// It is overwritten with the mean visual embedding of the prompt.
    Mean,
}

impl Taking {
    /// Both, by name.
    pub const ALL: [(&'static str, Taking); 2] = [("cut", Taking::Cut), ("mean", Taking::Mean)];
}

/// What one span reads from another, cut in a window of layers around every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
    /// Layers in the window: odd, clipped at both ends.
    pub width: usize,
}

impl EdgeEffect {
    /// What cuts an edge in the window around a layer.
    pub fn intervention(&self, query: Span, key: Span, layer: usize) -> Intervention {
        // As query rows, `answer` would be those that predict it, the last prompt row among them.
        let query = if query == Span::Answer { Name::Decode } else { Name::Span(query) };
        let window = Range::Around(layer, self.width / 2);
        let cut = Knockout {
            query: Set(vec![term(query)]),
            key: Set(vec![term(Name::Span(key))]),
            layers: Numbers::Of(vec![window]),
            heads: Numbers::All,
        };
        cutting(cut)
    }
}

/// `answer -> visual`, cut in one head of one layer at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadEffect {
    /// Answer tokens whose log probabilities count.
    pub tokens: Vec<usize>,
}

impl HeadEffect {
    /// What cuts one head's view of the image.
    pub fn intervention(&self, layer: usize, head: usize) -> Intervention {
        let cut = Knockout {
            query: Set(vec![term(Name::Span(Span::Answer))]),
            key: Set(vec![term(Name::Span(Span::Visual))]),
            layers: Numbers::range(layer, layer),
            heads: Numbers::range(head, head),
        };
        cutting(cut)
    }
}

fn cutting(cut: Knockout) -> Intervention {
    Intervention { knockouts: vec![cut], ablations: Vec::new() }
}

/// A whole named set.
pub(crate) fn term(name: Name) -> Term {
    Term { minus: false, name, places: Places::All, rings: 0 }
}

/// Some visual tokens, ascending, as they would be typed: `visual[0-2,12-14]`.
pub(crate) fn block(patches: &[usize]) -> Term {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &patch in patches {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == patch => *last = patch,
            _ => runs.push((patch, patch)),
        }
    }
    let places = runs.into_iter().map(|(a, b)| Place::Index(Range::Between(a, b))).collect();
    Term { places: Places::Of(places), ..term(Name::Span(Span::Visual)) }
}

/// Where the logit lens reads.
#[derive(Clone, Debug, PartialEq)]
pub struct LensAt {
    /// Absolute positions, ascending.
    pub positions: Vec<usize>,
    /// Decoder layers whose output is read.
    pub layers: Numbers,
    /// Tokens listed at every place.
    pub top: usize,
    /// A word whose rank and probability are wanted at every place.
    pub word: Option<String>,
}

/// Questions to a context of text and some of the visual tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Compress {
    /// Percentages of the visual tokens that stay.
    pub percents: Vec<f32>,
    /// What is asked.
    pub questions: Vec<String>,
    /// Whether the first answer stays in the context too.
    pub keep_answer: bool,
}

/// Names a kind of study: of two of one kind about one answer, only the later is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StudyKind {
    /// [`Study::Patches`].
    Patches,
    /// [`Study::Edges`].
    Edges,
    /// [`Study::Heads`].
    Heads,
    /// [`Study::Lens`].
    Lens,
    /// [`Study::Compress`].
    Compress,
}

impl Study {
    /// Its kind.
    pub fn kind(&self) -> StudyKind {
        match self {
            Study::Patches(_) => StudyKind::Patches,
            Study::Edges(_) => StudyKind::Edges,
            Study::Heads(_) => StudyKind::Heads,
            Study::Lens(_) => StudyKind::Lens,
            Study::Compress(_) => StudyKind::Compress,
        }
    }
}

impl StudyKind {
    /// Its name, to show.
    pub fn name(self) -> &'static str {
        match self {
            StudyKind::Patches => "effect map",
            StudyKind::Edges => "effect of edges",
            StudyKind::Heads => "effect of heads",
            StudyKind::Lens => "lens",
            StudyKind::Compress => "compression",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(intervention: &Intervention) -> String {
        let cuts = intervention.knockouts.iter().map(Knockout::to_string);
        cuts.chain(intervention.ablations.iter().map(Ablation::to_string)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_step_is_an_intervention_that_could_be_typed() {
        let map = PatchEffect { tokens: vec![], how: Taking::Cut, layers: Numbers::range(1, 2), coarsest: 2 };
        let cut = map.intervention(&[0, 1, 12, 13, 20]);
        assert_eq!(typed(&cut), "all - visual[0-1,12-13,20] -> visual[0-1,12-13,20] @ 1-2");
        assert_eq!(typed(&cut).parse::<Knockout>().unwrap(), cut.knockouts[0]);
        let mean = PatchEffect { how: Taking::Mean, ..map };
        assert_eq!(typed(&mean.intervention(&[3])), "visual[3] = mean");

        let edges = EdgeEffect { tokens: vec![], width: 3 };
        assert_eq!(typed(&edges.intervention(Span::Last, Span::Visual, 4)), "last -> visual @ 4~1");
        assert_eq!(typed(&edges.intervention(Span::Answer, Span::Answer, 0)), "decode -> answer @ 0~1");
        let heads = HeadEffect { tokens: vec![] };
        assert_eq!(typed(&heads.intervention(2, 3)), "answer -> visual @ 2 # 3");
    }
}
