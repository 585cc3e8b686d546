//! Localisation: does a word's attention peak on the object that it names?
//!
//! Kaduri et al. (arXiv 2411.17491): heads averaged, one layer at a time, the peak among the visual
//! tokens of the rows that predicted the word (their mean, where it takes several tokens), held against the
//! object's mask. A patch belongs to an object when more than [`COVERED`] of it is the object's. A word, or a phrase
//! of several tokens, names an object when it is the class of exactly one on the image.

use crate::trace::{
    pattern::PatternRow,
    run::Trace,
    tokens::{Cell, PromptToken, VisualRef},
    words::{self, Word},
};

/// Share of a patch that must be covered.
pub const COVERED: f32 = 0.25;

/// What one layer's peak hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hit {
    /// A patch of the object.
    pub on: bool,
    /// A patch of the object or one of its eight neighbours.
    pub near: bool,
}

/// Per layer, whether the peak of the head mean of a word's `rows` over the visual tokens of `prompt` hits. `covered`
/// has one entry a visual token, in prompt order: the share of its patch that the object covers.
/// Empty when the object fills no patch, or a visual token shows none.
pub fn hits(rows: &[PatternRow], prompt: &[PromptToken], covered: &[f32]) -> Vec<Hit> {
    let targets = targets(prompt, covered);
    if targets.is_empty() {
        return Vec::new();
    }
    let visual: Vec<usize> = prompt.iter().filter(|t| t.visual.is_some()).map(|t| t.position).collect();
    let hit = |layer: usize| {
        let means: Vec<Vec<f32>> = rows.iter().map(|row| row.head_mean(layer)).collect();
        let value = |i: &usize| means.iter().map(|mean| mean[visual[*i]]).sum::<f32>();
        let peak = (0..visual.len()).max_by(|a, b| value(a).total_cmp(&value(b))).unwrap_or(0);
        targets[peak]
    };
    (0..rows.first().map_or(0, |row| row.n_layers)).map(hit).collect()
}

/// `[visual tokens]`: what a peak on each would hit. Empty when the object fills no patch, or a visual token shows
/// none.
pub fn targets(prompt: &[PromptToken], covered: &[f32]) -> Vec<Hit> {
    let visual: Vec<VisualRef> = prompt.iter().filter_map(|t| t.visual).collect();
    let places: Vec<(usize, usize, Cell)> =
        visual.iter().filter_map(|v| Some((v.image, v.view, v.cell?))).collect();
    let object: Vec<&(usize, usize, Cell)> =
        places.iter().zip(covered).filter(|(_, share)| **share > COVERED).map(|(place, _)| place).collect();
    if object.is_empty() || places.len() != visual.len() {
        return Vec::new();
    }
    let target = |&(image, view, at): &(usize, usize, Cell)| {
        let within = |far: usize| {
            let close = |a: usize, b: usize| a.abs_diff(b) <= far;
            object
                .iter()
                .any(|(i, v, c)| (*i, *v) == (image, view) && close(c.row, at.row) && close(c.col, at.col))
        };
        Hit { on: within(0), near: within(1) }
    };
    places.iter().map(target).collect()
}

/// Layer by layer, what the peak of a word's attention hits; `None` where nothing can be measured.
pub fn word_hits(trace: &Trace, word: &Word, covered: &[f32]) -> Option<Vec<Hit>> {
    let places = places(trace, word);
    let rows: Vec<PatternRow> =
        trace.rows().filter(|(s, _)| places.contains(s)).map(|(_, row)| row).collect();
    Some(hits(&rows, &trace.prompt, covered)).filter(|layers| !layers.is_empty())
}

/// A word's places in the answer: the row that predicted a token is kept under the token's.
pub fn places(trace: &Trace, word: &Word) -> Vec<usize> {
    word.positions.iter().map(|position| position - trace.prompt.len()).collect()
}

/// Words of an answer that name an object which is the only one of its class: object, and word. `objects` are their
/// classes, `classes` all that an answer may name.
pub fn named<S: AsRef<str>>(trace: &Trace, objects: &[S], classes: &[String]) -> Vec<(usize, Word)> {
    let answer = words::answer(trace);
    // A hot dog is no dog: of names that stand in each other, the longest counts.
    let all: Vec<Word> = classes.iter().flat_map(|class| words::find(&answer, class)).collect();
    let inside = |word: &Word| {
        all.iter().any(|other| {
            other.text.len() > word.text.len() && word.positions.iter().all(|p| other.positions.contains(p))
        })
    };
    let mut named = Vec::new();
    for (object, class) in objects.iter().map(AsRef::as_ref).enumerate() {
        if objects.iter().filter(|other| other.as_ref() == class).count() == 1 {
            let found = words::find(&answer, class).into_iter().filter(|word| !inside(word));
            named.extend(found.map(|word| (object, word)));
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::span::Span;

    #[test]
    fn the_peak_is_held_against_the_mask_layer_by_layer() {
        // BOS, then a 3 x 3 grid; two layers of one head.
        let mut prompt = vec![PromptToken {
            position: 0,
            id: 1,
            text: String::new(),
            span: Span::Bos,
            visual: None,
            partial: false,
        }];
        prompt.extend((0..9).map(|i| PromptToken {
            position: i + 1,
            id: 4,
            text: String::new(),
            span: Span::Visual,
            visual: Some(VisualRef { image: 0, view: 0, cell: Some(Cell { row: i / 3, col: i % 3 }) }),
            partial: false,
        }));
        let mut covered = [0.0; 9];
        covered[0] = 0.9;
        covered[8] = 0.2; // too little to count
        let mut data = vec![0.0; 20];
        (data[0], data[1 + 4]) = (0.7, 0.3); // layer 0: BOS is no patch; the peak is the centre
        (data[10 + 1 + 8], data[10]) = (0.6, 0.4); // layer 1: the far corner
        let row = [PatternRow { n_layers: 2, n_heads: 1, n_keys: 10, data: data.into() }];
        let near = Hit { on: false, near: true };
        assert_eq!(hits(&row, &prompt, &covered), [near, Hit::default()]);
        covered[4] = 0.26;
        assert_eq!(hits(&row, &prompt, &covered)[0], Hit { on: true, near: true });
        assert!(hits(&row, &prompt, &[0.0; 9]).is_empty());
        let by_chance = targets(&prompt, &covered);
        let count = |hit: fn(&Hit) -> bool| by_chance.iter().filter(|target| hit(target)).count();
        assert_eq!((by_chance.len(), count(|h| h.on), count(|h| h.near)), (9, 2, 9));
        // A word of two tokens: the second looks at the corner, harder than the first at the centre.
        let mut second = vec![0.0; 20];
        (second[1], second[10 + 1]) = (0.9, 0.9);
        let second = PatternRow { n_layers: 2, n_heads: 1, n_keys: 10, data: second.into() };
        let both = [row[0].clone(), second];
        assert_eq!(hits(&both, &prompt, &covered), [Hit { on: true, near: true }; 2]);
    }
}
