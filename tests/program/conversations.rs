//! Conversations on the command line: system text, turns, images in their places, what the answer begins with.
#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::{Value, json};

use crate::common::{
    program::{Done, asset, json as read_json, sightline, text},
    without_weights,
};

/// Runs the bundled model about so many scenes.
fn run(images: usize, out: &str, more: &[&str]) -> Done {
    let files: Vec<String> =
        (0..images).map(|n| text(&asset(&format!("scenes/images/{n:06}.png"))).to_string()).collect();
    let mut args = vec!["run", "--device", "cpu", "--max-new", "5", "--out", out];
    files.iter().for_each(|file| args.extend(["--image", file.as_str()]));
    sightline(args.iter().chain(more))
}

fn spans(trace: &Value, span: &str) -> Vec<String> {
    let prompt = trace["prompt"].as_array().unwrap().iter();
    prompt.filter(|t| t["span"] == span).map(|t| t["text"].as_str().unwrap().trim().to_string()).collect()
}

#[test]
fn a_conversation_is_run_written_down_and_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let out = text(&out);
    let turns = json!([
        { "role": "user", "content": ["image", { "text": "is there a duck?" }] },
        { "role": "assistant", "content": [{ "text": "there is a duck" }] },
        { "role": "user", "content": [{ "text": "and here" }, "image", { "text": "?" }] },
        { "role": "assistant", "content": [{ "text": "there is" }] },
    ]);
    let file = dir.path().join("turns.json");
    fs::write(&file, turns.to_string()).unwrap();
    let written = turns.to_string();
    let mut answers = Vec::new();
    for given in [text(&file), written.as_str()] {
        let done = run(2, out, &["--turns", given, "--pictures"]).succeeds();
        assert!(
            done.out.contains("given: there is") && done.out.matches("image: ").count() == 2,
            "{}",
            done.out
        );
        let trace = read_json(&dir.path().join("out/trace.json"));
        assert_eq!(spans(&trace, "question"), ["is", "there", "a", "duck", "?", "and", "here", "?"]);
        assert_eq!(spans(&trace, "answer"), ["there"], "the last of the beginning predicts what follows");
        assert_eq!(trace["images"].as_array().unwrap().len(), 2);
        let session = read_json(&dir.path().join("out/session.json"));
        assert_eq!(session["entries"][0]["turns"], turns);
        assert_eq!(session["entries"][0]["images"].as_array().unwrap().len(), 2);
        answers.push(trace["answer"].clone());
        // A picture of each image for every token.
        let names = fs::read_dir(dir.path().join("out"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.filter(|name| name.contains("token_")).collect();
        assert_eq!(
            names.iter().filter(|name| name.ends_with("_image_1.png")).count() * 2,
            names.len(),
            "{names:?}"
        );
        sightline(["replay", &format!("{out}/session.json"), "--device", "cpu"]).succeeds();
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn system_text_and_a_beginning_stand_around_a_question() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let ask = ["--prompt", "is there a duck?", "--system", "where is it", "--prefix", "there is"];
    run(1, text(&out), &ask).succeeds();
    let trace = read_json(&out.join("trace.json"));
    let system = spans(&trace, "system").join(" ");
    assert!(system.contains("where is it"), "{system}");
    assert_eq!(spans(&trace, "answer"), ["there"]);
    let cut = [&ask[..], &["--knockout", "answer -> visual @ all", "--check"]].concat();
    run(1, text(&out), &cut).succeeds();
}

#[test]
fn mistakes_in_a_conversation_are_told_before_the_weights_are_read() {
    let (model, dir) = (without_weights(), tempfile::tempdir().unwrap());
    let out = dir.path().join("out");
    let refused = |images: usize, more: &[&str], parts: &[&str]| {
        let model = ["--model", text(model.path())];
        let args: Vec<&str> = model.iter().chain(more).copied().collect();
        run(images, text(&out), &args).refuses(parts);
    };
    let question = r#"[{"role": "user", "content": ["image", {"text": "what?"}]}]"#;
    refused(1, &[], &["--prompt <TEXT>"]);
    refused(1, &["--prompt", "a", "--turns", question], &["--prompt", "--turns"]);
    refused(1, &["--turns", question, "--prefix", "a"], &["--turns", "--prefix"]);
    refused(2, &["--turns", question], &["1 image, and 2 images were given"]);
    refused(1, &["--turns", "[]"], &["the prompt is empty"]);
    refused(1, &["--turns", "[1"], &["--turns", "no JSON", "expected a list of turns like"]);
    refused(
        1,
        &["--turns", r#"[{"role": "robot", "content": []}]"#],
        &["robot", "expected a list of turns like"],
    );
    let further = r#"[{"role": "user", "content": ["image", {"text": "what?"}], "name": "x"}]"#;
    refused(1, &["--turns", further], &["other keys"]);
    refused(1, &["--turns", "no such file.json"], &["no such file.json", "cannot be read"]);
    refused(1, &["--prompt", "what?", "--prefix", ""], &["beginning of the answer is empty"]);
    let mask = asset("scenes/masks/000000.png");
    refused(
        2,
        &["--prompt", "what?", "--object", text(&mask), "--ablate", "object = mean"],
        &["--object", "several"],
    );
}
