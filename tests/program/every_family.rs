//! Every analysis of the command line on a model of every family, with the chat templates and the kinds of
//! tokenizers that the hubs have; and what becomes of text that people type.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, thread};

use serde_json::Value;

use crate::common::{
    models::{every_family, llava_like, smolvlm_like},
    program::{Done, asset, json, sightline, text},
};

fn on_scene(command: &str, model: &Path, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    let args = [command, "--device", "cpu", "--model", text(model), "--image", text(&image)];
    sightline(args.iter().chain(&["--prompt", "what is it?"]).chain(more))
}

/// The analyses, by their arguments.
const RUNS: [&[&str]; 13] = [
    &["--max-new", "3", "--pictures", "--find", "is"],
    &["--answer", "a red duck"],
    &["--max-new", "3", "--knockout", "answer -> visual @ 1-2", "--control", "2", "--check"],
    &["--max-new", "3", "--knockout", "last -> gradient[0-3] @ 1"],
    &["--max-new", "3", "--ablate", "visual[0-3] = mean", "--check"],
    &["--max-new", "3", "--record", "answer[0] @ 1 # 0"],
    &["--max-new", "3", "--square", "1:1", "--vision-attention", "0"],
    &["--max-new", "3", "--compress", "50", "--ask", "is it red?"],
    &["--max-new", "3", "--compress", "0", "--ask", "is it red?", "--ask", "where?", "--keep-answer"],
    &["--answer", "a duck", "--compress", "50", "--ask", "where?"],
    &["--max-new", "2", "--effect-map", "2", "--edge-effects", "1", "--head-effects", "--effect-tokens", "0"],
    &["--max-new", "3", "--temperature", "2", "--seed", "1"],
    &["--max-new", "3", "--half", "--dtype", "f16"],
];

/// Runs them all, and says which failed.
fn failures(model: &Path) -> Vec<String> {
    let (out, scenes) = (tempfile::tempdir().unwrap(), asset("scenes"));
    let mut failed = Vec::new();
    let mut hold = |what: &[&str], done: Done| {
        if done.code != 0 {
            failed.push(format!("{}: {what:?}: {}", model.display(), done.err));
        }
    };
    for more in RUNS {
        hold(more, on_scene("run", model, &[&["--out", text(out.path())], more].concat()));
        let trace = json(&out.path().join("trace.json"));
        for cut in trace["knockouts"].as_array().into_iter().flatten() {
            assert!(cut["blocked_mass"] == 0.0, "{}: {cut}", model.display());
        }
    }
    let lens = ["--at", "last + answer", "--word", "duck", "--max-new", "3"];
    hold(&lens, on_scene("lens", model, &lens));
    let session = out.path().join("session.json");
    hold(&["replay"], sightline(["replay", "--device", "cpu", text(&session)]));
    for more in [&["--max-new", "3"][..], &["--max-new", "3", "--localise"]] {
        let args =
            ["eval", "--device", "cpu", "--limit", "1", "--model", text(model), "--scenes", text(&scenes)];
        hold(more, sightline(args.iter().chain(more)));
    }
    failed
}

#[test]
fn every_analysis_runs_on_every_family() {
    let models = every_family();
    let failed: Vec<String> = thread::scope(|scope| {
        let running =
            models.iter().map(|model| scope.spawn(move || failures(model.path()))).collect::<Vec<_>>();
        running.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_further_question_follows_an_answer_as_the_template_writes_it() {
    let (model, out) = (smolvlm_like(), tempfile::tempdir().unwrap());
    let more = ["--max-new", "2", "--compress", "100", "--ask", "is it red?"];
    on_scene("run", model.path(), &[&["--out", text(out.path())], &more[..]].concat()).succeeds();
    let found = json(&out.path().join("trace.json"));
    assert_eq!(found["compression"][0]["same"], 1.0);
    // A template that writes the second turn otherwise is told before the weights are read.
    let odd = "{% for m in messages %}{{ 'red' if loop.length > 1 else 'blue' }}: {% for c in m.content %}{% if c.type == 'image' %}<image>\
        {% else %}{{ c.text }}{% endif %}{% endfor %}{% endfor %} assistant:";
    fs::write(
        model.path().join("chat_template.json"),
        serde_json::json!({ "chat_template": odd }).to_string(),
    )
    .unwrap();
    fs::write(model.path().join("model.safetensors"), "no weights").unwrap();
    let refused = on_scene("run", model.path(), &[&["--out", text(out.path())], &more[..]].concat());
    assert!(!refused.err.contains("model.safetensors"), "{}", refused.err);
    refused.refuses(&["a chat template whose second turn continues the first"]);
}

fn texts(tokens: &Value) -> Vec<&str> {
    tokens.as_array().unwrap().iter().map(|token| token["text"].as_str().unwrap()).collect()
}

#[test]
fn characters_of_several_tokens_come_back_whole() {
    let (model, out) = (llava_like(), tempfile::tempdir().unwrap());
    let said = "\u{1F436}狗字符 dog";
    let more = ["--out", text(out.path()), "--answer", said, "--find", "字符", "--find", "\u{1F436}"];
    let done = on_scene("run", model.path(), &more).succeeds();
    assert!(!done.err.contains('\u{FFFD}') && !done.out.contains('\u{FFFD}'), "{}{}", done.out, done.err);
    let found = json(&out.path().join("trace.json"));
    assert_eq!(found["answer_text"], said);
    assert_eq!(texts(&found["answer"]).concat().trim_start(), said);
    assert_eq!(texts(&found["words"]), ["\u{1F436}狗字符", "dog"]);
    for (phrase, bytes) in [(0, 6), (1, 4)] {
        let places = found["phrases"][phrase]["found"].as_array().unwrap();
        assert_eq!(places.len(), 1, "{places:?}");
        assert_eq!(places[0]["positions"].as_array().unwrap().len(), bytes);
    }
    // Every byte is a token; of a character's the last alone carries it.
    let answer = found["answer"].as_array().unwrap();
    assert_eq!(answer.iter().filter(|token| token["partial"] == true).count(), 3 + 2 + 2 + 2);
    assert!(answer.iter().all(|token| token["partial"] != true || token["text"] == ""));
    let session = out.path().join("session.json");
    let replayed = sightline(["replay", "--device", "cpu", "--json", text(&session)]).succeeds();
    let line: Value = serde_json::from_str(&replayed.out).unwrap();
    assert_eq!(line["uncut"], said);
}

#[test]
fn a_typed_answer_is_text_and_its_unknown_words_are_named() {
    let (model, out) = (smolvlm_like(), tempfile::tempdir().unwrap());
    let typed = "a <image> yes<end_of_utterance>zeppelin";
    let more = ["--out", text(out.path()), "--answer", typed, "--compress", "50", "--ask", "a zebu?"];
    let done = on_scene("run", model.path(), &more).succeeds();
    for word in ["zeppelin", "<", "zebu"] {
        assert!(done.err.contains(&format!("`{word}` is not in the model's vocabulary")), "{}", done.err);
    }
    let found = json(&out.path().join("trace.json"));
    let answer = found["answer"].as_array().unwrap();
    assert!(answer.len() > 6 && answer.iter().all(|token| token["end"] == false), "{answer:?}");
    assert!(answer.iter().all(|token| token["id"].as_u64().unwrap() < 288), "{answer:?}");
    // The same where every letter has a token.
    let model = llava_like();
    let typed = "a <image> b</s>";
    on_scene("run", model.path(), &["--out", text(out.path()), "--answer", typed]).succeeds();
    let found = json(&out.path().join("trace.json"));
    assert_eq!((&found["answer_text"], &found["stop"]), (&typed.into(), &"forced".into()));
}
