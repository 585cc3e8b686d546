//! Paths cut in windows, against runs from the start under the cut as it would be typed.
#![allow(clippy::unwrap_used)]

use sightline::{
    engine::{baseline::Baseline, see::Seen},
    progress::Cancel,
    spec::{
        experiment::Experiment,
        picture::{ImageSource, ObjectMask},
    },
    studies::survey::{
        findings::{ImageRows, Row},
        record::Measured,
        settings::Settings,
        subjects::{Pixels, Subject},
    },
};

use super::{BUNDLED, course, keep, measured, scenes};

const FLOWS: [&str; 5] =
    ["answer -> visual", "question -> visual", "last -> visual", "answer -> question", "last -> question"];
const OF_OBJECTS: [&str; 5] = [
    "last -> object~1",
    "last -> visual - object~1",
    "lastrow -> object~1",
    "question -> object~1",
    "question -> visual - object~1",
];

/// The first scene, about which one thing is asked.
fn first(flows: &[&str], halves: &[usize], question: &str) -> (Subject, ImageRows, Measured) {
    let settings = Settings {
        prompt: Some(question.to_string()),
        length: Some(6),
        flows: flows.iter().map(|flow| flow.parse().unwrap()).collect(),
        halves: halves.to_vec(),
        ..Settings::default()
    };
    let course = course("windows", settings, scenes(1));
    let (mut images, mut all) = measured(&course);
    (course.subjects.all[0].clone(), images.remove(0), all.remove(0))
}

/// The same question, uncut.
fn uncut(subject: &Subject, question: &str) -> (Baseline, Seen) {
    let image = ImageSource::File(subject.image.clone());
    keep(&Experiment::ask(image, question, 6), &subject.image)
}

/// What a typed cut does to an answer, by a run from the start that is made to say it.
fn typed(baseline: &Baseline, seen: &Seen, cut: &str) -> [f64; 2] {
    let forced_answer = Some(baseline.trace.ids());
    let experiment = Experiment { forced_answer, ..baseline.experiment.clone() };
    let experiment = experiment.with_knockouts(vec![cut.parse().unwrap()]);
    let trace = BUNDLED.scratch(&experiment, &[seen], &Cancel::default(), &mut |_| {}).unwrap();
    let pairs = trace.answer.iter().zip(&baseline.trace.answer);
    let deltas: Vec<f64> =
        pairs.map(|(cut, uncut)| f64::from(cut.logprob) - f64::from(uncut.logprob)).collect();
    let [cut, uncut] = [&trace, &baseline.trace].map(|trace| f64::from(trace.answer[0].logprob).exp());
    [deltas.iter().sum(), cut / uncut - 1.0]
}

#[track_caller]
fn same(row: Row<'_>, baseline: &Baseline, seen: &Seen) {
    let number = |column| row.number(column).unwrap();
    let cut = format!("{} @ {}~{}", row.text("flow"), number("centre"), number("half"));
    let [delta, first_ratio] = typed(baseline, seen, &cut);
    for (column, expected) in [("delta", delta), ("first_ratio", first_ratio)] {
        let found = number(column);
        assert!((found - expected).abs() < 1e-4, "`{cut}`: {column} {found}, typed {expected}");
    }
}

#[test]
fn every_row_is_what_the_typed_cut_does() {
    let question = "what is at the top?";
    let (subject, rows, measured) = first(&[], &[], question);
    let (baseline, mut seen) = uncut(&subject, question);
    assert!(baseline.trace.answer.last().unwrap().end, "the end token counts");
    // The one object that the answer names.
    let named = |n: &usize| baseline.trace.answer_text().contains(&subject.objects[*n].class);
    let objects: Vec<usize> = (0..subject.objects.len()).filter(named).collect();
    assert_eq!((objects.len(), measured.left_out.len()), (1, 0), "{measured:?}");
    let Some(Pixels::Value(file, value)) = subject.objects[objects[0]].pixels.clone() else { panic!() };
    seen.mark_from(&ObjectMask { file, value: Some(value), share: 0.0 }).unwrap();

    let n_layers = BUNDLED.info.n_layers;
    let mut found = rows.iter();
    let mut moved = 0;
    for flow in [FLOWS, OF_OBJECTS].concat() {
        for half in [0, 1] {
            for centre in 0..n_layers {
                let row = found.next().unwrap();
                let place = (row.text("flow"), row.number("centre"), row.number("half"));
                assert_eq!(place, (flow, Some(centre as f64), Some(f64::from(half))));
                assert_eq!(row.text("question"), question);
                same(row, &baseline, &seen);
                moved += usize::from(row.number("delta").unwrap().abs() > 1e-3);
            }
        }
    }
    assert!(found.next().is_none());
    assert!(moved > 20, "{moved} cuts change anything");
}

#[test]
fn paths_that_there_are_not_are_left_out_aloud_and_others_are_measured() {
    let question = "what is the background?";
    let wrong = ["answer -> visual[5000]", "last -> object", "last -> all"];
    let flows = [wrong[0], "last -> visual", wrong[1], wrong[2]];
    let (subject, rows, measured) = first(&flows, &[1], question);
    assert_eq!(rows.rows.len(), BUNDLED.info.n_layers);
    let (baseline, seen) = uncut(&subject, question);
    for row in rows.iter() {
        assert_eq!(row.text("flow"), "last -> visual");
        same(row, &baseline, &seen);
    }
    let why = |flow: &str| {
        let what = format!("{question}: {flow}");
        let found = measured.left_out.iter().find(|left_out| left_out.what == what);
        found.unwrap_or_else(|| panic!("{flow}: {:?}", measured.left_out)).why.clone()
    };
    for (flow, part) in
        wrong.into_iter().zip(["visual 5000 does not exist", "no object", "nothing to look at"])
    {
        assert!(why(flow).contains(part), "{flow}: {}", why(flow));
    }
}

#[test]
fn flows_of_objects_are_of_the_first_that_is_named() {
    let question = "describe this image.";
    let (subject, rows, measured) = first(&["last -> object"], &[0], question);
    // Six tokens name one object at most, and the description begins with the first.
    let (_, _, whole) = first(&[], &[0], "what is left of the house?");
    assert!(subject.objects.len() > 1);
    assert_eq!(rows.rows.len(), BUNDLED.info.n_layers, "{:?}", measured.left_out);
    let others: Vec<&str> = whole.left_out.iter().map(|left_out| left_out.why.as_str()).collect();
    assert_eq!(others, ["another object is named before it"]);
}
