//! `sightline study`: whatever way a study came about, it leaves the same bytes, and says what it left out.

use std::{fs, path::Path, sync::LazyLock};

use tempfile::TempDir;

use sightline::bundled;

use crate::common::program::{Done, json, sightline, text};

/// What a study's folder holds.
const FILES: [&str; 5] = ["figure.png", "figure.svg", "images.jsonl", "rows.csv", "study.json"];
const NAMES: [&str; 10] =
    ["share", "knockout", "localise", "compress", "ablate", "lens", "windows", "answer", "effect", "heads"];

/// A quick study of the first three images of a folder; `more` are further options.
fn windows(images: &Path, out: &Path, more: &[&str]) -> Done {
    let quick = ["--limit", "3", "--prompt", bundled::PROMPT, "--length", "8", "--half", "0"];
    let args =
        ["study", "windows", "--images", text(images), "--out", text(out), "--flow", "answer -> visual"];
    sightline(args.iter().chain(&quick).chain(more))
}

/// The study of three bundled scenes in one piece.
static WHOLE: LazyLock<TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    windows(&bundled::scenes(), dir.path(), &[]).succeeds();
    dir
});

/// All that a folder holds.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

fn is_whole(dir: &Path) {
    let (found, expected) = (contents(dir), contents(WHOLE.path()));
    let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), FILES);
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        assert!(found == expected, "{name} differs");
    }
}

/// A folder of the first bundled images and nothing else.
fn images(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (n, name) in names.iter().enumerate() {
        fs::copy(bundled::scenes().join(format!("images/{n:06}.png")), dir.path().join(name)).unwrap();
    }
    dir
}

/// The values of one column of rows.csv.
fn column(out: &Path, name: &str) -> Vec<String> {
    let mut rows = csv::Reader::from_path(out.join("rows.csv")).unwrap();
    let at = rows.headers().unwrap().iter().position(|heading| heading == name).unwrap();
    rows.records().map(|row| row.unwrap()[at].to_string()).collect()
}

#[test]
fn the_list_has_every_study_with_its_paper_and_its_cost() {
    let list = sightline(["study", "list"]).succeeds().out;
    for name in NAMES {
        assert!(list.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}: {list}");
    }
    for what in ["from", "costs"] {
        let told = list.lines().filter(|line| line.trim_start().starts_with(&format!("{what} "))).count();
        assert_eq!(told, NAMES.len(), "{what}: {list}");
    }
    for paper in ["2411.17491", "2410.07149", "2411.18620"] {
        assert!(list.contains(paper), "{list}");
    }
    let help = sightline(["study", "--help"]).succeeds().out;
    for part in ["--images", "--shard", "merge", "list", "windows"] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn a_study_leaves_its_results_its_rows_and_its_figure() {
    let out = WHOLE.path();
    is_whole(out);
    let study = json(&out.join("study.json"));
    assert_eq!(study["format"], "sightline-study-1");
    assert_eq!((study["study"].as_str(), study["n_images"].as_u64()), (Some("windows"), Some(3)));
    assert_eq!((study["n_measured"].as_u64(), study["settings"]["seed"].as_u64()), (Some(3), Some(0)));
    assert_eq!(study["settings"]["flows"][0], "answer -> visual");
    let point = &study["results"][0]["series"][0]["points"][0];
    let number = |name: &str| point[name].as_f64().unwrap();
    assert!(number("low") <= number("value") && number("value") <= number("high"), "{point}");
    let csv = fs::read_to_string(out.join("rows.csv")).unwrap();
    assert!(csv.starts_with("image,question,flow,centre,half,delta,first_ratio\n"), "{csv}");
    for name in ["000000.png", "000001.png", "000002.png"] {
        assert!(csv.contains(&format!("\n{name},")), "{name}");
    }
    let svg = fs::read_to_string(out.join("figure.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("images: 3 of 3"), "{svg}");
    let picture = image::open(out.join("figure.png")).unwrap().into_rgb8();
    assert!(
        picture.pixels().any(|pixel| pixel.0 == [255; 3]) && picture.pixels().any(|pixel| pixel.0[0] < 100)
    );
    for file in ["study.json", "figure.svg", "images.jsonl"] {
        let written = fs::read_to_string(out.join(file)).unwrap();
        assert!(!written.contains(text(&bundled::scenes())), "{file} tells where things lie");
    }
}

#[test]
fn killed_and_started_again_it_goes_on_to_the_same_bytes() {
    let record = fs::read_to_string(WHOLE.path().join("images.jsonl")).unwrap();
    let lines: Vec<&str> = record.lines().collect();
    assert_eq!(lines.len(), 4, "what it is of, and three images");
    let out = tempfile::tempdir().unwrap();
    let half = &lines[2][..lines[2].len() / 2];
    fs::write(out.path().join("images.jsonl"), format!("{}\n{}\n{half}", lines[0], lines[1])).unwrap();
    let done = windows(&bundled::scenes(), out.path(), &[]).succeeds();
    assert!(done.err.contains("goes on with image 2 of 3"), "{}", done.err);
    is_whole(out.path());
    // Killed while it began, and not killed at all.
    fs::write(out.path().join("images.jsonl"), &lines[0][..20]).unwrap();
    windows(&bundled::scenes(), out.path(), &[]).succeeds();
    is_whole(out.path());
    let done = windows(&bundled::scenes(), out.path(), &[]).succeeds();
    assert!(done.err.contains("all 3 images are measured already"), "{}", done.err);
    is_whole(out.path());
}

#[test]
fn shards_put_together_are_the_whole() {
    let [one, two, other, out] = [(); 4].map(|()| tempfile::tempdir().unwrap());
    windows(&bundled::scenes(), one.path(), &["--shard", "1/2"]).succeeds();
    let done = windows(&bundled::scenes(), two.path(), &["--shard", "2/2"]).succeeds();
    assert!(done.out.contains("1 of 3 images measured") && done.out.contains("shard 2 of 2"), "{}", done.out);
    let merge = |dirs: &[&Path]| {
        let dirs = dirs.iter().map(|dir| text(dir));
        sightline(["study", "merge"].into_iter().chain(dirs).chain(["--out", text(out.path())]))
    };
    merge(&[one.path()]).refuses(&["of 3 images 2 are measured", "number 2", "finish the other shards"]);
    merge(&[one.path(), one.path()]).refuses(&["`000000.png` is measured in another"]);
    windows(&bundled::scenes(), other.path(), &["--shard", "2/2", "--seed", "5"]).succeeds();
    merge(&[one.path(), other.path()]).refuses(&["is not of the same study", "settings", "\"seed\":5"]);
    merge(&[out.path()]).refuses(&["is it a study's folder?"]);
    assert!(contents(out.path()).is_empty(), "what is refused leaves nothing");
    // In whatever order they are named.
    let done = merge(&[two.path(), one.path()]).succeeds();
    assert!(done.out.contains("3 of 3 images measured"), "{}", done.out);
    is_whole(out.path());
}

#[test]
fn mistakes_are_told_before_the_weights_are_read() {
    let (scenes, out) = (bundled::scenes(), tempfile::tempdir().unwrap());
    let refused = |done: Done, parts: &[&str]| {
        assert!(!done.err.contains("loading"), "{}", done.err);
        done.refuses(parts);
    };
    let run = |more: &[&str]| windows(&scenes, out.path(), more);
    refused(run(&["--rings", "2"]), &["--rings has no effect on `windows`", "--flow, --half"]);
    refused(run(&["--flow", "answer -> visual @ 3"]), &["answer -> visual @ 3", "no layers"]);
    refused(run(&["--shard", "3/2"]), &["3/2", "I from 1 to N"]);
    refused(run(&["--questions", "q.jsonl"]), &["--prompt", "--questions"]);
    refused(run(&["--annotations", "nowhere.json"]), &["nowhere.json", "cannot be read"]);
    let study = |name: &str, images: &Path| {
        sightline(["study", name, "--images", text(images), "--out", text(out.path())])
    };
    refused(study("windws", &scenes), &["windws", "share", "knockout", "heads"]);
    let plain = images(&["a.png"]);
    refused(study("lens", plain.path()), &["`lens` needs objects whose pixels are known"]);
    let empty = tempfile::tempdir().unwrap();
    refused(study("share", empty.path()), &["holds no image"]);
    refused(sightline(["study"]), &["--images", "--out"]);
    assert!(contents(out.path()).is_empty(), "what is refused leaves nothing");
    // A folder with another study in it.
    for (name, bytes) in contents(WHOLE.path()) {
        fs::write(out.path().join(name), bytes).unwrap();
    }
    refused(run(&["--seed", "5"]), &["holds another study", "\"seed\":5", "--out"]);
    is_whole(out.path());
}

#[test]
fn a_broken_image_is_left_out_aloud_or_ends_it() {
    let dir = images(&["a.png", "b.png", "c.png"]);
    fs::write(dir.path().join("b.png"), "no image").unwrap();
    let out = tempfile::tempdir().unwrap();
    let done = windows(dir.path(), out.path(), &[]).succeeds();
    assert!(done.err.contains("left out: b.png: "), "{}", done.err);
    assert!(done.out.contains("2 of 3 images measured") && done.out.contains("1 left out"), "{}", done.out);
    let study = json(&out.path().join("study.json"));
    assert_eq!(study["left_out"].as_array().unwrap().len(), 1);
    assert_eq!(study["left_out"][0]["image"], "b.png");
    let mut measured = column(out.path(), "image");
    measured.dedup();
    assert_eq!(measured, ["a.png", "c.png"]);

    let stopped = tempfile::tempdir().unwrap();
    windows(dir.path(), stopped.path(), &["--stop-on-error"]).refuses(&["b.png"]);
    let record = fs::read_to_string(stopped.path().join("images.jsonl")).unwrap();
    assert_eq!((record.lines().count(), contents(stopped.path()).len()), (2, 1), "the first image is kept");
    // Of nothing there is no study.
    fs::copy(dir.path().join("b.png"), dir.path().join("a.png")).unwrap();
    fs::remove_file(dir.path().join("c.png")).unwrap();
    let none = tempfile::tempdir().unwrap();
    windows(dir.path(), none.path(), &[]).refuses(&["a.png"]);
}

#[test]
fn folders_in_cocos_format_have_polls_and_other_questions_take_their_place() {
    let (dir, scenes) = (tempfile::tempdir().unwrap(), bundled::scenes());
    fs::copy(scenes.join("annotations.json"), dir.path().join("annotations.json")).unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    for n in 0..16 {
        let name = format!("images/{n:06}.png");
        fs::copy(scenes.join(&name), dir.path().join(&name)).unwrap();
    }
    let [share, windows] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let study = |name: &str, out: &TempDir, more: &[&str]| {
        let args = ["study", name, "--images", text(dir.path()), "--out", text(out.path()), "--limit", "2"];
        sightline(args.iter().chain(more)).succeeds()
    };
    study("share", &share, &["--length", "4"]);
    let csv = fs::read_to_string(share.path().join("rows.csv")).unwrap();
    assert!(csv.starts_with("image,query,layer,key,mass\n"), "{csv}");
    assert!(csv.contains("\n000000.png,") && csv.contains("\n000001.png,"));

    let cut = ["--flow", "last -> visual", "--half", "0"];
    study("windows", &windows, &cut);
    let asked = column(windows.path(), "question");
    assert!(!asked.is_empty() && asked.iter().all(|text| text.starts_with("Is there a")), "{asked:?}");

    let (out, file) = (tempfile::tempdir().unwrap(), dir.path().join("questions.jsonl"));
    let line = r#"{"image": "000001.png", "question": "is there a book?", "answer": "no"}"#;
    fs::write(&file, line).unwrap();
    study("windows", &out, &[&cut[..], &["--questions", text(&file)]].concat());
    let pairs: Vec<_> = column(out.path(), "image").into_iter().zip(column(out.path(), "question")).collect();
    let of = |name: &str| -> Vec<&str> {
        pairs.iter().filter(|(image, _)| image == name).map(|(_, asked)| asked.as_str()).collect()
    };
    let named = of("000001.png");
    assert!(!named.is_empty() && named.iter().all(|asked| *asked == "is there a book?"), "{named:?}");
    let other = of("000000.png");
    assert!(
        other.iter().all(|asked| *asked == bundled::PROMPT),
        "described, for want of a question: {other:?}"
    );
    fs::write(&file, line.replace("000001", "other")).unwrap();
    let args = ["study", "windows", "--images", text(dir.path()), "--out", text(out.path())];
    sightline(args.iter().chain(&["--questions", text(&file)])).refuses(&["line 1", "`other.png`"]);
}
