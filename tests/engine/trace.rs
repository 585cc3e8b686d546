//! Saved traces: what a run leaves in files comes back as it was, and what does not fit is refused with a
//! reason.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    engine::{load::Engine, see::Seen},
    export::{
        folder,
        open::{everything, open},
        trace::{Extra, FORMAT, write},
    },
    progress::Cancel,
    spec::{
        experiment::Experiment,
        picture::{ImageSource, ObjectMask, Picture},
        span::Span,
    },
    studies::session::Session,
    trace::{geometry::Geometry, report::Report, run::Trace, tokens::AnswerToken},
};

use crate::common::{
    ask, fixture, load,
    program::{asset, json, sightline, text},
    tiled_model,
};

const QUESTION: &str = "what is the background?";

fn run(engine: &Engine, seen: &Seen, experiment: &Experiment) -> Report {
    engine.run(experiment, &[seen], &Cancel::default(), &mut |_| {}).unwrap().1
}

/// Writes a trace's files into a folder.
fn save(report: &Report, dir: &Path) {
    let out = folder::open(dir).unwrap();
    write(report, None, &Extra::default(), &out).unwrap();
    out.commit().unwrap();
}

/// Asserts that two traces are the same one, but for their times.
fn same(found: &Trace, expected: &Trace, half: bool) {
    assert_eq!(found.model, expected.model);
    assert_eq!((&found.device, &found.dtype), (&expected.device, &expected.dtype));
    assert_eq!(found.images, expected.images);
    assert_eq!(found.prompt, expected.prompt);
    assert_eq!(found.answer, expected.answer);
    assert_eq!(found.kept, expected.kept);
    assert_eq!(found.knockouts, expected.knockouts);
    assert_eq!(found.stop, expected.stop);
    assert!(found.flow.is_some() && found.flow == expected.flow, "flow between spans");
    assert_eq!(found.pattern.len(), expected.pattern.len());
    for ((s, row), (s_expected, expected)) in found.rows().zip(expected.rows()) {
        assert_eq!(s, s_expected);
        let shape = [row.n_layers, row.n_heads, row.n_keys];
        assert_eq!(shape, [expected.n_layers, expected.n_heads, expected.n_keys]);
        assert!(row.data == expected.data, "attention of answer row {s}, half {half}");
    }
    let seconds = |t: &Trace| [t.timing.load, t.timing.encode, t.timing.prefill, t.timing.decode];
    for (a, b) in seconds(found).into_iter().zip(seconds(expected)) {
        assert!(a.abs_diff(b).as_micros() < 2, "{a:?} {b:?}");
    }
    assert_eq!(found.timing.decode_steps, expected.timing.decode_steps);
}

#[test]
fn what_is_written_is_what_is_read() {
    let engine = load(&bundled::model());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (record, half) in [
        ("answer @ all", false),
        ("answer[1-2] @ 2-3 # 1,3", false),
        ("answer[0,3-] @ 0 # 2", true),
        ("answer @ all", true),
        ("none", false),
    ] {
        let mut experiment = ask(bundled::PROMPT, 5);
        (experiment.record.pattern, experiment.record.half) = (record.parse().unwrap(), half);
        for cut in [vec![], vec!["answer -> visual @ 1-3 # 0", "last -> question[0] @ all"]] {
            let cuts = cut.iter().map(|k: &&str| k.parse().unwrap()).collect();
            let report = run(&engine, &seen, &experiment.clone().with_knockouts(cuts));
            save(&report, dir.path());
            same(&open(dir.path()).unwrap(), &report.answer, half);
        }
    }
}

/// A trace without what no file holds.
fn untimed(trace: &Trace) -> Trace {
    Trace { timing: Default::default(), ..trace.clone() }
}

#[test]
fn an_intervention_comes_back_with_both_runs_and_what_was_asked() {
    let engine = load(&bundled::model());
    let image = bundled::sample_image();
    let seen = engine.look_at(&image, &Cancel::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let uncut = Experiment::ask(ImageSource::File(image.clone()), QUESTION, 6);
    let cut = uncut.clone().with_knockouts(vec!["question + last + answer -> visual @ all".parse().unwrap()]);
    for (record, control) in [("answer @ all", 2), ("answer[1-2] @ 2-3 # 1,3", 0), ("none", 0)] {
        let mut experiment = Experiment { control, ..cut.clone() };
        experiment.record.pattern = record.parse().unwrap();
        let report = run(&engine, &seen, &experiment);
        let outcome = report.outcome.as_ref().unwrap();
        save(&report, dir.path());
        let saved = everything(dir.path()).unwrap();
        same(&untimed(&saved.answer), &untimed(&report.answer), false);
        same(saved.uncut.as_ref().unwrap(), &untimed(report.baseline()), false);
        let found = saved.outcome.as_ref().unwrap();
        same(&found.forced, &untimed(&outcome.forced), false);
        assert_eq!(
            (found.start, &found.effects, &found.common),
            (outcome.start, &outcome.effects, &outcome.common)
        );
        assert_eq!(found.control, outcome.control);
        assert_eq!(found.control.is_some(), control > 0);
        // Nobody said what was asked: the prompt did.
        assert!(saved.session.is_none());
        assert_eq!(saved.question.replace(' ', ""), QUESTION.replace(' ', ""));
    }
    let report = run(&engine, &seen, &uncut);
    save(&report, dir.path());
    let saved = everything(dir.path()).unwrap();
    assert!(saved.uncut.is_none() && saved.outcome.is_none());

    // The session of this run is believed, that of another is not.
    let mut session = Session::begin(&bundled::model(), WeightDtype::F32, &[cut, uncut.clone()]).unwrap();
    session.entries[1].numbers = Some(report.numbers());
    fs::write(dir.path().join("session.json"), session.text().unwrap()).unwrap();
    let saved = everything(dir.path()).unwrap();
    assert_eq!(saved.pictures().collect::<Vec<_>>(), [image]);
    let told = saved.session.unwrap();
    assert_eq!((told.experiment, told.model), (uncut, session.model.clone()));
    session.entries[1].numbers.as_mut().unwrap().answer[0].0 += 1;
    fs::write(dir.path().join("session.json"), session.text().unwrap()).unwrap();
    assert!(everything(dir.path()).unwrap().session.is_none());
}

#[test]
fn an_intervention_that_does_not_fit_is_refused_with_its_reason() {
    let engine = load(&bundled::model());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let cut = ask(QUESTION, 3).with_knockouts(vec!["answer -> visual @ 1".parse().unwrap()]);
    let dir = tempfile::tempdir().unwrap();
    save(&run(&engine, &seen, &cut), dir.path());
    let file = dir.path().join("trace.json");
    let whole = json(&file);
    let cases: [(Change<'_>, &str); 8] = [
        (&|t| _ = t.as_object_mut().unwrap().remove("baseline"), "only one of `baseline` and `intervention`"),
        (&|t| t["intervention"] = json!(null), "only one of `baseline` and `intervention`"),
        (&|t| t["baseline"]["answer"][0]["position"] = json!(3), "of `baseline` says that its position is 3"),
        (&|t| _ = t["baseline"]["answer"].as_array_mut().unwrap().pop(), "`forced` is another answer"),
        (&|t| t["intervention"]["forced"][0]["id"] = json!(7), "`forced` is another answer than `baseline`"),
        (
            &|t| t["intervention"]["new_in_answer"] = json!([]),
            "`new_in_answer` is of an answer of another length",
        ),
        (
            &|t| t["intervention"]["forced_knockouts"][0]["pairs"] = json!([1]),
            "`forced_knockouts` count pairs",
        ),
        (&|t| t["intervention"]["forced"][0]["effect"]["kl"] = json!(null), "is no trace"),
    ];
    for (change, part) in cases {
        let mut value = whole.clone();
        change(&mut value);
        fs::write(&file, value.to_string()).unwrap();
        let error =
            everything(dir.path()).err().map_or_else(|| "it was opened".to_string(), |e| e.to_string());
        assert!(error.contains(part), "`{part}` is not in: {error}");
        assert!(open(dir.path()).is_ok(), "the answer itself is whole");
    }
}

#[test]
fn tiles_and_their_places_come_back() {
    let model = tiled_model(512);
    let engine = load(model.path());
    let dir = tempfile::tempdir().unwrap();
    let files = ["gradient_200x120.png", "grey_300x75.png"];
    for file in files.map(|name| fixture("processing/images").join(name)) {
        let seen = engine.look_at(&file, &Cancel::default()).unwrap();
        assert!(seen.geometry.is_tiled());
        let report = run(&engine, &seen, &ask("what?", 3));
        save(&report, dir.path());
        let trace = open(dir.path()).unwrap();
        same(&trace, &report.answer, false);
        assert_eq!(trace.images, std::slice::from_ref(&seen.geometry));
        // Every visual token knows its patch by the geometry alone.
        let patches = trace.images[0].patches();
        let visual: Vec<_> = trace.prompt.iter().filter(|t| t.span == Span::Visual).collect();
        assert_eq!(visual.len(), patches.len());
        for (token, patch) in visual.iter().zip(&patches) {
            let place = token.visual.unwrap();
            assert_eq!(trace.images[0].views[place.view].rect_of(place.cell.unwrap()), patch.rect);
        }
    }
}

#[test]
fn the_programs_files_are_a_direct_run() {
    let dir = tempfile::tempdir().unwrap();
    let (image, mask) = (asset("scenes/images/000000.png"), asset("scenes/masks/000000.png"));
    let cut = "answer -> object~1 @ 3-5";
    let subject = ["run", "--device", "cpu", "--image", text(&image), "--prompt", QUESTION, "--max-new", "6"];
    let object =
        ["--object", text(&mask), "--object-value", "1", "--knockout", cut, "--out", text(dir.path())];
    sightline(subject.iter().chain(&object)).succeeds();
    let trace = open(dir.path()).unwrap();

    let engine = load(&bundled::model());
    let object = ObjectMask { file: mask.clone(), value: Some(1), share: 0.0 };
    let picture = Picture { image: ImageSource::File(image.clone()), object: Some(object) };
    let seen = engine.look(&picture, &Cancel::default(), &mut |_| {}).unwrap().1;
    let mut experiment = ask(QUESTION, 6).with_knockouts(vec![cut.parse().unwrap()]);
    experiment.top = 10;
    let direct = run(&engine, &seen, &experiment).answer;
    let untimed = |trace: Trace| Trace { timing: Default::default(), ..trace };
    same(&untimed(trace.clone()), &untimed(direct), false);

    // And both are what the files say.
    let written = json(&dir.path().join("trace.json"));
    assert_eq!(written["format"], FORMAT);
    let images: Vec<Geometry> = serde_json::from_value(written["images"].clone()).unwrap();
    assert_eq!(images, trace.images);
    assert_eq!(written["images"][0]["source"], json!([192, 192]));
    assert_eq!(written["images"][0]["views"][0]["grid"], json!({ "rows": 12, "cols": 12 }));
    assert_eq!(written["prompt"], serde_json::to_value(&trace.prompt).unwrap());
    let answer: Vec<AnswerToken> = serde_json::from_value(written["answer"].clone()).unwrap();
    assert_eq!(answer, trace.answer);
    assert_eq!(written["recorded"], serde_json::to_value(&trace.kept).unwrap());
    assert_eq!(written["answer_text"], trace.answer_text());
    let bytes = fs::read(dir.path().join("trace.safetensors")).unwrap();
    let pattern = SafeTensors::deserialize(&bytes).unwrap();
    let pattern = pattern.tensor("pattern").unwrap();
    let [_, heads, rows, positions] = pattern.shape()[..] else { panic!("{:?}", pattern.shape()) };
    let values: Vec<f32> = pattern.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    for (s, row) in trace.rows() {
        for layer in 0..row.n_layers {
            for head in 0..row.n_heads {
                let at = ((layer * heads + head) * rows + s) * positions;
                assert_eq!(row.head(layer, head), &values[at..at + row.n_keys]);
            }
        }
    }
}

/// What is done to a trace.json.
type Change<'a> = &'a dyn Fn(&mut Value);

/// A saved trace of three answer tokens.
fn saved() -> tempfile::TempDir {
    let engine = load(&bundled::model());
    let seen = engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap();
    let report = run(&engine, &seen, &ask(QUESTION, 3));
    let dir = tempfile::tempdir().unwrap();
    save(&report, dir.path());
    dir
}

fn refusal(dir: &Path) -> String {
    open(dir).err().map_or_else(|| "it was opened".to_string(), |e| e.to_string())
}

#[test]
fn a_trace_json_that_does_not_fit_is_refused_with_its_reason() {
    let dir = saved();
    let file = dir.path().join("trace.json");
    let whole = json(&file);
    let rows = whole["answer"].as_array().unwrap().len();
    let positions = whole["prompt"].as_array().unwrap().len() + rows;
    let shape = |layers: usize, heads: usize, rows: usize, positions: usize| {
        format!("expected [{layers}, {heads}, {rows}, {positions}] by trace.json")
    };
    let changed = |change: Change<'_>| {
        let mut value = whole.clone();
        change(&mut value);
        fs::write(&file, value.to_string()).unwrap();
        refusal(dir.path())
    };
    let cases: [(Change<'_>, &str); 14] = [
        (&|t| t["format"] = json!("sightline-trace-9"), "has format `sightline-trace-9`, expected"),
        (&|t| _ = t.as_object_mut().unwrap().remove("format"), "missing field `format`"),
        (&|t| _ = t.as_object_mut().unwrap().remove("images"), "missing field `images`"),
        (&|t| t["recorded"]["layers"] = json!([0, 1]), &shape(2, 4, rows, positions)),
        (&|t| t["recorded"]["heads"] = json!([0, 1]), &shape(6, 2, rows, positions)),
        (&|t| t["recorded"]["heads"] = json!([0, 1, 2, 3, 4]), "lists 4 among 4 heads"),
        (&|t| t["recorded"]["rows"] = json!([]), &shape(6, 4, 0, positions)),
        (&|t| _ = t["answer"].as_array_mut().unwrap().pop(), "rows of an answer that is not so long"),
        (&|t| _ = t["prompt"].as_array_mut().unwrap().pop(), "says that its position is"),
        (&|t| t["recorded"]["rows"][0] = json!(99), "rows of an answer that is not so long"),
        (&|t| t["recorded"]["rows"][0] = json!(-1), "is no trace"),
        (&|t| t["prompt"][0]["span"] = json!("middle"), "is no trace"),
        (&|t| t["stop"] = json!("tired"), "is no trace"),
        (&|t| t["model"]["n_layers"] = json!("six"), "is no trace"),
    ];
    for (change, part) in cases {
        let error = changed(change);
        assert!(error.contains(part), "`{part}` is not in: {error}");
        assert!(error.contains(text(dir.path())), "the file is not named: {error}");
    }
    // Tokens that stand elsewhere than they say, and images that are not as their tokens are.
    let visual = whole["prompt"].as_array().unwrap().iter().position(|t| t["span"] == "visual").unwrap();
    let cases: [Change<'_>; 7] = [
        &|t| t["prompt"][3]["position"] = json!(90_000),
        &|t| t["answer"][0]["position"] = json!(0),
        &|t| t["prompt"][visual]["image"] = json!(1),
        &|t| t["prompt"][visual]["tile"] = json!(7),
        &|t| t["prompt"][visual]["row"] = json!(1u64 << 40),
        &|t| t["images"] = json!([]),
        &|t| t["images"][0]["views"][0]["grid"]["rows"] = json!(u64::MAX),
    ];
    let opened: Vec<usize> =
        (0..cases.len()).filter(|&n| !changed(cases[n]).contains("trace.json: ")).collect();
    assert!(opened.is_empty(), "these cases were opened: {opened:?}");
    fs::write(&file, "{").unwrap();
    assert!(refusal(dir.path()).contains("trace.json: is no trace"));
    fs::remove_file(&file).unwrap();
    assert!(refusal(dir.path()).contains("trace.json: cannot be read"));
    fs::write(&file, whole.to_string()).unwrap();
    assert!(open(dir.path()).is_ok(), "nothing else was wrong");
}

#[test]
fn tensors_that_do_not_fit_are_refused_with_their_reason() {
    let dir = saved();
    let file = dir.path().join("trace.safetensors");
    let whole = fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&whole).unwrap();
    let pattern = tensors.tensor("pattern").unwrap();
    let [layers, heads, rows, positions] = pattern.shape()[..] else { panic!("{:?}", pattern.shape()) };
    let halves: Vec<u8> = pattern
        .data()
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|b| f16::from_f32(f32::from_le_bytes(*b)).to_le_bytes())
        .collect();
    let twice = [pattern.data(), pattern.data()].concat();
    let other = |name: &str, dtype, shape: &[usize], bytes: &[u8]| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        safetensors::serialize_to_file([(name.to_string(), view)], None, &file).unwrap();
        refusal(dir.path())
    };
    let shape = [layers, heads, rows, positions];
    assert!(other("patterns", Dtype::F32, &shape, pattern.data()).contains("has no pattern"));
    let error = other("pattern", Dtype::F32, &[heads, layers, rows, positions], pattern.data());
    assert!(
        error.contains(&format!("has shape [{heads}, {layers}, {rows}, {positions}], expected {shape:?}")),
        "{error}"
    );
    let error = other("pattern", Dtype::F32, &[layers, heads, rows, 2 * positions], &twice);
    assert!(error.contains("has shape"), "{error}");
    let error = other("pattern", Dtype::F32, &[pattern.data().len() / 4], pattern.data());
    assert!(error.contains("has shape"), "{error}");
    // Numbers of another format.
    let error = other("pattern", Dtype::F16, &shape, &halves);
    assert!(error.contains("F16") && error.contains("F32"), "{error}");
    for keep in [0, 5, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..keep]).unwrap();
        let error = refusal(dir.path());
        assert!(error.contains("trace.safetensors: not a complete safetensors file"), "{keep}: {error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(refusal(dir.path()).contains("trace.safetensors: cannot be read"));
    fs::write(&file, &whole).unwrap();
    assert!(open(dir.path()).is_ok());
}
