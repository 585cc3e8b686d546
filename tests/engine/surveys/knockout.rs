//! Descriptions under cuts: every row against a run from the start with the same cut in force.

use std::collections::{BTreeMap, BTreeSet};

use sightline::{spec::picture::ImageSource, studies::survey::bench::DESCRIBE};

use super::*;

/// Longest description.
const LENGTH: usize = 40;

/// What the model says of an image, from the start, under typed cuts.
fn described(subjects: &Subjects, cuts: &[String]) -> String {
    let image = &subjects.all[0].image;
    let experiment = Experiment::ask(ImageSource::File(image.clone()), DESCRIBE, LENGTH);
    let experiment = experiment.with_knockouts(cuts.iter().map(|cut| cut.parse().unwrap()).collect());
    let cancel = Cancel::default();
    let seen = BUNDLED.look_at(image, &cancel).unwrap();
    BUNDLED.scratch(&experiment, &[&seen], &cancel, &mut |_| {}).unwrap().answer_text()
}

/// Classes that a text names, once for every mention.
fn named<'a>(classes: &'a [String], text: &str) -> Vec<&'a str> {
    let is = |class: &str, word: &str| {
        let plural = class.strip_suffix('y').is_some_and(|stem| word == format!("{stem}ies"));
        plural || [class.to_string(), format!("{class}s"), format!("{class}es")].contains(&word.to_string())
    };
    let words = text.split(|c: char| !c.is_alphanumeric());
    words.filter_map(|word| classes.iter().map(String::as_str).find(|class| is(class, word))).collect()
}

/// How many of these are among those, each once.
fn shared(these: &[&str], those: &[&str]) -> usize {
    let count = |of: &[&str], class: &str| of.iter().filter(|other| **other == class).count();
    let classes: BTreeSet<&str> = these.iter().copied().collect();
    classes.iter().map(|class| count(these, class).min(count(those, class))).sum()
}

fn settings() -> Settings {
    Settings { from: vec![3], length: Some(LENGTH), ..Settings::default() }
}

#[test]
fn a_row_counts_what_a_run_from_the_start_names() {
    let text = "bos + system + markers + question -> visual";
    let typed: BTreeMap<&str, Vec<&str>> = BTreeMap::from([
        ("none", vec![]),
        ("image -> generated", vec!["answer -> visual"]),
        ("image -> generated (first token spared)", vec!["decode -> visual"]),
        ("image -> text", vec![text]),
        ("image -> text + generated", vec!["answer -> visual", text]),
        ("image <-> text", vec![text, "visual -> bos + system + markers + question"]),
    ]);
    let course = course("knockout", settings(), scenes(1));
    let (images, all) = measured(&course);
    assert!(all[0].left_out.is_empty(), "{:?}", all[0].left_out);
    let rows = &images[0];
    assert_eq!(rows.rows.len(), 2 * (1 + 5 * 3));
    let classes = &course.subjects.classes;
    let shown: Vec<&str> = course.subjects.all[0].objects.iter().map(|thing| thing.class.as_str()).collect();
    let uncut = described(&course.subjects, &[]);
    let own = named(classes, &uncut);
    assert!(!own.is_empty() && !shown.is_empty());
    let mut descriptions: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut lost = 0;
    for row in rows.iter() {
        let (cut, layers) = (row.text("cut"), row.text("layers"));
        assert!(["none", "all", "3-", "!0-3"].contains(&layers), "{layers}");
        let cuts: Vec<String> = typed[cut].iter().map(|edge| format!("{edge} @ {layers}")).collect();
        let of = (cut.to_string(), layers.to_string());
        let description = descriptions.entry(of).or_insert_with(|| described(&course.subjects, &cuts));
        let said = named(classes, description);
        let present = match row.text("reference") {
            "own" => &own,
            "truth" => &shown,
            other => panic!("{other}"),
        };
        let counts = ["present", "said", "found"].map(|column| row.number(column).unwrap() as usize);
        assert_eq!(counts, [present.len(), said.len(), shared(present, &said)], "{cut} in {layers}");
        lost += usize::from(row.text("reference") == "own" && counts[2] < counts[0]);
    }
    assert_eq!(descriptions.len(), 1 + 5 * 3);
    assert!(lost > 0, "no cut loses an object");
}

#[test]
fn a_description_without_an_object_is_no_reference() {
    let settings = Settings { prompt: Some("is there a zebu?".to_string()), ..settings() };
    let mut subjects = scenes(1);
    let (images, all) = measured(&course("knockout", settings.clone(), subjects.clone()));
    let why = &all[0].left_out;
    assert!(why.len() == 1 && why[0].what.contains("own"), "{why:?}");
    assert!(images[0].rows.len() == 16 && images[0].iter().all(|row| row.text("reference") == "truth"));
    // Nor is an image of which nothing is known.
    subjects.all[0].objects.clear();
    let (images, all) = measured(&course("knockout", settings, subjects));
    assert!(images[0].rows.is_empty());
    assert_eq!(all[0].left_out.len(), 2);
}
