//! The outcome of an evaluation, as a value and as a table.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use crate::{
    statistics::interval::Figure,
    studies::eval::score::{DescriptionScore, TypeScore},
    trace::run::ModelInfo,
};

/// Which image a question is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Its own.
    #[default]
    Own,
    /// A mid grey one of the same size. A model that needs its image falls to the constant answer.
    Blank,
    /// The next item's, the last one's the first: the same control with real pixels.
    Shuffled,
}

/// The outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The model.
    pub model: ModelInfo,
    /// Where it ran.
    pub device: String,
    /// Number formats.
    pub dtype: String,
    /// The folder.
    #[serde(serialize_with = "as_shown")]
    pub scenes: PathBuf,
    /// How many images were asked about.
    pub n_images: usize,
    /// Which images.
    pub images: Images,
    /// Cuts in force, as text.
    pub knockouts: Vec<String>,
    /// By type of question.
    pub questions: BTreeMap<String, TypeScore>,
    /// Object precision, recall and F1; none if no description was asked for.
    pub descriptions: Option<DescriptionScore>,
    /// Wall-clock time, the model's loading not counted.
    pub seconds: f64,
    /// Images that could not be asked about. They count in none of the figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    /// Every answer, in order.
    #[serde(skip)]
    pub answers: Vec<Answered>,
}

/// An image that could not be asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Which.
    #[serde(serialize_with = "as_shown")]
    pub image: PathBuf,
    /// Why, with its name.
    pub why: String,
}

impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "passed over: {}", self.why)
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// The image that the question belongs to.
    #[serde(serialize_with = "as_shown")]
    pub image: PathBuf,
    /// Its type; `describe` for descriptions.
    #[serde(rename = "type")]
    pub kind: String,
    /// The prompt's text.
    pub question: String,
    /// The right answer, if one is known.
    pub gold: Option<String>,
    /// The model's.
    pub answer: String,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Whether they agree.
    pub right: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.model;
        writeln!(f, "model: {} ({} parameters, {})", m.name, m.parameters, self.dtype)?;
        writeln!(f, "device: {}", self.device)?;
        let images = match self.images {
            Images::Own => "",
            Images::Blank => ", each replaced by mid grey",
            Images::Shuffled => ", each asked about with the previous one's questions",
        };
        writeln!(f, "scenes: {}, {} images{images}", self.scenes.display(), self.n_images)?;
        for passed_over in &self.passed_over {
            writeln!(f, "{passed_over}")?;
        }
        for knockout in &self.knockouts {
            writeln!(f, "knockout: {knockout}")?;
        }
        if !self.questions.is_empty() {
            writeln!(
                f,
                "\n{:<12} {:>6} {:>9}  {:<16} best constant answer",
                "question", "n", "accuracy", "95 % interval"
            )?;
        }
        for (kind, score) in &self.questions {
            let Rated { value, interval } =
                rated(score.accuracy.value, score.accuracy.low, score.accuracy.high);
            let (n, best) = (score.accuracy.n, score.best_constant_accuracy);
            writeln!(f, "{kind:<12} {n:>6} {value:>9}  {interval:<16} {best:.3} `{}`", score.best_constant)?;
        }
        if let Some(d) = &self.descriptions {
            writeln!(
                f,
                "\ndescriptions: {} with {} objects, {} named, {} of these right",
                d.n, d.objects, d.said, d.found
            )?;
            let best =
                format!("{:.3} (the same {} objects always)", d.best_constant_f1, d.best_constant.len());
            let lines: [(&str, &Figure, &str); 3] =
                [("precision", &d.precision, ""), ("recall", &d.recall, ""), ("F1", &d.f1, &best)];
            for (what, figure, best) in lines {
                let Rated { value, interval } = rated(figure.value, figure.low, figure.high);
                let line = format!("object {what:<12} {value:>9}  {interval:<16} {best}");
                writeln!(f, "{}", line.trim_end())?;
            }
            if let Some(w) = &d.whole {
                let Rated { value, interval } = rated(w.value, w.low, w.high);
                writeln!(f, "word for word       {value:>9}  {interval}")?;
            }
        }
        let speed = self.answers.len() as f64 / self.seconds.max(1e-9);
        write!(f, "\ntime: {:.1} s for {} answers, {speed:.1} a second", self.seconds, self.answers.len())
    }
}

/// A path that need not be UTF-8: a report is to be written all the same.
fn as_shown<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

/// A figure and its interval, as they are printed.
struct Rated {
    value: String,
    interval: String,
}

fn rated(value: f64, low: f64, high: f64) -> Rated {
    Rated { value: format!("{value:.3}"), interval: format!("{low:.3} to {high:.3}") }
}
