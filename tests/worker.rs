//! The inference thread: it answers, outlives failures, and lets the latest request win.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::load::Engine,
    progress::Cancel,
    spec::experiment::RunSpec,
    trace::run::{Stop, Trace},
    worker::thread::{Ask, Event, ImageSource, Request, RunId, Worker},
};

fn worker() -> Worker {
    Worker::spawn(device::cpu(), WeightDtype::F32, || {})
}

fn ask(id: RunId, prompt: &str, knockouts: &[&str]) -> Request {
    let knockouts = knockouts.iter().map(|k| k.parse().unwrap()).collect();
    Request::Run { id, ask: Ask { prompt: prompt.to_string(), knockouts, max_new: 24 } }
}

fn opened() -> Worker {
    let worker = worker();
    worker.send(Request::LoadModel(bundled::model()));
    worker.send(Request::OpenImage(ImageSource::Path(bundled::sample_image())));
    worker
}

/// Everything up to the end of run `id`.
fn until_done(worker: &Worker, id: RunId) -> (Vec<Event>, Trace) {
    let mut before = Vec::new();
    loop {
        match worker.wait().unwrap() {
            Event::Done { id: done, trace } if done == id => return (before, *trace),
            Event::Failed { id: Some(failed), error } if failed == id => panic!("{error}"),
            event => before.push(event),
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
    let (events, trace) = until_done(&worker, 1);
    let patches = events.iter().find_map(|e| match e {
        Event::Image(view) => Some(view.patches.len()),
        _ => None,
    });
    let visual = trace.prompt.iter().filter(|t| t.visual.is_some()).count();
    assert_eq!(patches, Some(visual));
    let streamed: Vec<u32> = events
        .iter()
        .filter_map(|e| match e {
            Event::Token { id: 1, token, row, .. } => {
                assert_eq!(row.n_keys, token.position);
                Some(token.id)
            }
            _ => None,
        })
        .collect();
    assert_eq!(streamed, trace.answer.iter().map(|t| t.id).collect::<Vec<_>>());
    assert!(!streamed.is_empty());
}

#[test]
fn failures_are_told_and_lose_nothing() {
    let worker = worker();
    worker.send(ask(1, "hello", &[]));
    assert_eq!(failure(&worker).0, Some(1));
    worker.send(Request::LoadModel(PathBuf::from("/nowhere")));
    assert!(failure(&worker).1.contains("/nowhere/config.json"));

    worker.send(Request::LoadModel(bundled::model()));
    worker.send(Request::OpenImage(ImageSource::Path(bundled::sample_image())));
    worker.send(ask(2, bundled::PROMPT, &[]));
    let (_, first) = until_done(&worker, 2);

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
    assert_eq!(until_done(&worker, 5).1.answer, first.answer);
}

/// The same question to an engine that keeps nothing.
fn direct(engine: &Engine, image: &Path, prompt: &str, knockouts: &[&str]) -> Trace {
    let (_, seen) = engine.look(image, None, &Cancel::default(), &mut |_, _| {}).unwrap();
    let knockouts = knockouts.iter().map(|k| k.parse().unwrap()).collect();
    let spec = RunSpec::ask(prompt, 24).with_knockouts(knockouts);
    engine.run(&spec, &[&seen], &Cancel::default(), &mut |_| {}).unwrap()
}

fn same(worker: &Trace, direct: &Trace) {
    let text = |t: &Trace| t.answer.iter().map(|a| (a.id, a.text.clone())).collect::<Vec<_>>();
    assert_eq!(text(worker), text(direct));
    assert_eq!((worker.stop, &worker.knockouts), (direct.stop, &direct.knockouts));
    for (a, b) in worker.answer.iter().zip(&direct.answer) {
        assert!((a.logprob - b.logprob).abs() <= 2e-4);
    }
    for ((s, a), (_, b)) in worker.rows().zip(direct.rows()) {
        assert_eq!(a.data.len(), b.data.len());
        let far = a.data.iter().zip(&*b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far <= 5e-5, "row {s}: {far}");
    }
    assert_eq!(worker.pattern.len(), direct.pattern.len());
}

#[test]
fn a_cut_run_answers_as_one_from_scratch_whatever_was_asked_before() {
    let engine = Engine::load(&bundled::model(), &device::cpu(), WeightDtype::F32).unwrap();
    let (first, second) = (bundled::sample_image(), bundled::scene_images()[1].clone());
    let (at_left, cut) = ("what is at the left?", "answer -> visual[40-90] @ 1-4");
    let expected = direct(&engine, &first, bundled::PROMPT, &[cut]);
    let worker = opened();
    // Without a baseline, after one, and again.
    for (id, prompt, knockouts) in [
        (1, bundled::PROMPT, vec![cut]),
        (2, bundled::PROMPT, vec![]),
        (3, bundled::PROMPT, vec![cut]),
        (4, bundled::PROMPT, vec![cut]),
    ] {
        worker.send(ask(id, prompt, &knockouts));
        let (events, trace) = until_done(&worker, id);
        if !knockouts.is_empty() {
            same(&trace, &expected);
        }
        let streamed =
            events.iter().filter(|e| matches!(e, Event::Token { id: of, .. } if *of == id)).count();
        assert_eq!(streamed, trace.answer.len(), "only what was asked for is told");
    }
    // The baseline of another prompt, or another image, is not where a run starts.
    worker.send(ask(5, at_left, &[cut]));
    let elsewhere = until_done(&worker, 5).1;
    same(&elsewhere, &direct(&engine, &first, at_left, &[cut]));
    worker.send(Request::OpenImage(ImageSource::Path(second.clone())));
    worker.send(ask(6, at_left, &[cut]));
    let other_image = until_done(&worker, 6).1;
    same(&other_image, &direct(&engine, &second, at_left, &[cut]));
    let said = |t: &Trace| t.answer.iter().map(|a| a.id).collect::<Vec<_>>();
    assert!(said(&elsewhere) != said(&expected) && said(&other_image) != said(&elsewhere));
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
    let (events, trace) = until_done(&worker, last);
    assert_ne!(trace.stop, Stop::Cancelled);
    assert_eq!(trace.knockouts[0].text, "answer -> visual @ 0-3");
    let mut whole = 0;
    let mut baseline = false;
    for event in &events {
        if let Event::Done { id, trace } = event {
            whole += usize::from(*id > 1 && trace.stop != Stop::Cancelled);
            baseline |= *id == 1 && trace.stop != Stop::Cancelled;
        }
    }
    assert!(baseline, "a cut must not supersede the baseline");
    assert!(whole < 10, "{whole} superseded runs were finished");
}

#[test]
fn a_cancelled_run_reports_what_there_was() {
    let worker = opened();
    worker.send(ask(1, bundled::PROMPT, &[]));
    loop {
        match worker.wait().unwrap() {
            Event::Token { .. } => break,
            Event::Failed { error, .. } => panic!("{error}"),
            _ => {}
        }
    }
    worker.send(Request::Cancel);
    let (_, trace) = until_done(&worker, 1);
    assert!(!trace.answer.is_empty());
    worker.send(ask(2, bundled::PROMPT, &[]));
    assert_ne!(until_done(&worker, 2).1.stop, Stop::Cancelled);
}
