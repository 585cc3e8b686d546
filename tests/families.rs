//! Every analysis of the command line on every model family, with chat templates as the hub has them; and texts whose
//! characters take several tokens. What models answer does not matter: that every analysis comes to its end does.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use serde_json::{Value, json};
use sightline::bundled;

mod common;
use common::{
    LLAVA_TEMPLATE, copy_of_folder,
    program::{Done, asset, json as read, sightline, text},
    tiled_model, with_smolvlm_tokenizer,
};

const WEIGHTS: &str = "model.safetensors";

/// `run` or `lens` about the first sample scene.
fn on_scene(command: &str, model: &Path, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    let args = [command, "--device", "cpu", "--model", text(model), "--image", text(&image)];
    sightline(args.iter().chain(more))
}

/// The analyses, as many of them in one run as go together.
fn every_analysis(model: &Path) {
    let out = tempfile::tempdir().unwrap();
    let (folder, mask) = (text(out.path()), asset("scenes/masks/000000.png"));
    let run = |more: &[&str]| {
        println!("{more:?}");
        let args = [&["--prompt", "what is at the left?", "--out", folder], more].concat();
        on_scene("run", model, &args).succeeds();
        read(&out.path().join("trace.json"))
    };
    let short = ["--max-new", "3"];
    let asks = ["--ask", "is there a duck?", "--ask", "what?"];
    let trace = run(&[&short[..], &["--compress", "0", "--compress", "50"], &asks, &["--pictures"]].concat());
    let compression = trace["compression"].as_array().unwrap();
    assert_eq!(compression.len(), 2);
    assert!(compression.iter().all(|of| of["questions"].as_array().unwrap().len() == 2), "{compression:?}");
    let trace = run(&["--answer", "a duck", "--compress", "100", "--keep-answer", "--ask", "what?"]);
    assert_eq!(trace["compression"][0]["same"], 1.0);
    let stored = ["--square", "0:0", "--vision-attention", "0", "--find", "left", "--half", "--top-p", "0.9"];
    let trace = run(&[&short[..], &stored].concat());
    assert_ne!(trace["phrases"][0]["found"].as_array().unwrap().len(), 0, "the question has it");
    let cut = ["--knockout", "answer -> visual @ 1-2", "--control", "1", "--check"];
    assert!(run(&[&short[..], &cut].concat())["intervention"].is_object());
    let object = ["--object", text(&mask), "--object-value", "1", "--ablate", "object~1 = mean"];
    let sets = ["--knockout", "last -> gradient[0-1] @ 0"];
    assert!(run(&[&short[..], &object, &sets].concat())["intervention"].is_object());

    let session = out.path().join("session.json");
    sightline(["replay", text(&session), "--device", "cpu"]).succeeds();
    let lens =
        ["--prompt", "what?", "--max-new", "2", "--at", "visual[0:0] + last + answer", "--word", "duck"];
    assert!(!on_scene("lens", model, &lens).succeeds().out.is_empty());
    let scenes = asset("scenes");
    let eval = ["eval", "--device", "cpu", "--model", text(model), "--scenes", text(&scenes), "--limit", "2"];
    let with: [&[&str]; 3] = [&["--shuffle"], &["--describe", ""], &["--localise", "--max-new", "3"]];
    for more in with {
        println!("{more:?}");
        sightline(eval.iter().chain(more)).succeeds();
    }
}

#[test]
fn llava() {
    every_analysis(&bundled::model());
}

#[test]
fn llava_with_the_hubs_template() {
    every_analysis(with_smolvlm_tokenizer("tiny-llava").path());
}

#[test]
fn idefics3() {
    every_analysis(tiled_model(512).path());
}

#[test]
fn smolvlm() {
    every_analysis(with_smolvlm_tokenizer("tiny-idefics3").path());
}

/// What a template cannot write is told before the weights, and what it can is not refused.
#[test]
fn further_questions_are_asked_by_every_template() {
    let model = copy_of_folder(&bundled::model());
    fs::write(model.path().join(WEIGHTS), "no weights").unwrap();
    fs::remove_file(model.path().join("chat_template.jinja")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let ask = |template: &Value| {
        fs::write(model.path().join("chat_template.json"), json!({"chat_template": template}).to_string())
            .unwrap();
        let more = ["--prompt", "what?", "--compress", "5", "--ask", "what?", "--out", text(out.path())];
        on_scene("run", model.path(), &more)
    };
    let smolvlm = &read(&common::fixture("smolvlm-tokenizer/chat_template.json"))["chat_template"];
    ask(smolvlm).refuses(&[WEIGHTS]);
    ask(&LLAVA_TEMPLATE.into()).refuses(&[WEIGHTS]);
    let forbidden = "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('one turn only') }}\
        {% endif %}{% for c in m.content %}{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}\
        {% endfor %}{% endfor %}:";
    let done = ask(&forbidden.into());
    assert!(!done.err.contains(WEIGHTS), "{}", done.err);
    done.refuses(&["one turn only"]);
}

/// Characters that take several tokens, in a question and in an answer: whole, and found with all their tokens.
#[test]
fn characters_of_several_tokens_are_whole_and_found() {
    let (model, out) = (with_smolvlm_tokenizer("tiny-idefics3"), tempfile::tempdir().unwrap());
    let answer = "🐶狗 dog <image> 字符";
    let find =
        ["--find", "字符", "--find", "🐶", "--find", "<image>", "--prompt", "字符?", "--answer", answer];
    let done = on_scene("run", model.path(), &[&find[..], &["--out", text(out.path())]].concat()).succeeds();
    assert!(!done.err.contains('\u{FFFD}'), "{}", done.err);
    let trace = read(&out.path().join("trace.json"));
    assert!(!trace.to_string().contains('\u{FFFD}'));
    assert_eq!(trace["answer_text"], answer);
    let words: Vec<&str> =
        trace["words"].as_array().unwrap().iter().map(|w| w["text"].as_str().unwrap()).collect();
    assert_eq!(words, answer.split(' ').collect::<Vec<_>>());
    let found = |n: usize| trace["phrases"][n]["found"].as_array().unwrap();
    assert_eq!([found(0).len(), found(1).len(), found(2).len()], [2, 1, 1]);
    assert!(found(1)[0]["positions"].as_array().unwrap().len() > 1);
    let prompt = trace["prompt"].as_array().unwrap();
    let images = |tokens: &[Value]| tokens.iter().filter(|t| t["id"] == 49190).count();
    assert!(images(prompt) > 0);
    assert_eq!(images(trace["answer"].as_array().unwrap()), 0, "typed text is no image");
    let session = out.path().join("session.json");
    let replayed = sightline(["replay", text(&session), "--device", "cpu"]).succeeds();
    assert!(!replayed.out.contains('\u{FFFD}'), "{}", replayed.out);
}
