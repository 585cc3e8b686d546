//! Rows of `ablate` on the bundled model against runs from the start with the same tokens overwritten.

use sightline::{
    bundled,
    engine::see::Seen,
    progress::Cancel,
    spec::{
        experiment::{Experiment, Intervention},
        picture::{ImageSource, ObjectMask},
    },
    studies::survey::{
        findings::Row,
        settings::Settings,
        subjects::{Subject, Subjects},
    },
};

use super::{BUNDLED, course, measured, scenes};

fn settings() -> Settings {
    let fills = ["mean", "noise"].map(String::from).to_vec();
    Settings { counts: vec![40, 1000], fills, length: Some(40), seed: 3, ..Settings::default() }
}

/// The image with an object marked: every patch that it touches.
fn marked(subject: &Subject, class: &str) -> Seen {
    let mut seen = BUNDLED.look_at(&subject.image, &Cancel::default()).unwrap();
    let number = subject.objects.iter().position(|object| object.class == class).unwrap();
    let (mask, value) = subject.mask(number, seen.geometry.source).unwrap().unwrap();
    seen.mark(&mask, &ObjectMask { file: "mask".into(), value, share: 0.0 }).unwrap();
    seen
}

/// What is asked, as the scenes ask it.
fn question(subject: &Subject, class: &str, prompt: &str) -> Option<String> {
    match prompt {
        "generative" => Some("describe this image.".to_string()),
        "polling" => Some(format!("is there a {class}?")),
        _ => {
            let ends_with = |answer: &String| answer.ends_with(&format!(" {class}"));
            let mut asked = subject.questions.iter().filter(|one| one.kind == "at");
            asked.find(|one| one.answer.as_ref().is_some_and(ends_with)).map(|one| one.text.clone())
        }
    }
}

/// The answer of a run from the start with some tokens overwritten.
fn answer(subject: &Subject, text: &str, seen: &Seen, ablation: Option<String>) -> String {
    let mut experiment = Experiment::ask(ImageSource::File(subject.image.clone()), text, 40);
    experiment.seed = 3;
    let ablations = ablation.iter().map(|text| text.parse().unwrap()).collect();
    experiment.intervention = Intervention { knockouts: Vec::new(), ablations };
    BUNDLED.scratch(&experiment, &[seen], &Cancel::default(), &mut |_| {}).unwrap().answer_text()
}

/// Whether it is right, of the bundled model's short answers.
fn is_right(prompt: &str, answer: &str, class: &str) -> bool {
    match prompt {
        "polling" => answer.starts_with("yes"),
        _ => answer.split(' ').any(|word| word == class),
    }
}

#[test]
fn a_row_is_wrong_where_a_run_from_the_start_is() {
    let subjects: Subjects = scenes(2);
    let all = subjects.all.clone();
    let (images, found) = measured(&course("ablate", settings(), subjects));
    let (mut compared, mut lost, mut prompts) = (0, [0, 0], Vec::new());
    for (subject, image) in all.iter().zip(&images) {
        assert_eq!(subject.name, image.image);
        for row in image.iter() {
            let text = |column: &str| Row::text(&row, column).to_string();
            let (class, prompt, set, fill) = (text("object"), text("prompt"), text("set"), text("fill"));
            let ablated = match set.as_str() {
                "object~1" => set.clone(),
                "random" => format!("random[0-{}]", row.number("n").unwrap() - 1.0),
                _ => continue,
            };
            let Some(asked) = question(subject, &class, &prompt) else { continue };
            let seen = marked(subject, &class);
            let fill = match fill.as_str() {
                "mean" => format!("mean:{}", bundled::scenes().join("images").display()),
                _ => fill,
            };
            let uncut = answer(subject, &asked, &seen, None);
            assert!(is_right(&prompt, &uncut, &class), "{class}, {prompt}: {uncut}");
            let cut = answer(subject, &asked, &seen, Some(format!("{ablated} = {fill}")));
            let wrong = !is_right(&prompt, &cut, &class);
            assert_eq!(
                row.number("wrong"),
                Some(f64::from(u8::from(wrong))),
                "{class}, {prompt}, {set}: {cut}"
            );
            compared += 1;
            lost[usize::from(set == "random")] += usize::from(wrong);
            prompts.push(prompt);
        }
    }
    prompts.sort();
    prompts.dedup();
    assert_eq!(prompts, ["generative", "polling", "vqa"]);
    assert!(compared >= 20, "{compared}");
    assert!(lost[0] > lost[1], "the object matters more than random tokens: {lost:?}");
    for one in &found {
        let told: Vec<_> = one.left_out.iter().filter(|left_out| left_out.what == "1000 tokens").collect();
        assert_eq!(told.len(), 1, "once an image");
        assert!(told[0].why.contains("144"), "{}", told[0].why);
    }
}

#[test]
fn numbers_of_tokens_are_those_that_are_overwritten() {
    let subjects = scenes(1);
    let subject = subjects.all[0].clone();
    let (images, _) = measured(&course("ablate", settings(), subjects));
    let rows: Vec<Row<'_>> = images[0].iter().collect();
    let n = |class: &str, set: &str| {
        let mut of_set = rows.iter().filter(|row| (row.text("object"), row.text("set")) == (class, set));
        of_set.next().and_then(|row| row.number("n"))
    };
    let classes: Vec<&str> = rows.iter().map(|row| row.text("object")).collect();
    assert!(!classes.is_empty());
    for class in classes {
        let members = marked(&subject, class).object.unwrap();
        let side = 12_usize;
        let near = |place: usize, rings: usize| {
            let apart = |a: usize, b: usize| a.abs_diff(b) <= rings;
            let mut marked = (0..members.len()).filter(|&other| members[other]);
            marked.any(|other| apart(place / side, other / side) && apart(place % side, other % side))
        };
        for (rings, set) in ["object", "object~1", "object~2"].into_iter().enumerate() {
            let expected = (0..members.len()).filter(|&place| near(place, rings)).count();
            assert_eq!(n(class, set), Some(expected as f64), "{class}, {set}");
        }
        assert_eq!(n(class, "random like object~1"), n(class, "object~1"));
        assert_eq!(n(class, "gradient"), Some(40.0));
    }
    assert!(rows.iter().all(|row| row.number("n") <= Some(144.0) && row.number("objects") == Some(4.0)));
}

#[test]
fn a_given_prompt_is_asked_alone() {
    let settings = Settings {
        prompt: Some("describe the image.".to_string()),
        counts: vec![5],
        length: Some(40),
        ..Settings::default()
    };
    let (images, found) = measured(&course("ablate", settings, scenes(1)));
    assert!(images[0].iter().all(|row| row.text("prompt") == "generative" && row.text("fill") == "mean"));
    assert!(!images[0].rows.is_empty() || !found[0].left_out.is_empty());
}
