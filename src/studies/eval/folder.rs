//! Reads what is asked about which image.
//!
//! - With scenes.jsonl, as `sightline scenes` writes it: its questions and descriptions as they stand,
//!   and the class names of annotations.json beside it.
//! - Any other folder in COCO's format (images, categories, annotations): polls, "is there a dog?",
//!   about classes that an image has and as many that it has not, drawn the same way every time.
//!
//! Images are looked for in `images/` and in the folder itself. They are not opened here; this knows
//! neither models nor scores. A crowd (`iscrowd`) counts as one object.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    statistics::dice::Dice,
    studies::eval::{
        coco::{ANNOTATIONS, Coco, Listed, Named, find, parse, read},
        error::EvalError,
    },
};

/// Seed of the polls.
const SEED: u64 = 2024;
/// An image is polled for at most so many classes that it has, and for as many that it has not.
const PRESENT: usize = 3;
/// Where a poll's text takes the class.
pub const CLASS: &str = "{class}";
/// The usual poll. The second sentence keeps large models from explaining themselves.
pub const POLL: &str = "Is there a {class} in this image? Answer yes or no.";

/// Images with what is asked about them.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is.
    pub dir: PathBuf,
    /// In the folder's order.
    pub items: Vec<Item>,
    /// Every class that a description may name.
    pub classes: Vec<String>,
    /// Whether its questions are polls, for want of its own.
    pub polled: bool,
}

/// One image.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its file.
    pub image: PathBuf,
    /// The classes of its objects, one entry an object.
    pub objects: Vec<String>,
    /// The right description, where there is one.
    pub description: Option<String>,
    /// What is asked.
    pub questions: Vec<Question>,
}

/// A question with its right answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// Its type, a word.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its text.
    #[serde(rename = "question")]
    pub text: String,
    /// The right answer.
    pub answer: String,
    /// How much of an answer must agree.
    #[serde(skip)]
    pub agree: Agree,
}

/// How much of an answer must agree with the right one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Agree {
    /// All of it.
    #[default]
    Whole,
    /// Its first word: "Yes, there is." answers a poll.
    FirstWord,
}

/// How a folder is read.
#[derive(Clone, Debug)]
pub struct FolderOptions {
    /// A COCO file to be used instead of scenes.jsonl or annotations.json.
    pub annotations: Option<PathBuf>,
    /// A poll, with [`CLASS`] in it.
    pub poll: String,
    /// Classes that a description may name, of a folder of scenes that lists none.
    pub classes: Vec<String>,
    /// At most so many images.
    pub limit: Option<usize>,
}

/// The file that says what is on a folder's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::studies) enum Source {
    /// As `sightline scenes` writes it.
    Scenes(PathBuf),
    /// In COCO's format.
    Coco(PathBuf),
}

impl Source {
    /// That of a folder, or the given one in COCO's format; `None` where there is none.
    pub fn of(dir: &Path, annotations: Option<&Path>) -> Option<Source> {
        let (scenes, beside) = (dir.join("scenes.jsonl"), dir.join(ANNOTATIONS));
        match annotations {
            Some(file) => Some(Source::Coco(file.to_path_buf())),
            None if scenes.is_file() => Some(Source::Scenes(scenes)),
            None => beside.is_file().then_some(Source::Coco(beside)),
        }
    }
}

impl Default for FolderOptions {
    fn default() -> Self {
        FolderOptions { annotations: None, poll: POLL.to_string(), classes: Vec::new(), limit: None }
    }
}

impl Folder {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`EvalError`]: a file is missing, or not what it should be.
    pub fn open(dir: &Path, options: &FolderOptions) -> Result<Self, EvalError> {
        let limit = options.limit.unwrap_or(usize::MAX);
        let source = Source::of(dir, options.annotations.as_deref());
        let source = source.ok_or_else(|| EvalError::NoScenes { dir: dir.to_path_buf() })?;
        let (items, classes) = match &source {
            Source::Scenes(file) => questions(dir, file, &options.classes, limit)?,
            Source::Coco(file) => polls(dir, file, &options.poll, limit)?,
        };
        if items.is_empty() {
            return Err(EvalError::NoImages { dir: dir.to_path_buf() });
        }
        let polled = matches!(source, Source::Coco(_));
        Ok(Folder { dir: dir.to_path_buf(), items, classes, polled })
    }

    /// Questions of all images, descriptions not counted.
    pub fn n_questions(&self) -> usize {
        self.items.iter().map(|item| item.questions.len()).sum()
    }
}

/// What is read, and all classes.
type Contents = (Vec<Item>, Vec<String>);

/// The part of a line of scenes.jsonl that is asked about.
#[derive(Deserialize)]
struct Line {
    file: String,
    objects: Vec<Object>,
    description: String,
    questions: Vec<Question>,
}

#[derive(Deserialize)]
struct Object {
    class: String,
}

fn questions(dir: &Path, scenes: &Path, usual: &[String], limit: usize) -> Result<Contents, EvalError> {
    let text = read(scenes)?;
    let mut items = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).take(limit) {
        let line: Line = serde_json::from_str(line).map_err(|e| EvalError::File {
            file: scenes.to_path_buf(),
            why: format!("line {}: {e}", n + 1),
        })?;
        items.push(Item {
            image: find(dir, &line.file),
            objects: line.objects.into_iter().map(|o| o.class).collect(),
            description: Some(line.description),
            questions: line.questions,
        });
    }
    // A description may name a class that no image has: that is what precision is about.
    let annotations = dir.join(ANNOTATIONS);
    let known: Vec<String> = if annotations.is_file() {
        parse::<Coco<Named>>(&annotations)?.categories.into_iter().map(|c| c.name).collect()
    } else {
        usual.to_vec()
    };
    let seen = items.iter().flat_map(|item| item.objects.iter().cloned());
    let classes: BTreeSet<String> = known.into_iter().chain(seen).collect();
    Ok((items, classes.into_iter().collect()))
}

fn polls(dir: &Path, file: &Path, poll: &str, limit: usize) -> Result<Contents, EvalError> {
    if !poll.contains(CLASS) {
        return Err(EvalError::Poll { text: poll.to_string() });
    }
    let (images, classes) = parse::<Coco<Named>>(file)?.by_image(file)?;
    let item = |(image, objects): Listed<Named>| {
        let objects: Vec<String> = objects.into_iter().map(|(class, _)| class).collect();
        Item {
            image: find(dir, &image.file_name),
            questions: polls_about(image.id, &objects, &classes, poll),
            description: None,
            objects,
        }
    };
    let items = images.into_iter().take(limit).map(item).collect();
    Ok((items, classes))
}

/// As many polls answered yes as no; the image's id decides which, so that a limit changes nothing.
pub(in crate::studies) fn polls_about(
    image: u64,
    objects: &[String],
    classes: &[String],
    poll: &str,
) -> Vec<Question> {
    let objects: BTreeSet<&String> = objects.iter().collect();
    let (mut present, mut absent): (Vec<&String>, Vec<&String>) =
        classes.iter().partition(|class| objects.contains(class));
    let mut dice = Dice::new(SEED, image);
    let mut questions = Vec::new();
    for _ in 0..PRESENT.min(present.len()).min(absent.len()) {
        for (classes, answer) in [(&mut present, "yes"), (&mut absent, "no")] {
            let class = dice.draw(classes);
            questions.push(Question {
                kind: "exists".to_string(),
                text: about(poll, class),
                answer: answer.to_string(),
                agree: Agree::FirstWord,
            });
        }
    }
    questions
}

/// A poll with its class; "a" becomes "an" before a vowel.
pub fn about(poll: &str, class: &str) -> String {
    let vowel = class.starts_with(|c: char| "aeiouAEIOU".contains(c));
    let article = if vowel { " an " } else { " a " };
    poll.replace(&format!(" a {CLASS}"), &format!("{article}{class}")).replace(CLASS, class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_class() {
        assert_eq!(about("Is there a {class}?", "apple"), "Is there an apple?");
        assert_eq!(about("Is there a {class}?", "dog"), "Is there a dog?");
        assert_eq!(about("any {class} here?", "apple"), "any apple here?");
    }

    #[test]
    fn polls_are_balanced_and_the_same_every_time() {
        let classes: Vec<String> = ["ant", "bee", "cat", "dog", "elk"].map(String::from).into();
        let objects: Vec<String> = ["bee", "bee", "dog"].map(String::from).into();
        let asked = polls_about(7, &objects, &classes, POLL);
        assert_eq!(asked, polls_about(7, &objects, &classes, POLL));
        let count = |answer: &str| asked.iter().filter(|q| q.answer == answer).count();
        assert_eq!((count("yes"), count("no")), (2, 2));
        let texts: BTreeSet<&str> = asked.iter().map(|q| q.text.as_str()).collect();
        assert_eq!(texts.len(), 4, "no class twice");
        assert!(polls_about(7, &[], &classes, POLL).is_empty());
        assert!(polls_about(7, &classes, &classes, POLL).is_empty());
    }
}
