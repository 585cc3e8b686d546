//! Asks a model everything that a folder of images knows the answer to, and scores it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use image::{Rgb, RgbImage};

use crate::{
    checkpoint::weights::WeightDtype,
    engine::{
        check::Foreseen,
        error::RunError,
        folder::ModelFolder,
        load::Engine,
        run::Reply,
        see::{Framed, Seen},
    },
    image::open,
    progress::Cancel,
    spec::{experiment::Experiment, knockout::Knockout, picture::ImageSource},
    studies::eval::{
        error::EvalError,
        folder::{Agree, Folder, Item, Question},
        report::{Answered, Images, PassedOver, Report},
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

/// What an evaluation tells while it goes on.
#[derive(Debug)]
pub enum Told<'a> {
    /// One more question is answered.
    Reply,
    /// The answers about one more image are whole.
    Answers(&'a [Answered]),
    /// An image cannot be asked about.
    PassedOver(&'a PassedOver),
}

/// Refuses what cannot be evaluated, as far as it is known before weights are read: of the images, up to the
/// first that can be asked about.
///
/// # Errors
/// [`EvalError`]; of the first image, where none can be asked about.
pub fn check(
    model: &ModelFolder,
    dtype: WeightDtype,
    folder: &Folder,
    options: &EvalOptions,
) -> Result<(), EvalError> {
    check_folder(folder, options)?;
    let text = model.text();
    for k in &options.knockouts {
        k.check_model(text.n_layers, text.n_heads)
            .map_err(|source| EvalError::Knockout { text: k.to_string(), source })?;
    }
    let mut first = None;
    for n in 0..folder.items.len() {
        match check_item(model, dtype, folder, n, options) {
            Ok(()) => return Ok(()),
            // An image that cannot be opened hides no other mistake.
            Err(e) if matches!(first, None | Some(EvalError::Image(_))) => first = Some(e),
            Err(_) => {}
        }
    }
    first.map_or(Ok(()), Err)
}

fn check_folder(folder: &Folder, options: &EvalOptions) -> Result<(), EvalError> {
    if options.images == Images::Shuffled && folder.items.len() < 2 {
        return Err(EvalError::OneImage);
    }
    if options.describe.is_empty() && folder.n_questions() == 0 {
        return Err(EvalError::NothingAsked { dir: folder.dir.clone() });
    }
    Ok(())
}

/// Everything that is asked about one image.
fn check_item(
    model: &ModelFolder,
    dtype: WeightDtype,
    folder: &Folder,
    n: usize,
    options: &EvalOptions,
) -> Result<(), EvalError> {
    let (item, shown) = (&folder.items[n], shown(folder, n, options.images));
    let at = |e: RunError| EvalError::Run { image: item.image.clone(), source: e.into() };
    let pixels = pixels(shown, options.images)?;
    let processed = model.process(&pixels).map_err(at)?;
    let framed = Framed { pixels, processed, object: None };
    for mut experiment in experiments(item, options) {
        // Only words are kept of an answer.
        experiment.record.pattern.none = true;
        experiment.record.limit = u64::MAX;
        Foreseen::new(model, dtype, &experiment, &[&framed]).map_err(at)?;
    }
    Ok(())
}

/// Asks everything; `on` hears of every answer. One bad image among many loses nothing of the rest.
///
/// # Errors
/// [`EvalError`]; of the first image, where none can be asked about.
pub fn evaluate(
    engine: &Engine,
    folder: &Folder,
    options: &EvalOptions,
    cancel: &Cancel,
    on: &mut dyn FnMut(Told<'_>),
) -> Result<Report, EvalError> {
    check_folder(folder, options)?;
    let start = Instant::now();
    let mut found = Found { names: ClassNames::new(&folder.classes), ..Found::default() };
    let (mut passed_over, mut first) = (Vec::new(), None);
    for (n, item) in folder.items.iter().enumerate() {
        let known = found.answers.len();
        match ask(engine, folder, n, options, cancel, on) {
            Ok(replies) => {
                found.image(item, &options.describe, replies);
                on(Told::Answers(&found.answers[known..]));
            }
            Err(e) if e.is_of_one_image() => {
                let image = shown(folder, n, options.images).to_path_buf();
                let passed = PassedOver { image, why: e.to_string() };
                on(Told::PassedOver(&passed));
                passed_over.push(passed);
                first.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    if let Some(error) = first.filter(|_| passed_over.len() == folder.items.len()) {
        return Err(error);
    }
    let Found { tallies, answers, compared, whole, present, .. } = found;
    Ok(Report {
        model: engine.info.clone(),
        device: engine.device.clone(),
        dtype: engine.vlm.dtype_text(),
        scenes: folder.dir.clone(),
        n_images: folder.items.len() - passed_over.len(),
        images: options.images,
        knockouts: options.knockouts.iter().map(Knockout::to_string).collect(),
        questions: tallies.iter().map(|(kind, tally)| (kind.clone(), tally.score())).collect(),
        descriptions: (!compared.is_empty()).then(|| DescriptionScore::new(&present, &compared, &whole)),
        seconds: start.elapsed().as_secs_f64(),
        passed_over,
        answers,
    })
}

/// The replies to everything that is asked about one image.
fn ask(
    engine: &Engine,
    folder: &Folder,
    n: usize,
    options: &EvalOptions,
    cancel: &Cancel,
    on: &mut dyn FnMut(Told<'_>),
) -> Result<Vec<Reply>, EvalError> {
    let item = &folder.items[n];
    let seen = see(engine, shown(folder, n, options.images), options.images, cancel)?;
    let at = |e: RunError| EvalError::Run { image: item.image.clone(), source: e.into() };
    engine.replies(&experiments(item, options), &[&seen], cancel, &mut || on(Told::Reply)).map_err(at)
}

/// The image that the questions about image `n` are asked about.
fn shown(folder: &Folder, n: usize, images: Images) -> &Path {
    match images {
        Images::Shuffled => &folder.items[(n + 1) % folder.items.len()].image,
        Images::Own | Images::Blank => &folder.items[n].image,
    }
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
struct Found<'a> {
    names: ClassNames,
    tallies: BTreeMap<String, Tally>,
    answers: Vec<Answered>,
    /// The objects of every image that was described.
    present: Vec<&'a [String]>,
    compared: Vec<Objects>,
    whole: Vec<bool>,
}

impl<'a> Found<'a> {
    /// The replies about one image: to its questions, then the description.
    fn image(&mut self, item: &'a Item, describe: &str, mut replies: Vec<Reply>) {
        let description = replies.split_off(item.questions.len()).pop();
        for (question, reply) in item.questions.iter().zip(replies) {
            self.answer(item, question, reply);
        }
        if let Some(reply) = description {
            self.description(item, describe, reply);
        }
    }

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

    fn description(&mut self, item: &'a Item, asked: &str, reply: Reply) {
        self.present.push(&item.objects);
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
    let image = pixels(file, images)?;
    let seen =
        engine.folder.process(&image).and_then(|processed| engine.see(&processed, cancel, &mut |_| ()));
    seen.map_err(|e| EvalError::Run { image: file.to_path_buf(), source: e.into() })
}

fn pixels(file: &Path, images: Images) -> Result<RgbImage, EvalError> {
    let image = open::open(file)?;
    Ok(match images {
        Images::Blank => RgbImage::from_pixel(image.width(), image.height(), Rgb([GREY; 3])),
        Images::Own | Images::Shuffled => image,
    })
}
