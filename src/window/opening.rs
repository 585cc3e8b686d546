//! What lies at a path, and how it is opened: an image, a mask, a folder of images, a model folder, a session, a saved
//! run.
//!
//! Reads files: never on the window's thread.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use image::RgbImage;

use crate::{
    export::open::{Saved, everything},
    image::open,
    spec::{
        experiment::Experiment,
        knockout::{Knockout, KnockoutError},
        picture::ImageSource,
    },
    studies::{
        eval::coco::ANNOTATIONS,
        session::Session,
        survey::subjects::{SubjectOptions, Subjects},
    },
    trace::{
        geometry::Geometry,
        report::{Outcome, Report},
        run::Trace,
    },
    ui::store::{
        command::Command,
        cut_list::CutSettings,
        run::Run,
        saved::{SavedRun, blank_picture, run_of},
        settings::Asking,
        setup::Setup,
        surveys::ImageFolder,
        talk::Talk,
    },
    window::session::cuts_of,
    worker::{protocol::ImageView, views::drawable},
};

/// What was found at a path.
#[derive(Debug)]
pub enum Opened {
    /// Something that the worker opens.
    Do(Command),
    /// A session, and its file.
    Session(Box<Session>, PathBuf),
    /// A saved run; what is to be known of it, and its folder.
    Saved(Box<SavedRun>, Option<String>, PathBuf),
}

/// Opens what lies at a path.
///
/// # Errors
/// In words.
pub fn open_path(path: &Path) -> Result<Opened, String> {
    match kind(path) {
        Kind::Session(file) => {
            let session = Session::read(&file).map_err(|e| e.to_string())?;
            Ok(Opened::Session(Box::new(session), file))
        }
        Kind::Saved(folder) => {
            let (saved, notice) = saved(&folder)?;
            Ok(Opened::Saved(Box::new(saved), notice, folder))
        }
        Kind::Images => image_folder(path),
        Kind::Model => Ok(Opened::Do(Command::LoadModel(path.to_path_buf()))),
        Kind::Mask => Ok(Opened::Do(Command::OpenMask(path.to_path_buf()))),
        Kind::Image => Ok(Opened::Do(Command::OpenImage(ImageSource::File(path.to_path_buf())))),
    }
}

/// A folder of images, to be studied.
///
/// # Errors
/// In words: there is none, or a file of it is not what it should be.
pub fn image_folder(dir: &Path) -> Result<Opened, String> {
    let subjects = Subjects::open(dir, &SubjectOptions::default()).map_err(|e| e.to_string())?;
    let objects = subjects.shows_objects();
    let folder = ImageFolder { dir: dir.to_path_buf(), images: subjects.all.len(), objects };
    Ok(Opened::Do(Command::SurveyOver(Some(folder))))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Session(PathBuf),
    Saved(PathBuf),
    Images,
    Model,
    Mask,
    Image,
}

fn kind(path: &Path) -> Kind {
    let named = |name: &str| path.join(name);
    if path.is_dir() {
        return match (named("trace.json").is_file(), named("session.json").is_file()) {
            _ if named("config.json").is_file() => Kind::Model,
            (true, _) => Kind::Saved(path.to_path_buf()),
            (false, true) => Kind::Session(named("session.json")),
            _ if named("scenes.jsonl").is_file() || named(ANNOTATIONS).is_file() => Kind::Images,
            (false, false) => Kind::Model,
        };
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new("."));
    let in_masks = folder.file_name().is_some_and(|name| name.eq_ignore_ascii_case("masks"));
    match name.as_str() {
        "trace.json" => Kind::Saved(folder.to_path_buf()),
        name if name.ends_with(".json") => Kind::Session(path.to_path_buf()),
        name if name.contains("mask") || in_masks => Kind::Mask,
        _ => Kind::Image,
    }
}

/// A saved run, and what is to be known of it.
fn saved(folder: &Path) -> Result<(SavedRun, Option<String>), String> {
    let saved = everything(folder).map_err(|e| e.to_string())?;
    let geometry = saved.answer.images.first().cloned().ok_or("the saved run is about no image")?;
    let file = saved.pictures().next().map(Path::to_path_buf);
    let (picture, notice) = picture(file.as_deref(), &geometry);
    let source = match file {
        Some(file) => ImageSource::File(file),
        None => ImageSource::Bytes(Arc::from([]), "image of a saved run".to_string()),
    };
    let Saved { answer, uncut, outcome, question, session } = saved;
    let experiment = match session {
        Some(session) => session.experiment,
        None => asked(&answer, source.clone(), &question)?,
    };
    let image = ImageView {
        source: source.clone(),
        picture,
        description: format!("{}x{}, of a saved run", geometry.source.0, geometry.source.1),
        geometry,
        views: Vec::new(),
        objects: None,
    };
    let model = answer.model.clone();
    let (talk, question) = Talk::of(&experiment.turns).unwrap_or((Talk::default(), question));
    let mut setup = Setup {
        image: Some(source),
        prompt: question,
        talk,
        asking: Asking {
            max_new: experiment.max_new,
            sampling: experiment.sampling,
            seed: experiment.seed,
            top: experiment.top,
        },
        cut: CutSettings::default(),
    };
    let (uncut, cut) = match (uncut, outcome) {
        (Some(uncut), Some(outcome)) => {
            let base = uncut_run(&experiment, &setup, uncut.clone())?;
            setup.cut = cuts_of(&experiment);
            (base, Some(cut_run(experiment, setup, uncut, answer, outcome)?))
        }
        _ => (uncut_run(&experiment, &setup, answer)?, None),
    };
    Ok((SavedRun { model, image, uncut: Box::new(uncut), cut: cut.map(Box::new) }, notice))
}

/// What was asked, as far as a trace tells it.
fn asked(answer: &Trace, image: ImageSource, question: &str) -> Result<Experiment, String> {
    let parse = |text: &String| text.parse::<Knockout>();
    let knockouts: Result<Vec<Knockout>, KnockoutError> =
        answer.knockouts.iter().map(|report| parse(&report.text)).collect();
    let knockouts = knockouts.map_err(|e| format!("trace.json: {e}"))?;
    Ok(Experiment::ask(image, question, answer.answer.len()).with_knockouts(knockouts))
}

fn uncut_run(experiment: &Experiment, setup: &Setup, trace: Trace) -> Result<Run, String> {
    let experiment = experiment.uncut();
    let report = Report { experiment: experiment.clone(), uncut: None, answer: trace, outcome: None };
    run_of(experiment, setup.clone(), &report.answer, None, (&report).into())
}

fn cut_run(
    experiment: Experiment,
    setup: Setup,
    uncut: Trace,
    answer: Trace,
    outcome: Outcome,
) -> Result<Run, String> {
    let report =
        Report { experiment: experiment.clone(), uncut: Some(uncut), answer, outcome: Some(outcome) };
    let scored = report.outcome.as_ref().map(|outcome| (&outcome.forced, &outcome.effects[..]));
    run_of(experiment, setup, &report.answer, scored, (&report).into())
}

/// The picture of a saved run's image, where its file is still there and still of its size; else a blank one, and why.
fn picture(file: Option<&Path>, geometry: &Geometry) -> (Arc<RgbImage>, Option<String>) {
    let (width, height) = geometry.source;
    let blank = |why: String| (blank_picture(width, height), Some(format!("The image is not shown: {why}.")));
    let Some(file) = file else { return blank("no session.json says where it lies".to_string()) };
    match open::open(file) {
        Ok(pixels) if pixels.dimensions() == geometry.source => (drawable(&Arc::new(pixels)), None),
        Ok(pixels) => {
            let (w, h) = pixels.dimensions();
            blank(format!("{} is {w}x{h} now; it was {width}x{height}", file.display()))
        }
        Err(error) => blank(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["run", "session", "model", "empty", "masks", "scenes"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        let files = [
            "run/trace.json",
            "run/session.json",
            "session/session.json",
            "model/config.json",
            "scenes/scenes.jsonl",
        ];
        for file in files {
            std::fs::write(at(file), "{}").unwrap();
        }
        for (path, expected) in [
            ("run", Kind::Saved(at("run"))),
            ("run/trace.json", Kind::Saved(at("run"))),
            ("run/session.json", Kind::Session(at("run/session.json"))),
            ("session", Kind::Session(at("session/session.json"))),
            ("model", Kind::Model),
            ("empty", Kind::Model),
            ("scenes", Kind::Images),
            ("a.png", Kind::Image),
            ("a-Mask.png", Kind::Mask),
            ("masks/000001.png", Kind::Mask),
        ] {
            assert_eq!(kind(&at(path)), expected, "{path}");
        }
        let error = open_path(&at("run")).unwrap_err();
        assert!(error.contains("trace"), "{error}");
    }

    #[test]
    fn a_picture_that_is_gone_or_another_is_blank_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.png");
        RgbImage::new(4, 3).save(&file).unwrap();
        let of = |source, file| picture(file, &Geometry { source, rows: 0, cols: 0, views: Vec::new() });
        assert_eq!(of((4, 3), Some(file.as_path())).1, None);
        let (blank, why) = of((8, 3), Some(file.as_path()));
        assert_eq!(blank.dimensions(), (8, 3));
        assert!(why.unwrap().contains("is 4x3 now; it was 8x3"));
        assert!(of((4, 3), None).1.unwrap().contains("no session.json"));
        assert!(of((4, 3), Some(Path::new("/nowhere.png"))).1.is_some());
    }
}
