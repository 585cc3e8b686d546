//! Evaluation: sharing a prefix changes no answer, and the controls show what they say they show.
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::{
        answer::Reply,
        load::{Engine, Seen},
    },
    image::process as image,
    progress::Cancel,
    spec::experiment::RunSpec,
    studies::eval::{
        answer::{Ask, ask_all},
        evaluate::{EvalError, EvalOptions, Images, evaluate},
        folder::{Folder, FolderOptions, Item},
    },
};

fn engine() -> Engine {
    Engine::load(&bundled::model(), &device::cpu(), WeightDtype::F32).unwrap()
}

fn folder(limit: usize) -> Folder {
    Folder::open(&bundled::scenes(), &FolderOptions { limit: Some(limit), ..Default::default() }).unwrap()
}

fn see(engine: &Engine, file: &Path) -> Seen {
    let processed = engine.process(&image::open(file).unwrap()).unwrap();
    engine.see(processed, &Cancel::default(), &mut |_, _| ()).unwrap()
}

fn asks(item: &Item) -> Vec<Ask<'_>> {
    let questions = item.questions.iter().map(|q| Ask { text: &q.text, max_new: 16 });
    questions.chain([Ask { text: bundled::PROMPT, max_new: 64 }]).collect()
}

fn ask(engine: &Engine, seen: &Seen, asks: &[Ask<'_>]) -> Vec<Reply> {
    let mut done = 0;
    let replies = ask_all(engine, seen, asks, &[], &Cancel::default(), &mut || done += 1).unwrap();
    assert_eq!((replies.len(), done), (asks.len(), asks.len()));
    replies
}

#[test]
fn a_shared_prefix_changes_no_answer() {
    let engine = engine();
    for item in &folder(3).items {
        let seen = see(&engine, &item.image);
        let asks = asks(item);
        for (asked, reply) in asks.iter().zip(ask(&engine, &seen, &asks)) {
            let spec = RunSpec::ask(asked.text, asked.max_new);
            let trace = engine.run(&spec, &[&seen], &Cancel::default(), &mut |_| ()).unwrap();
            let ids: Vec<u32> = trace.answer.iter().map(|t| t.id).collect();
            assert_eq!(reply.ids, ids, "{}: {}", item.image.display(), asked.text);
            assert_eq!(reply.text, trace.answer_text(), "{}: {}", item.image.display(), asked.text);
        }
    }
}

#[test]
fn one_question_and_no_question_work_too() {
    let engine = engine();
    let item = &folder(1).items[0];
    let seen = see(&engine, &item.image);
    let asks = asks(item);
    assert_eq!(ask(&engine, &seen, &asks[..1]), ask(&engine, &seen, &asks)[..1]);
    // The same prompt twice: all but its last row is shared.
    let twice = ask(&engine, &seen, &[asks[0], asks[0]]);
    assert_eq!(twice[0], twice[1]);
    assert!(ask(&engine, &seen, &[]).is_empty());
}

#[test]
fn shuffling_asks_about_the_next_image() {
    let engine = engine();
    let folder = folder(2);
    let options = EvalOptions { images: Images::Shuffled, describe: String::new(), ..Default::default() };
    let report = evaluate(&engine, &folder, &options, &Cancel::default(), &mut || ()).unwrap();
    assert!(report.descriptions.is_none());
    let mut answers = report.answers.into_iter();
    for (item, other) in [(0, 1), (1, 0)] {
        let item = &folder.items[item];
        let seen = see(&engine, &folder.items[other].image);
        let asks = asks(item);
        for reply in ask(&engine, &seen, &asks[..item.questions.len()]) {
            let answer = answers.next().unwrap();
            assert_eq!((&answer.image, answer.ids), (&item.image, reply.ids));
        }
    }
    assert!(answers.next().is_none());
    let one = Folder { items: folder.items[..1].to_vec(), ..folder };
    let refused = evaluate(&engine, &one, &options, &Cancel::default(), &mut || ());
    assert!(matches!(refused, Err(EvalError::OneImage)));
}

#[test]
fn a_blank_image_gives_every_image_the_same_answers() {
    let engine = engine();
    let options = EvalOptions { images: Images::Blank, ..Default::default() };
    let report = evaluate(&engine, &folder(4), &options, &Cancel::default(), &mut || ()).unwrap();
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
    let open = |options: &FolderOptions| Folder::open(dir.path(), options);
    let options =
        FolderOptions { annotations: Some(dir.path().join("instances.json")), ..FolderOptions::default() };
    let folder = open(&options).unwrap();
    assert_eq!(folder.classes, ["dog", "hot dog", "orange"]);
    assert_eq!(folder.items[0].objects, ["orange", "orange"]);
    assert_eq!(folder.items[0].questions.len(), 2);
    assert!(folder.items[0].questions[0].text.starts_with("Is there an orange in"));
    assert!(folder.items[1].questions.is_empty() && folder.items[1].description.is_none());

    let message = |options: &FolderOptions| open(options).unwrap_err().to_string();
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
    assert!(message(&options).contains("c.png"));
    write("instances.json", r#"{"images": []}"#);
    assert!(message(&options).contains("instances.json: missing field `categories`"));
    write("scenes.jsonl", "\n{\"file\": 1}\n");
    assert!(message(&FolderOptions::default()).contains("scenes.jsonl: line 2"));
}
