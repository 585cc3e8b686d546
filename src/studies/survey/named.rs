//! Words of a description that name an object whose pixels are known, and what their rows pay each visual token.
//!
//! What `localise`, `heads` and `effect` are about. Objects that no word can be held against are left out aloud. Knows
//! answers and masks; not what is measured.

use std::collections::BTreeSet;

use crate::{
    studies::{
        localisation::{self, COVERED},
        survey::{bench::Bench, error::SurveyError},
    },
    trace::{run::Trace, tokens::visual, words::Word},
};

/// A word, or a phrase of several tokens, with the object that it names.
#[derive(Clone, Debug)]
pub struct Named {
    /// The object's place among the image's.
    pub object: usize,
    /// Its class.
    pub class: String,
    /// The word.
    pub word: Word,
    /// Its tokens' places in the answer, ascending; the first is what rows call it by.
    pub places: Vec<usize>,
    /// `[visual tokens]`: the share of each patch that the object covers.
    pub covered: Vec<f32>,
}

impl Named {
    /// What rows call it by: its first token's place in the answer.
    pub fn first(&self) -> usize {
        self.places.first().copied().unwrap_or_default()
    }

    /// `[visual tokens]`: which patches are the object's.
    pub fn inside(&self) -> Vec<bool> {
        inside(&self.covered)
    }

    /// The share of the visual tokens that are the object's: what chance puts there.
    pub fn chance(&self) -> f32 {
        share(&self.inside())
    }

    /// `[heads][visual tokens]`: the attention that its rows pay each in one layer, summed over the rows. Of a run of
    /// which everything is kept.
    pub fn paid(&self, trace: &Trace, layer: usize) -> Vec<Vec<f32>> {
        let positions = visual(&trace.prompt);
        let head = |head: usize| {
            let mut paid = vec![0.0; positions.len()];
            for row in self.places.iter().filter_map(|&place| trace.pattern.get(place)) {
                let row = row.head(layer, head);
                paid.iter_mut().zip(&positions).for_each(|(paid, &position)| *paid += row[position]);
            }
            paid
        };
        (0..trace.model.n_heads).map(head).collect()
    }
}

/// `[visual tokens]`: which patches belong to an object that covers these shares of them.
pub fn inside(covered: &[f32]) -> Vec<bool> {
    covered.iter().map(|&share| share > COVERED).collect()
}

/// How many are members, as a share of all.
pub fn share(members: &[bool]) -> f32 {
    members.iter().filter(|member| **member).count() as f32 / members.len().max(1) as f32
}

/// The words of an answer that name an object of this image, object by object.
///
/// # Errors
/// [`SurveyError`]: a mask cannot be used.
pub fn named(bench: &mut Bench<'_>, trace: &Trace) -> Result<Vec<Named>, SurveyError> {
    let (subject, subjects) = (bench.subject, bench.subjects);
    none_known(bench);
    let classes: Vec<&str> = subject.objects.iter().map(|object| object.class.as_str()).collect();
    let words = localisation::named(trace, &classes, &subjects.classes);
    let (mut all, mut told) = (Vec::new(), BTreeSet::new());
    for (object, &class) in classes.iter().enumerate() {
        let alike = classes.iter().filter(|other| **other == class).count();
        let words: Vec<&Word> = words.iter().filter(|(of, _)| *of == object).map(|(_, word)| word).collect();
        if alike > 1 {
            if told.insert(class) {
                bench.left_out(
                    class,
                    format!("comes {alike} times: a word does not say which of them it means"),
                );
            }
        } else if words.is_empty() {
            bench.left_out(class, "the answer does not name it");
        } else if let Some(covered) = filled(bench, object)? {
            all.extend(words.into_iter().map(|word| Named {
                object,
                class: class.to_string(),
                word: word.clone(),
                places: localisation::places(trace, word),
                covered: covered.clone(),
            }));
        }
    }
    Ok(all)
}

/// Leaves the objects out of an image on which none is known.
pub fn none_known(bench: &mut Bench<'_>) {
    if bench.subject.objects.is_empty() {
        bench.left_out("objects", "none is known on this image");
    }
}

/// `[visual tokens]`: the share of each patch that an object covers, where it fills one at least; else it is left out.
///
/// # Errors
/// [`SurveyError`]: its mask cannot be used.
pub fn filled(bench: &mut Bench<'_>, object: usize) -> Result<Option<Vec<f32>>, SurveyError> {
    let class = bench.subject.objects[object].class.as_str();
    let Some(covered) = bench.covered(object)? else {
        bench.left_out(class, "its pixels are not known");
        return Ok(None);
    };
    if !inside(&covered).contains(&true) {
        let percent = COVERED * 100.0;
        bench
            .left_out(class, format!("its mask is under one patch: it covers more than {percent} % of none"));
        return Ok(None);
    }
    Ok(Some(covered))
}
