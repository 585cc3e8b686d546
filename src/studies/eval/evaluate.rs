//! Asks a model everything that a folder of images knows the answer to, and scores it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use image::{Rgb, RgbImage};

use crate::{
    engine::{error::RunError, load::Engine, run::Reply, see::Seen},
    image::open,
    progress::Cancel,
    spec::{experiment::Experiment, knockout::Knockout, picture::ImageSource},
    studies::eval::{
        error::EvalError,
        folder::{Agree, Folder, Item, Question},
        report::{Answered, Images, Report},
        score::{ClassNames, DescriptionScore, Objects, Tally, is_right},
    },
};

/// The type under which descriptions are listed among the answers.
pub const DESCRIBE: &str = "describe";
/// The grey of a blank image.
const GREY: u8 = 128;

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
            describe: "describe this image.".to_string(),
            max_answer: 16,
            max_description: 128,
            knockouts: Vec::new(),
        }
    }
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
    let mut found = Found { names: ClassNames::new(&folder.classes), ..Found::default() };
    for (n, item) in folder.items.iter().enumerate() {
        let shown = match options.images {
            Images::Shuffled => &folder.items[(n + 1) % folder.items.len()].image,
            Images::Own | Images::Blank => &item.image,
        };
        let seen = see(engine, shown, options.images, cancel)?;
        let asked = experiments(item, options);
        let at = |e: RunError| EvalError::Run { image: item.image.clone(), source: e.into() };
        let mut replies = engine.replies(&asked, &[&seen], cancel, on_answer).map_err(at)?;
        let description = replies.split_off(item.questions.len()).pop();
        for (question, reply) in item.questions.iter().zip(replies) {
            found.answer(item, question, reply);
        }
        if let Some(reply) = description {
            found.description(item, &options.describe, reply);
        }
    }
    let Found { tallies, answers, compared, whole, .. } = found;
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

/// What is asked about one image: its questions, then the description.
fn experiments(item: &Item, options: &EvalOptions) -> Vec<Experiment> {
    let ask = |text: &str, max_new: usize| {
        let image = ImageSource::File(item.image.clone());
        Experiment::ask(image, text, max_new).with_knockouts(options.knockouts.clone())
    };
    let mut all: Vec<Experiment> = item.questions.iter().map(|q| ask(&q.text, options.max_answer)).collect();
    if !options.describe.is_empty() {
        all.push(ask(&options.describe, options.max_description));
    }
    all
}

/// What has been answered so far.
#[derive(Default)]
struct Found {
    names: ClassNames,
    tallies: BTreeMap<String, Tally>,
    answers: Vec<Answered>,
    compared: Vec<Objects>,
    whole: Vec<bool>,
}

impl Found {
    fn answer(&mut self, item: &Item, question: &Question, reply: Reply) {
        let right = is_right(&reply.text, &question.answer, question.agree);
        self.tallies.entry(question.kind.clone()).or_default().add(&question.answer, right);
        self.answers.push(Answered {
            image: item.image.clone(),
            kind: question.kind.clone(),
            question: question.text.clone(),
            gold: Some(question.answer.clone()),
            answer: reply.text,
            ids: reply.ids,
            right,
        });
    }

    fn description(&mut self, item: &Item, asked: &str, reply: Reply) {
        let objects = Objects::compare(&item.objects, &self.names.find(&reply.text));
        self.compared.push(objects);
        let gold = item.description.clone();
        let alike = gold.as_ref().map(|gold| is_right(&reply.text, gold, Agree::Whole));
        self.whole.extend(alike);
        self.answers.push(Answered {
            image: item.image.clone(),
            kind: DESCRIBE.to_string(),
            question: asked.to_string(),
            gold,
            answer: reply.text,
            ids: reply.ids,
            right: alike.unwrap_or(objects.found == objects.present && objects.found == objects.said),
        });
    }
}

/// An image of a folder as it is shown to the model.
///
/// # Errors
/// [`EvalError`], naming it.
pub(super) fn see(engine: &Engine, file: &Path, images: Images, cancel: &Cancel) -> Result<Seen, EvalError> {
    let mut image = open::open(file)?;
    if images == Images::Blank {
        image = RgbImage::from_pixel(image.width(), image.height(), Rgb([GREY; 3]));
    }
    let seen = engine.process(&image).and_then(|processed| engine.see(&processed, cancel, &mut |_| ()));
    seen.map_err(|e| EvalError::Run { image: file.to_path_buf(), source: e.into() })
}
