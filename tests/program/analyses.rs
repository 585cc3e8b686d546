//! Interventions and analyses through the command line, on the bundled model: every number that the
//! program writes is held against another way to get it.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::program::{Done, asset, json, sightline, text};

const PROMPT: &str = "describe the image.";

fn on_scene(command: &str, more: &[&str]) -> Done {
    let image = asset("scenes/images/000000.png");
    let args = [command, "--device", "cpu", "--image", text(&image), "--prompt", PROMPT];
    sightline(args.iter().chain(more))
}

fn run(out: &Path, more: &[&str]) -> Done {
    on_scene("run", &[&["--out", text(out)], more].concat())
}

fn mask() -> String {
    text(&asset("scenes/masks/000000.png")).to_string()
}

fn tensor(dir: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(dir.join("trace.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let found = file.tensor(name).unwrap();
    let values = found.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    (found.shape().to_vec(), values)
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn an_intervention_reports_its_proof_its_effect_and_its_control() {
    let dir = tempfile::tempdir().unwrap();
    let mask = mask();
    let cut = ["--object", &mask, "--object-value", "1", "--knockout", "answer -> object~1 @ 3-5"];
    let more = ["--ablate", "lastrow = mean", "--control", "3", "--check"];
    run(dir.path(), &[&cut[..], &more].concat()).succeeds();
    let trace = json(&dir.path().join("trace.json"));
    let done = &trace["intervention"];

    let knockout = &trace["knockouts"][0];
    assert_eq!(knockout["blocked_mass"], 0.0);
    let pairs: Vec<u64> = knockout["pairs"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap()).collect();
    assert!(pairs[..3] == [0, 0, 0] && pairs[3] > 0 && pairs[3] == pairs[5], "{pairs:?}");

    let scratch = &done["from_scratch"];
    assert_eq!(scratch["same_tokens"], true);
    assert!(scratch["logprob"].as_f64().unwrap() <= 2e-4 && scratch["attention"].as_f64().unwrap() <= 1e-5);
    assert_eq!(done["start"]["layer"], 0, "an ablation begins at the decoder's input");

    // Every effect is the difference of two log probabilities that stand elsewhere in the file.
    let uncut = trace["baseline"]["answer"].as_array().unwrap();
    let forced = done["forced"].as_array().unwrap();
    assert_eq!(uncut.len(), forced.len());
    for (before, token) in uncut.iter().zip(forced) {
        let effect = |key: &str| token["effect"][key].as_f64().unwrap();
        assert_eq!(token["id"], before["id"]);
        assert!((effect("baseline") - before["logprob"].as_f64().unwrap()).abs() < 1e-6);
        assert!((effect("logprob") - effect("baseline") - effect("delta")).abs() < 1e-5);
        assert!(effect("kl") > -1e-4);
        assert_eq!(token["top"].as_array().unwrap().len(), 10);
        let best = &token["top"][0];
        assert_eq!(effect("rank") == 0.0, best["id"] == token["id"]);
    }
    let total: f64 = forced.iter().map(|t| t["effect"]["delta"].as_f64().unwrap()).sum();
    let control = &done["control"]["delta"];
    assert!((control["intervention"].as_f64().unwrap() - total).abs() < 1e-3);
    assert_eq!(control["draws"].as_array().unwrap().len(), 3);
    assert!(total < control["mean"].as_f64().unwrap() - 1.0, "the object matters more than random patches");

    // The parts of both answers that are the same make up one another's rest.
    let new = trace["answer"].as_array().unwrap();
    let shared = |flags: &Value| flags.as_array().unwrap().iter().filter(|f| **f == false).count();
    let kept = forced.iter().filter(|t| t["in_new_answer"] == true).count();
    assert_eq!(shared(&done["new_in_answer"]), kept);
    assert!(kept < uncut.len() && done["new_in_answer"].as_array().unwrap().len() == new.len());
    for name in ["pattern", "baseline.pattern", "forced.pattern"] {
        let (shape, values) = tensor(dir.path(), name);
        assert_eq!(shape[..2], [6, 4], "{name}");
        for row in values.chunks(shape[3]) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{name}");
        }
    }
}

#[test]
fn what_is_recorded_is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &[]).succeeds();
    let (_, full) = tensor(dir.path(), "pattern");
    let positions =
        full.len() / 6 / 4 / json(&dir.path().join("trace.json"))["answer"].as_array().unwrap().len();
    run(dir.path(), &["--record", "answer[2-3] @ 1,4 # 0,3"]).succeeds();
    let trace = json(&dir.path().join("trace.json"));
    assert_eq!(trace["recorded"], serde_json::json!({ "layers": [1, 4], "heads": [0, 3], "rows": [2, 3] }));
    let (shape, some) = tensor(dir.path(), "pattern");
    assert_eq!(shape, [2, 2, 2, positions]);
    let answer = full.len() / 6 / 4 / positions;
    for (l, layer) in [1, 4].into_iter().enumerate() {
        for (h, head) in [0, 3].into_iter().enumerate() {
            for (r, row) in [2, 3].into_iter().enumerate() {
                let whole = ((layer * 4 + head) * answer + row) * positions;
                let part = ((l * 2 + h) * 2 + r) * positions;
                assert_eq!(full[whole..whole + positions], some[part..part + positions]);
            }
        }
    }
    run(dir.path(), &["--record", "none"]).succeeds();
    assert_eq!(tensor(dir.path(), "pattern").0, [0, 0, 0, positions]);
    let shown = run(dir.path(), &["--half"]).succeeds();
    assert!(shown.err.contains("keeps at most: attention"), "{}", shown.err);
    let (_, half) = tensor(dir.path(), "pattern");
    assert!(full.iter().zip(&half).all(|(a, b)| (a - b).abs() <= a.abs() / 2048.0 + 1e-7));
    run(dir.path(), &["--memory-limit", "0.001"]).refuses(&["would keep", "the limit is 1.00 MB"]);
}

#[test]
fn squares_and_the_encoders_attention_come_on_demand() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--square", "2:3", "--residuals", "4", "--vision-attention", "0"]).succeeds();
    let (shape, square) = tensor(dir.path(), "square.2.3");
    let rows = shape[0];
    assert_eq!(shape, [rows, rows]);
    for (row, values) in square.chunks(rows).enumerate() {
        assert!((values.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(values[row + 1..].iter().all(|&v| v == 0.0), "row {row} sees what comes later");
    }
    let (shape, pattern) = tensor(dir.path(), "pattern");
    let [_, heads, answer, positions] = shape[..] else { panic!("{shape:?}") };
    for s in 0..answer {
        let row = positions - answer - 1 + s;
        let recorded = &pattern[((2 * heads + 3) * answer + s) * positions..][..rows];
        let far = recorded.iter().zip(&square[row * rows..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "row {row}: {far}");
    }
    let (shape, vision) = tensor(dir.path(), "vision.attn.0.tile.0");
    assert_eq!((shape[1], shape[1] * shape[0] * shape[2]), (shape[2], vision.len()));
    assert!(vision.chunks(shape[2]).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-4));
    run(dir.path(), &["--square", "6:0"]).refuses(&["layer 6 does not exist: valid are 0 to 5"]);
    run(dir.path(), &["--square", "0:4"]).refuses(&["head 4 does not exist: valid are 0 to 3"]);
    run(dir.path(), &["--square", "3"]).refuses(&["LAYER:HEAD"]);
    run(dir.path(), &["--vision-attention", "99"]).refuses(&["vision layer 99 does not exist"]);
}

#[test]
fn phrases_are_found_by_position() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--find", "at the", "--find", "zebra", "--pictures"]).succeeds();
    let trace = json(&dir.path().join("trace.json"));
    let tokens: Vec<&Value> =
        trace["prompt"].as_array().unwrap().iter().chain(trace["answer"].as_array().unwrap()).collect();
    let found = trace["phrases"][0]["found"].as_array().unwrap();
    assert!(found.len() > 1, "{found:?}");
    for place in found {
        let positions: Vec<usize> =
            place["positions"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as usize).collect();
        let text: String = positions.iter().map(|&p| tokens[p]["text"].as_str().unwrap()).collect();
        assert_eq!(text.trim(), "at the");
    }
    assert!(trace["phrases"][1]["found"].as_array().unwrap().is_empty());
    let pictures = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("phrase_"));
    assert_eq!(pictures.count(), found.len());
}

#[test]
fn a_compressed_context_keeps_what_it_says_and_a_whole_one_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let asks = ["--ask", "what is the background?", "--ask", "how many objects are there?"];
    let shares = ["--compress", "0", "--compress", "10", "--compress", "100"];
    for keep_answer in [&[][..], &["--keep-answer"]] {
        run(dir.path(), &[&asks[..], &shares, keep_answer].concat()).succeeds();
        let trace = json(&dir.path().join("trace.json"));
        let prompt = trace["prompt"].as_array().unwrap().len();
        let visual = trace["prompt"].as_array().unwrap().iter().filter(|t| t["span"] == "visual").count();
        // The answer's last token was predicted, never read.
        let said = if keep_answer.is_empty() { 0 } else { trace["answer"].as_array().unwrap().len() - 1 };
        for (of, percent) in trace["compression"].as_array().unwrap().iter().zip([0.0, 10.0, 100.0]) {
            let kept = (visual as f64 * percent / 100.0).round() as usize;
            assert_eq!(of["visual"], kept);
            assert_eq!(of["tokens"], prompt - visual + kept + said);
            assert_eq!(of["full_tokens"], prompt + said);
            assert_eq!(of["questions"].as_array().unwrap().len(), 2);
        }
        assert_eq!(trace["compression"][2]["same"], 1.0);
        assert_eq!(trace["compression"][2]["agreement"], 1.0);
        assert_ne!(trace["compression"][0]["same"], 1.0, "without the image the answers cannot all be right");
    }
    run(dir.path(), &["--compress", "101", "--ask", "what?"]).refuses(&["0 to 100 %"]);
    run(dir.path(), &["--compress", "5"]).refuses(&["--ask"]);
    let partly = ["--compress", "5", "--ask", "what?", "--record", "answer @ 1"];
    run(dir.path(), &partly).refuses(&["every layer, head and answer row"]);
}

#[test]
fn effects_are_those_of_the_cuts_that_one_could_type() {
    let dir = tempfile::tempdir().unwrap();
    let asked = ["--max-new", "4", "--effect-tokens", "1-2", "--edge-effects", "3", "--head-effects"];
    let map = ["--effect-map", "4", "--effect-layers", "2-5"];
    let done = run(dir.path(), &[&asked[..], &map].concat()).succeeds();
    for said in ["9 blocks of 4 x 4 patches", "144 blocks of 1 x 1", "edges: lowest", "heads: lowest"] {
        assert!(done.out.contains(said), "{}", done.out);
    }
    let effects = json(&dir.path().join("trace.json"))["effects"].clone();
    assert_eq!(effects["tokens"], serde_json::json!([1, 2]));
    let blocks = list(&effects["blocks"]["found"]);
    assert_eq!(blocks.len(), 9 + 36 + 144);
    let settings = ["coarsest", "how", "layers"].map(|key| effects["blocks"][key].clone());
    assert_eq!(settings, [Value::from(4), Value::from("cut"), Value::from("2-5")]);
    let agreement = list(&effects["agreement"]);
    assert_eq!(agreement.iter().map(|of| of["side"].clone()).collect::<Vec<_>>(), [4, 2, 1]);
    assert!(agreement.iter().all(|of| list(&of["heads"]).len() == 24 && list(&of["mean"]).len() == 6));
    let (edges, heads) = (list(&effects["edges"]["found"]), list(&effects["heads"]));
    assert_eq!((&effects["edges"]["width"], heads.len()), (&Value::from(3), 24));

    as_tensors(dir.path(), [&blocks, &edges, &heads]);
    as_typed([&blocks, &edges, &heads]);
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

fn number(value: &Value) -> f32 {
    value.as_f64().unwrap() as f32
}

/// The same numbers stand in the tensors.
fn as_tensors(dir: &Path, [blocks, edges, heads]: [&[Value]; 3]) {
    let tensors =
        ["effect.patches.4", "effect.patches.2", "effect.patches.1", "effect.edges", "effect.heads"]
            .map(|name| tensor(dir, name));
    for (block, (shape, values)) in blocks.iter().filter_map(|block| {
        let side = [4, 2, 1].iter().position(|&side| block["side"] == side)?;
        Some((block, &tensors[side]))
    }) {
        assert_eq!(shape[..], [144]);
        for patch in list(&block["patches"]) {
            assert_eq!(values[patch.as_u64().unwrap() as usize], number(&block["delta"]));
        }
    }
    let (shape, values) = &tensors[3];
    assert_eq!(shape[..], [6, 7, 7]);
    let spans = ["bos", "system", "markers", "visual", "question", "last", "answer"];
    let place = |name: &Value| spans.iter().position(|span| name == span).unwrap();
    for edge in edges {
        let layer = edge["layer"].as_u64().unwrap() as usize;
        let at = (layer * 7 + place(&edge["query"])) * 7 + place(&edge["key"]);
        assert_eq!(values[at], number(&edge["delta"]));
    }
    let (shape, values) = &tensors[4];
    assert_eq!((&shape[..], values.len()), (&[6, 4][..], heads.len()));
}

/// And they are those of cuts by themselves.
fn as_typed([blocks, edges, heads]: [&[Value]; 3]) {
    let typed = |cut: &str| -> f32 {
        let out = tempfile::tempdir().unwrap();
        run(out.path(), &["--max-new", "4", "--knockout", cut]).succeeds();
        let trace = json(&out.path().join("trace.json"));
        let forced = list(&trace["intervention"]["forced"]);
        forced[1..3].iter().map(|token| number(&token["effect"]["delta"])).sum()
    };
    let of = |found: &[Value], is: &dyn Fn(&Value) -> bool| -> f32 {
        number(&found.iter().find(|one| is(one)).unwrap()["delta"])
    };
    let square = serde_json::json!([4, 5, 6, 7, 16, 17, 18, 19, 28, 29, 30, 31, 40, 41, 42, 43]);
    for (found, cut) in [
        (
            of(blocks, &|block: &Value| block["patches"] == square),
            "all - visual[0-3:4-7] -> visual[0-3:4-7] @ 2-5",
        ),
        (
            of(edges, &|edge: &Value| {
                edge["query"] == "last" && edge["key"] == "visual" && edge["layer"] == 3
            }),
            "last -> visual @ 2-4",
        ),
        (
            of(edges, &|edge: &Value| {
                edge["query"] == "answer" && edge["key"] == "last" && edge["layer"] == 0
            }),
            "decode -> last @ 0-1",
        ),
        (of(heads, &|head: &Value| head["layer"] == 3 && head["head"] == 1), "answer -> visual @ 3 # 1"),
    ] {
        let typed = typed(cut);
        assert!((found - typed).abs() < 1e-4, "{cut}: found {found}, typed {typed}");
    }
}

#[test]
fn the_lens_of_the_last_layer_is_the_models_own_answer() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &[]).succeeds();
    let trace = json(&dir.path().join("trace.json"));
    let answer = trace["answer"].as_array().unwrap();
    let file = dir.path().join("lens.jsonl");
    let read = |more: &[&str]| -> Vec<Value> {
        on_scene("lens", &[&["--json", text(&file)], more].concat()).succeeds();
        fs::read_to_string(&file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let layers = read(&["--at", "last + answer", "--word", "house", "--top", "3"]);
    assert_eq!(layers.len(), 6);
    let readings = layers[5]["readings"].as_array().unwrap();
    assert_eq!(readings.len(), answer.len());
    for (reading, token) in readings.iter().zip(answer) {
        let p = reading["top"][0]["probability"].as_f64().unwrap();
        assert_eq!(reading["top"][0]["id"], token["id"]);
        assert!((p.ln() - token["logprob"].as_f64().unwrap()).abs() < 2e-4);
        let named = token["text"].as_str().unwrap().trim() == "house";
        assert_eq!(reading["word"]["rank"] == 0, named);
    }
    // Residuals that were not kept are computed again, from below.
    let sparse = read(&["--at", "last + answer", "--word", "house", "--top", "3", "--residuals", "4"]);
    for (a, b) in layers.iter().zip(&sparse) {
        for (a, b) in a["readings"].as_array().unwrap().iter().zip(b["readings"].as_array().unwrap()) {
            let p = |r: &Value| r["top"][0]["probability"].as_f64().unwrap();
            assert!((p(a) - p(b)).abs() < 1e-4);
        }
    }
    let one = read(&["--at", "visual[3:4]", "--layers", "2"]);
    assert_eq!(
        (one.len(), one[0]["layer"].as_u64(), one[0]["readings"].as_array().unwrap().len()),
        (1, Some(2), 1)
    );
    let position = one[0]["readings"][0]["position"].as_u64().unwrap() as usize;
    assert_eq!(
        (&trace["prompt"][position]["row"], &trace["prompt"][position]["col"]),
        (&3.into(), &4.into())
    );

    on_scene("lens", &["--layers", "6"]).refuses(&["layer 6 does not exist: valid are 0 to 5"]);
    on_scene("lens", &["--at", "visual[12:0]"]).refuses(&["patch row 12 does not exist: valid are 0 to 11"]);
    on_scene("lens", &["--at", "nowhere"]).refuses(&["`nowhere` is none of"]);
    on_scene("lens", &["--word", "zeppelin"]).refuses(&["zeppelin", "no token"]);
}

#[test]
fn a_session_gives_the_same_numbers_again() {
    let dir = tempfile::tempdir().unwrap();
    let mask = mask();
    let object = ["--object", &mask, "--object-value", "1", "--ablate", "object~1 = mean", "--control", "2"];
    let sampled = ["--temperature", "1.2", "--top-p", "0.95", "--seed", "7"];
    run(dir.path(), &[&object[..], &sampled].concat()).succeeds();
    let session = dir.path().join("session.json");
    let replay = |more: &[&str]| sightline(["replay", text(&session), "--device", "cpu"].iter().chain(more));
    assert!(replay(&[]).succeeds().out.contains("the same numbers"));

    // Other images, each with its own mask; one that cannot be read costs nothing but itself.
    let images = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let name = format!("00000{n}.png");
        fs::copy(asset("scenes/images").join(&name), images.path().join(&name)).unwrap();
    }
    fs::write(images.path().join("broken.png"), "not a picture").unwrap();
    let done = replay(&["--image-dir", text(images.path()), "--json"]);
    assert_eq!(done.code, 1);
    assert!(done.err.contains("broken.png"), "{}", done.err);
    let lines: Vec<Value> = done.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let texts: Vec<&str> = lines.iter().map(|l| l["uncut"].as_str().unwrap()).collect();
    assert_ne!(texts[0], texts[1]);
    assert!(lines.iter().all(|l| l["delta"].is_number()));

    // The layout: images and turns, as the experiment has them; the one before it is read too.
    let written = json(&session);
    assert_eq!(written["format"], "sightline-session-2");
    let entry = &written["entries"][0];
    let image = text(&asset("scenes/images/000000.png")).to_string();
    let object = serde_json::json!({ "file": mask, "value": 1, "share": 0.0 });
    assert_eq!(entry["images"], serde_json::json!([{ "image": image, "object": object }]));
    let turns = serde_json::json!([{ "role": "user", "content": ["image", { "text": PROMPT }] }]);
    assert_eq!(entry["turns"], turns);
    let mut first = written.clone();
    first["format"] = "sightline-session-1".into();
    let old = first["entries"][0].as_object_mut().unwrap();
    old.retain(|key, _| key != "images" && key != "turns");
    old.extend([
        ("image".to_string(), image.into()),
        ("object".to_string(), object),
        ("prompt".to_string(), PROMPT.into()),
    ]);
    fs::write(&session, first.to_string()).unwrap();
    assert!(replay(&[]).succeeds().out.contains("the same numbers"));
    fs::write(&session, serde_json::to_string_pretty(&written).unwrap()).unwrap();

    let written = fs::read_to_string(&session).unwrap();
    let change = |from: &str, to: &str| {
        assert!(written.contains(from), "{from}");
        fs::write(&session, written.replacen(from, to, 1)).unwrap();
    };
    change("\"seed\": 7", "\"seed\": 8");
    let done = replay(&[]);
    assert!(done.code == 1 && done.out.contains("OTHER numbers"), "{}", done.out);
    let sha256 = json(&dir.path().join("trace.json"))["model"]["sha256"].as_str().unwrap().to_string();
    change(&sha256, &"0".repeat(64));
    replay(&[]).refuses(&["sha256", &sha256]);
    change("object~1 = mean", "object~1 = grey");
    replay(&[]).refuses(&["`grey` is no fill"]);
    fs::write(&session, "{}").unwrap();
    replay(&[]).refuses(&["session.json", "no session file"]);
}

#[test]
fn drawn_answers_depend_on_the_seed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let answer = |seed: &str| {
        run(dir.path(), &["--temperature", "3", "--seed", seed, "--max-new", "12"]).succeeds();
        json(&dir.path().join("trace.json"))["answer"].clone()
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
    run(dir.path(), &["--temperature", "0"]).refuses(&["temperature is 0, expected a number above 0"]);
    run(dir.path(), &["--top-p", "1.5"]).refuses(&["top-p is 1.5"]);
}

#[test]
fn an_answer_can_be_given_and_is_scored() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["--answer", "a red duck"]).succeeds();
    let trace = json(&dir.path().join("trace.json"));
    assert_eq!(trace["stop"], "forced");
    let words: Vec<&str> =
        trace["answer"].as_array().unwrap().iter().map(|t| t["text"].as_str().unwrap().trim()).collect();
    assert_eq!(words, ["a", "red", "duck"]);
    assert_eq!(strings(&trace["spans"]).len(), 7);
}

#[test]
fn bad_specs_name_the_part_and_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let mask = mask();
    for (args, parts) in [
        (vec!["--knockout", "answer -> visual @ 6"], vec!["layer 6 does not exist: valid are 0 to 5"]),
        (vec!["--knockout", "answer -> visual @ 1 # 4"], vec!["head 4 does not exist: valid are 0 to 3"]),
        (vec!["--knockout", "answer -> picture @ 1"], vec!["`picture` is none of", "visual"]),
        (vec!["--knockout", "answer -> visual[0:12] @ 1"], vec!["patch column 12 does not exist", "0 to 11"]),
        (
            vec!["--knockout", "answer -> visual[144] @ 1"],
            vec!["visual 144 does not exist: valid are 0 to 143"],
        ),
        (vec!["--knockout", "answer -> markers @ 1"], vec!["`markers` is empty", "visual 144"]),
        (vec!["--knockout", "answer -> visual - visual @ 1"], vec!["`visual - visual` is empty"]),
        (vec!["--knockout", "answer -> object @ 1"], vec!["`object`", "--object"]),
        (vec!["--knockout", "last -> all @ 1"], vec!["position 152 nothing to look at in layer 1"]),
        (
            vec!["--knockout", "last -> visual @ 1", "--knockout", "last -> visual[0-] @ 1"],
            vec!["`last -> visual[0-] @ 1`", "the very pairs that `last -> visual @ 1` cuts"],
        ),
        (vec!["--ablate", "question = zero"], vec!["position", "is question", "only visual tokens"]),
        (
            vec!["--ablate", "visual[3] = zero", "--ablate", "lastrow + visual[3] = mean"],
            vec!["is overwritten by `visual[3] = zero` already"],
        ),
        (vec!["--ablate", "visual = image:/nowhere.png"], vec!["/nowhere.png"]),
        (vec!["--ablate", "visual = mean:/nowhere"], vec!["/nowhere", "cannot be read"]),
        (vec!["--ablate", "visual = grey"], vec!["`grey` is no fill"]),
        (vec!["--object", &mask, "--object-value", "99"], vec!["no patch is covered", "99"]),
        (vec!["--object", "/nowhere.png"], vec!["/nowhere.png"]),
        (vec!["--control", "2", "--knockout", "answer -> question @ 1"], vec!["visual tokens"]),
        (vec!["--record", "answer @ 7"], vec!["layer 7 does not exist: valid are 0 to 5"]),
        (vec!["--record", "visual @ 1"], vec!["`visual` is not `answer`"]),
        (vec!["--residuals", "0"], vec!["--residuals"]),
    ] {
        run(dir.path(), &args).refuses(&parts);
    }
}
