//! Which images a study is about, what is asked of each, and which objects it shows.
//!
//! A folder of scenes, one in COCO's format, or images alone; their order is that of the files' names. Annotations are
//! read once, images and masks only when their turn comes. Knows files and pixels; not models.

use std::path::{Path, PathBuf};

use crate::{
    image::mask::Mask,
    studies::{eval::coco::Shape, survey::error::SurveyError},
};

/// What a study is about.
#[derive(Clone, Debug)]
pub struct Subjects {
    /// Where the images are.
    pub dir: PathBuf,
    /// By the names of their files.
    pub all: Vec<Subject>,
    /// Every class that an answer may name; empty where objects are not known.
    pub classes: Vec<String>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its file.
    pub image: PathBuf,
    /// The file's name, by which rows call it.
    pub name: String,
    /// What is asked about it, with the right answers where they are known.
    pub questions: Vec<Asked>,
    /// The right description, where it is known.
    pub description: Option<String>,
    /// What it shows; empty where that is not known.
    pub objects: Vec<Thing>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its type, a word; empty where it has none.
    pub kind: String,
    /// Its text.
    pub text: String,
    /// The right answer, where it is known.
    pub answer: Option<String>,
}

/// An object on an image.
#[derive(Clone, Debug)]
pub struct Thing {
    /// Its class.
    pub class: String,
    /// Which pixels it fills; `None` where that is not known.
    pub pixels: Option<Pixels>,
}

/// Which pixels of an image an object fills.
#[derive(Clone, Debug)]
pub enum Pixels {
    /// Those of this value in a mask's file.
    Value(PathBuf, u16),
    /// As an annotation draws them.
    Drawn(Shape),
}

/// How a folder is read.
#[derive(Clone, Debug, Default)]
pub struct SubjectOptions {
    /// A COCO file to be used instead of scenes.jsonl or annotations.json.
    pub annotations: Option<PathBuf>,
    /// JSON lines of `image`, `question` and perhaps `answer` and `type`: asked instead of the folder's own questions.
    pub questions: Option<PathBuf>,
    /// Classes that an answer may name, of a folder of scenes that lists none.
    pub classes: Vec<String>,
    /// At most so many images, the first by name.
    pub limit: Option<usize>,
}

impl Subjects {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`SurveyError`]: it holds no image, or a file of it is not what it should be.
    pub fn open(dir: &Path, options: &SubjectOptions) -> Result<Subjects, SurveyError> {
        let _ = (dir, options);
        Err(SurveyError::Choice(String::new()))
    }
}

impl Subject {
    /// The pixels of an object on an image of this size (width, height): a mask, and the value that is the object's in
    /// it, `None` for any but 0. `None` where they are not known.
    ///
    /// # Errors
    /// [`SurveyError`]: the mask's file cannot be used, or it is of another size.
    pub fn mask(&self, object: usize, size: (u32, u32)) -> Result<Option<(Mask, Option<u16>)>, SurveyError> {
        let _ = (object, size);
        Ok(None)
    }
}
