//! One image on a loaded engine: what studies ask of it, and what they find.
//!
//! Rows are values in the order of the study's columns but for the image's name, which is written before them. What
//! cannot be measured is left out aloud, never passed over. Knows the engine and one subject; neither which study it
//! serves nor where rows go.

use std::cell::OnceCell;

use crate::{
    engine::{
        baseline::Baseline,
        error::RunError,
        load::Engine,
        many::{self, Scored},
        resume::intervene,
        see::Seen,
    },
    progress::Cancel,
    spec::{
        experiment::{Experiment, Intervention},
        picture::ImageSource,
        turn::{Role, Turn},
    },
    studies::{
        eval::score::ClassNames,
        survey::{
            error::SurveyError,
            settings::Settings,
            subjects::{Asked, Subject, Subjects},
        },
    },
    trace::{geometry::Patch, report::Outcome, run::Trace, table::Value},
};

/// Asked for a description where no prompt is given.
pub const DESCRIBE: &str = "describe this image.";

/// A study's view of one image.
pub struct Bench<'a> {
    /// The model.
    pub engine: &'a Engine,
    /// What was chosen.
    pub settings: &'a Settings,
    /// All images, and the classes that answers may name.
    pub subjects: &'a Subjects,
    /// This one.
    pub subject: &'a Subject,
    /// As the model sees it.
    pub seen: Seen,
    /// Stops what takes time.
    pub cancel: &'a Cancel,
    /// Whether what is asked is to be told step by step; hears of parts of an image done.
    pub(super) found: Found,
    patches: OnceCell<Vec<Patch>>,
}

/// What one image gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// One a condition, in the order of the study's columns after `image`.
    pub rows: Vec<Vec<Value>>,
    /// What its rows have no column for.
    pub facts: Vec<Fact>,
    /// What was not measured.
    pub left_out: Vec<LeftOut>,
}

/// A number beside the rows: panels read it, rows.csv does not hold it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Fact {
    /// What it says.
    pub name: String,
    /// Of which layer; `None` of all, or of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<usize>,
    /// Of which head; `None` of their mean, or of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<usize>,
    /// The number.
    pub value: f32,
}

/// Something that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// What: a question, an object, a condition; empty for the whole image.
    pub what: String,
    /// Why.
    pub why: String,
}

impl<'a> Bench<'a> {
    /// An image that was seen.
    pub fn new(
        engine: &'a Engine,
        settings: &'a Settings,
        subjects: &'a Subjects,
        subject: &'a Subject,
        seen: Seen,
        cancel: &'a Cancel,
    ) -> Self {
        let (found, patches) = (Found::default(), OnceCell::new());
        Bench { engine, settings, subjects, subject, seen, cancel, found, patches }
    }

    /// Adds a row.
    pub fn row(&mut self, row: impl Into<Vec<Value>>) {
        self.found.rows.push(row.into());
    }

    /// Adds a number that the rows have no column for.
    pub fn fact(&mut self, name: &str, layer: Option<usize>, head: Option<usize>, value: f32) {
        self.found.facts.push(Fact { name: name.to_string(), layer, head, value });
    }

    /// Notes what cannot be measured.
    pub fn left_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.found.left_out.push(LeftOut { what: what.into(), why: why.into() });
    }

    /// What is asked where a study needs a description: the given prompt, or [`DESCRIBE`].
    pub fn describing(&self) -> Asked {
        let text = self.settings.prompt.clone().unwrap_or_else(|| DESCRIBE.to_string());
        Asked { kind: String::new(), text, answer: self.subject.description.clone() }
    }

    /// What is asked where a study needs questions: the given prompt, or what the folder asks of this image, or, where
    /// it asks nothing, for a description.
    pub fn questions(&self) -> Vec<Asked> {
        match &self.settings.prompt {
            None if !self.subject.questions.is_empty() => self.subject.questions.clone(),
            _ => vec![self.describing()],
        }
    }

    /// An uncut question about this image, greedily answered; `begins`: what the answer is to begin with.
    pub fn experiment(&self, text: &str, begins: Option<&str>) -> Experiment {
        let image = ImageSource::File(self.subject.image.clone());
        let mut experiment = Experiment::ask(image, text, self.settings.length());
        experiment.turns.extend(begins.map(|text| Turn::of(Role::Assistant, text)));
        experiment.seed = self.settings.seed;
        // A study holds one image's run at a time; what is too much for the machine fails there.
        experiment.record.limit = u64::MAX;
        experiment
    }

    /// Runs it, with everything kept that others start from.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn keep(&self, experiment: &Experiment) -> Result<Baseline, RunError> {
        let baseline = self.engine.keep(experiment, &[&self.seen], self.cancel, &mut |_| {})?;
        self.cancel.check().map_err(crate::engine::decoding::DecodingError::from)?;
        Ok(baseline)
    }

    /// Asks, uncut: see [`Bench::keep`].
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn ask(&self, asked: &Asked) -> Result<Baseline, RunError> {
        self.keep(&self.experiment(&asked.text, None))
    }

    /// What each of some interventions does to every token of a kept run's answer, all of them scored together.
    /// Named sets of patches mean those of `seen`: [`Bench::marked`] says which object that is.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn score(
        &self,
        baseline: &Baseline,
        interventions: &[Intervention],
        seen: &Seen,
    ) -> Result<Vec<Vec<Scored>>, RunError> {
        many::score(self.engine, baseline, interventions, &[seen], self.cancel, &mut |_| {})
    }

    /// The answer that the model gives under an intervention, and what that does to the kept one.
    ///
    /// # Errors
    /// [`RunError`]; also when cancelled.
    pub fn intervene(
        &self,
        baseline: &Baseline,
        intervention: &Intervention,
        seen: &Seen,
    ) -> Result<(Trace, Option<Outcome>), RunError> {
        let done = intervene(self.engine, baseline, intervention, &[seen], self.cancel, &mut |_| {})?;
        self.cancel.check().map_err(crate::engine::decoding::DecodingError::from)?;
        Ok(done)
    }

    /// Where every visual token lies on the image: one a token.
    pub fn patches(&self) -> &[Patch] {
        self.patches.get_or_init(|| self.seen.geometry.patches())
    }

    /// `[visual tokens]`: the share of every patch that an object covers. `None`, and left out aloud, where its pixels
    /// are not known.
    ///
    /// # Errors
    /// [`SurveyError`]: its mask cannot be used.
    pub fn covered(&self, object: usize) -> Result<Option<Vec<f32>>, SurveyError> {
        let size = self.seen.geometry.source;
        let Some((mask, value)) = self.subject.mask(object, size)? else { return Ok(None) };
        Ok(Some(self.patches().iter().map(|patch| mask.covered(patch.rect, value)).collect()))
    }

    /// The image with an object marked: what the set `object` stands for, patches that its mask touches. `None` where
    /// its pixels are not known or touch no patch.
    ///
    /// # Errors
    /// [`SurveyError`]: its mask cannot be used.
    pub fn marked(&self, object: usize) -> Result<Option<Seen>, SurveyError> {
        let Some(covered) = self.covered(object)? else { return Ok(None) };
        let members: Vec<bool> = covered.iter().map(|&share| share > 0.0).collect();
        Ok(members.contains(&true).then(|| Seen { object: Some(members), ..self.seen.clone() }))
    }

    /// The classes that a text names, in order, once for every mention.
    pub fn named(&self, text: &str) -> Vec<String> {
        ClassNames::new(&self.subjects.classes).find(text).into_iter().map(str::to_string).collect()
    }

    /// An error of a run, as one of this image.
    pub fn of_image(&self, source: RunError) -> SurveyError {
        SurveyError::Run { image: self.subject.image.clone(), source: source.into() }
    }
}
