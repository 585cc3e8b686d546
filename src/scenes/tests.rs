//! What every scene must hold.

use std::collections::HashMap;

use super::*;

fn scenes(count: u64) -> Vec<Scene> {
    (0..count).map(|index| generate(5, index, &SceneOptions::default())).collect()
}

#[test]
fn a_scene_depends_on_seed_and_index_only() {
    let options = SceneOptions::default();
    let (a, b) = (generate(1, 3, &options), generate(1, 3, &options));
    assert_eq!(a.image, b.image);
    assert_eq!(a.mask, b.mask);
    assert_eq!(a.questions, b.questions);
    assert_ne!(a.image, generate(1, 4, &options).image);
    assert_ne!(a.image, generate(2, 3, &options).image);
}

#[test]
fn masks_match_objects_and_hide_little() {
    for scene in scenes(150) {
        assert!((1..=5).contains(&scene.objects.len()));
        for (i, object) in scene.objects.iter().enumerate() {
            let pixels: Vec<_> =
                scene.mask.enumerate_pixels().filter(|p| usize::from(p.2[0]) == i + 1).collect();
            assert!(!pixels.is_empty());
            let [x, y, w, h] = object.bbox;
            assert_eq!(pixels.iter().map(|p| p.0).min(), Some(x));
            assert_eq!(pixels.iter().map(|p| p.1).min(), Some(y));
            assert_eq!(pixels.iter().map(|p| p.0).max(), Some(x + w - 1));
            assert_eq!(pixels.iter().map(|p| p.1).max(), Some(y + h - 1));
            assert!(w.max(h) <= 73, "{w} x {h}");
            assert!(object.visible >= paint::LEAST_VISIBLE && object.visible <= 1.0);
            let counts = folder::run_lengths(&scene.mask, i as u8 + 1);
            assert_eq!(counts.iter().sum::<u32>(), 192 * 192);
            assert_eq!(counts.iter().skip(1).step_by(2).sum::<u32>() as usize, pixels.len());
        }
        assert!(scene.mask.pixels().all(|p| usize::from(p[0]) <= scene.objects.len()));
    }
}

#[test]
fn objects_have_places_of_their_own_in_reading_order() {
    for scene in scenes(150) {
        assert!(scene.objects.windows(2).all(|pair| pair[0].place < pair[1].place));
        for object in &scene.objects {
            assert_eq!(object.place, Place::of(object.center, 192));
            assert!(Place::border_distance(object.center, 192) >= 5.0);
        }
    }
}

#[test]
fn answers_follow_from_the_objects() {
    for scene in scenes(300) {
        let find = |question: &str| {
            let word = question.trim_end_matches('?').rsplit(' ').next().unwrap().to_owned();
            let found: Vec<_> =
                scene.objects.iter().filter(|o| objects::class_name(o.class) == word).collect();
            assert!(found.len() <= 1, "{question} is ambiguous");
            found.first().copied()
        };
        for Question { kind, question, answer } in &scene.questions {
            match kind {
                QuestionType::Exists => assert_eq!(answer == "yes", find(question).is_some()),
                QuestionType::Color => assert_eq!(find(question).unwrap().color.unwrap().name(), answer),
                QuestionType::Where => assert_eq!(find(question).unwrap().place.name(), answer),
                QuestionType::LeftOf | QuestionType::Above => {
                    let from = find(question).unwrap();
                    if answer != "nothing" {
                        let name = answer.strip_prefix("a ").unwrap();
                        let is_there = |o: &&SceneObject| {
                            let (dx, dy) = (from.center[0] - o.center[0], from.center[1] - o.center[1]);
                            let (ahead, aside) =
                                if *kind == QuestionType::LeftOf { (dx, dy) } else { (dy, dx) };
                            objects::class_name(o.class) == name && ahead > aside.abs()
                        };
                        assert!(scene.objects.iter().any(|o| is_there(&o)), "{question} {answer}");
                    }
                }
                QuestionType::Count => {
                    let numbers = ["one", "two", "three", "four", "five"];
                    assert_eq!(numbers[scene.objects.len() - 1], answer);
                }
                QuestionType::Background => assert_eq!(scene.background.name(), answer),
                QuestionType::At => {
                    let place = question.strip_prefix("what is at the ").unwrap().trim_end_matches('?');
                    let object = scene.objects.iter().find(|o| o.place.name() == place);
                    match object {
                        None => assert_eq!(answer, "nothing"),
                        Some(o) => assert!(answer.ends_with(objects::class_name(o.class))),
                    }
                }
            }
        }
    }
}

#[test]
fn no_answer_dominates() {
    let mut answers: HashMap<QuestionType, HashMap<String, usize>> = HashMap::new();
    for scene in scenes(600) {
        for question in scene.questions {
            *answers.entry(question.kind).or_default().entry(question.answer).or_default() += 1;
        }
    }
    assert_eq!(answers.len(), 8);
    for (kind, counts) in answers {
        let total: usize = counts.values().sum();
        let most = *counts.values().max().unwrap() as f32 / total as f32;
        let (low, high) = if kind == QuestionType::Exists { (0.5, 0.5) } else { (0.0, 0.45) };
        assert!(most >= low && most <= high, "{kind:?}: {most}");
    }
}

#[test]
fn the_words_are_known() {
    let words = words();
    for scene in scenes(100) {
        let mut text = scene.description.clone();
        for question in &scene.questions {
            text += &format!(" {} {}", question.question, question.answer);
        }
        for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|w| !w.is_empty()) {
            assert!(words.contains(&word), "{word}");
        }
    }
}

#[test]
fn nothing_is_left_of_the_leftmost() {
    use place::{Direction, Neighbour, neighbour};
    let centers = [[30.0, 96.0], [90.0, 100.0], [150.0, 92.0], [96.0, 150.0]];
    assert_eq!(neighbour(&centers, 0, Direction::Left, 192), Neighbour::Nothing);
    assert_eq!(neighbour(&centers, 1, Direction::Left, 192), Neighbour::Object(0));
    assert_eq!(neighbour(&centers, 2, Direction::Left, 192), Neighbour::Object(1));
    assert_eq!(neighbour(&centers, 3, Direction::Above, 192), Neighbour::Object(1));
    assert_eq!(neighbour(&centers, 1, Direction::Above, 192), Neighbour::Nothing);
    let lower = [[150.0, 96.0], [90.0, 110.0], [100.0, 140.0]]; // people could mean either of the last two
    assert_eq!(neighbour(&lower, 0, Direction::Left, 192), Neighbour::Unclear);
}

#[test]
fn large_and_crowded_scenes_work_and_odd_options_do_not() {
    let large = generate(1, 0, &SceneOptions { size: 384, ..SceneOptions::default() });
    assert_eq!(large.image.dimensions(), (384, 384));
    let crowded =
        generate(1, 0, &SceneOptions { min_objects: 10, max_objects: 12, ..SceneOptions::default() });
    assert!(crowded.objects.len() >= 7);
    let options = |size, min_objects, max_objects| SceneOptions { size, min_objects, max_objects };
    assert!(matches!(options(8, 1, 5).check(), Err(SceneError::Size { .. })));
    assert!(matches!(options(192, 0, 5).check(), Err(SceneError::Objects { .. })));
    assert!(matches!(options(192, 4, 3).check(), Err(SceneError::Objects { .. })));
    assert!(matches!(options(192, 1, 99).check(), Err(SceneError::Objects { .. })));
}

#[test]
fn a_folder_holds_what_it_says() {
    let out = std::env::temp_dir().join(format!("sightline-scenes-{}", std::process::id()));
    let mut done = 0;
    write_folder(&out, 7, 70, &SceneOptions::default(), &mut |n| done = n).unwrap();
    assert_eq!(done, 70);
    let lines = std::fs::read_to_string(out.join("scenes.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 70);
    let text = std::fs::read_to_string(out.join("annotations.json")).unwrap();
    let coco: serde_json::Value = serde_json::from_str(&text).unwrap();
    let objects: usize = (0..70).map(|i| generate(7, i, &SceneOptions::default()).objects.len()).sum();
    assert_eq!(coco["images"].as_array().unwrap().len(), 70);
    assert_eq!(coco["annotations"].as_array().unwrap().len(), objects);
    let image = image::open(out.join("images/000069.png")).unwrap().into_rgb8();
    assert_eq!(image, generate(7, 69, &SceneOptions::default()).image);
    std::fs::remove_dir_all(out).unwrap();
}
