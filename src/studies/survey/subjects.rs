//! Which images a study is about, what is asked of each, and which objects it shows.
//!
//! A folder of scenes, one in COCO's format, or images alone; their order is that of the files' names. Annotations are
//! read once, images and masks only when their turn comes. Knows files and pixels; not models.

use std::{
    collections::HashMap,
    path::{MAIN_SEPARATOR, Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    image::mask::Mask,
    studies::{
        eval::{
            coco::{Coco, Drawn, Listed, Shape, find, parse, read},
            error::EvalError,
            folder::{Folder, FolderOptions, POLL, Question, Source, polls_about},
            localise::{mask, mask_file},
        },
        images::images_of,
        survey::error::SurveyError,
    },
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
        let (mut all, classes) = match Source::of(dir, options.annotations.as_deref()) {
            Some(Source::Scenes(_)) => scenes(dir, &options.classes)?,
            Some(Source::Coco(file)) => coco(dir, &file)?,
            None => {
                (images_of(dir).map_err(SurveyError::Choice)?.into_iter().map(plain).collect(), Vec::new())
            }
        };
        all.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = all.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let other = pair[0].image.display();
            let why =
                format!("has the name of {other}, and studies tell images apart by name: rename one of them");
            return Err(file_error(&pair[1].image, why).into());
        }
        if let Some(file) = &options.questions {
            ask_instead(&mut all, file)?;
        }
        all.truncate(options.limit.unwrap_or(usize::MAX));
        if all.is_empty() {
            return Err(EvalError::NoImages { dir: dir.to_path_buf() }.into());
        }
        Ok(Subjects { dir: dir.to_path_buf(), all, classes })
    }

    /// A text that may name files of the folder, with their places in it: the same wherever the folder lies.
    pub fn without_place(&self, text: &str) -> String {
        text.replace(&format!("{}{MAIN_SEPARATOR}", self.dir.display()), "")
    }

    /// Whether the pixels of any object are known.
    pub fn shows_objects(&self) -> bool {
        self.all.iter().flat_map(|subject| &subject.objects).any(|object| object.pixels.is_some())
    }
}

/// Images, and all classes.
type Contents = (Vec<Subject>, Vec<String>);

/// A folder as `sightline scenes` writes it.
fn scenes(dir: &Path, classes: &[String]) -> Result<Contents, EvalError> {
    let options = FolderOptions { classes: classes.to_vec(), ..FolderOptions::default() };
    let Folder { items, classes, .. } = Folder::open(dir, &options)?;
    let has_masks = dir.join("masks").is_dir();
    let all = items.into_iter().map(|item| {
        let mask = mask_file(dir, &item.image);
        let objects = item.objects.into_iter().zip(1_usize..).map(|(class, number)| {
            // Later ones have no value of their own, in a mask of 16 bits neither.
            let value = u16::try_from(number).ok().filter(|_| has_masks);
            Thing { class, pixels: value.map(|value| Pixels::Value(mask.clone(), value)) }
        });
        let objects = objects.collect();
        let questions = item.questions.into_iter().map(Asked::from).collect();
        Subject { description: item.description, questions, objects, ..plain(item.image) }
    });
    Ok((all.collect(), classes))
}

/// A folder in COCO's format.
fn coco(dir: &Path, file: &Path) -> Result<Contents, EvalError> {
    let (images, classes) = parse::<Coco<Drawn>>(file)?.by_image(file)?;
    let subject = |(image, objects): Listed<Drawn>| {
        let named: Vec<String> = objects.iter().map(|(class, _)| class.clone()).collect();
        let questions = polls_about(image.id, &named, &classes, POLL).into_iter().map(Asked::from).collect();
        let thing = |(class, drawn): (String, Drawn)| Thing {
            class,
            pixels: drawn.segmentation.filter(Shape::is_known).map(Pixels::Drawn),
        };
        let objects = objects.into_iter().map(thing).collect();
        Subject { questions, objects, ..plain(find(dir, &image.file_name)) }
    };
    let all = images.into_iter().map(subject).collect();
    Ok((all, classes))
}

/// An image of which nothing else is known.
fn plain(image: PathBuf) -> Subject {
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Subject { image, name, questions: Vec::new(), description: None, objects: Vec::new() }
}

/// A line of a file of questions.
#[derive(Deserialize)]
struct Line {
    image: String,
    question: String,
    #[serde(default)]
    answer: Option<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

/// Asks what a file says instead of what is asked; an image that it does not name is asked nothing.
fn ask_instead(all: &mut [Subject], file: &Path) -> Result<(), EvalError> {
    let text = read(file)?;
    all.iter_mut().for_each(|subject| subject.questions.clear());
    let places: HashMap<String, usize> =
        all.iter().enumerate().map(|(place, subject)| (subject.name.clone(), place)).collect();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |why: String| file_error(file, format!("line {}: {why}", n + 1));
        let Line { image, question, answer, kind } =
            serde_json::from_str(line).map_err(|e| fail(e.to_string()))?;
        let place = places.get(&image).ok_or_else(|| {
            fail(format!(
                "no image of the folder is called `{image}`; write a file's name, without its folder"
            ))
        })?;
        if question.trim().is_empty() {
            return Err(fail("the question is empty".to_string()));
        }
        all[*place].questions.push(Asked { kind, text: question, answer });
    }
    Ok(())
}

fn file_error(file: &Path, why: String) -> EvalError {
    EvalError::File { file: file.to_path_buf(), why }
}

impl From<Question> for Asked {
    fn from(question: Question) -> Self {
        Asked { kind: question.kind, text: question.text, answer: Some(question.answer) }
    }
}

impl Subject {
    /// The pixels of an object on an image of this size (width, height): a mask, and the value that is the object's in
    /// it, `None` for any but 0. `None` where they are not known.
    ///
    /// # Errors
    /// [`SurveyError`]: the mask's file cannot be used, or it is of another size.
    pub fn mask(&self, object: usize, size: (u32, u32)) -> Result<Option<(Mask, Option<u16>)>, SurveyError> {
        match self.objects.get(object).and_then(|object| object.pixels.as_ref()) {
            None => Ok(None),
            Some(Pixels::Drawn(shape)) => Ok(shape.mask(size).map(|mask| (mask, None))),
            Some(Pixels::Value(file, value)) => {
                let mask = mask(file)?;
                let (found, expected) = (mask.size(), size);
                if found != expected {
                    let why = format!(
                        "the mask has {} x {} pixels, its image {} x {}",
                        found.0, found.1, expected.0, expected.1
                    );
                    return Err(file_error(file, why).into());
                }
                Ok(Some((mask, Some(*value))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::bundled;

    fn open(dir: &Path, options: &SubjectOptions) -> Result<Subjects, String> {
        Subjects::open(dir, options).map_err(|e| e.to_string())
    }

    fn names(subjects: &Subjects) -> Vec<&str> {
        subjects.all.iter().map(|subject| subject.name.as_str()).collect()
    }

    /// A folder of two images in COCO's format, listed the wrong way round.
    fn coco_folder(images: [&str; 2]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in images {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::copy(bundled::sample_image(), dir.path().join(name)).unwrap();
        }
        let [a, b] = images;
        let text = format!(
            r#"{{"images": [{{"id": 1, "file_name": "{a}"}}, {{"id": 2, "file_name": "{b}"}}],
                "categories": [{{"id": 1, "name": "dog"}}, {{"id": 2, "name": "cat"}}],
                "annotations": [
                    {{"image_id": 2, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}},
                    {{"image_id": 2, "category_id": 2, "iscrowd": 1,
                      "segmentation": {{"size": [2, 2], "counts": [1, 1, 2]}}}},
                    {{"image_id": 2, "category_id": 2, "segmentation": {{"size": [2, 2], "counts": "packed"}}}}]}}"#
        );
        fs::write(dir.path().join("annotations.json"), text).unwrap();
        dir
    }

    #[test]
    fn scenes_have_their_questions_and_their_masks() {
        let dir = bundled::scenes();
        let subjects = open(&dir, &SubjectOptions { limit: Some(2), ..SubjectOptions::default() }).unwrap();
        assert_eq!(names(&subjects), ["000000.png", "000001.png"]);
        let first = &subjects.all[0];
        assert_eq!((first.objects[0].class.as_str(), first.objects.len()), ("camera", 4));
        assert!(first.description.as_deref().is_some_and(|text| text.contains("a camera at the top")));
        let book = first.questions.iter().find(|asked| asked.text == "is there a book?").unwrap();
        assert_eq!((book.kind.as_str(), book.answer.as_deref()), ("exists", Some("yes")));
        assert!(subjects.classes.iter().any(|class| class == "duck") && subjects.shows_objects());
        let own = Mask::open(&dir.join("masks/000000.png")).unwrap();
        let (found, value) = first.mask(2, own.size()).unwrap().unwrap();
        assert_eq!((found, value), (own, Some(3)));
        let error = first.mask(2, (5, 7)).unwrap_err();
        assert!(error.is_of_one_image() && error.to_string().contains("5 x 7"), "{error}");
    }

    #[test]
    fn scenes_without_masks_have_objects_without_pixels_and_one_mask_that_is_missing_is_an_error() {
        let (dir, scenes) = (tempfile::tempdir().unwrap(), bundled::scenes());
        fs::copy(scenes.join("scenes.jsonl"), dir.path().join("scenes.jsonl")).unwrap();
        let subjects = open(dir.path(), &SubjectOptions::default()).unwrap();
        assert!(!subjects.shows_objects() && !subjects.all[0].objects.is_empty());
        assert!(subjects.all[0].mask(0, (9, 9)).unwrap().is_none());
        fs::create_dir(dir.path().join("masks")).unwrap();
        let subjects = open(dir.path(), &SubjectOptions::default()).unwrap();
        let error = subjects.all[0].mask(0, (9, 9)).unwrap_err();
        assert!(error.is_of_one_image() && error.to_string().contains("000000.png"), "{error}");
    }

    #[test]
    fn annotations_are_objects_and_polls() {
        let dir = coco_folder(["val/b.png", "a.png"]);
        let subjects = open(dir.path(), &SubjectOptions::default()).unwrap();
        assert_eq!(
            (names(&subjects), &subjects.classes[..]),
            (vec!["a.png", "b.png"], &["cat".into(), "dog".into()][..])
        );
        let classes: Vec<&str> = subjects.all[0].objects.iter().map(|object| object.class.as_str()).collect();
        assert_eq!(classes, ["dog", "cat", "cat"]);
        assert!(subjects.all[0].description.is_none() && subjects.all[1].objects.is_empty());
        let known = |object: usize| {
            subjects.all[0].mask(object, (2, 2)).unwrap().map(|(mask, value)| {
                assert_eq!(value, None);
                mask.covered([0.0, 0.0, 2.0, 2.0], None)
            })
        };
        assert_eq!([0, 1, 2].map(known), [Some(1.0), Some(0.25), None]);
        assert!(subjects.all[0].objects[2].pixels.is_none(), "packed run lengths are not read");
        // The same polls as `eval` has.
        let folder = Folder::open(dir.path(), &FolderOptions::default()).unwrap();
        let asked: Vec<Asked> = folder.items[1].questions.iter().cloned().map(Asked::from).collect();
        assert_eq!(subjects.all[0].questions, asked);
    }

    #[test]
    fn a_limit_takes_the_first_by_name_and_a_name_is_that_of_one_image() {
        let limit = SubjectOptions { limit: Some(1), ..SubjectOptions::default() };
        let dir = coco_folder(["b.png", "a.png"]);
        assert_eq!(names(&open(dir.path(), &limit).unwrap()), ["a.png"]);
        fs::remove_file(dir.path().join("annotations.json")).unwrap();
        let plain = open(dir.path(), &SubjectOptions::default()).unwrap();
        assert_eq!(names(&plain), ["a.png", "b.png"]);
        assert!(plain.all[0].questions.is_empty() && plain.classes.is_empty() && !plain.shows_objects());
        let none = SubjectOptions { limit: Some(0), ..SubjectOptions::default() };
        assert!(open(dir.path(), &none).unwrap_err().contains("no image"));
        let twice = coco_folder(["one/a.png", "two/a.png"]);
        let error = open(twice.path(), &SubjectOptions::default()).unwrap_err();
        assert!(error.contains("one") && error.contains("two") && error.contains("rename"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(open(empty.path(), &SubjectOptions::default()).unwrap_err().contains("holds no image"));
    }

    #[test]
    fn a_file_of_questions_takes_the_place_of_the_folders_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("questions.jsonl");
        let options =
            SubjectOptions { questions: Some(file.clone()), limit: Some(2), ..SubjectOptions::default() };
        let asked = |text: &str| {
            fs::write(&file, text).unwrap();
            open(&bundled::scenes(), &options)
        };
        let line = r#"{"image": "000001.png", "question": "Is it day?", "answer": "yes", "id": 3}"#;
        let subjects =
            asked(&format!("\n{line}\n{{\"image\": \"000001.png\", \"question\": \"What?\"}}\n")).unwrap();
        assert!(subjects.all[0].questions.is_empty());
        let expected = [("Is it day?", Some("yes")), ("What?", None)].map(|(text, answer)| Asked {
            kind: String::new(),
            text: text.to_string(),
            answer: answer.map(String::from),
        });
        assert_eq!(subjects.all[1].questions, expected);
        // Beyond the limit an image is one of the folder all the same.
        assert!(asked(&line.replace("000001", "000009")).is_ok());
        let error = asked(&format!("{line}\n{}", line.replace("000001", "other"))).unwrap_err();
        assert!(error.contains("line 2") && error.contains("`other.png`"), "{error}");
        for wrong in ["{", r#"{"image": "000001.png"}"#, r#"{"image": "000001.png", "question": " "}"#] {
            let error = asked(wrong).unwrap_err();
            assert!(error.contains("questions.jsonl: line 1"), "{error}");
        }
    }
}
