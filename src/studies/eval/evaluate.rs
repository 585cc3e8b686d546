//! Asks a model everything that a folder of images knows the answer to, and scores it.
//!
//! ```text
//! eval/folder.rs  what is asked about which image: our scenes, or any COCO-format folder
//! eval/answer.rs  the questions of one image, their common beginning run once
//! eval/score.rs   right or wrong, intervals, what a constant answer would reach
//! eval/localise.rs  whether the words of a description look at what they name
//! ```
//!
//! Knows nothing of windows.

pub mod answer;
pub mod folder;
pub mod localise;
pub mod score;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
    time::Instant,
};

use ::image::{Rgb, RgbImage};
use serde::Serialize;

use crate::{bundled, engine::load::{Engine, RunError, Seen}, image::{process as image, process::ImageError}, progress::Cancel, spec::knockout::Knockout, trace::run::ModelInfo};
use answer::{Ask, ask_all};
use folder::Folder;
use score::{ClassNames, DescriptionScore, Figure, Objects, Tally, TypeScore, is_right};

/// The type under which descriptions are listed among the answers.
pub const DESCRIBE: &str = "describe";
/// The grey of a blank image.
const GREY: u8 = 128;

/// Why an evaluation cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file cannot be read.
    #[error("{}: cannot be read ({source})", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Nothing to ask.
    #[error(
        "{}: neither scenes.jsonl nor annotations.json is there; give a folder that `sightline scenes` wrote, or one in COCO's format (with --annotations FILE if the file has another name)",
        dir.display()
    )]
    NoScenes {
        /// The folder.
        dir: PathBuf,
    },
    /// No image.
    #[error("{}: no image is listed, or the limit is 0", dir.display())]
    NoImages {
        /// The folder.
        dir: PathBuf,
    },
    /// A listed image is missing.
    #[error("{name}: the image is neither in {} nor in {}", dir.join("images").display(), dir.display())]
    NoImage {
        /// As listed.
        name: String,
        /// The folder.
        dir: PathBuf,
    },
    /// A poll that names no class.
    #[error("the poll `{text}` has no place for the class: write {} where it belongs", folder::CLASS)]
    Poll {
        /// As given.
        text: String,
    },
    /// Nothing to exchange.
    #[error("shuffling needs at least 2 images")]
    OneImage,
    /// An image cannot be opened; the error names it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The model cannot answer.
    #[error("{}: {source}", image.display())]
    Run {
        /// About which image.
        image: PathBuf,
        /// Why.
        source: RunError,
    },
}

/// Which image a question is asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Images {
    /// Its own.
    #[default]
    Own,
    /// A mid grey one of the same size. A model that needs its image falls to the constant answer.
    Blank,
    /// The next question's image, the last one's the first: the same control with real pixels.
    Shuffled,
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Which images.
    pub images: Images,
    /// What asks for a description; none are asked for if empty.
    pub describe: String,
    /// Longest answer to a question, in tokens.
    pub max_answer: usize,
    /// Longest description, in tokens.
    pub max_description: usize,
    /// Cuts in force while answering.
    pub knockouts: Vec<Knockout>,
}

impl Default for EvalOptions {
    fn default() -> Self {
        EvalOptions {
            images: Images::Own,
            describe: bundled::PROMPT.to_string(),
            max_answer: 16,
            max_description: 128,
            knockouts: Vec::new(),
        }
    }
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
    pub scenes: PathBuf,
    /// How many images.
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
    /// Every answer, in order.
    #[serde(skip)]
    pub answers: Vec<Answered>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// The image that the question belongs to.
    pub image: PathBuf,
    /// Its type; [`DESCRIBE`] for descriptions.
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

/// Asks everything; `on_answer` hears of every answer.
///
/// # Errors
/// [`EvalError`], of the first image that cannot be shown or asked about.
pub fn evaluate(
    engine: &Engine,
    folder: &Folder,
    options: &EvalOptions,
    cancel: &Cancel,
    on_answer: &mut dyn FnMut(),
) -> Result<Report, EvalError> {
    if options.images == Images::Shuffled && folder.items.len() < 2 {
        return Err(EvalError::OneImage);
    }
    let start = Instant::now();
    let names = ClassNames::new(&folder.classes);
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut answers, mut compared, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for (n, item) in folder.items.iter().enumerate() {
        let at = |source| EvalError::Run { image: item.image.clone(), source };
        let shown = match options.images {
            Images::Shuffled => &folder.items[(n + 1) % folder.items.len()].image,
            Images::Own | Images::Blank => &item.image,
        };
        let seen = see(engine, shown, options.images, cancel)?;
        let ask = |text, max_new| Ask { text, max_new };
        let mut asks: Vec<Ask<'_>> =
            item.questions.iter().map(|q| ask(q.text.as_str(), options.max_answer)).collect();
        if !options.describe.is_empty() {
            asks.push(ask(options.describe.as_str(), options.max_description));
        }
        let mut replies = ask_all(engine, &seen, &asks, &options.knockouts, cancel, on_answer).map_err(at)?;
        let description = replies.split_off(item.questions.len()).pop();
        for (question, reply) in item.questions.iter().zip(replies) {
            let right = is_right(&reply.text, &question.answer, question.agree);
            tallies.entry(question.kind.clone()).or_default().add(&question.answer, right);
            answers.push(Answered {
                image: item.image.clone(),
                kind: question.kind.clone(),
                question: question.text.clone(),
                gold: Some(question.answer.clone()),
                answer: reply.text,
                ids: reply.ids,
                right,
            });
        }
        let Some(reply) = description else { continue };
        let objects = Objects::compare(&item.objects, &names.find(&reply.text));
        compared.push(objects);
        let gold = item.description.clone();
        let alike = gold.as_ref().map(|gold| is_right(&reply.text, gold, folder::Agree::Whole));
        whole.extend(alike);
        answers.push(Answered {
            image: item.image.clone(),
            kind: DESCRIBE.to_string(),
            question: options.describe.clone(),
            gold,
            answer: reply.text,
            ids: reply.ids,
            right: alike.unwrap_or(objects.found == objects.present && objects.found == objects.said),
        });
    }
    let present: Vec<&[String]> = folder.items.iter().map(|item| item.objects.as_slice()).collect();
    Ok(Report {
        model: engine.info.clone(),
        device: engine.device.clone(),
        dtype: engine.vlm.dtype_text(),
        scenes: folder.dir.clone(),
        n_images: folder.items.len(),
        images: options.images,
        knockouts: options.knockouts.iter().map(Knockout::to_string).collect(),
        questions: tallies.iter().map(|(kind, tally)| (kind.clone(), tally.score())).collect(),
        descriptions: (!compared.is_empty()).then(|| DescriptionScore::new(&present, &compared, &whole)),
        seconds: start.elapsed().as_secs_f64(),
        answers,
    })
}

fn see(engine: &Engine, file: &Path, images: Images, cancel: &Cancel) -> Result<Seen, EvalError> {
    let mut image = image::open(file)?;
    if images == Images::Blank {
        image = RgbImage::from_pixel(image.width(), image.height(), Rgb([GREY; 3]));
    }
    let seen = engine.process(&image).and_then(|processed| engine.see(processed, cancel, &mut |_, _| ()));
    seen.map_err(|source| EvalError::Run { image: file.to_path_buf(), source })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.model;
        writeln!(f, "model: {} ({} parameters, {})", m.name, m.parameters, self.dtype)?;
        writeln!(f, "device: {}", self.device)?;
        let images = match self.images {
            Images::Own => "",
            Images::Blank => ", each replaced by mid grey",
            Images::Shuffled => ", each asked about with the next one's questions",
        };
        writeln!(f, "scenes: {}, {} images{images}", self.scenes.display(), self.n_images)?;
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

/// A figure and its interval, as they are printed.
struct Rated {
    value: String,
    interval: String,
}

fn rated(value: f64, low: f64, high: f64) -> Rated {
    Rated { value: format!("{value:.3}"), interval: format!("{low:.3} to {high:.3}") }
}
