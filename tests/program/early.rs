//! What can be known is told before anything is paid for: every mistake here is made beside weights that cannot be
//! read, and is told instead of them.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use image::GrayImage;
use serde_json::Value;
use sightline::{
    bundled,
    export::lines::Lines,
    progress::Cancel,
    spec::{
        experiment::{Experiment, Sampling},
        picture::ImageSource,
    },
    studies::{
        eval::{
            evaluate::{EvalOptions, Told, evaluate},
            folder::{Folder, FolderOptions},
        },
        session::{Entry, FORMAT, Session},
    },
};

use crate::common::{
    copy_of, copy_of_folder, load,
    program::{Done, asset, sightline, text},
    without_weights,
};

const WEIGHTS: &str = "model.safetensors";

/// Refused for these reasons, and not for the weights.
fn told_first(done: Done, parts: &[&str]) {
    assert!(!done.err.contains(WEIGHTS), "the weights were told first:\n{}", done.err);
    done.refuses(parts);
}

/// `run` or `lens` about the first sample scene.
fn on_scene(command: &str, model: &Path, more: &[&str]) -> Done {
    let image = text(&asset("scenes/images/000000.png")).to_string();
    let given = |option: &str| more.contains(&option);
    let mut args = vec![command, "--device", "cpu", "--model", text(model)];
    for (option, value) in [("--image", image.as_str()), ("--prompt", "is there a duck?")] {
        if !given(option) {
            args.extend([option, value]);
        }
    }
    sightline(args.iter().chain(more))
}

fn on_scenes(model: &Path, scenes: &Path, more: &[&str]) -> Done {
    let args = ["eval", "--device", "cpu", "--model", text(model), "--scenes", text(scenes)];
    sightline(args.iter().chain(more))
}

/// The first sample scenes in a folder of their own; those listed have an image that cannot be read.
fn scenes(count: usize, corrupt: &[usize]) -> tempfile::TempDir {
    let (dir, from) = (tempfile::tempdir().unwrap(), bundled::scenes());
    let lines = fs::read_to_string(from.join("scenes.jsonl")).unwrap();
    let lines: Vec<&str> = lines.lines().take(count).collect();
    fs::write(dir.path().join("scenes.jsonl"), lines.join("\n")).unwrap();
    for kind in ["images", "masks"] {
        fs::create_dir(dir.path().join(kind)).unwrap();
        for n in 0..count {
            let name = format!("{kind}/{n:06}.png");
            fs::copy(from.join(&name), dir.path().join(&name)).unwrap();
        }
    }
    for n in corrupt {
        fs::write(dir.path().join(format!("images/{n:06}.png")), "no picture").unwrap();
    }
    dir
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_run_tells_every_mistake_before_the_weights() {
    let (model, dir) = (without_weights(), tempfile::tempdir().unwrap());
    let out = dir.path().join("new/out");
    let run = |more: &[&str]| on_scene("run", model.path(), &[&["--out", text(&out)], more].concat());
    // Nothing wrong but the weights: they are what is told.
    run(&[]).refuses(&[WEIGHTS]);
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        file
    };
    let broken = write("means/broken.png", b"no picture");
    let small = dir.path().join("small.png");
    GrayImage::new(3, 3).save(&small).unwrap();
    let mask = asset("scenes/masks/000000.png");
    let means = format!("visual = mean:{}", text(broken.parent().unwrap()));
    let donor = format!("visual = image:{}", text(&broken));
    let cases: &[(&[&str], &[&str])] = &[
        (&["--image", "/nowhere.png"], &["/nowhere.png"]),
        (&["--image", text(&broken)], &["broken.png"]),
        (&["--prompt", " "], &["prompt is empty"]),
        (&["--top-p", "7"], &["--top-p", "top-p is 7"]),
        (&["--temperature", "0"], &["--temperature", "above 0"]),
        (&["--max-new", "0"], &["--max-new", "at least 1"]),
        (&["--answer", ""], &["answer's length"]),
        (&["--memory-limit", "0.0001"], &["would keep", "limit"]),
        (&["--memory-limit", "NaN"], &["--memory-limit"]),
        (&["--residuals", "0"], &["--residuals"]),
        (&["--record", "answer @ 99"], &["layer 99 does not exist: valid are 0 to 5"]),
        (&["--square", "99:0"], &["layer 99 does not exist"]),
        (&["--square", "0:99"], &["head 99 does not exist"]),
        (&["--vision-attention", "99"], &["vision layer 99 does not exist"]),
        (&["--knockout", "answer -> visual @ 99"], &["layer 99 does not exist"]),
        (&["--knockout", "answer -> visual @ 1 # 99"], &["head 99 does not exist"]),
        (&["--knockout", "answer -> visual[999] @ 1"], &["visual 999 does not exist"]),
        (&["--knockout", "answer[99] -> bos @ 1"], &["answer 99 does not exist"]),
        (&["--knockout", "last -> all @ 1"], &["nothing to look at"]),
        (&["--knockout", "last -> bos @ 1", "--knockout", "last -> bos @ 1"], &["the very pairs"]),
        (&["--knockout", "answer -> object @ 1"], &["`object`", "--object"]),
        // What only the model can tell is held to what it cannot be.
        (&["--knockout", "answer -> sink @ 99"], &["layer 99 does not exist"]),
        (&["--knockout", "answer -> gradient[0-999] @ 1"], &["gradient 999 does not exist"]),
        (&["--knockout", "answer -> sink @ 1", "--record", "answer @ 1"], &["`sink`", "recorded"]),
        (&["--knockout", "answer -> question @ 1", "--control", "2"], &["visual tokens"]),
        (&["--ablate", "question = zero"], &["only visual tokens"]),
        (&["--ablate", "visual = mean:/nowhere"], &["/nowhere", "cannot be read"]),
        (&["--ablate", &means], &["broken.png"]),
        (&["--ablate", &donor], &["broken.png"]),
        (&["--object", "/nowhere.png", "--ablate", "object = mean"], &["/nowhere.png"]),
        (&["--object", text(&small), "--ablate", "object = mean"], &["3x3"]),
        (&["--object", text(&mask), "--object-value", "99", "--ablate", "object = mean"], &["99"]),
        (&["--object", text(&mask), "--object-share=-1", "--ablate", "object = mean"], &["--object-share"]),
        (&["--compress", "101", "--ask", "what?"], &["0 to 100 %"]),
        (&["--compress", "5", "--ask", ""], &["prompt is empty"]),
        (&["--compress", "5", "--ask", "what?", "--record", "answer @ 1"], &["every layer"]),
        (&["--find", " "], &["--find"]),
    ];
    for (args, parts) in cases {
        println!("{args:?}");
        told_first(run(args), parts);
    }
    // Squares are counted too, together.
    let all: Vec<String> = (0..24).map(|n| format!("{}:{}", n / 4, n % 4)).collect();
    let squares = all.iter().flat_map(|square| ["--square", square.as_str()]);
    let squares: Vec<&str> = squares.chain(["--record", "none", "--memory-limit", "0.004"]).collect();
    told_first(run(&squares), &["--square", "24 maps", "--memory-limit"]);
    assert!(!out.exists() && !dir.path().join("new").exists(), "a refused run leaves nothing");
    let below = broken.join("out");
    told_first(on_scene("run", model.path(), &["--out", text(&below)]), &[text(&below), "written"]);
}

#[test]
fn small_files_of_a_model_are_read_before_its_weights() {
    for name in ["config.json", "tokenizer.json", "preprocessor_config.json", "chat_template.jinja"] {
        let (model, out) = (without_weights(), tempfile::tempdir().unwrap());
        fs::write(model.path().join(name), "{% {").unwrap();
        let done = on_scene("run", model.path(), &["--out", text(out.path())]);
        let part = if name.ends_with("jinja") { "template" } else { name };
        told_first(done, &[part]);
    }
}

#[test]
fn a_lens_tells_every_mistake_before_the_weights() {
    let (model, dir) = (without_weights(), tempfile::tempdir().unwrap());
    let lens = |more: &[&str]| on_scene("lens", model.path(), more);
    let lines = dir.path().join("lens.jsonl");
    lens(&["--at", "sink + last", "--json", text(&lines)]).refuses(&[WEIGHTS]);
    assert!(!lines.exists());
    let cases: &[(&[&str], &[&str])] = &[
        (&["--image", "/nowhere.png"], &["/nowhere.png"]),
        (&["--layers", "99"], &["layer 99 does not exist"]),
        (&["--layers", "two"], &["--layers"]),
        (&["--at", "nowhere"], &["`nowhere` is none of"]),
        (&["--at", "visual[99:0]"], &["patch row 99 does not exist"]),
        (&["--at", "object"], &["`object`", "--object"]),
        (&["--word", "zeppelin"], &["zeppelin", "no token"]),
        (&["--json", text(dir.path())], &[text(dir.path())]),
        (&["--top", "0"], &["--top"]),
        (&["--knockout", "answer -> visual @ 99"], &["layer 99 does not exist"]),
    ];
    for (args, parts) in cases {
        println!("{args:?}");
        told_first(lens(args), parts);
    }
}

#[test]
fn an_evaluation_tells_every_mistake_before_the_weights() {
    let (model, folder) = (without_weights(), scenes(2, &[0]));
    let eval = |more: &[&str]| on_scenes(model.path(), folder.path(), more);
    // One image is broken; the other can be asked about.
    eval(&[]).refuses(&[WEIGHTS]);
    let cases: &[(&[&str], &[&str])] = &[
        (&["--max-new", "0"], &["--max-new"]),
        (&["--limit", "1"], &["000000.png"]),
        (&["--limit", "1", "--shuffle"], &["2 images"]),
        (&["--knockout", "answer -> visual @ 99"], &["layer 99 does not exist"]),
        (&["--knockout", "answer -> visual[999] @ 1"], &["visual 999 does not exist"]),
        (&["--knockout", "all -> all @ 1"], &["nothing to look at"]),
        (&["--answers", text(folder.path())], &[text(folder.path())]),
    ];
    for (args, parts) in cases {
        println!("{args:?}");
        told_first(eval(args), parts);
    }
    fs::remove_dir_all(folder.path().join("masks")).unwrap();
    told_first(eval(&["--localise"]), &["000000.png", "no mask"]);
}

#[test]
fn a_session_and_a_reference_are_checked_before_the_weights() {
    let (model, dir) = (without_weights(), tempfile::tempdir().unwrap());
    let file = dir.path().join("session.json");
    let replay = |experiment: Experiment| {
        let entries = vec![Entry { experiment, numbers: None }];
        let (format, sha256, dtype) = (FORMAT.to_string(), "00".to_string(), "f32".to_string());
        let (files, sources) = (BTreeMap::new(), Default::default());
        let session = Session {
            format,
            model: model.path().into(),
            sha256,
            sources,
            dtype,
            files,
            entries,
            view: None,
        };
        fs::write(&file, session.text().unwrap()).unwrap();
        sightline(["replay", text(&file), "--device", "cpu"])
    };
    let ask = |image: &Path| Experiment::ask(ImageSource::File(image.into()), "is there a duck?", 4);
    let sound = ask(&bundled::sample_image());
    replay(sound.clone()).refuses(&[WEIGHTS]);
    told_first(replay(ask(Path::new("/nowhere.png"))), &["/nowhere.png"]);
    let cut = sound.clone().with_knockouts(vec!["answer -> visual @ 99".parse().unwrap()]);
    told_first(replay(cut), &["layer 99 does not exist"]);
    let sampling = Some(Sampling { temperature: 1.0, top_p: 7.0 });
    told_first(replay(Experiment { sampling, ..sound }), &["top-p is 7"]);

    let reference = copy_of("tiny-llava");
    fs::write(reference.path().join(WEIGHTS), "no weights").unwrap();
    fs::write(reference.path().join("reference.json"), "{").unwrap();
    told_first(sightline(["verify", text(reference.path())]), &["reference.json"]);
}

#[test]
fn a_bad_image_is_reported_and_passed_over() {
    let folder = scenes(3, &[1]);
    let model = copy_of_folder(&bundled::model());
    let answers = folder.path().join("answers.jsonl");
    let done = on_scenes(model.path(), folder.path(), &["--describe", "", "--answers", text(&answers)]);
    assert_eq!(done.code, 1, "{}", done.err);
    for said in [&done.out, &done.err] {
        assert!(said.contains("passed over") && said.contains("000001.png"), "{said}");
    }
    assert!(done.out.contains("2 images"), "{}", done.out);
    let rows: Vec<Value> =
        fs::read_to_string(&answers).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    for (n, there) in [("000000", true), ("000001", false), ("000002", true)] {
        assert_eq!(rows.iter().any(|row| row["image"].as_str().unwrap().contains(n)), there, "{n}");
    }
    let done = on_scenes(model.path(), folder.path(), &["--json", "--localise", "--max-new", "4"]);
    assert_eq!(done.code, 1, "{}", done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    for passed_over in [&report["passed_over"], &report["localisation"]["passed_over"]] {
        assert_eq!(passed_over.as_array().unwrap().len(), 1);
        assert!(passed_over[0]["image"].as_str().unwrap().contains("000001.png"));
    }
    assert_eq!((&report["n_images"], &report["descriptions"]["n"]), (&2.into(), &2.into()));
    // One that is gone, and one that is a folder: likewise.
    let image = |n: usize| folder.path().join(format!("images/{n:06}.png"));
    fs::remove_file(image(1)).unwrap();
    fs::remove_file(image(2)).unwrap();
    fs::create_dir(image(2)).unwrap();
    let done = on_scenes(model.path(), folder.path(), &["--describe", "", "--json"]);
    assert_eq!(done.code, 1, "{}", done.err);
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let why = |at: usize| report["passed_over"][at]["why"].as_str().unwrap().to_string();
    assert!(why(0).contains("000001.png") && why(1).contains("it is a folder"), "{} {}", why(0), why(1));
}

#[test]
fn answers_are_on_disk_before_the_next_image_is_asked_about() {
    let dir = tempfile::tempdir().unwrap();
    let (engine, scenes) = (load(&bundled::model()), scenes(3, &[]));
    let folder = Folder::open(scenes.path(), &FolderOptions::default()).unwrap();
    let options = EvalOptions { describe: String::new(), ..EvalOptions::default() };
    let file = dir.path().join("answers.jsonl");
    let mut lines = Lines::create(&file).unwrap();
    let (cancel, mut known) = (Cancel::default(), 0);
    let stopped = evaluate(&engine, &folder, &options, &cancel, &mut |told| {
        if let Told::Answers(rows) = told {
            lines.write(rows).unwrap();
            known += rows.len();
            let read = fs::read_to_string(&file).unwrap();
            assert_eq!((read.lines().count(), read.ends_with('\n')), (known, true));
            cancel.cancel();
        }
    });
    assert!(stopped.unwrap_err().to_string().contains("cancelled"));
    assert_eq!(known, folder.items[0].questions.len());
}
