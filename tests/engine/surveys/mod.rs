//! Studies over images: what they measure on known scenes, against the same by its definition, run by run.

use std::{path::Path, sync::LazyLock};

use sightline::{
    bundled,
    engine::{baseline::Baseline, load::Engine, see::Seen},
    progress::Cancel,
    spec::experiment::Experiment,
    studies::survey::{
        course::{self, Course},
        findings::ImageRows,
        kinds,
        record::Measured,
        settings::Settings,
        subjects::{SubjectOptions, Subjects},
    },
};

use crate::common::load;

mod ablate;
mod answer;
mod compress;
mod effect;
mod heads;
mod knockout;
mod lens;
mod localise;
mod share;
mod windows;

/// The bundled model.
pub static BUNDLED: LazyLock<Engine> = LazyLock::new(|| load(&bundled::model()));

/// The first bundled scenes.
pub fn scenes(n: usize) -> Subjects {
    let options = SubjectOptions { limit: Some(n), ..SubjectOptions::default() };
    Subjects::open(&bundled::scenes(), &options).unwrap()
}

/// A study of some images.
pub fn course(name: &str, settings: Settings, subjects: Subjects) -> Course {
    let kind = kinds::of(name).unwrap();
    Course { kind, settings, subjects, shard: [1, 1], stop_on_error: true }
}

/// What a study measures on the bundled model: rows by image, and all that is left out.
pub fn measured(course: &Course) -> (Vec<ImageRows>, Vec<Measured>) {
    let measure = |n: usize| {
        let found = course.measure(&BUNDLED, n, &Cancel::default()).unwrap();
        Measured::new(n, &course.subjects.all[n].name, found)
    };
    let all: Vec<Measured> = course.numbers().map(measure).collect();
    (course::rows(course.kind, &all), all)
}

/// A run from the start on the bundled model, whatever is done to it.
pub fn keep(experiment: &Experiment, image: &Path) -> (Baseline, Seen) {
    let cancel = Cancel::default();
    let seen = BUNDLED.look_at(image, &cancel).unwrap();
    let baseline = BUNDLED.keep(experiment, &[&seen], &cancel, &mut |_| {}).unwrap();
    (baseline, seen)
}
