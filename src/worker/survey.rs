//! A study over images that was asked for: its images are listed when its turn comes, and measured one at a time.
//!
//! An image whose measuring was cancelled is measured anew, whole; one that cannot be measured is told with the reason,
//! and the next one follows. Knows studies over images and files; not when there is time for one.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use crate::{
    engine::load::Engine,
    image::mask::Mask,
    progress::Cancel,
    studies::{
        eval::coco::{ANNOTATIONS, Shape},
        survey::{
            bench::{Found, LeftOut},
            course::Course,
            error::SurveyError,
            kinds,
            record::{Header, Measured},
            subjects::{Pixels, Subject, SubjectOptions, Subjects, Thing},
        },
    },
    worker::protocol::{Over, Survey},
};

/// A study over images on its way.
pub struct Way {
    asked: Survey,
    begun: Option<(Course, VecDeque<usize>)>,
}

/// What came of a step.
pub enum Stepped {
    /// Its images are known: their files.
    Begun(Vec<PathBuf>),
    /// One more is measured.
    Image(Measured),
    /// All are; of what they are measured.
    Whole(Box<Header>),
}

impl Way {
    /// One that has not begun.
    pub fn new(asked: Survey) -> Self {
        Way { asked, begun: None }
    }

    /// Takes its next step. `mask`: of the image that a file names, the mask that was read of it.
    ///
    /// # Errors
    /// [`SurveyError`]; a cancelled step can be taken again.
    pub fn step<'a>(
        &mut self,
        engine: &Engine,
        mask: impl FnOnce(&Path) -> Option<&'a Path>,
        cancel: &Cancel,
    ) -> Result<Stepped, SurveyError> {
        let Some((course, left)) = &mut self.begun else {
            let course = course(&self.asked, mask)?;
            let files = course.subjects.all.iter().map(|subject| subject.image.clone()).collect();
            let is_left = |n: &usize| !self.asked.done.contains(&course.subjects.all[*n].name);
            let left = course.numbers().filter(is_left).collect();
            self.begun = Some((course, left));
            return Ok(Stepped::Begun(files));
        };
        let Some(&number) = left.front() else { return Ok(Stepped::Whole(course.header(engine)?.into())) };
        let found = match course.measure(engine, number, cancel) {
            Err(e) if !e.is_cancelled() && e.is_of_one_image() => {
                let why = course.subjects.without_place(&e.to_string());
                Found { left_out: vec![LeftOut { what: String::new(), why }], ..Found::default() }
            }
            found => found?,
        };
        left.pop_front();
        Ok(Stepped::Image(Measured::new(number, &course.subjects.all[number].name, found)))
    }
}

/// What is to be done, with its images.
fn course<'a>(asked: &Survey, mask: impl FnOnce(&Path) -> Option<&'a Path>) -> Result<Course, SurveyError> {
    let kind = kinds::of(asked.kind)
        .ok_or_else(|| SurveyError::Choice(format!("there is no study `{}`", asked.kind)))?;
    let subjects = match &asked.over {
        Over::Folder { dir, limit } => {
            Subjects::open(dir, &SubjectOptions { limit: *limit, ..SubjectOptions::default() })?
        }
        Over::Image(image) => match mask(image) {
            Some(mask) => marked(image, mask)?,
            None => known(image).unwrap_or_else(|| alone(image, Vec::new())),
        },
    };
    Ok(Course { kind, settings: asked.settings.clone(), subjects, shard: [1, 1], stop_on_error: false })
}

/// An image of a folder that knows what is on its images.
fn known(image: &Path) -> Option<Subjects> {
    let folder = image.parent()?;
    let above = folder.parent().filter(|_| folder.ends_with("images"));
    let knows = |dir: &&Path| ["scenes.jsonl", ANNOTATIONS].iter().any(|list| dir.join(list).is_file());
    let dir = [Some(folder), above].into_iter().flatten().find(knows)?;
    let mut subjects = Subjects::open(dir, &SubjectOptions::default()).ok()?;
    subjects.all.retain(|subject| subject.image == image);
    (!subjects.all.is_empty()).then_some(subjects)
}

/// An image with the object of a mask's file, which is called as that is.
fn marked(image: &Path, file: &Path) -> Result<Subjects, SurveyError> {
    let mask = Mask::open(file)?;
    let class = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let pixels = Some(Pixels::Drawn(runs(&mask)));
    Ok(alone(image, vec![Thing { class, pixels }]))
}

/// A mask's pixels of any value but 0, as run lengths.
fn runs(mask: &Mask) -> Shape {
    let (width, height) = mask.size();
    let pixels = (0..width).flat_map(|x| (0..height).map(move |y| (x, y)));
    let (mut counts, mut inside) = (vec![0], false);
    for (x, y) in pixels {
        if mask.holds(x, y, None) != inside {
            inside = !inside;
            counts.push(0);
        }
        if let Some(last) = counts.last_mut() {
            *last += 1;
        }
    }
    Shape::Runs { size: [height, width], counts }
}

/// An image of which nothing else is known.
fn alone(image: &Path, objects: Vec<Thing>) -> Subjects {
    let classes = objects.iter().map(|object| object.class.clone()).collect();
    let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let dir = image.parent().unwrap_or(Path::new(".")).to_path_buf();
    let image = image.to_path_buf();
    let subject = Subject { image, name, questions: Vec::new(), description: None, objects };
    Subjects { dir, all: vec![subject], classes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_the_object_that_it_shows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("duck.png");
        // Down the columns: 0 1, 1 1, 0 0.
        let levels = vec![0, 7, 0, 1, 1, 0];
        image::GrayImage::from_raw(3, 2, levels).unwrap().save(&file).unwrap();
        let subjects = marked(&dir.path().join("pond.png"), &file).unwrap();
        let [subject] = &subjects.all[..] else { panic!("{subjects:?}") };
        assert_eq!((subject.name.as_str(), subject.objects[0].class.as_str()), ("pond.png", "duck"));
        assert_eq!(subjects.classes, ["duck"]);
        let Some(Pixels::Drawn(Shape::Runs { size, counts })) = &subject.objects[0].pixels else { panic!() };
        assert_eq!((size, &counts[..]), (&[2, 3], &[1, 3, 2][..]));
        assert!(marked(&file, Path::new("/nowhere.png")).is_err());
    }

    #[test]
    fn a_study_that_is_not_known_is_refused() {
        let over = Over::Image("a.png".into());
        let asked = Survey { kind: "entropy", settings: Default::default(), over, done: Vec::new() };
        assert!(course(&asked, |_| None).unwrap_err().to_string().contains("`entropy`"));
    }
}
