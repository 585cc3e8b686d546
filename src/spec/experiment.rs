//! What to run, as plain data that a file can hold: images, a conversation, what is done to the model
//! meanwhile, how its answer is chosen, and what is kept of it.
//!
//! The one value that window, command line, session files, evaluation and studies pass to an engine, which
//! gives a [`Report`](crate::trace::report::Report) for it. Knows the grammars of cuts and sets; knows
//! nothing of tensors.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::spec::{
    ablation::Ablation,
    knockout::Knockout,
    picture::{ImageSource, Picture},
    record::{Held, Record},
    sets::PatchSet,
    turn::{self, Turn},
};

/// What to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// The images of the conversation, in order.
    pub images: Vec<Picture>,
    /// The conversation; the last turn is the user's, or behind it the model's: what its answer is to begin with.
    pub turns: Vec<Turn>,
    /// What is done to the model; nothing for an uncut run.
    #[serde(flatten)]
    pub intervention: Intervention,
    /// Teacher forcing: these ids are the answer, and are scored.
    #[serde(default)]
    pub forced_answer: Option<Vec<u32>>,
    /// Longest answer, the end token included.
    pub max_new: usize,
    /// Candidates kept for every answer token.
    pub top: usize,
    /// How the answer is chosen; greedily if `None`.
    #[serde(default)]
    pub sampling: Option<Sampling>,
    /// Decides sampled tokens and random patches.
    #[serde(default)]
    pub seed: u64,
    /// What is kept.
    #[serde(default)]
    pub record: Record,
    /// Random draws of the control beside the intervention; 0 for none.
    #[serde(default)]
    pub control: usize,
}

impl Experiment {
    /// What is held while it runs.
    pub fn held(&self) -> Held {
        if self.intervention.is_empty() { Held::Baseline } else { Held::Intervention }
    }

    /// An uncut, free-running question about one image, greedily answered.
    pub fn ask(image: ImageSource, text: &str, max_new: usize) -> Self {
        Experiment {
            images: vec![Picture { image, object: None }],
            turns: vec![Turn::ask(1, text)],
            intervention: Intervention::default(),
            forced_answer: None,
            max_new,
            top: 5,
            sampling: None,
            seed: 0,
            record: Record::default(),
            control: 0,
        }
    }

    /// The text of the last question.
    pub fn question(&self) -> String {
        turn::asked(&self.turns).last().map(Turn::text).unwrap_or_default()
    }

    /// What the answer is to begin with.
    pub fn begins(&self) -> Option<String> {
        turn::begun(&self.turns)
    }

    /// Whether its first images are those of another, wherever their objects are marked.
    pub fn begins_with_images_of(&self, other: &Experiment) -> bool {
        let same = |(a, b): (&Picture, &Picture)| a.image == b.image;
        self.images.len() >= other.images.len() && self.images.iter().zip(&other.images).all(same)
    }

    /// Whether it is a further question in the conversation that another is the beginning of.
    pub fn goes_on_from(&self, before: &Experiment) -> bool {
        let (asked, all) = (turn::asked(&before.turns), turn::asked(&self.turns));
        all.len() > asked.len() && all.starts_with(asked) && self.begins_with_images_of(before)
    }

    /// The answer's length that is asked for: of a forced one, or the longest.
    pub fn length(&self) -> usize {
        self.forced_answer.as_ref().map_or(self.max_new, Vec::len)
    }

    /// The same with these knockouts in force.
    pub fn with_knockouts(mut self, knockouts: Vec<Knockout>) -> Self {
        self.intervention.knockouts = knockouts;
        self
    }

    /// The same with nothing done to the model: the run that an intervention starts from, and is compared
    /// with.
    pub fn uncut(&self) -> Self {
        Experiment { intervention: Intervention::default(), control: 0, ..self.clone() }
    }
}

/// What is done to the model while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    /// Attention that is cut.
    #[serde(default)]
    pub knockouts: Vec<Knockout>,
    /// Visual tokens that are overwritten.
    #[serde(default)]
    pub ablations: Vec<Ablation>,
}

impl fmt::Display for Intervention {
    /// Its parts as people write them, with "; " between; nothing where there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let knockouts = self.knockouts.iter().map(ToString::to_string);
        let parts: Vec<String> = knockouts.chain(self.ablations.iter().map(ToString::to_string)).collect();
        f.write_str(&parts.join("; "))
    }
}

impl Intervention {
    /// The sets of patches that it names.
    pub fn patch_sets(&self) -> BTreeSet<PatchSet> {
        let cuts = self.knockouts.iter().flat_map(|k| k.query.patch_sets().chain(k.key.patch_sets()));
        cuts.chain(self.ablations.iter().flat_map(|a| a.tokens.patch_sets())).collect()
    }

    /// Whether it names a set that is computed from the uncut answer.
    pub fn needs_uncut(&self) -> bool {
        self.patch_sets().iter().any(|set| matches!(set, PatchSet::Sink | PatchSet::Gradient))
    }

    /// Whether nothing is done.
    pub fn is_empty(&self) -> bool {
        self.knockouts.is_empty() && self.ablations.is_empty()
    }
}

/// Drawing tokens instead of taking the likeliest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// The likeliest tokens that together reach this probability are drawn from; above 0, at most 1.
    pub top_p: f32,
}

impl Sampling {
    /// Checks the two numbers.
    ///
    /// # Errors
    /// Which is wrong, and the valid range.
    pub fn check(&self) -> Result<(), String> {
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return Err(format!("the temperature is {}, expected a number above 0", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(format!("top-p is {}, expected a number above 0 and at most 1", self.top_p));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_experiment_survives_its_file() {
        let mut experiment = Experiment::ask(ImageSource::File("a.png".into()), "what is this?", 8);
        experiment.intervention.knockouts = vec!["answer -> visual @ 1-2".parse().unwrap()];
        experiment.intervention.ablations = vec!["object = mean".parse().unwrap()];
        experiment.sampling = Some(Sampling { temperature: 0.7, top_p: 0.9 });
        let text = serde_json::to_string(&experiment).unwrap();
        assert!(text.contains("\"knockouts\":[\"answer -> visual @ 1-2\"]"), "{text}");
        assert_eq!(serde_json::from_str::<Experiment>(&text).unwrap(), experiment);
    }

    #[test]
    fn what_was_pasted_has_no_form_in_a_file() {
        let pasted = ImageSource::Bytes([1, 2].as_slice().into(), "pasted image".to_string());
        let error = serde_json::to_string(&Experiment::ask(pasted, "what?", 1)).unwrap_err();
        assert!(error.to_string().contains("`pasted image` lies in no file"), "{error}");
    }
}
