//! Shortened contexts: what layers keep by every ranking, and what questions are answered against them.

use std::collections::BTreeSet;

use sightline::{
    engine::{decoding::host, inside::square},
    spec::{
        picture::ImageSource,
        span::Span,
        turn::{Turn, answered},
    },
    studies::{
        compression::{
            Keep, Order, Ranking, Text, ask_after, ask_compressed, compress, follow_up, order, shorten,
        },
        survey::{bench::DESCRIBE, findings::Row},
    },
    trace::tokens::{visual, written},
};

use super::*;

/// Longest answer.
const LENGTH: usize = 40;

/// The first scene, with some of its questions.
fn asked(questions: usize) -> Subjects {
    let mut subjects = scenes(1);
    subjects.all[0].questions.truncate(questions);
    subjects
}

fn settings(percents: &[f32]) -> Settings {
    Settings { percents: percents.to_vec(), length: Some(LENGTH), ..Settings::default() }
}

/// The scene's description, kept.
fn description(subjects: &Subjects) -> (Experiment, Baseline, Seen) {
    let image = &subjects.all[0].image;
    let experiment = Experiment::ask(ImageSource::File(image.clone()), DESCRIBE, LENGTH);
    let (baseline, seen) = keep(&experiment, image);
    (experiment, baseline, seen)
}

fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_string).collect()
}

fn ranked(baseline: &Baseline, ranking: Ranking) -> Order {
    order(&BUNDLED, baseline, ranking, &Cancel::default()).unwrap()
}

#[test]
fn all_of_the_image_answers_as_the_whole_context() {
    let course = course("compress", settings(&[100.0]), asked(usize::MAX));
    let (images, all) = measured(&course);
    assert!(all[0].left_out.is_empty(), "{:?}", all[0].left_out);
    let of = |context: &str| -> Vec<Row<'_>> {
        images[0].iter().filter(|row| row.text("context") == context).collect()
    };
    let (full, both) = (of("full"), of("text + visual"));
    let n = course.subjects.all[0].questions.len();
    assert_eq!((full.len(), both.len(), of("text only").len(), of("visual only").len()), (n, 5 * n, n, n));
    let text = BUNDLED.folder.text();
    for row in full.iter().chain(&both) {
        let whole = full.iter().find(|whole| whole.text("question") == row.text("question")).unwrap();
        for column in ["tokens", "bytes", "right", "same"] {
            assert_eq!(row.number(column), whole.number(column), "{row:?}");
        }
        assert_eq!(row.number("same"), Some(1.0));
        // float32 keys and values.
        let each = (text.n_layers * 2 * text.n_kv_heads * text.head_dim * 4) as f64;
        assert_eq!(row.number("bytes").unwrap(), row.number("tokens").unwrap() * each);
    }
    let tokens = |context: &str| of(context)[0].number("tokens").unwrap();
    assert_eq!(tokens("text only") + tokens("visual only"), tokens("full"));
    let right = |context: &str| of(context).iter().filter_map(|row| row.number("right")).sum::<f64>();
    assert!(right("full") > 0.0, "the bundled model answers some");
    let ranks: BTreeSet<&str> = both.iter().map(|row| row.text("rank")).collect();
    assert_eq!(ranks, BTreeSet::from(["answer", "fastv", "norm", "question", "random"]));
}

#[test]
fn ranked_by_the_answer_it_is_the_compression_of_one_image() {
    let subjects = asked(usize::MAX);
    let (_, baseline, seen) = description(&subjects);
    let course = course("compress", settings(&[10.0]), subjects);
    let (images, _) = measured(&course);
    let asked = &course.subjects.all[0].questions;
    let texts: Vec<String> = asked.iter().map(|asked| asked.text.clone()).collect();
    for (context, percent) in [("text + visual", 10.0), ("text only", 0.0)] {
        let keep = Keep { percent, answer: false };
        let found =
            ask_compressed(&BUNDLED, &baseline, keep, &texts, &[&seen], LENGTH, &Cancel::default()).unwrap();
        let rows: Vec<Row<'_>> = images[0]
            .iter()
            .filter(|row| row.text("context") == context && ["answer", ""].contains(&row.text("rank")))
            .collect();
        assert_eq!(rows.len(), texts.len());
        for ((row, found_one), asked) in rows.iter().zip(&found.questions).zip(asked) {
            assert_eq!(row.text("question"), found_one.question);
            assert_eq!(row.number("tokens"), Some(found.tokens as f64));
            assert_eq!(row.number("same"), Some(f64::from(u8::from(found_one.same))));
            let (answer, gold) = (words(&found_one.compressed), words(asked.answer.as_deref().unwrap()));
            let right = match gold[0].as_str() {
                "yes" | "no" => answer.first() == gold.first(),
                _ => answer == gold,
            };
            assert_eq!(row.number("right"), Some(f64::from(u8::from(right))));
        }
    }
    // What the cache keeps is the same too.
    let short = compress(&BUNDLED, &baseline, Keep { percent: 10.0, answer: false }).unwrap();
    let order = ranked(&baseline, Ranking::Answer);
    assert_eq!(shorten(&BUNDLED, &baseline, &order, 10.0, Text::Prompt).unwrap().kept, short.kept);
}

#[test]
fn the_questions_attention_is_that_of_its_rows_in_the_whole_square() {
    let subjects = asked(1);
    let (_, baseline, _) = description(&subjects);
    let order = ranked(&baseline, Ranking::Question);
    let (visual, n_rows) = (visual(&baseline.prompt.tokens), baseline.n_rows());
    let question: Vec<usize> = (visual[0]..baseline.prompt.len())
        .filter(|&p| baseline.prompt.tokens[p].span == Span::Question)
        .collect();
    assert!(question.len() > 1 && order.first == 0 && order.layers.len() == BUNDLED.info.n_layers);
    for (layer, ranked) in order.layers.iter().enumerate() {
        assert_eq!(ranked.iter().collect::<BTreeSet<_>>(), visual.iter().collect());
        let mut mass = vec![0.0; n_rows];
        for head in 0..BUNDLED.info.n_heads {
            let square = square(&BUNDLED, &baseline, layer, head, &Cancel::default()).unwrap();
            for row in &question {
                mass.iter_mut().zip(&square[row * n_rows..][..n_rows]).for_each(|(m, p)| *m += p);
            }
        }
        assert!(ranked.windows(2).all(|two| mass[two[0]] >= mass[two[1]] - 1e-6), "layer {layer}");
        assert!(mass[ranked[0]] > mass[ranked[143]], "layer {layer}");
    }
    assert_ne!(order, ranked(&baseline, Ranking::Answer));
}

#[test]
fn norms_and_chance_rank_alike_in_every_layer() {
    let (_, baseline, seen) = description(&asked(1));
    let (visual, order) = (visual(&baseline.prompt.tokens), ranked(&baseline, Ranking::Norm));
    let norms = host(seen.embeds.clone().square().sum_dim(1)).unwrap();
    let norm = |position: usize| norms[position - visual[0]];
    assert!(order.layers.iter().all(|layer| *layer == order.layers[0]));
    assert!(order.layers[0].windows(2).all(|two| norm(two[0]) >= norm(two[1]) * (1.0 - 1e-5)));
    let drawn = [7, 7, 8].map(|seed| ranked(&baseline, Ranking::Random(seed)));
    assert!(drawn[0] == drawn[1] && drawn[0] != drawn[2]);
    assert!(drawn[0].layers.iter().all(|layer| *layer == drawn[0].layers[0]));
    assert_eq!(drawn[0].layers[0].iter().collect::<BTreeSet<_>>(), visual.iter().collect());
}

/// Few visual tokens from layer 2 on are a cut that could be typed, in the conversation that goes on.
#[test]
fn fastv_cuts_later_rows_from_what_its_last_row_looked_at_least() {
    let subjects = asked(6);
    let (experiment, baseline, seen) = description(&subjects);
    let order = ranked(&baseline, Ranking::FastV(2));
    let (_, last) = baseline.trace.rows().next().unwrap();
    let mass = last.head_mean(1);
    assert!(order.first == 2 && order.layers.iter().all(|layer| *layer == order.layers[0]));
    assert!(order.layers[0].windows(2).all(|two| mass[two[0]] >= mass[two[1]]));

    let short = shorten(&BUNDLED, &baseline, &order, 10.0, Text::Answer).unwrap();
    let (rows, visual) = (baseline.n_rows(), visual(&baseline.prompt.tokens));
    let counts: Vec<usize> = short.kept.iter().map(Vec::len).collect();
    assert_eq!(counts, [rows, rows, rows - 130, rows - 130, rows - 130, rows - 130]);
    assert_eq!(short.tokens(), rows as f32 - 130.0 * 4.0 / 6.0);
    let lost: Vec<String> =
        (0..visual.len()).filter(|&n| !short.kept[2].contains(&visual[n])).map(|n| n.to_string()).collect();
    let cut = format!("pos[{rows}-] -> visual[{}] @ 2-", lost.join(","));
    for asked in &subjects.all[0].questions {
        let text =
            follow_up(&BUNDLED.folder, &experiment.turns, &baseline.prompt, &asked.text, &[&seen.geometry])
                .unwrap();
        let mut turns = answered(&experiment.turns, &written(&baseline.trace.answer));
        turns.push(Turn::ask(0, asked.text.as_str()));
        let further = Experiment { turns, ..experiment.clone() };
        let prompt = BUNDLED.prompt(&further.turns, &[&seen]).unwrap();
        assert_eq!(prompt.ids()[rows..], text[..], "the context goes on as the conversation does");
        let further = further.with_knockouts(vec![cut.parse().unwrap()]);
        let cancel = Cancel::default();
        let typed = BUNDLED.scratch(&further, &[&seen], &cancel, &mut |_| {}).unwrap();
        let reply = ask_after(&BUNDLED, &short, &text, LENGTH, &cancel).unwrap();
        assert_eq!(reply.ids, typed.ids(), "{}", asked.text);
    }
    let error = order_of(&baseline, Ranking::FastV(6));
    assert!(error.contains("from 1 to 5"), "{error}");
}

fn order_of(baseline: &Baseline, ranking: Ranking) -> String {
    order(&BUNDLED, baseline, ranking, &Cancel::default()).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_asked_is_left_out_aloud() {
    // A seventh of one of 144 visual tokens is none.
    let (images, all) = measured(&course("compress", settings(&[0.1]), asked(1)));
    let what: Vec<&str> = all[0].left_out.iter().map(|left| left.what.as_str()).collect();
    assert_eq!(what, ["visual only, 0.1 % by answer"]);
    assert_eq!(images[0].rows.len(), 2 + 5);
    let (images, all) = measured(&course("compress", settings(&[10.0]), asked(0)));
    assert!(images[0].rows.is_empty() && all[0].left_out[0].what == "questions");
    // The right answer to a prompt of one's own is not known; whether it stays the same is.
    let prompt = Some("what is at the left?".to_string());
    let (images, _) = measured(&course("compress", Settings { prompt, ..settings(&[10.0]) }, asked(3)));
    assert_eq!(images[0].rows.len(), 2 + 1 + 5);
    assert!(images[0].iter().all(|row| row.number("right").is_none() && row.number("same").is_some()));
}
