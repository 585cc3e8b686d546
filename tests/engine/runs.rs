//! Runs on the bundled model, through the same door as the window.
#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::{Value, json};
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::{error::RunError, event::RunEvent, load::Engine, see::Seen},
    image::open as model_image,
    progress::Cancel,
    spec::{experiment::Experiment, span::Span},
    trace::{
        flow,
        run::{Stop, Trace},
    },
};

use crate::common::{ask, copy_of_folder, load, load_as};

const QUESTION: &str = "what is the background?";

fn engine() -> Engine {
    load(&bundled::model())
}

fn see(engine: &Engine) -> Seen {
    let image = model_image::open(&bundled::sample_image()).unwrap();
    engine.see(&engine.folder.process(&image).unwrap(), &Cancel::default(), &mut |_| {}).unwrap()
}

fn run(engine: &Engine, seen: &Seen, spec: &Experiment) -> Result<Trace, RunError> {
    engine.scratch(spec, &[seen], &Cancel::default(), &mut |_| {})
}

fn cut(spec: &Experiment, knockouts: &[&str]) -> Experiment {
    spec.clone().with_knockouts(knockouts.iter().map(|k| k.parse().unwrap()).collect())
}

fn patterns(trace: &Trace) -> Vec<f32> {
    trace.rows().flat_map(|(_, row)| row.data.to_vec()).collect()
}

#[test]
fn spans_cover_the_prompt_once_and_visual_tokens_carry_their_patch() {
    let engine = engine();
    let seen = see(&engine);
    let trace = run(&engine, &seen, &ask(QUESTION, 8)).unwrap();
    let visual: Vec<_> = trace.prompt.iter().filter(|t| t.span == Span::Visual).collect();
    let grid = seen.geometry.views[0].grid;
    let side = engine.vlm.config.vision.grid();
    assert_eq!((grid.rows, grid.cols), (side, side));
    assert_eq!(visual.len(), side * side);
    for (i, token) in visual.iter().enumerate() {
        let place = token.visual.unwrap();
        let cell = place.cell.unwrap();
        assert_eq!((place.image, place.view, cell.row, cell.col), (0, 0, i / side, i % side));
    }
    assert_eq!(trace.prompt[0].span, Span::Bos);
    assert_eq!(trace.prompt.last().unwrap().span, Span::Last);
    let question: String =
        trace.prompt.iter().filter(|t| t.span == Span::Question).map(|t| t.text.as_str()).collect();
    assert_eq!(question.replace(' ', ""), QUESTION.replace(' ', ""));
    for (s, token) in trace.answer.iter().enumerate() {
        assert_eq!(token.position, trace.prompt.len() + s);
        assert_eq!(trace.pattern[s].row().n_keys, token.position);
    }
}

#[test]
fn every_row_and_every_flow_sums_to_one() {
    let engine = engine();
    let trace = run(&engine, &see(&engine), &cut(&ask(QUESTION, 8), &["answer -> visual @ 1-3"])).unwrap();
    for (_, row) in trace.rows() {
        for values in row.data.chunks(row.n_keys) {
            assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        }
        for (layer, shares) in flow::of_row(&row, |key| trace.span(key)).into_iter().enumerate() {
            assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert_eq!(shares[Span::Visual.index()] == 0.0, (1..=3).contains(&layer), "layer {layer}");
        }
    }
    assert_eq!(trace.knockouts[0].blocked_mass, 0.0);
}

#[test]
fn without_cuts_a_run_repeats_bit_for_bit() {
    let engine = engine();
    let seen = see(&engine);
    let spec = ask(QUESTION, 8);
    let (a, b) = (run(&engine, &seen, &spec).unwrap(), run(&engine, &seen, &spec).unwrap());
    let acausal = run(&engine, &seen, &cut(&spec, &["bos -> visual @ all"])).unwrap();
    assert_eq!(acausal.knockouts[0].total_pairs(), 0);
    for other in [b, acausal] {
        assert_eq!(a.answer, other.answer);
        assert_eq!(patterns(&a), patterns(&other));
    }
}

#[test]
fn a_forced_answer_is_scored_as_it_was_generated() {
    let engine = engine();
    let seen = see(&engine);
    let spec = ask(bundled::PROMPT, 12);
    let free = run(&engine, &seen, &spec).unwrap();
    let ids: Vec<u32> = free.answer.iter().map(|t| t.id).collect();
    let forced = run(&engine, &seen, &Experiment { forced_answer: Some(ids), ..spec }).unwrap();
    assert_eq!(forced.stop, Stop::Forced);
    for (a, b) in free.answer.iter().zip(&forced.answer) {
        assert_eq!((a.id, &a.text), (b.id, &b.text));
        assert!((a.logprob - b.logprob).abs() < 2e-4);
    }
    let far = patterns(&free).iter().zip(patterns(&forced)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far <= 1e-5, "{far}");
}

#[test]
fn what_cannot_run_is_refused_with_its_reason_and_the_engine_lives_on() {
    let engine = engine();
    let seen = see(&engine);
    let error = |spec: &Experiment| run(&engine, &seen, spec).map(|_| ()).unwrap_err().to_string();
    assert!(error(&ask("  ", 8)).contains("prompt is empty"));
    let long = "duck ".repeat(engine.info.context);
    assert!(error(&ask(&long, 8)).contains("context holds"));
    assert!(error(&ask(QUESTION, 0)).contains("answer's length"));
    let spec = ask(QUESTION, 8);
    assert!(error(&cut(&spec, &["answer -> visual @ 99"])).contains("layer 99"));
    assert!(error(&cut(&spec, &["answer -> visual[500] @ 0"])).contains("visual 500"));
    assert!(error(&cut(&spec, &["last -> all @ 0"])).contains("nothing to look at"));
    assert!(run(&engine, &seen, &spec).is_ok());
}

#[test]
fn a_token_beyond_the_models_vocabulary_is_refused() {
    let dir = copy_of_folder(&bundled::model());
    let file = dir.path().join("tokenizer.json");
    let whole: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    // As few tokens as before: it is the id that counts.
    let mut vocabulary = whole.clone();
    vocabulary["model"]["vocab"]["zebra"] = json!(5000);
    let mut added = whole.clone();
    added["post_processor"] = json!({ "type": "BertProcessing", "sep": ["</s>", 5000], "cls": ["<s>", 1] });
    for tokenizer in [vocabulary, added] {
        fs::write(&file, tokenizer.to_string()).unwrap();
        let error = load_as(dir.path(), &device::cpu(), WeightDtype::F32).unwrap_err().to_string();
        assert!(error.contains("a token 5000, config.json's vocab_size is 102"), "{error}");
    }
}

#[test]
fn words_outside_the_vocabulary_are_named() {
    let engine = engine();
    assert_eq!(
        engine.folder.prompts.unknown_words("is there a zeppelin, a Zeppelin?"),
        ["zeppelin", "Zeppelin"]
    );
    assert!(engine.folder.prompts.unknown_words(QUESTION).is_empty());
}

#[test]
fn a_cancelled_run_keeps_what_there_was() {
    let engine = engine();
    let seen = see(&engine);
    let cancel = Cancel::default();
    let mut tokens = 0;
    let trace = engine.scratch(&ask(bundled::PROMPT, 64), &[&seen], &cancel, &mut |event| {
        if matches!(event, RunEvent::Token { .. }) {
            tokens += 1;
            if tokens == 3 {
                cancel.cancel();
            }
        }
    });
    let trace = trace.unwrap();
    assert_eq!((trace.stop, trace.answer.len()), (Stop::Cancelled, 3));
}
