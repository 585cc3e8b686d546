//! The inference thread: it answers, outlives failures, and lets the latest request win.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::load::Engine,
    progress::{Cancel, Stage},
    spec::{
        experiment::{Experiment, Sampling},
        picture::{ImageSource, ObjectMask},
        sets::Numbers,
        study::{HeadEffect, LensAt, PatchEffect, Study, Taking},
    },
    studies::{
        steps::Steps,
        survey::{record::Measured, settings::Settings},
    },
    trace::{
        finding::Finding,
        pattern::PatternRow,
        report::{Effect, End},
        run::{Stop, Trace},
        tokens::{AnswerToken, PromptToken},
    },
    worker::{
        protocol::{Event, ImageView, Over, Request, Row, RunId, Slot, Survey, ToldRow},
        thread::Worker,
    },
};

/// Where uncut runs go, and where cut ones.
const BASELINE: Slot = 0;
const CUT: Slot = 1;

fn worker() -> Worker {
    Worker::spawn(device::cpu(), WeightDtype::F32, |_| {})
}

fn file(path: &Path) -> ImageSource {
    ImageSource::File(path.to_path_buf())
}

fn experiment(image: &Path, prompt: &str, knockouts: &[&str]) -> Experiment {
    let knockouts = knockouts.iter().map(|k| k.parse().unwrap()).collect();
    Experiment::ask(file(image), prompt, 24).with_knockouts(knockouts)
}

fn run(id: RunId, experiment: Experiment) -> Request {
    let slot = if experiment.intervention.is_empty() { BASELINE } else { CUT };
    Request::Run { id, slot, experiment: Box::new(experiment) }
}

fn ask(id: RunId, prompt: &str, knockouts: &[&str]) -> Request {
    run(id, experiment(&bundled::sample_image(), prompt, knockouts))
}

fn opened() -> Worker {
    let worker = worker();
    worker.send(Request::LoadModel(bundled::model()));
    worker.send(Request::OpenImage(file(&bundled::sample_image())));
    worker
}

/// A run as its events told it.
#[derive(Debug, Default)]
struct Told {
    prompt: Vec<PromptToken>,
    scored: Vec<(AnswerToken, Effect, Option<Row>)>,
    answer: Vec<(AnswerToken, ToldRow)>,
    end: Option<End>,
    /// Everything else that came meanwhile.
    others: Vec<Event>,
}

impl Told {
    fn end(&self) -> &End {
        self.end.as_ref().unwrap()
    }

    fn ids(&self) -> Vec<u32> {
        self.answer.iter().map(|(token, _)| token.id).collect()
    }

    /// The attention that predicted each answer token.
    fn rows(&self) -> Vec<PatternRow> {
        let row = |(s, (_, told)): (usize, &(AnswerToken, ToldRow))| match told {
            ToldRow::New(row) => row.pattern.clone(),
            ToldRow::AsScored => self.scored[s].2.as_ref().unwrap().pattern.clone(),
            ToldRow::Nothing => panic!("everything is kept"),
        };
        self.answer.iter().enumerate().map(row).collect()
    }
}

/// Everything up to the end of run `id`.
fn until_done(worker: &Worker, id: RunId) -> Told {
    let mut told = Told::default();
    loop {
        match worker.wait().unwrap() {
            Event::Started { id: of, prompt, .. } if of == id => told.prompt = prompt,
            Event::Scored { id: of, token, effect, row } if of == id => {
                told.scored.push((token, effect, row))
            }
            Event::Token { id: of, token, row } if of == id => told.answer.push((token, row)),
            Event::Done { id: of, end } if of == id => {
                told.end = Some(*end);
                return told;
            }
            Event::Failed { id: Some(of), error } if of == id => panic!("{error}"),
            Event::Stopped { id: Some(of) } if of == id => panic!("run {id} was stopped"),
            event => told.others.push(event),
        }
    }
}

fn failure(worker: &Worker) -> (Option<RunId>, String) {
    loop {
        if let Event::Failed { id, error } = worker.wait().unwrap() {
            return (id, error);
        }
    }
}

#[test]
fn an_answer_streams_before_it_is_done() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    let told = until_done(&worker, 1);
    let tokens = told.others.iter().find_map(|e| match e {
        Event::Image(view) => Some(view.geometry.n_tokens()),
        _ => None,
    });
    let visual = told.prompt.iter().filter(|t| t.visual.is_some()).count();
    assert_eq!(tokens, Some(visual));
    for (row, (token, _)) in told.rows().iter().zip(&told.answer) {
        assert_eq!(row.n_keys, token.position);
    }
    assert!(!told.answer.is_empty() && told.scored.is_empty());
    assert!(told.end().common.is_none());
}

#[test]
fn failures_are_told_and_lose_nothing() {
    let worker = worker();
    worker.send(ask(1, "hello", &[]));
    assert_eq!(failure(&worker).0, Some(1));
    worker.send(Request::LoadModel(PathBuf::from("/nowhere")));
    assert!(failure(&worker).1.contains("/nowhere: no such folder"));

    worker.send(Request::LoadModel(bundled::model()));
    worker.send(Request::OpenImage(file(&bundled::sample_image())));
    worker.send(ask(2, bundled::PROMPT, &[]));
    let first = until_done(&worker, 2);

    worker.send(Request::LoadModel(PathBuf::from("/nowhere")));
    failure(&worker);
    let junk: Arc<[u8]> = Arc::from(&b"\x89PNG\r\n\x1a\nnot a picture"[..]);
    worker.send(Request::OpenImage(ImageSource::Bytes(junk, "junk.png".to_string())));
    assert!(failure(&worker).1.contains("junk.png"));
    worker.send(ask(3, "", &[]));
    let (id, error) = failure(&worker);
    assert!(id == Some(3) && error.contains("empty"), "{error}");
    worker.send(ask(4, bundled::PROMPT, &["answer -> visual @ 99"]));
    assert!(failure(&worker).1.contains("layer 99"));

    // Model and image are still the ones from before.
    worker.send(ask(5, bundled::PROMPT, &[]));
    assert_eq!(until_done(&worker, 5).ids(), first.ids());
}

fn load() -> Engine {
    let (model, cpu) = (bundled::model(), device::cpu());
    Engine::load(&model, &cpu, WeightDtype::F32, &Cancel::default(), &mut |_| {}).unwrap()
}

/// The same experiment on an engine that keeps nothing.
fn direct(engine: &Engine, experiment: &Experiment) -> Trace {
    let cancel = Cancel::default();
    let (_, seen) = engine.look(&experiment.images[0], &cancel, &mut |_| {}).unwrap();
    engine.scratch(experiment, &[&seen], &cancel, &mut |_| {}).unwrap()
}

fn same(told: &Told, direct: &Trace) {
    let text = |t: &AnswerToken| (t.id, t.text.clone(), t.logprob);
    assert_eq!(
        told.answer.iter().map(|(t, _)| text(t)).collect::<Vec<_>>(),
        direct.answer.iter().map(text).collect::<Vec<_>>()
    );
    assert_eq!((told.end().stop, &told.end().knockouts), (direct.stop, &direct.knockouts));
    let rows = told.rows();
    assert_eq!(rows.len(), direct.pattern.len());
    for (row, (s, expected)) in rows.iter().zip(direct.rows()) {
        assert_eq!(row.data, expected.data, "row {s}");
    }
}

#[test]
fn a_cut_run_answers_as_one_from_scratch_whatever_was_asked_before() {
    let engine = load();
    let (first, second) = (bundled::sample_image(), bundled::scene_images()[1].clone());
    let (at_left, cut) = ("what is at the left?", "answer -> visual[40-90] @ 1-4");
    let expected = direct(&engine, &experiment(&first, bundled::PROMPT, &[cut]));
    let worker = opened();
    // Without a baseline, after one, and again.
    for (id, prompt, knockouts) in [
        (1, bundled::PROMPT, vec![cut]),
        (2, bundled::PROMPT, vec![]),
        (3, bundled::PROMPT, vec![cut]),
        (4, bundled::PROMPT, vec![cut]),
    ] {
        worker.send(ask(id, prompt, &knockouts));
        let told = until_done(&worker, id);
        if !knockouts.is_empty() {
            same(&told, &expected);
        }
    }
    // The baseline of another prompt, or another image, is not where a run starts.
    worker.send(ask(5, at_left, &[cut]));
    let elsewhere = until_done(&worker, 5);
    same(&elsewhere, &direct(&engine, &experiment(&first, at_left, &[cut])));
    let other = experiment(&second, at_left, &[cut]);
    worker.send(run(6, other.clone()));
    let other_image = until_done(&worker, 6);
    same(&other_image, &direct(&engine, &other));
    assert!(elsewhere.answer.len() != expected.answer.len() || elsewhere.ids() != expected.ids());
    assert_ne!(other_image.ids(), elsewhere.ids());
}

/// What the window could not do before: overwrite tokens, mark an object, draw tokens, and see effects, shared
/// tokens, proof and control.
#[test]
fn an_experiment_is_reported_whole_and_every_row_told_once() {
    let engine = load();
    let worker = opened();
    let mut experiment = experiment(&bundled::sample_image(), bundled::PROMPT, &["answer -> object~1 @ 2-5"]);
    experiment.intervention.ablations = vec!["visual[0-9] = zero".parse().unwrap()];
    let mask = bundled::scenes().join("masks/000000.png");
    experiment.images[0].object = Some(ObjectMask { file: mask, value: Some(1), share: 0.0 });
    experiment.sampling = Some(Sampling { temperature: 0.8, top_p: 0.9 });
    (experiment.seed, experiment.control) = (7, 2);
    worker.send(run(1, experiment.clone()));
    let told = until_done(&worker, 1);

    let cancel = Cancel::default();
    let (_, seen) = engine.look(&experiment.images[0], &cancel, &mut |_| {}).unwrap();
    let (_, report) = engine.run(&experiment, &[&seen], &cancel, &mut |_| {}).unwrap();
    same(&told, &report.answer);
    let outcome = report.outcome.unwrap();
    assert_eq!(told.scored.iter().map(|(_, effect, _)| *effect).collect::<Vec<_>>(), outcome.effects);
    assert_eq!(told.scored.len(), outcome.forced.answer.len());
    for ((token, _, row), (scored, (_, expected))) in
        told.scored.iter().zip(outcome.forced.answer.iter().zip(outcome.forced.rows()))
    {
        assert_eq!((token.id, token.logprob), (scored.id, scored.logprob));
        assert_eq!(row.as_ref().unwrap().pattern.data, expected.data);
    }
    assert_eq!(told.end().common, Some(outcome.common));
    assert_eq!(told.end().control, outcome.control);
    assert!(told.end().control.is_some());
    // Up to where the answers part, rows were told with the scored tokens; after that they are new.
    let as_scored = told.answer.iter().take_while(|(_, row)| matches!(row, ToldRow::AsScored)).count();
    assert!(as_scored > 0);
    assert!(told.answer[as_scored..].iter().all(|(_, row)| matches!(row, ToldRow::New(_))));
}

#[test]
fn an_image_is_announced_when_it_is_opened_and_not_whenever_it_is_encoded() {
    let images = bundled::scene_images();
    let worker = opened();
    let announced = |told: &Told| told.others.iter().filter(|e| matches!(e, Event::Image(_))).count();
    worker.send(ask(1, bundled::PROMPT, &[]));
    assert_eq!(announced(&until_done(&worker, 1)), 1);
    // Stopped before or while it is encoded, then asked about: encoded again, in silence.
    worker.send(Request::OpenImage(file(&images[1])));
    worker.send(Request::Cancel);
    worker.send(run(2, experiment(&images[1], bundled::PROMPT, &[])));
    assert!(announced(&until_done(&worker, 2)) <= 1);
    // So many others that the first is no longer held.
    for (id, image) in (3..).zip(&images[2..8]) {
        worker.send(run(id, experiment(image, bundled::PROMPT, &[])));
        assert_eq!(announced(&until_done(&worker, id)), 0);
    }
    worker.send(ask(20, bundled::PROMPT, &[]));
    assert_eq!(announced(&until_done(&worker, 20)), 0);
}

#[test]
fn an_image_is_encoded_once_for_all_questions_and_cuts() {
    let worker = opened();
    let encoded = |told: &Told| {
        let of_encoder = |e: &&Event| matches!(e, Event::Progress(p) if p.stage == Stage::Encode);
        told.others.iter().filter(of_encoder).count()
    };
    worker.send(ask(1, bundled::PROMPT, &[]));
    assert!(encoded(&until_done(&worker, 1)) > 0);
    for (id, (prompt, cuts)) in (2..).zip([
        (bundled::PROMPT, &["answer -> visual @ all"][..]),
        ("Where is the house?", &[]),
        (bundled::PROMPT, &[]),
    ]) {
        worker.send(ask(id, prompt, cuts));
        assert_eq!(encoded(&until_done(&worker, id)), 0, "{prompt} {cuts:?}");
    }
}

/// The next image that is told of.
fn next_image(worker: &Worker) -> ImageView {
    loop {
        match worker.wait().expect("the worker lives") {
            Event::Image(view) => return view,
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
}

#[test]
fn a_scene_is_told_with_its_objects_and_a_large_image_small_enough_to_be_drawn() {
    let worker = opened();
    let scene = next_image(&worker);
    let objects = scene.objects.expect("the sample scene is known");
    let names: Vec<&str> = objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["camera", "house", "rabbit", "book"]);
    // The camera's box, from the scene's line, and the patches of 16 pixels that show it.
    let (x, y) = (103 / 16..=142 / 16, 37 / 16..=65 / 16);
    assert!(objects[0].patches.iter().all(|at| x.contains(&(at % 12)) && y.contains(&(at / 12))));
    assert!(objects[0].patches.len() >= 4, "{:?}", objects[0].patches);

    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large.png");
    image::RgbImage::from_fn(3000, 40, |x, _| image::Rgb([(x / 12) as u8; 3])).save(&large).unwrap();
    worker.send(Request::OpenImage(file(&large)));
    let view = next_image(&worker);
    assert_eq!((view.geometry.source, view.picture.dimensions()), ((3000, 40), (2048, 27)));
    assert!(view.objects.is_none(), "of another picture nothing is known");
}

#[test]
fn cancel_stops_the_loading_of_a_model_and_the_one_before_stays() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    let first = until_done(&worker, 1);
    worker.send(Request::LoadModel(bundled::model()));
    loop {
        match worker.wait().unwrap() {
            Event::Progress(p) if p.stage == Stage::Load => break,
            Event::Model(_) => panic!("no progress was told"),
            _ => {}
        }
    }
    worker.send(Request::Cancel);
    loop {
        match worker.wait().unwrap() {
            Event::Stopped { id: None } => break,
            Event::Model(_) => panic!("the model was replaced"),
            _ => {}
        }
    }
    worker.send(ask(2, bundled::PROMPT, &[]));
    assert_eq!(until_done(&worker, 2).ids(), first.ids());
}

#[test]
fn the_latest_cut_wins_and_the_baseline_is_left_alone() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    let last = 40;
    for id in 2..=last {
        let cut = format!("answer -> visual @ {}-3", id % 4);
        worker.send(ask(id, bundled::PROMPT, &[&cut]));
    }
    let told = until_done(&worker, last);
    assert_ne!(told.end().stop, Stop::Cancelled);
    assert_eq!(told.end().knockouts[0].text, "answer -> visual @ 0-3");
    let mut whole = 0;
    let mut baseline = false;
    for event in &told.others {
        if let Event::Done { id, end } = event {
            whole += usize::from(*id > 1 && end.stop != Stop::Cancelled);
            baseline |= *id == 1 && end.stop != Stop::Cancelled;
        }
    }
    assert!(baseline, "a cut must not supersede the baseline");
    assert!(whole < 10, "{whole} superseded runs were finished");
}

#[test]
fn a_cancelled_run_reports_what_there_was() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    let mut tokens = 0;
    loop {
        match worker.wait().unwrap() {
            Event::Token { .. } => {
                tokens += 1;
                break;
            }
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    worker.send(Request::Cancel);
    let told = until_done(&worker, 1);
    tokens += told.answer.len();
    assert!(tokens > 0);
    worker.send(ask(2, bundled::PROMPT, &[]));
    assert_ne!(until_done(&worker, 2).end().stop, Stop::Cancelled);
}

fn study(id: RunId, knockouts: &[&str], study: Study) -> Request {
    let base = experiment(&bundled::sample_image(), bundled::PROMPT, knockouts);
    Request::Study { id, base: Box::new(base), study: Box::new(study) }
}

/// One of several hundred steps.
fn long(coarsest: usize) -> Study {
    Study::Patches(PatchEffect { tokens: vec![0], how: Taking::Cut, layers: Numbers::range(4, 5), coarsest })
}

/// One of as many steps as there are layers.
fn short() -> Study {
    Study::Lens(LensAt { positions: vec![0, 5], layers: Numbers::All, top: 2, word: None })
}

/// Everything up to an event, that event last.
fn until(worker: &Worker, is: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = worker.wait().unwrap();
        if let Event::Failed { error, .. } = &event {
            assert!(is(&event), "{error}");
        }
        let found = is(&event);
        events.push(event);
        if found {
            return events;
        }
    }
}

fn is_found(of: RunId) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Found { id, .. } if *id == of)
}

fn is_studied(of: RunId) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Studied { id, .. } if *id == of)
}

fn is_idle(event: &Event) -> bool {
    matches!(event, Event::Idle)
}

/// The findings of a study among events, and how many steps were done at each.
fn found(events: &[Event], of: RunId) -> (Vec<Finding>, Vec<usize>) {
    let of = |event: &Event| match event {
        Event::Found { id, finding, steps } if *id == of => Some((finding.clone(), steps.0)),
        _ => None,
    };
    events.iter().filter_map(of).unzip()
}

#[test]
fn a_study_streams_what_it_finds_about_a_run_that_it_makes_itself() {
    let worker = opened();
    worker.send(study(1, &[], short()));
    let events = until(&worker, is_idle);
    // Loading and opening are at their end only now: a study was waiting all the while.
    let [.., Event::Studied { id: 1, whole: true }, Event::Idle] = &events[..] else { panic!("{events:?}") };
    let (findings, steps) = found(&events, 1);
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    assert!(events.iter().all(|event| !matches!(event, Event::Started { .. } | Event::Token { .. })));

    let (engine, cancel) = (load(), Cancel::default());
    let base = experiment(&bundled::sample_image(), bundled::PROMPT, &[]);
    let (_, seen) = engine.look(&base.images[0], &cancel, &mut |_| {}).unwrap();
    let baseline = engine.keep(&base, &[&seen], &cancel, &mut |_| {}).unwrap();
    let mut direct = Steps::new(&engine, &baseline, &[&seen], &short()).unwrap();
    for finding in &findings {
        assert_eq!(direct.step(&engine, &baseline, &[&seen], &cancel).unwrap().as_ref(), Some(finding));
    }
    // What it ran is what a cut starts from.
    worker.send(ask(2, bundled::PROMPT, &["answer -> visual @ 1-4"]));
    let told = until_done(&worker, 2);
    assert_eq!(told.scored.len(), baseline.trace.answer.len());
}

#[test]
fn a_run_comes_in_between_the_steps_of_a_study() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    until_done(&worker, 1);
    worker.send(study(2, &[], long(4)));
    let mut events = until(&worker, is_found(2));
    worker.send(ask(3, bundled::PROMPT, &["answer -> visual @ 1-4"]));
    let before = until(&worker, |event| matches!(event, Event::Done { id: 3, .. }));
    assert!(!before.iter().any(is_studied(2)), "the run waited for the study's end");
    assert!(!before.iter().any(is_idle), "the study was not at its end");
    events.extend(before);
    for _ in 0..20 {
        events.extend(until(&worker, is_found(2)));
    }
    let (findings, steps) = found(&events, 2);
    assert_eq!(
        steps,
        (1..=findings.len()).collect::<Vec<usize>>(),
        "no step is lost, and none is told twice"
    );
    let blocks = findings.iter().filter_map(|finding| match finding {
        Finding::Block(block) => Some(block.patches.clone()),
        _ => None,
    });
    assert_eq!(blocks.clone().collect::<BTreeSet<Vec<usize>>>().len(), blocks.count());
    worker.send(Request::Cancel);
    let rest = until(&worker, is_idle);
    assert!(matches!(rest[..], [.., Event::Studied { id: 2, whole: false }, Event::Idle]), "{rest:?}");
}

#[test]
fn a_newer_study_of_a_kind_takes_an_older_ones_place_and_others_have_their_turn() {
    let worker = opened();
    worker.send(study(1, &[], long(4)));
    until(&worker, is_found(1));
    worker.send(study(2, &[], Study::Heads(HeadEffect { tokens: vec![] })));
    worker.send(study(3, &[], long(2)));
    let events = until(&worker, is_studied(1));
    assert!(matches!(events.last(), Some(Event::Studied { whole: false, .. })));
    // Both go on, by turns: the shorter is not kept waiting.
    let events = until(&worker, is_studied(2));
    assert!(matches!(events.last(), Some(Event::Studied { whole: true, .. })));
    assert!(found(&events, 1).0.is_empty());
    let (of_two, of_three) = (found(&events, 2).0.len(), found(&events, 3).0.len());
    assert!(of_three > 0 && of_two.abs_diff(of_three) <= 2, "{of_two}, {of_three}");
    worker.send(Request::Drop(99));
    worker.send(Request::Drop(3));
    let events = until(&worker, is_studied(3));
    assert!(matches!(events.last(), Some(Event::Studied { whole: false, .. })));
    until(&worker, is_idle);
}

#[test]
fn a_study_ends_with_its_image_or_its_model() {
    let worker = opened();
    worker.send(study(1, &[], long(4)));
    until(&worker, is_found(1));
    // The same image again takes nothing away, nor does one that cannot be opened.
    worker.send(Request::OpenImage(file(&bundled::sample_image())));
    until(&worker, |event| matches!(event, Event::Image(_)));
    worker.send(Request::OpenImage(file(Path::new("/nowhere.png"))));
    until(&worker, |event| matches!(event, Event::Failed { id: None, .. }));
    until(&worker, is_found(1));
    worker.send(Request::OpenImage(file(&bundled::scene_images()[1])));
    let events = until(&worker, is_studied(1));
    assert!(matches!(events.last(), Some(Event::Studied { whole: false, .. })));
    until(&worker, is_idle);
    worker.send(study(2, &[], long(4)));
    until(&worker, is_found(2));
    worker.send(Request::LoadModel(bundled::model()));
    let events = until(&worker, is_studied(2));
    assert!(matches!(events.last(), Some(Event::Studied { whole: false, .. })));
}

#[test]
fn only_the_lens_reads_a_run_that_something_was_done_to() {
    let idle = worker();
    idle.send(study(1, &[], short()));
    assert_eq!(failure(&idle), (Some(1), "no model is loaded: open a model folder first".to_string()));
    let worker = opened();
    let cut = ["answer -> visual @ 2-5"];
    worker.send(study(2, &cut, long(4)));
    let (id, error) = failure(&worker);
    assert!(id == Some(2) && error.contains("effect map needs an uncut answer"), "{error}");
    let last = LensAt { positions: vec![152], layers: Numbers::range(5, 5), top: 2, word: None };
    let read = |id: RunId, knockouts: &[&str]| {
        worker.send(study(id, knockouts, Study::Lens(last.clone())));
        found(&until(&worker, is_studied(id)), id).0
    };
    let (cut_first, uncut, cut_again) = (read(3, &cut), read(4, &[]), read(5, &cut));
    assert_eq!((cut_first.len(), uncut.len()), (1, 1));
    assert_ne!(cut_first, uncut, "the last row of the prompt was cut");
    assert_eq!(cut_first, cut_again);
}

/// No answer begins for a while.
fn nothing_begins(worker: &Worker) {
    thread::sleep(Duration::from_millis(300));
    while let Some(event) = worker.poll() {
        assert!(!matches!(event, Event::Token { .. } | Event::Done { .. }), "{event:?}");
    }
}

#[test]
fn while_a_hand_rests_an_answer_is_scored_and_the_new_one_waits() {
    let worker = opened();
    worker.send(Request::Hold(true));
    // Where nothing is scored nothing waits.
    worker.send(ask(1, bundled::PROMPT, &[]));
    let n = until_done(&worker, 1).answer.len();
    let scored = |id: RunId| {
        let mut scored = 0;
        until(&worker, |event| matches!(event, Event::Scoring { id: of, .. } if *of == id));
        while scored < n {
            scored += usize::from(matches!(worker.wait().unwrap(), Event::Scored { id: of, .. } if of == id));
        }
    };
    worker.send(ask(2, bundled::PROMPT, &["answer -> visual @ 1-4"]));
    scored(2);
    nothing_begins(&worker);
    // The hand moves on: only the latest is wanted.
    worker.send(ask(3, bundled::PROMPT, &["answer -> visual @ 2-4"]));
    let stopped = until(&worker, |event| matches!(event, Event::Stopped { id: Some(2) }));
    assert!(!stopped.iter().any(|event| matches!(event, Event::Token { .. })));
    scored(3);
    nothing_begins(&worker);
    worker.send(Request::Hold(false));
    let told = until_done(&worker, 3);
    assert!(!told.answer.is_empty() && told.end().stop != Stop::Cancelled);
    // A cancel ends a wait, too.
    worker.send(Request::Hold(true));
    worker.send(ask(4, bundled::PROMPT, &["answer -> visual @ 3-4"]));
    scored(4);
    worker.send(Request::Cancel);
    until(&worker, |event| matches!(event, Event::Stopped { id: Some(4) }));
}

/// A study over the first three scenes.
fn survey(id: RunId, done: &[&str]) -> Request {
    let over = Over::Folder { dir: bundled::scenes(), limit: Some(3) };
    let settings = Settings { prompt: Some(bundled::PROMPT.to_string()), ..Settings::default() };
    let done = done.iter().map(ToString::to_string).collect();
    Request::Survey { id, survey: Box::new(Survey { kind: "share", settings, over, done }) }
}

/// What a study over images measured, among events.
fn measured(events: &[Event], of: RunId) -> Vec<&Measured> {
    let measured = events.iter().filter_map(|event| match event {
        Event::SurveyImage { id, measured } if *id == of => Some(&**measured),
        _ => None,
    });
    measured.collect()
}

#[test]
fn a_study_over_images_makes_way_for_all_that_is_asked_and_measures_every_image_once() {
    let worker = opened();
    worker.send(survey(1, &[]));
    let mut events = until(&worker, |event| matches!(event, Event::SurveyImage { .. }));
    // Whatever is asked of the image on show, and what is cancelled there, is not its business.
    worker.send(ask(2, bundled::PROMPT, &[]));
    worker.send(study(3, &[], short()));
    worker.send(Request::OpenImage(file(&bundled::sample_image())));
    worker.send(Request::Cancel);
    worker.send(ask(4, bundled::PROMPT, &[]));
    worker.send(study(5, &[], short()));
    events.extend(until(&worker, |event| matches!(event, Event::SurveyDone { id: 1, .. })));
    let at = |is: &dyn Fn(&Event) -> bool| events.iter().position(is).unwrap();
    let last = events.iter().rposition(|event| matches!(event, Event::SurveyImage { .. })).unwrap();
    assert!(at(&|event| matches!(event, Event::Done { id: 4, .. })) < last);
    assert!(at(&|event| matches!(event, Event::Studied { id: 5, whole: true })) < last);
    let all = measured(&events, 1);
    let names: Vec<&str> = all.iter().map(|one| one.image.as_str()).collect();
    assert_eq!(names, ["000000.png", "000001.png", "000002.png"]);
    assert!(all.iter().all(|one| !one.rows.is_empty()));

    // From where it stopped.
    worker.send(survey(6, &["000000.png", "000002.png"]));
    let again = until(&worker, |event| matches!(event, Event::SurveyDone { id: 6, .. }));
    assert!(
        again.iter().any(|event| matches!(event, Event::SurveyBegun { id: 6, images } if images.len() == 3))
    );
    assert_eq!(measured(&again, 6), [all[1]]);

    worker.send(survey(7, &[]));
    until(&worker, |event| matches!(event, Event::SurveyBegun { id: 7, .. }));
    worker.send(survey(8, &[]));
    until(&worker, |event| matches!(event, Event::Studied { id: 7, whole: false }));
    worker.send(Request::Drop(8));
    until(&worker, |event| matches!(event, Event::Studied { id: 8, whole: false }));
}

#[test]
fn a_study_of_one_image_knows_the_mask_that_was_read_of_it() {
    let worker = opened();
    let over = Over::Image(bundled::sample_image());
    let settings = Settings { prompt: Some(bundled::PROMPT.to_string()), ..Settings::default() };
    let survey = Survey { kind: "share", settings, over, done: Vec::new() };
    let ask = |id| Request::Survey { id, survey: Box::new(survey.clone()) };
    worker.send(ask(1));
    let known = until(&worker, |event| matches!(event, Event::SurveyDone { id: 1, .. }));
    worker.send(Request::Mark(bundled::scenes().join("masks/000000.png")));
    worker.send(ask(2));
    let marked = until(&worker, |event| matches!(event, Event::SurveyDone { id: 2, .. }));
    let images = |events: &[Event]| match events.last() {
        Some(Event::SurveyDone { header, .. }) => (header.n_images, header.images.clone()),
        _ => panic!(),
    };
    assert_eq!((images(&known).0, images(&marked).0), (1, 1));
    assert_ne!(images(&known).1, images(&marked).1, "the objects are other ones");
    assert_eq!(measured(&known, 1), measured(&marked, 2), "and attention is the same");
}

#[test]
fn a_mask_becomes_an_object_of_the_image_on_show() {
    let worker = opened();
    let scene = next_image(&worker);
    let objects = scene.objects.unwrap();
    assert!(objects.iter().all(|object| object.outline.len() >= 4));
    // The camera's box, from the scene's line.
    let of = |at: usize| objects[0].outline.iter().flat_map(move |line| [line[at], line[at + 2]]);
    let (x, y) = (of(0), of(1));
    assert_eq!((x.clone().fold(f32::MAX, f32::min), x.fold(0.0, f32::max)), (103.0, 142.0));
    assert_eq!((y.clone().fold(f32::MAX, f32::min), y.fold(0.0, f32::max)), (37.0, 65.0));

    let mask = bundled::scenes().join("masks/000000.png");
    worker.send(Request::Mark(mask));
    let events = until(&worker, |event| matches!(event, Event::Marked { .. }));
    let Some(Event::Marked { source, object }) = events.last() else { panic!() };
    assert_eq!((source, object.name.as_str()), (&scene.source, "000000.png"));
    let all: BTreeSet<usize> = objects.iter().flat_map(|object| object.patches.clone()).collect();
    assert_eq!(object.patches, all.into_iter().collect::<Vec<usize>>());
    worker.send(Request::Mark("/nowhere.png".into()));
    assert!(matches!(failure(&worker), (None, error) if error.contains("/nowhere.png")));
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other.png");
    image::GrayImage::from_pixel(9, 9, image::Luma([1])).save(&other).unwrap();
    worker.send(Request::Mark(other));
    assert!(failure(&worker).1.contains("the mask is 9x9 pixels, expected 192x192"));
}

#[test]
fn coco_annotations_beside_an_image_are_its_objects() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("a.png");
    fs::copy(bundled::sample_image(), &image).unwrap();
    let text = fs::read_to_string(bundled::scenes().join("annotations.json")).unwrap();
    let mut coco: serde_json::Value = serde_json::from_str(&text).unwrap();
    coco["images"][0]["file_name"] = "a.png".into();
    fs::write(dir.path().join("annotations.json"), coco.to_string()).unwrap();
    let worker = opened();
    let scene = next_image(&worker);
    worker.send(Request::OpenImage(file(&image)));
    assert_eq!(next_image(&worker).objects, scene.objects);
}

#[test]
fn the_views_are_what_goes_into_the_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain.png");
    image::RgbImage::from_pixel(300, 200, image::Rgb([10, 120, 230])).save(&plain).unwrap();
    let worker = opened();
    let scene = next_image(&worker);
    assert_eq!(scene.views.len(), scene.geometry.views.len());
    assert_eq!(scene.views[0].dimensions(), (192, 192));
    assert_eq!(scene.views[0].as_raw(), scene.picture.as_raw(), "it needs no resizing");
    worker.send(Request::OpenImage(file(&plain)));
    let view = next_image(&worker);
    assert!(!view.views.is_empty());
    for pixel in view.views.iter().flat_map(|view| view.pixels()) {
        let far = pixel.0.iter().zip([10u8, 120, 230]).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far <= Some(1), "{pixel:?}");
    }
}
