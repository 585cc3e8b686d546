//! The command line, by running the program: exit codes, what it prints and what it writes. Nothing here
//! depends on what a model answers.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    copy_of, fixture,
    program::{Done, asset, json, sightline, text},
};

// ---------------------------------------------------------------------------------------- helpers

/// `sightline run` on the CPU with the first sample scene, and the arguments given.
fn run(out: &Path, prompt: &str, more: &[&str]) -> Done {
    run_on(&asset("scenes/images/000000.png"), out, prompt, more)
}

fn run_on(image: &Path, out: &Path, prompt: &str, more: &[&str]) -> Done {
    let args = ["run", "--device", "cpu", "--image", text(image), "--prompt", prompt, "--out", text(out)];
    sightline(args.iter().chain(more))
}

/// A finished run's files.
struct Trace {
    json: Value,
    /// `[layers, heads, answer, positions]`
    pattern: Vec<f32>,
    pattern_shape: [usize; 4],
    /// `[layers, answer, spans]`
    flow: Vec<f32>,
    flow_shape: [usize; 3],
}

impl Trace {
    fn read(dir: &Path) -> Self {
        let bytes = fs::read(dir.join("trace.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let (pattern, pattern_shape) = floats(&tensors, "pattern");
        let (flow, flow_shape) = floats(&tensors, "flow");
        Trace {
            json: json(&dir.join("trace.json")),
            pattern,
            pattern_shape: pattern_shape.try_into().unwrap(),
            flow,
            flow_shape: flow_shape.try_into().unwrap(),
        }
    }

    fn prompt(&self) -> &[Value] {
        self.json["prompt"].as_array().unwrap()
    }

    fn answer(&self) -> &[Value] {
        self.json["answer"].as_array().unwrap()
    }

    /// `[positions]`
    fn row(&self, layer: usize, head: usize, s: usize) -> &[f32] {
        let [_, heads, answer, positions] = self.pattern_shape;
        let at = ((layer * heads + head) * answer + s) * positions;
        &self.pattern[at..at + positions]
    }

    /// `[spans]`
    fn flow_row(&self, layer: usize, s: usize) -> &[f32] {
        let [_, answer, spans] = self.flow_shape;
        let at = (layer * answer + s) * spans;
        &self.flow[at..at + spans]
    }

    fn span(&self, position: usize) -> &str {
        let tokens = self.prompt();
        let token = tokens.get(position).unwrap_or_else(|| &self.answer()[position - tokens.len()]);
        token["span"].as_str().unwrap()
    }

    fn positions_of(&self, span: &str) -> Vec<usize> {
        (0..self.pattern_shape[3]).filter(|&p| self.span(p) == span).collect()
    }
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> (Vec<f32>, Vec<usize>) {
    let view = tensors.tensor(name).unwrap();
    assert_eq!(view.dtype(), safetensors::Dtype::F32);
    let values = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (values, view.shape().to_vec())
}

/// Every file below a folder, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

// ----------------------------------------------------------------------------------------- verify

#[test]
fn verify_passes_on_the_fixture() {
    let done = sightline([OsStr::new("verify"), fixture("tiny-llava").as_os_str()]).succeeds();
    assert!(done.out.contains("PASS"), "{}", done.out);
}

#[test]
fn verify_prints_json() {
    let dir = fixture("tiny-llava");
    let done = sightline(["verify", text(&dir), "--json"]).succeeds();
    let report: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(report["pass"], true);
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.len() > 10);
    assert!(checks.iter().all(|c| c["error"].as_f64() <= c["tolerance"].as_f64() && c["pass"] == true));
}

#[test]
fn verify_fails_on_a_tampered_reference() {
    let dir = copy_of("tiny-llava");
    let file = dir.path().join("reference.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = metadata.tensors();
    let info = tensors["one/gen.logits"];
    let at = 8 + header + info.data_offsets.0;
    bytes[at..at + 4].copy_from_slice(&1000f32.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let done = sightline([OsStr::new("verify"), dir.path().as_os_str()]);
    assert_eq!(done.code, 1, "{}", done.err);
    let failed: Vec<&str> = done.out.lines().filter(|l| l.contains("FAIL")).collect();
    assert!(failed.iter().any(|l| l.contains("gen.logits")), "{failed:?}");
    let done = sightline(["verify", text(dir.path()), "--json"]);
    assert_eq!(done.code, 1);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap()["pass"], false);
}

#[test]
fn verify_refuses_what_it_cannot_compare() {
    sightline(["verify", "/nowhere/at/all"]).refuses(&["/nowhere/at/all: no such folder"]);
    let bundled = asset("model");
    sightline(["verify", text(&bundled)]).refuses(&["reference.json", "make_reference.py"]);
    for file in ["config.json", "model.safetensors", "reference.safetensors", "reference.json"] {
        let dir = copy_of("tiny-llava");
        fs::remove_file(dir.path().join(file)).unwrap();
        sightline([OsStr::new("verify"), dir.path().as_os_str()])
            .refuses(&[file.trim_end_matches(".safetensors")]);
    }
    for file in ["config.json", "reference.json"] {
        let dir = copy_of("tiny-llava");
        fs::write(dir.path().join(file), "{ not json").unwrap();
        sightline([OsStr::new("verify"), dir.path().as_os_str()]).refuses(&[file]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let (dir, out) = (fixture("tiny-llava"), tempfile::tempdir().unwrap());
    let image = asset("scenes/images/000000.png");
    let failing = copy_of("tiny-llava");
    let file = failing.path().join("reference.json");
    let facts = fs::read_to_string(&file).unwrap().replacen("\"last_row\": ", "\"last_row\": 9", 1);
    fs::write(&file, facts).unwrap();
    let lens = ["lens", "--device", "cpu", "--image", text(&image), "--prompt", "is there a book?"];
    let lens_lines = [&lens[..], &["--json", "-"]].concat();
    let jobs: [(&[&str], i32); 6] = [
        (&lens[..], 0),
        (&lens_lines[..], 0),
        (&["verify", text(&dir)], 0),
        (&["verify", text(failing.path())], 1),
        (&["eval", "--limit", "1", "--device", "cpu"], 0),
        (
            &[
                "run",
                "--device",
                "cpu",
                "--image",
                text(&image),
                "--prompt",
                "is there a book?",
                "--out",
                text(out.path()),
            ],
            0,
        ),
    ];
    for (args, code) in jobs {
        // Both ends of `sightline .. 2>&1 | head -0`: nobody reads either stream.
        for close in [[true, false], [false, true], [true, true]] {
            let mut child = Command::new(env!("CARGO_BIN_EXE_sightline"))
                .args(args)
                .env_remove("RUST_LOG")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            if close[0] {
                drop(child.stdout.take());
            }
            if close[1] {
                drop(child.stderr.take());
            }
            let output = child.wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(!error.contains("panicked"), "{args:?}: {error}");
            assert_eq!(output.status.code(), Some(code), "{args:?}, closed {close:?}: {error}");
        }
    }
}

// -------------------------------------------------------------------------------------------- run

#[test]
fn a_run_leaves_a_complete_trace() {
    let out = tempfile::tempdir().unwrap();
    let done = run(out.path(), "is there a book?", &["--max-new", "6"]).succeeds();
    assert!(done.out.contains("answer:"), "{}", done.out);
    let trace = Trace::read(out.path());
    let t = &trace.json;

    assert_eq!(t["model"]["name"], "model");
    let sha256 = t["model"]["sha256"].as_str().unwrap();
    assert!(sha256.len() == 64 && sha256.chars().all(|c| c.is_ascii_hexdigit()));
    assert!(t["device"].as_str().unwrap().contains("CPU"));
    assert!(t["dtype"].as_str().unwrap().contains("float32"));
    for time in ["load", "encode", "prefill", "decode"] {
        assert!(t["timing"][time].as_f64().unwrap() >= 0.0, "{time}");
    }
    assert_eq!(t["timing"]["decode_steps"], trace.answer().len() - 1);

    let spans: BTreeSet<&str> = t["spans"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    for (position, token) in trace.prompt().iter().chain(trace.answer()).enumerate() {
        assert_eq!(token["position"], position);
        assert!(token["id"].is_u64() && token["text"].is_string());
        assert!(spans.contains(trace.span(position)));
    }
    // Tokenizers that split at blanks have none in their tokens.
    let question = trace.prompt().iter().filter(|t| t["span"] == "question");
    let question: String = question.map(|t| t["text"].as_str().unwrap().trim()).collect();
    assert!(question.contains("thereabook"), "{question}");
    assert_eq!(trace.positions_of("last"), [trace.prompt().len() - 1]);

    let visual: Vec<&Value> = trace.prompt().iter().filter(|t| t["span"] == "visual").collect();
    let side = visual.iter().map(|t| t["row"].as_u64().unwrap()).max().unwrap() + 1;
    assert_eq!(visual.len() as u64, side * side);
    for (n, token) in (0..).zip(&visual) {
        assert_eq!((&token["image"], &token["tile"]), (&Value::from(0), &Value::from(0)));
        assert_eq!((&token["row"], &token["col"]), (&Value::from(n / side), &Value::from(n % side)));
    }
    assert!(trace.prompt().iter().filter(|t| t["span"] != "visual").all(|t| t.get("tile").is_none()));

    assert!((1..=6).contains(&trace.answer().len()));
    for token in trace.answer() {
        assert_eq!(token["span"], "answer");
        let top = token["top"].as_array().unwrap();
        assert_eq!(top[0]["id"], token["id"], "greedy");
        assert_eq!(top[0]["logprob"], token["logprob"]);
        let logprobs: Vec<f64> = top.iter().map(|c| c["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b) && logprobs[0] <= 0.0);
        assert!(top.iter().all(|c| c["text"].is_string()));
    }
    assert_eq!(t["knockouts"], Value::Array(Vec::new()));
}

#[test]
fn pattern_and_flow_have_their_shapes_and_sums() {
    let out = tempfile::tempdir().unwrap();
    run(out.path(), "describe this image.", &["--max-new", "5"]).succeeds();
    let trace = Trace::read(out.path());
    let count = |key: &str| trace.json["model"][key].as_u64().unwrap() as usize;
    let (layers, heads) = (count("n_layers"), count("n_heads"));
    let (prompt, answer) = (trace.prompt().len(), trace.answer().len());
    let spans: Vec<&str> =
        trace.json["spans"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert_eq!(trace.pattern_shape, [layers, heads, answer, prompt + answer]);
    assert_eq!(trace.flow_shape, [layers, answer, spans.len()]);
    for layer in 0..layers {
        for s in 0..answer {
            let mut by_span = vec![0.0; spans.len()];
            for head in 0..heads {
                let row = trace.row(layer, head, s);
                let (seen, unseen) = row.split_at(prompt + s);
                assert!((seen.iter().sum::<f32>() - 1.0).abs() < 1e-4, "layer {layer}, head {head}, row {s}");
                assert!(seen.iter().all(|p| *p >= 0.0));
                assert!(unseen.iter().all(|p| *p == 0.0));
                for (position, p) in row.iter().enumerate() {
                    let span = spans.iter().position(|s| *s == trace.span(position)).unwrap();
                    by_span[span] += p / heads as f32;
                }
            }
            let flow = trace.flow_row(layer, s);
            assert!((flow.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            for (a, b) in flow.iter().zip(by_span) {
                assert!((a - b).abs() < 1e-4, "layer {layer}, row {s}: {a}, {b}");
            }
        }
    }
}

#[test]
fn a_knockout_is_zero_in_the_pattern_and_proved_in_the_trace() {
    let out = tempfile::tempdir().unwrap();
    let cuts =
        ["--max-new", "4", "--knockout", "answer -> visual @ 1", "--knockout", "last -> question @ all # 0"];
    let done = run(out.path(), "is there a book?", &cuts).succeeds();
    assert!(done.out.contains("pairs blocked"), "{}", done.out);
    let trace = Trace::read(out.path());
    let [layers, heads, answer, positions] = trace.pattern_shape;
    for layer in 0..layers {
        for head in 0..heads {
            for s in 0..answer {
                let row = trace.row(layer, head, s);
                for (position, p) in row.iter().enumerate().take(positions - answer + s) {
                    let cut = match trace.span(position) {
                        "visual" => layer == 1,
                        "question" => s == 0 && head == 0,
                        _ => false,
                    };
                    assert!(
                        !cut || *p == 0.0,
                        "layer {layer}, head {head}, row {s}, position {position}: {p}"
                    );
                }
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            }
        }
    }
    let (visual, question) = (trace.positions_of("visual").len(), trace.positions_of("question").len());
    let reports = trace.json["knockouts"].as_array().unwrap();
    assert_eq!(reports[0]["text"], "answer -> visual @ 1");
    let expected: Vec<usize> = (0..layers).map(|l| if l == 1 { visual * answer } else { 0 }).collect();
    assert_eq!(reports[0]["pairs"], Value::from(expected));
    assert_eq!(reports[1]["pairs"], Value::from(vec![question; layers]));
    assert!(reports.iter().all(|r| r["blocked_mass"] == 0.0));
}

#[test]
fn an_acausal_knockout_blocks_nothing_and_changes_nothing() {
    let (plain, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(plain.path(), "describe this image.", &["--max-new", "3"]).succeeds();
    run(cut.path(), "describe this image.", &["--max-new", "3", "--knockout", "visual -> answer @ all"])
        .succeeds();
    let (plain, cut) = (Trace::read(plain.path()), Trace::read(cut.path()));
    let report = &cut.json["knockouts"][0];
    assert!(report["pairs"].as_array().unwrap().iter().all(|pairs| *pairs == 0), "{report}");
    assert_eq!(report["blocked_mass"], 0.0);
    assert_eq!(plain.json["answer"], cut.json["answer"]);
    assert_eq!(plain.pattern, cut.pattern);
}

#[test]
fn pictures_are_written_when_asked_for() {
    let out = tempfile::tempdir().unwrap();
    run(out.path(), "is there a book?", &["--max-new", "2", "--pictures"]).succeeds();
    let written = files(out.path());
    let svg = String::from_utf8(written[Path::new("flow.svg")].clone()).unwrap();
    assert!(svg.starts_with("<svg"));
    let heatmaps = written.keys().filter(|f| f.extension() == Some(OsStr::new("png"))).count();
    assert_eq!(heatmaps, Trace::read(out.path()).answer().len());
}

#[test]
fn pictures_of_two_runs_can_have_one_range() {
    let pictures = |question: &str, more: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let args = [&["--max-new", "2", "--pictures"], more].concat();
        let printed = run(out.path(), question, &args).succeeds().out;
        let mut pictures = files(out.path());
        pictures.retain(|file, _| file.extension() == Some(OsStr::new("png")));
        (printed, pictures)
    };
    // The bar's colours and its lower number are every picture's; the whole of it has the upper one too.
    let bar = |png: &Vec<u8>| {
        let picture = image::load_from_memory(png).unwrap().into_rgb8();
        // 192 pixels, enlarged by 3.
        assert_eq!(picture.width(), 576);
        image::imageops::crop_imm(&picture, 0, 576, 576, picture.height() - 576).to_image()
    };
    let (printed, book) = pictures("is there a book?", &["--range", "0.9"]);
    assert!(
        printed.contains("colours from 0 to 0.9000") && !printed.contains("with values above"),
        "{printed}"
    );
    let (_, described) = pictures("describe this image.", &["--range", "0.9"]);
    let bars: Vec<_> = book.values().chain(described.values()).map(bar).collect();
    assert!(bars.len() > 2 && bars.iter().all(|other| *other == bars[0]));
    let (printed, clipped) = pictures("is there a book?", &["--range", "0.0001"]);
    let said = format!("with values above 1.0e-4, drawn in its colour: {0} of {0}", clipped.len());
    assert!(printed.contains(&said), "{printed}");
    assert!(clipped.values().all(|png| bar(png) != bars[0]));
    // What `--range` says is what is drawn: a map is dark where the same one without it was bright.
    let (_, own) = pictures("is there a book?", &[]);
    assert!(own.iter().all(|(file, png)| book[file] != *png));

    let out = tempfile::tempdir().unwrap();
    for bad in ["0", "-1", "nan", "inf", "1.5", "wide"] {
        let range = format!("--range={bad}");
        run(out.path(), "is there a book?", &["--pictures", range.as_str()]).refuses(&["--range"]);
    }
    run(out.path(), "is there a book?", &["--range", "0.1"]).refuses(&["--pictures"]);
}

#[test]
fn masks_are_opened_as_images_are_and_shares_are_shares() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| text(&dir.path().join(name)).to_string();
    // Objects 1 and 257, by content: a PNG under another name.
    let ids = image::ImageBuffer::from_fn(192, 192, |x, y| {
        image::Luma([match (x / 96, y / 96) {
            (0, 0) => 1u16,
            (1, 1) => 257,
            _ => 0,
        }])
    });
    ids.save_with_format(file("ids.jpg"), image::ImageFormat::Png).unwrap();
    let colours = image::RgbImage::from_fn(192, 192, |x, _| image::Rgb([0, 0, u8::from(x < 96)]));
    colours.save(file("colours.png")).unwrap();
    let out = tempfile::tempdir().unwrap();
    let cut = ["--max-new", "1", "--knockout", "last -> object @ 0"];
    let object = |name: &str, more: &[&str]| {
        let file = file(name);
        run(out.path(), "is there a book?", &[&cut[..], &["--object", file.as_str()], more].concat())
    };
    let pairs = |name: &str, more: &[&str]| {
        object(name, more).succeeds();
        Trace::read(out.path()).json["knockouts"][0]["pairs"][0].as_u64().unwrap()
    };
    assert_eq!(pairs("ids.jpg", &["--object-value", "1"]), 36);
    assert_eq!(pairs("ids.jpg", &["--object-value", "257"]), 36);
    assert_eq!(pairs("ids.jpg", &["--object-share", "1"]), 72);
    assert_eq!(pairs("colours.png", &[]), 72);
    object("colours.png", &["--object-value", "1"]).refuses(&["colours.png", "in colour", "greyscale PNG"]);
    object("ids.jpg", &["--object-value", "70000"]).refuses(&["70000"]);
    for share in ["-1", "1.01", "nan", "inf", "half"] {
        let option = format!("--object-share={share}");
        object("ids.jpg", &[option.as_str()]).refuses(&["--object-share", share]);
    }
}

#[test]
fn bad_knockouts_are_refused_with_their_text() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("none");
    for (spec, parts) in [
        ("", &["knockout"][..]),
        ("answer -> visual", &["answer -> visual"]),
        ("answer visual @ all", &["answer visual @ all"]),
        ("answer -> nowhere @ all", &["nowhere"]),
        ("answer -> visual @ two", &["two"]),
        ("answer -> visual @ 3-1", &["3-1"]),
        ("answer -> visual @ 4000", &["layer 4000"]),
        ("answer -> visual @ all # 4000", &["head 4000"]),
        ("answer -> visual[99999] @ all", &["visual", "99999"]),
        ("pos[99999] -> visual @ all", &["99999"]),
        ("answer -> visual @ 99999999999999999999", &["99999999999999999999"]),
        ("all -> all @ all", &["nothing to look at"]),
    ] {
        run(&out, "is there a book?", &["--knockout", spec]).refuses(parts);
    }
    assert!(!out.exists(), "a refused run writes nothing");
}

#[test]
fn bad_prompts_are_refused() {
    let out = tempfile::tempdir().unwrap();
    for prompt in ["", "   ", "\n\t"] {
        run(out.path(), prompt, &[]).refuses(&["prompt is empty"]);
    }
    let config = json(&asset("model/config.json"));
    let context = config["text_config"]["max_position_embeddings"].as_u64().unwrap();
    run(out.path(), &"duck ".repeat(context as usize), &[])
        .refuses(&["the prompt has", &context.to_string()]);
    run(out.path(), "is there a book?", &["--max-new", "0"]).refuses(&["length"]);
    run(out.path(), "is there a book?", &["--max-new", "many"]).refuses(&["--max-new"]);
}

#[test]
fn an_answer_stops_where_the_context_is_full() {
    let out = tempfile::tempdir().unwrap();
    run(out.path(), "describe this image.", &["--max-new", "1000000"]).succeeds();
    let trace = Trace::read(out.path());
    let context = trace.json["model"]["context"].as_u64().unwrap() as usize;
    assert!(trace.prompt().len() + trace.answer().len() <= context);
}

#[test]
fn bad_images_are_refused_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let png = fs::read(asset("scenes/images/000000.png")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("cut.png", &png[..png.len() / 2]);
    write("header.png", &png[..20]);
    write("text.png", b"this is not an image, whatever its name says");
    write("notes.txt", b"neither is this");
    write("empty.jpg", b"");
    for name in ["cut.png", "header.png", "text.png", "notes.txt", "empty.jpg", "missing.png", ""] {
        let image = dir.path().join(name);
        let name = if name.is_empty() { text(dir.path()) } else { name };
        run_on(&image, &dir.path().join("out"), "is there a book?", &[]).refuses(&[name]);
    }
}

#[test]
fn bad_models_are_refused_with_what_is_missing() {
    let out = tempfile::tempdir().unwrap();
    let with = |model: &Path, parts: &[&str]| {
        run(out.path(), "is there a book?", &["--model", text(model)]).refuses(parts)
    };
    with(Path::new("/nowhere/at/all"), &["/nowhere/at/all"]);
    with(&fixture("tiny-llava"), &["preprocessor_config.json"]);
    let part = |remove: &str| -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(asset("model")).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() && entry.file_name() != remove {
                fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
        }
        dir
    };
    for file in ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"] {
        with(part(file).path(), &[file.trim_end_matches("model.safetensors")]);
    }
    for file in ["config.json", "tokenizer.json", "preprocessor_config.json"] {
        let dir = part("");
        fs::write(dir.path().join(file), "{").unwrap();
        with(dir.path(), &[file]);
    }
    let dir = part("");
    let weights = dir.path().join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    with(dir.path(), &["model.safetensors"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let done = run(&file, "is there a book?", &["--max-new", "1"]);
    done.refuses(&[text(&file)]);
}

/// Elsewhere a display is there without a variable that says so.
#[cfg(target_os = "linux")]
#[test]
fn without_a_display_the_window_does_its_job_headless() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sightline"))
        .args(["--device", "cpu", "--max-new", "3"])
        .current_dir(dir.path())
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY")
        .env_remove("WAYLAND_SOCKET")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{message}");
    assert!(message.contains("no window can be opened here"), "{message}");
    let out = dir.path().join("sightline-out");
    assert!(!Trace::read(&out).answer().is_empty());
    assert!(files(&out).contains_key(Path::new("flow.svg")));
}

#[test]
fn unknown_arguments_are_refused() {
    sightline(["run", "--no-such-thing"]).refuses(&["--no-such-thing"]);
    sightline(["no-such-command"]).refuses(&["no-such-command"]);
    sightline(["run", "--prompt", "x"]).refuses(&["--image"]);
    let help = sightline(["--help"]).succeeds();
    for command in ["verify", "run", "scenes", "eval"] {
        assert!(help.out.contains(command), "{}", help.out);
    }
}

// ----------------------------------------------------------------------------------------- scenes

#[test]
fn scenes_are_the_same_for_the_same_seed() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, seed: &str, count: &str| {
        let out = dir.path().join(name);
        sightline(["scenes", "--seed", seed, "--count", count, "--out", text(&out)]).succeeds();
        files(&out)
    };
    let (first, again, other) = (make("a", "5", "6"), make("b", "5", "6"), make("c", "6", "6"));
    assert_eq!(first.len(), 6 + 6 + 2);
    assert!(first == again, "the same seed, and different bytes");
    assert!(first.keys().eq(other.keys()));
    assert!(first.iter().all(|(name, bytes)| other[name] != *bytes), "another seed, and the same bytes");
    let fewer = make("d", "5", "2");
    let scenes = Path::new("scenes.jsonl");
    assert!(first[scenes].starts_with(&fewer[scenes]), "scene 1 does not depend on the count");
}

#[test]
fn scenes_refuse_sizes_that_cannot_be_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    for size in ["0", "1", "1000000", "-1", "big"] {
        let size = format!("--size={size}");
        let args = ["scenes", "--seed", "1", "--count", "1", "--out", text(&out), &size];
        assert_eq!(sightline(args).code, 2, "{size}");
    }
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    sightline(["scenes", "--seed", "1", "--count", "1", "--out", text(&file)]).refuses(&[text(&file)]);
}

// ------------------------------------------------------------------------------------------- eval

/// `sightline eval` on the CPU with the sample scenes, and the arguments given.
fn eval(more: &[&str]) -> Done {
    let scenes = asset("scenes");
    sightline(["eval", "--device", "cpu", "--scenes", text(&scenes)].iter().chain(more))
}

fn eval_json(more: &[&str]) -> Value {
    let done = eval(&[more, &["--json"]].concat()).succeeds();
    serde_json::from_str(&done.out).unwrap()
}

/// Questions of the first two sample scenes, by type.
fn asked() -> BTreeMap<String, u64> {
    let scenes = fs::read_to_string(asset("scenes/scenes.jsonl")).unwrap();
    let mut asked = BTreeMap::new();
    for line in scenes.lines().take(2) {
        let scene: Value = serde_json::from_str(line).unwrap();
        for question in scene["questions"].as_array().unwrap() {
            *asked.entry(question["type"].as_str().unwrap().to_string()).or_default() += 1;
        }
    }
    asked
}

#[test]
fn eval_prints_every_type() {
    let done = eval(&["--limit", "2"]).succeeds();
    for (kind, n) in asked() {
        let line = done.out.lines().find(|l| l.split_whitespace().next() == Some(&kind));
        let n_printed = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
        assert_eq!(n_printed, Some(n), "{kind}:\n{}", done.out);
    }
    for part in ["95 % interval", "best constant", "object precision", "object recall", "object F1"] {
        assert!(done.out.contains(part), "`{part}` is not in:\n{}", done.out);
    }
}

#[test]
fn eval_reports_json_and_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answers.jsonl");
    let report = eval_json(&["--limit", "2", "--answers", text(&file)]);
    let questions = report["questions"].as_object().unwrap();
    let asked = asked();
    assert!(questions.keys().eq(asked.keys()));
    let inside = |figure: &Value| {
        let [value, low, high] = ["value", "low", "high"].map(|key| figure[key].as_f64().unwrap());
        assert!(0.0 <= low && low <= value && value <= high && high <= 1.0, "{figure}");
    };
    for (kind, score) in questions {
        assert_eq!(score["n"], asked[kind]);
        inside(score);
        assert!(score["best_constant"].is_string());
        assert!((0.0..=1.0).contains(&score["best_constant_accuracy"].as_f64().unwrap()));
    }
    assert_eq!(report["images"], "own");
    assert_eq!(report["n_images"], 2);
    let descriptions = &report["descriptions"];
    assert_eq!(descriptions["n"], 2);
    ["precision", "recall", "f1", "whole"].iter().for_each(|key| inside(&descriptions[key]));

    let answers: Vec<Value> =
        fs::read_to_string(&file).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len() as u64, asked.values().sum::<u64>() + 2);
    for (kind, score) in questions {
        let right = answers.iter().filter(|a| a["type"] == kind.as_str() && a["right"] == true).count();
        assert_eq!(score["right"], right, "{kind}");
    }
}

#[test]
fn eval_is_deterministic_and_its_controls_differ() {
    let strip = |mut report: Value| {
        report["seconds"] = Value::Null;
        report
    };
    let own = strip(eval_json(&["--limit", "2"]));
    assert_eq!(own, strip(eval_json(&["--limit", "2"])));
    let blank = eval_json(&["--limit", "2", "--blank"]);
    let shuffled = eval_json(&["--limit", "2", "--shuffle"]);
    assert_eq!((&blank["images"], &shuffled["images"]), (&"blank".into(), &"shuffled".into()));
    for control in [blank, shuffled] {
        for (kind, score) in own["questions"].as_object().unwrap() {
            let other = &control["questions"][kind];
            assert_eq!(score["n"], other["n"]);
            assert_eq!(score["best_constant"], other["best_constant"]);
        }
    }
}

#[test]
fn eval_polls_any_coco_file() {
    let annotations = asset("scenes/annotations.json");
    let coco = ["--limit", "3", "--annotations", text(&annotations), "--poll", "is there a {class}?"];
    let report = eval_json(&coco);
    let questions = report["questions"].as_object().unwrap();
    assert!(questions.keys().eq(["exists"]));
    assert_eq!(questions["exists"]["best_constant_accuracy"], 0.5, "half yes, half no");
    assert!(questions["exists"]["n"].as_u64().unwrap() >= 6);
    assert_eq!(report["descriptions"]["whole"], Value::Null);
    let quiet = eval_json(&[&coco[..], &["--describe", ""]].concat());
    assert_eq!(quiet["descriptions"], Value::Null);
    assert_eq!(quiet["questions"], report["questions"], "descriptions change no answer");
}

#[test]
fn eval_refuses_folders_it_cannot_ask_about() {
    let dir = tempfile::tempdir().unwrap();
    let on = |dir: &Path, more: &[&str]| {
        sightline(["eval", "--device", "cpu", "--scenes", text(dir)].iter().chain(more))
    };
    on(Path::new("/nowhere/at/all"), &[]).refuses(&["/nowhere/at/all", "scenes.jsonl"]);
    on(dir.path(), &[]).refuses(&["scenes.jsonl", "annotations.json"]);
    eval(&["--annotations", "/nowhere.json"]).refuses(&["/nowhere.json"]);
    eval(&["--limit", "0"]).refuses(&["no image"]);
    eval(&["--limit", "1", "--shuffle"]).refuses(&["2 images"]);
    eval(&["--blank", "--shuffle"]).refuses(&["--blank"]);
    eval(&["--model", "/nowhere/at/all", "--limit", "1"]).refuses(&["/nowhere/at/all"]);
    eval(&["--annotations", text(&asset("scenes/annotations.json")), "--poll", "well?"]).refuses(&["well?"]);

    fs::copy(asset("scenes/scenes.jsonl"), dir.path().join("scenes.jsonl")).unwrap();
    on(dir.path(), &["--limit", "1"]).refuses(&["000000.png"]);
    fs::create_dir(dir.path().join("images")).unwrap();
    fs::write(dir.path().join("images/000000.png"), "no picture").unwrap();
    on(dir.path(), &["--limit", "1"]).refuses(&["000000.png", "not a readable image"]);
    fs::write(dir.path().join("scenes.jsonl"), "{\"file\": \"000000.png\"}\n").unwrap();
    on(dir.path(), &[]).refuses(&["scenes.jsonl", "line 1"]);
}
