//! Evaluation: sharing a prefix changes no answer, and the controls show what they say they show.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use sightline::{
    bundled,
    engine::{load::Engine, run::Reply, see::Seen},
    progress::Cancel,
    spec::experiment::Experiment,
    studies::eval::{
        error::EvalError,
        evaluate::{EvalOptions, evaluate},
        folder::{Folder, FolderOptions, Item},
        localise::localise,
        report::Images,
    },
    trace::words,
};

use crate::common::{ask, load};

fn engine() -> Engine {
    load(&bundled::model())
}

fn folder(limit: usize) -> Folder {
    Folder::open(&bundled::scenes(), &FolderOptions { limit: Some(limit), ..Default::default() }).unwrap()
}

fn see(engine: &Engine, file: &Path) -> Seen {
    engine.look_at(file, &Cancel::default()).unwrap()
}

fn asks(item: &Item) -> Vec<Experiment> {
    let questions = item.questions.iter().map(|q| ask(&q.text, 16));
    questions.chain([ask(bundled::PROMPT, 64)]).collect()
}

fn replies(engine: &Engine, seen: &Seen, asks: &[Experiment]) -> Vec<Reply> {
    let mut done = 0;
    let replies = engine.replies(asks, &[seen], &Cancel::default(), &mut || done += 1).unwrap();
    assert_eq!((replies.len(), done), (asks.len(), asks.len()));
    replies
}

#[test]
fn a_shared_prefix_changes_no_answer() {
    let engine = engine();
    for item in &folder(3).items {
        let seen = see(&engine, &item.image);
        let asks = asks(item);
        for (asked, reply) in asks.iter().zip(replies(&engine, &seen, &asks)) {
            let trace = engine.scratch(asked, &[&seen], &Cancel::default(), &mut |_| ()).unwrap();
            let ids: Vec<u32> = trace.answer.iter().map(|t| t.id).collect();
            assert_eq!(reply.ids, ids, "{}: {}", item.image.display(), asked.question());
            assert_eq!(reply.text, trace.answer_text(), "{}: {}", item.image.display(), asked.question());
        }
    }
}

#[test]
fn one_question_and_no_question_work_too() {
    let engine = engine();
    let item = &folder(1).items[0];
    let seen = see(&engine, &item.image);
    let asks = asks(item);
    assert_eq!(replies(&engine, &seen, &asks[..1]), replies(&engine, &seen, &asks)[..1]);
    // The same prompt twice: all but its last row is shared.
    let twice = replies(&engine, &seen, &[asks[0].clone(), asks[0].clone()]);
    assert_eq!(twice[0], twice[1]);
    assert!(replies(&engine, &seen, &[]).is_empty());
}

#[test]
fn shuffling_asks_about_the_next_image() {
    let engine = engine();
    let folder = folder(2);
    let options = EvalOptions { images: Images::Shuffled, describe: String::new(), ..Default::default() };
    let report = evaluate(&engine, &folder, &options, &Cancel::default(), &mut |_| ()).unwrap();
    assert!(report.descriptions.is_none());
    let mut answers = report.answers.into_iter();
    for (item, other) in [(0, 1), (1, 0)] {
        let item = &folder.items[item];
        let seen = see(&engine, &folder.items[other].image);
        let asks = asks(item);
        for reply in replies(&engine, &seen, &asks[..item.questions.len()]) {
            let answer = answers.next().unwrap();
            assert_eq!((&answer.image, answer.ids), (&item.image, reply.ids));
        }
    }
    assert!(answers.next().is_none());
    let one = Folder { items: folder.items[..1].to_vec(), ..folder };
    let refused = evaluate(&engine, &one, &options, &Cancel::default(), &mut |_| ());
    assert!(matches!(refused, Err(EvalError::OneImage)));
}

#[test]
fn a_blank_image_gives_every_image_the_same_answers() {
    let engine = engine();
    let options = EvalOptions { images: Images::Blank, ..Default::default() };
    let report = evaluate(&engine, &folder(4), &options, &Cancel::default(), &mut |_| ()).unwrap();
    for a in &report.answers {
        for b in report.answers.iter().filter(|b| b.question == a.question) {
            assert_eq!(a.answer, b.answer, "{}", a.question);
        }
    }
    let descriptions = report.descriptions.unwrap();
    assert!(descriptions.f1.value <= descriptions.best_constant_f1);
}

#[test]
fn coco_folders_are_read_with_images_beside_and_crowds() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("val")).unwrap();
    let sample = bundled::sample_image();
    fs::copy(&sample, dir.path().join("val/b.png")).unwrap();
    fs::copy(&sample, dir.path().join("a.png")).unwrap();
    write(
        "instances.json",
        r#"{"info": {}, "images": [{"id": 9, "file_name": "val/b.png", "width": 1}, {"id": 3, "file_name": "a.png"}],
            "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "orange"}, {"id": 7, "name": "hot dog"}],
            "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1]},
                            {"id": 2, "image_id": 9, "category_id": 1, "iscrowd": 1}]}"#,
    );
    let open = |options: &FolderOptions| Folder::open(dir.path(), options).map_err(|e| e.to_string());
    let options =
        FolderOptions { annotations: Some(dir.path().join("instances.json")), ..FolderOptions::default() };
    let folder = open(&options).unwrap();
    assert_eq!(folder.classes, ["dog", "hot dog", "orange"]);
    assert_eq!(folder.items[0].objects, ["orange", "orange"]);
    assert_eq!(folder.items[0].questions.len(), 2);
    assert!(folder.items[0].questions[0].text.starts_with("Is there an orange in"));
    assert!(folder.items[1].questions.is_empty() && folder.items[1].description.is_none());

    let message = |options: &FolderOptions| open(options).unwrap_err();
    assert!(message(&FolderOptions::default()).contains("neither scenes.jsonl nor annotations.json"));
    assert!(message(&FolderOptions { limit: Some(0), ..options.clone() }).contains("no image"));
    assert!(message(&FolderOptions { poll: "is it there?".into(), ..options.clone() }).contains("{class}"));
    write(
        "instances.json",
        r#"{"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 5}]}"#,
    );
    assert!(message(&options).contains("category_id 5"));
    write(
        "instances.json",
        r#"{"images": [{"id": 1, "file_name": "c.png"}], "categories": [], "annotations": []}"#,
    );
    // An image that is nowhere is told of when it is opened.
    assert!(open(&options).unwrap().items[0].image.ends_with("images/c.png"));
    write("instances.json", r#"{"images": []}"#);
    assert!(message(&options).contains("instances.json: missing field `categories`"));
    write("scenes.jsonl", "\n{\"file\": 1}\n");
    assert!(message(&FolderOptions::default()).contains("scenes.jsonl: line 2"));
}

/// The first sample scenes in a folder of their own, each class that `rename` knows by another name.
fn renamed(limit: usize, rename: &[(&str, &str)]) -> tempfile::TempDir {
    let (dir, scenes) = (tempfile::tempdir().unwrap(), bundled::scenes());
    let class = |text: &str| {
        rename.iter().fold(text.to_string(), |text, (from, to)| {
            let text = text.replace(&format!("\"class\":\"{from}\""), &format!("\"class\":\"{to}\""));
            text.replace(&format!("\"name\":\"{from}\""), &format!("\"name\":\"{to}\""))
        })
    };
    let lines = fs::read_to_string(scenes.join("scenes.jsonl")).unwrap();
    let lines: Vec<String> = lines.lines().take(limit).map(class).collect();
    fs::write(dir.path().join("scenes.jsonl"), lines.join("\n")).unwrap();
    let annotations = fs::read_to_string(scenes.join("annotations.json")).unwrap();
    fs::write(dir.path().join("annotations.json"), class(&annotations)).unwrap();
    for kind in ["images", "masks"] {
        fs::create_dir(dir.path().join(kind)).unwrap();
        for n in 0..limit {
            let name = format!("{kind}/{n:06}.png");
            fs::copy(scenes.join(&name), dir.path().join(&name)).unwrap();
        }
    }
    dir
}

#[test]
fn classes_of_several_words_are_localised_at_all_their_tokens() {
    const IMAGES: usize = 6;
    let engine = engine();
    // What the model calls an object that is the only one of its class: the word and the one before it.
    let folder_of = |dir: &Path| Folder::open(dir, &FolderOptions::default()).unwrap();
    let plain = renamed(IMAGES, &[]);
    let plain = folder_of(plain.path());
    let mut phrases: Vec<(String, String)> = Vec::new();
    for item in &plain.items {
        let seen = see(&engine, &item.image);
        let described =
            engine.scratch(&ask(bundled::PROMPT, 64), &[&seen], &Cancel::default(), &mut |_| ()).unwrap();
        let said = words::words(&words::answer(&described));
        for pair in said.windows(2) {
            let [before, word] = [&pair[0].text, &pair[1].text];
            let only = item.objects.iter().filter(|class| *class == word).count() == 1;
            let tokens = [&pair[0].positions[..], &pair[1].positions].concat();
            assert!(tokens.len() > 1, "no token says both words");
            if only && before != "a" && !phrases.iter().any(|(class, _)| class == word) {
                phrases.push((word.clone(), format!("{before} {word}")));
            }
        }
    }
    assert!(!phrases.is_empty(), "no object is called by two words");
    let (class, phrase) = &phrases[0];
    let measured = |folder: &Folder| {
        let mut images = 0;
        let found = localise(&engine, folder, bundled::PROMPT, 64, &Cancel::default(), &mut || images += 1);
        assert_eq!(images, folder.items.len());
        found.unwrap()
    };
    // Only objects of that class are listed, so that no other word counts.
    let only = |mut folder: Folder, class: &str| {
        for item in &mut folder.items {
            let others = item.objects.iter_mut().filter(|c| *c != class);
            others.for_each(|c| *c = "something else".to_string());
        }
        folder
    };
    let renamed = renamed(IMAGES, &[(class, phrase)]);
    let folder = folder_of(renamed.path());
    assert!(folder.classes.contains(phrase) && !folder.classes.contains(class));
    let both = measured(&only(folder, phrase));
    let single = measured(&only(plain, class));
    println!("`{phrase}`: {} found, `{class}`: {}", both.words, single.words);
    assert!(both.words > 0, "`{phrase}` is said, and was not found");
    assert!(both.words <= single.words, "whoever says `{phrase}` says `{class}`");
    assert_eq!(both.layers.len(), engine.info.n_layers);
    assert!(both.layers.iter().all(|l| l.on.n == both.words && l.on.right <= l.near.right));
    // A phrase that is not said word for word is not found by one of its words.
    let apart = format!("{phrase} {class}");
    let folder = Folder { classes: vec![apart.clone()], ..folder_of(renamed.path()) };
    let items = folder.items.iter().cloned().map(|mut item| {
        item.objects.iter_mut().filter(|c| *c == phrase).for_each(|c| c.clone_from(&apart));
        item
    });
    let folder = Folder { items: items.collect(), ..folder };
    assert_eq!(measured(&only(folder, &apart)).words, 0);
}
