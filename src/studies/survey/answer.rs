//! Where the answer comes up: what every layer would say at the last prompt position, of the right word and a wrong one.
//!
//! Zhang et al. (arXiv 2411.18620). The reading is that of `studies/lens.rs`: the head over the final norm of a layer's
//! output. The paper leaves the norm out; with it, the reading of the last layer is what the model says.
//!
//! A right answer's word is its first that is no article. The wrong one is the other of yes and no, or else the most
//! frequent word that begins other right answers to questions of the same type. Each is followed by its first token,
//! as it stands where an answer begins; `whole` is 1 where that is all of it. Rows hold all questions with a known
//! answer, the figure those that were answered rightly (`correct`).

use std::collections::BTreeMap;

use crate::{
    engine::{baseline::Baseline, error::RunError},
    studies::{
        eval::score::{agree, is_right, words},
        lens::{Followed, Lens, followed, lens},
        survey::{
            bench::Bench,
            error::SurveyError,
            findings::{ImageRows, Panel, Series, mean_curves},
            kind::Kind,
            subjects::{Asked, Subjects},
        },
    },
};

/// The study.
pub const KIND: Kind = Kind {
    name: "answer",
    about: "probability and rank of the right and of a wrong word at the last prompt position, by layer (final norm applied)",
    source: "Zhang et al., arXiv 2411.18620",
    cost: "an answer a question, and up to four readings of one position in every layer",
    columns: &[
        "image",
        "question",
        "word",
        "case",
        "right",
        "whole",
        "layer",
        "rank",
        "probability",
        "correct",
    ],
    settings: &[],
    plain: true,
    measure,
    panels: |images, _, _| figure(images),
};

/// Words that an answer may begin with and that say nothing.
const ARTICLES: [&str; 3] = ["a", "an", "the"];

/// How a word is written.
type Write = fn(&str) -> String;

/// Cases by name.
const CASES: [(&str, Write); 2] = [("lower", str::to_string), ("upper", capital)];

/// How often right answers to questions of a type begin with a word.
type Frequent = BTreeMap<String, BTreeMap<String, usize>>;

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    if bench.settings.prompt.is_some() || bench.subject.questions.is_empty() {
        bench.left_out("", "nothing is asked about it to which the right answer is known");
        return Ok(());
    }
    let frequent = frequent(bench.subjects);
    for asked in &bench.subject.questions {
        let right = asked.answer.as_deref().and_then(head);
        let wrong = right.as_deref().and_then(|right| other(right, &asked.kind, &frequent));
        match (&asked.answer, right, wrong) {
            (Some(answer), Some(right), Some(wrong)) => {
                of_question(bench, asked, answer, [right, wrong]).map_err(|e| bench.of_image(e))?;
            }
            (Some(_), Some(_), None) => {
                let why =
                    "no question of its type has another answer, which the right one could be held against";
                bench.left_out(&asked.text, why);
            }
            _ => bench.left_out(&asked.text, "the right answer is not known, or has no word"),
        }
    }
    Ok(())
}

/// The rows of one question, whose right word comes first.
fn of_question(
    bench: &mut Bench<'_>,
    asked: &Asked,
    answer: &str,
    words: [String; 2],
) -> Result<(), RunError> {
    let baseline = bench.ask(asked)?;
    let correct = is_right(&baseline.trace.answer_text(), answer, agree(answer));
    let mut read: Vec<u32> = Vec::new();
    for (case, write) in CASES {
        let written = words.each_ref().map(|word| write(word));
        let what = format!("{}: `{}` and `{}`", asked.text, written[0], written[1]);
        let found =
            [token(bench, asked, &baseline, &written[0])?, token(bench, asked, &baseline, &written[1])?];
        let [Some(right), Some(wrong)] = found else {
            bench.left_out(what, "the model has no token for one of them");
            continue;
        };
        if right.id == wrong.id {
            bench.left_out(what, "both begin with the same token");
            continue;
        }
        if read.contains(&right.id) || read.contains(&wrong.id) {
            bench.left_out(what, "the tokenizer does not tell capital letters from small ones");
            continue;
        }
        read.extend([right.id, wrong.id]);
        for ((word, token), is_right) in words.iter().zip([right, wrong]).zip([1_usize, 0]) {
            for (layer, (rank, probability)) in readings(bench, &baseline, token.id)?.into_iter().enumerate()
            {
                bench.row([
                    asked.text.as_str().into(),
                    word.as_str().into(),
                    case.into(),
                    is_right.into(),
                    usize::from(token.whole).into(),
                    layer.into(),
                    rank.into(),
                    probability.into(),
                    usize::from(correct).into(),
                ]);
            }
        }
    }
    Ok(())
}

/// The rank and the probability that every layer gives a token at the last prompt position.
fn readings(bench: &Bench<'_>, baseline: &Baseline, id: u32) -> Result<Vec<(usize, f32)>, RunError> {
    let layers = vec![true; bench.engine.info.n_layers];
    let at = Lens { positions: vec![baseline.prompt.len() - 1], layers, top: 0, chosen: Some(id) };
    let mut readings = Vec::new();
    lens(bench.engine, baseline, &at, bench.cancel, &mut |page| {
        readings.extend(page.readings.iter().filter_map(|reading| reading.chosen));
    })?;
    Ok(readings)
}

/// The token by which an answer that is this word begins; `None` where the model has none. Where the word cannot be
/// told from what stands before it, that of the word inside a sentence.
fn token(
    bench: &Bench<'_>,
    asked: &Asked,
    baseline: &Baseline,
    word: &str,
) -> Result<Option<Followed>, RunError> {
    let (folder, begun) = (&bench.engine.folder, bench.experiment(&asked.text, Some(word)));
    if !folder.prompts.unknown_words(word).is_empty() {
        return Ok(None);
    }
    let prompt = bench.engine.prompt(&begun.turns, &[&bench.seen])?.ids();
    match prompt.strip_prefix(&baseline.prompt.ids()[..]) {
        Some([id, more @ ..]) => Ok(Some(Followed { id: *id, whole: more.is_empty() })),
        _ => Ok(followed(folder, word).ok()),
    }
}

/// The first word of an answer that is no article.
fn head(answer: &str) -> Option<String> {
    words(answer).into_iter().find(|word| !ARTICLES.contains(&word.as_str()))
}

/// A word with its first letter capital.
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// The words by which right answers begin, of all images' questions.
fn frequent(subjects: &Subjects) -> Frequent {
    let mut frequent = Frequent::new();
    for asked in subjects.all.iter().flat_map(|subject| &subject.questions) {
        if let Some(word) = asked.answer.as_deref().and_then(head) {
            *frequent.entry(asked.kind.clone()).or_default().entry(word).or_default() += 1;
        }
    }
    frequent
}

/// A wrong word to a right one.
fn other(right: &str, kind: &str, frequent: &Frequent) -> Option<String> {
    match right {
        "yes" => Some("no".to_string()),
        "no" => Some("yes".to_string()),
        _ => {
            // Of equals, the first in the alphabet.
            let others = frequent.get(kind)?.iter().rev().filter(|(word, _)| *word != right);
            others.max_by_key(|&(_, &count)| count).map(|(word, _)| word.clone())
        }
    }
}

/// Probability and rank by layer, over questions that were answered rightly.
fn figure(images: &[ImageRows]) -> Vec<Panel> {
    let curves = |column: &'static str| {
        mean_curves(images, move |row| {
            let which = if row.number("right")? > 0.0 { "right" } else { "wrong" };
            let layer = row.number("layer")? as i64;
            let name = format!("{which} word, {} case", row.text("case"));
            (row.number("correct")? > 0.0).then_some((name, layer, row.number(column)?))
        })
    };
    let panel = |title: &str, up: &str, range, series: Vec<Series>| Panel {
        title: title.to_string(),
        across: "layer".to_string(),
        up: up.to_string(),
        range,
        grid: false,
        series,
    };
    let title = "Probability at the last prompt position, of questions answered rightly";
    let ranks = "Rank at the last prompt position, of questions answered rightly";
    vec![
        panel(title, "probability, mean", Some([0.0, 1.0]), curves("probability")),
        panel(ranks, "tokens that are likelier, mean", None, curves("rank")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{studies::survey::subjects::Subject, trace::table::Value};

    #[test]
    fn words_are_the_first_that_say_something() {
        assert_eq!(head("A blue book.").as_deref(), Some("blue"));
        assert_eq!(head("yes").as_deref(), Some("yes"));
        assert_eq!([head("the"), head(" ?")], [None, None]);
        assert_eq!([capital("élan"), capital("4"), capital("")], ["Élan", "4", ""]);
    }

    #[test]
    fn the_wrong_word_is_the_other_or_the_most_frequent_of_its_type() {
        let asked = |kind: &str, answer: &str| Asked {
            kind: kind.to_string(),
            text: "?".to_string(),
            answer: Some(answer.to_string()),
        };
        let subject = |questions| Subject {
            image: "a.png".into(),
            name: "a.png".to_string(),
            questions,
            description: None,
            objects: Vec::new(),
        };
        let first = vec![asked("where", "top"), asked("where", "left"), asked("at", "a duck")];
        let second = vec![asked("where", "center"), asked("where", "top left"), asked("at", "the duck")];
        let all = vec![subject(first), subject(second)];
        let subjects = Subjects { dir: "scenes".into(), all, classes: Vec::new() };
        let frequent = frequent(&subjects);
        let other = |right: &str, kind: &str| other(right, kind, &frequent);
        assert_eq!(other("yes", "where").as_deref(), Some("no"));
        assert_eq!(other("no", "").as_deref(), Some("yes"));
        assert_eq!(other("left", "where").as_deref(), Some("top"));
        assert_eq!(other("top", "where").as_deref(), Some("center"));
        assert_eq!([other("duck", "at"), other("duck", "none")], [None, None]);
    }

    #[test]
    fn only_what_was_answered_rightly_is_drawn() {
        let row = |case: &str, right: usize, layer: usize, rank: usize, p: f32, correct: usize| {
            let (whole, p) = (1_usize, Value::Number(p));
            let word = if right == 1 { "yes" } else { "no" };
            vec![
                "?".into(),
                word.into(),
                case.into(),
                right.into(),
                whole.into(),
                layer.into(),
                rank.into(),
                p,
                correct.into(),
            ]
        };
        let rows = vec![
            row("lower", 1, 3, 0, 0.75, 1),
            row("lower", 0, 3, 4, 0.125, 1),
            row("lower", 1, 3, 2, 0.25, 1),
            row("lower", 1, 3, 90, 0.0, 0),
            row("upper", 1, 3, 6, 0.5, 1),
        ];
        let images =
            [ImageRows { image: "a.png".to_string(), columns: &KIND.columns[1..], rows, facts: vec![] }];
        let panels = figure(&images);
        let names: Vec<&str> = panels[0].series.iter().map(|curve| curve.name.as_str()).collect();
        assert_eq!(names, ["right word, lower case", "right word, upper case", "wrong word, lower case"]);
        let value = |panel: usize, curve: usize| panels[panel].series[curve].points[0].estimate.value;
        assert_eq!([value(0, 0), value(0, 1), value(0, 2)], [0.5, 0.5, 0.125]);
        assert_eq!([value(1, 0), value(1, 1), value(1, 2)], [1.0, 6.0, 4.0]);
    }
}
