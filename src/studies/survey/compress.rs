//! How much of an image further questions need once it has been described.
//!
//! Kaduri et al. (arXiv 2411.17491, "image re-prompting"): an image is described, the context is shortened, and the
//! folder's questions are asked against what is left of it, without the image; the described answer is not kept.
//! Contexts: `full`; `text + visual`, the best of the visual tokens in every layer beside the prompt's text;
//! `text only`; `visual only`, those tokens without any text, the beginning of the sequence included, as the authors'
//! code has it (there the question follows the last key kept, here it stands where it always stands).
//! [`Ranking`] says what is best; `fastv` keeps all visual tokens in its first layers, so that its `tokens` are a mean.
//!
//! An answer is right if its words are the known ones; where those are yes or no, if it begins with that word. Knows
//! one image; what a cache holds is `studies::compression`'s.

use crate::{
    engine::{baseline::Baseline, error::RunError, run::Reply},
    studies::{
        compression::{Compressed, Order, Ranking, Text, ask_after, follow_up, order, shorten},
        eval::score::{agree, is_right, words},
        survey::{
            bench::Bench,
            error::SurveyError,
            findings::{At, Estimate, ImageRows, Panel, Point, Row, Series, by_key},
            kind::Kind,
            settings::Settings,
            subjects::Asked,
        },
    },
    trace::{run::ModelInfo, table::Value},
};

/// The study.
pub const KIND: Kind = Kind {
    name: "compress",
    about: "right answers to further questions against a context of text and a few visual tokens, and what it takes in memory",
    source: "Kaduri et al., arXiv 2411.17491; FastV: Chen et al., arXiv 2403.06764",
    cost: "one description, and every question of the image against the whole context, text alone, and for each share of the visual tokens six more contexts; a question goes through the decoder without the image",
    columns: &["image", "context", "rank", "percent", "question", "tokens", "bytes", "right", "same"],
    settings: &["percents", "fastv"],
    plain: true,
    measure,
    panels,
};

/// Percentages of the visual tokens that stay, where nothing is said.
const PERCENTS: [f32; 4] = [2.0, 5.0, 10.0, 25.0];
/// FastV's layer, where nothing is said: its authors'.
const FASTV: usize = 2;

/// Tokens of an answer that are asked for first: most have ended by then, or can no longer be right or the same.
const BEGINNING: usize = 8;

const FULL: &str = "full";
const BOTH: &str = "text + visual";
const TEXT: &str = "text only";
const VISUAL: &str = "visual only";

/// A context to be asked.
struct Context {
    name: &'static str,
    /// How its visual tokens are ranked, where that matters.
    rank: Option<&'static str>,
    percent: f32,
    text: Text,
}

impl Context {
    /// Those that a ranking gives. Of the first one, also what any ranking would give, and visual tokens without text.
    fn of(rank: &'static str, percents: &[f32], first: bool) -> Vec<Context> {
        let part = |name, text| move |&percent: &f32| Context { name, rank: Some(rank), percent, text };
        let mut all = Vec::new();
        if first {
            all.push(Context { name: FULL, rank: None, percent: 100.0, text: Text::Prompt });
            all.push(Context { name: TEXT, rank: None, percent: 0.0, text: Text::Prompt });
            all.extend(percents.iter().map(part(VISUAL, Text::Nothing)));
        }
        all.extend(percents.iter().map(part(BOTH, Text::Prompt)));
        all
    }
}

impl std::fmt::Display for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rank {
            Some(rank) => write!(f, "{}, {} % by {rank}", self.name, self.percent),
            None => f.write_str(self.name),
        }
    }
}

/// A question with its tokens, as they go on behind the context.
type Questions = Vec<(Asked, Vec<u32>)>;

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let percents = percents(bench.settings)?;
    let rankings = rankings(bench.settings, bench.engine.info.n_layers)?;
    let Some(asked) = asked(bench) else { return Ok(()) };
    let describing = bench.experiment(&bench.describing().text, None);
    let baseline = bench.keep(&describing).map_err(|e| bench.of_image(e))?;
    let mut questions = Questions::new();
    for asked in asked {
        let turns = &baseline.experiment.turns;
        let text =
            follow_up(&bench.engine.folder, turns, &baseline.prompt, &asked.text, &[&bench.seen.geometry]);
        questions.push((asked, text.map_err(|e| bench.of_image(e))?));
    }
    let mut full = Vec::new();
    for (n, (rank, ranking)) in rankings.into_iter().enumerate() {
        let found = order(bench.engine, &baseline, ranking, bench.cancel);
        let Some(order) = or_left_out(bench, format!("ranking by {rank}"), found)? else { continue };
        for context in Context::of(rank, &percents, n == 0) {
            ask(bench, &baseline, &order, &context, &questions, &mut full)?;
        }
    }
    Ok(())
}

/// What was found, or nothing, and aloud, where this image or this model has no such thing.
fn or_left_out<T>(
    bench: &mut Bench<'_>,
    what: String,
    found: Result<T, RunError>,
) -> Result<Option<T>, SurveyError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e @ (RunError::Needs { .. } | RunError::Spec { .. })) => {
            bench.left_out(what, e.to_string());
            Ok(None)
        }
        Err(e) => Err(bench.of_image(e)),
    }
}

/// Asks every question against one context; `full` are the answers to the whole one, which comes first.
fn ask(
    bench: &mut Bench<'_>,
    baseline: &Baseline,
    order: &Order,
    context: &Context,
    questions: &Questions,
    full: &mut Vec<Reply>,
) -> Result<(), SurveyError> {
    let short = shorten(bench.engine, baseline, order, context.percent, context.text);
    let Some(short) = or_left_out(bench, context.to_string(), short)? else { return Ok(()) };
    let mut replies = Vec::with_capacity(questions.len());
    for (n, question) in questions.iter().enumerate() {
        let reply = answer(bench, &short, question, full.get(n));
        replies.push(reply.map_err(|e| bench.of_image(e))?);
    }
    if context.name == FULL {
        full.clone_from(&replies);
    }
    for (((asked, _), reply), whole) in questions.iter().zip(&replies).zip(full.iter()) {
        let row = row(bench, context, &short, asked, reply, whole);
        bench.row(row);
    }
    Ok(())
}

/// The answer to one question, as far as it matters: of one that is neither right nor the same as `whole`, the answer
/// to the whole context, its beginning.
fn answer(
    bench: &Bench<'_>,
    short: &Compressed,
    (asked, text): &(Asked, Vec<u32>),
    whole: Option<&Reply>,
) -> Result<Reply, RunError> {
    let ask = |length: usize| ask_after(bench.engine, short, text, length, bench.cancel);
    let length = bench.settings.length();
    let Some(whole) = whole.filter(|_| length > BEGINNING) else { return ask(length) };
    let begun = ask(BEGINNING)?;
    let ended = begun.ids.len() < BEGINNING || bench.engine.folder.is_end(begun.ids[BEGINNING - 1]);
    if ended || is_lost(&begun, whole, asked.answer.as_deref()) { Ok(begun) } else { ask(length) }
}

/// Whether an answer that begins so can be neither right nor the same as `whole`, however it goes on.
fn is_lost(begun: &Reply, whole: &Reply, gold: Option<&str>) -> bool {
    let wrong = gold.is_none_or(|gold| {
        // The last word may still grow, but those before it stand.
        words(&begun.text).len() > words(gold).len().max(1) && !is_right(&begun.text, gold, agree(gold))
    });
    wrong && !whole.ids.starts_with(&begun.ids)
}

/// One question against one context.
fn row(
    bench: &Bench<'_>,
    context: &Context,
    short: &Compressed,
    asked: &Asked,
    reply: &Reply,
    whole: &Reply,
) -> Vec<Value> {
    let right = asked.answer.as_ref().map(|gold| usize::from(is_right(&reply.text, gold, agree(gold))));
    vec![
        context.name.into(),
        context.rank.into(),
        context.percent.into(),
        asked.text.as_str().into(),
        short.tokens().into(),
        short.bytes(bench.engine).into(),
        right.into(),
        usize::from(reply.ids == whole.ids).into(),
    ]
}

/// What is asked later; nothing, and aloud, where there is no question. The right answer to a prompt is not known.
fn asked(bench: &mut Bench<'_>) -> Option<Vec<Asked>> {
    if bench.settings.prompt.is_some() {
        let prompt = bench.describing();
        return Some(vec![Asked { answer: None, ..prompt }]);
    }
    if bench.subject.questions.is_empty() {
        let why =
            "nothing is asked about this image that could be asked again: give questions with their answers";
        bench.left_out("questions", why);
        return None;
    }
    Some(bench.subject.questions.clone())
}

/// Percentages, each of them a share, in order.
fn percents(settings: &Settings) -> Result<Vec<f32>, SurveyError> {
    let mut percents = match settings.percents.is_empty() {
        true => PERCENTS.to_vec(),
        false => settings.percents.clone(),
    };
    percents.sort_unstable_by(f32::total_cmp);
    percents.dedup();
    match percents.iter().find(|percent| !(0.0..=100.0).contains(*percent)) {
        Some(wrong) => {
            let why = format!("{wrong} % of the visual tokens cannot stay: expected 0 to 100 %");
            Err(SurveyError::Choice(why))
        }
        None => Ok(percents),
    }
}

/// Rankings by name, the answer's first.
fn rankings(settings: &Settings, n_layers: usize) -> Result<[(&'static str, Ranking); 5], SurveyError> {
    if let Some(wrong) = settings.fastv.filter(|layer| !(1..n_layers).contains(layer)) {
        let why = format!(
            "FastV cannot begin at layer {wrong} of {n_layers}: the layer before it ranks the visual tokens, layers count from 0"
        );
        return Err(SurveyError::Choice(why));
    }
    Ok([
        ("answer", Ranking::Answer),
        ("question", Ranking::Question),
        ("norm", Ranking::Norm),
        ("random", Ranking::Random(settings.seed)),
        ("fastv", Ranking::FastV(settings.fastv.unwrap_or(FASTV))),
    ])
}

/// A figure of the study.
struct Measure {
    column: &'static str,
    title: &'static str,
    up: &'static str,
    /// A share of questions, or a size that all questions of an image have in common.
    share: bool,
}

const MEASURES: [Measure; 4] = [
    Measure { column: "right", title: "Right answers", up: "share of questions", share: true },
    Measure {
        column: "same",
        title: "Answers as with the whole context",
        up: "share of questions",
        share: true,
    },
    Measure { column: "tokens", title: "Keys that a layer keeps", up: "keys", share: false },
    Measure { column: "bytes", title: "Keys and values kept", up: "bytes", share: false },
];

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let mut panels = Vec::new();
    for measure in &MEASURES {
        let panel = |title: String, across: &str, series: Vec<Series>| Panel {
            title,
            across: across.to_string(),
            up: measure.up.to_string(),
            range: measure.share.then_some([0.0, 1.0]),
            grid: false,
            series,
        };
        let title = format!("{}, with the best visual tokens beside the text", measure.title);
        panels.push(panel(title, "visual tokens kept, %", curves(images, measure)));
        panels.push(panel(format!("{}, by context", measure.title), "context", bars(images, measure)));
    }
    panels.retain(|panel| !panel.series.is_empty());
    panels
}

/// A number above 0, or 0, as what sorts like it.
fn key(number: f64) -> u64 {
    // Such numbers and their bits have one order.
    number.to_bits()
}

/// One point of a figure: its numbers come image by image.
fn point(measure: &Measure, at: At, images: Vec<Vec<f64>>) -> Option<Point> {
    let estimate = if measure.share {
        let all: Vec<f64> = images.into_iter().flatten().collect();
        Estimate::share(all.iter().filter(|&&number| number > 0.0).count(), all.len())
    } else {
        let of_image = |numbers: Vec<f64>| numbers.into_iter().take(1).collect();
        Estimate::mean(&images.into_iter().map(of_image).collect::<Vec<_>>())?
    };
    Some(Point { at, estimate })
}

/// One curve a ranking, by the share of visual tokens that stay beside the text.
fn curves(images: &[ImageRows], measure: &Measure) -> Vec<Series> {
    let of = |row: &Row<'_>| {
        let percent = row.number("percent").filter(|_| row.text("context") == BOTH)?;
        Some(((row.text("rank").to_string(), key(percent)), row.number(measure.column)?))
    };
    let mut series: Vec<Series> = Vec::new();
    for ((name, percent), images) in by_key(images, of) {
        let point = point(measure, At::Number(f64::from_bits(percent)), images);
        match series.last_mut().filter(|last| last.name == name) {
            Some(last) => last.points.extend(point),
            None => series.push(Series { name, points: point.into_iter().collect() }),
        }
    }
    series
}

/// The whole context, text alone, and visual tokens alone.
fn bars(images: &[ImageRows], measure: &Measure) -> Vec<Series> {
    let of = |row: &Row<'_>| {
        let place = [FULL, TEXT, VISUAL].iter().position(|name| *name == row.text("context"))?;
        Some(((place, key(row.number("percent")?)), row.number(measure.column)?))
    };
    let bar = |((place, percent), images): ((usize, u64), Vec<Vec<f64>>)| {
        let name = match place {
            0 => FULL.to_string(),
            1 => TEXT.to_string(),
            _ => format!("{VISUAL}, {} %", f64::from_bits(percent)),
        };
        point(measure, At::Name(name), images)
    };
    let points: Vec<Point> = by_key(images, of).into_iter().filter_map(bar).collect();
    match points.is_empty() {
        true => Vec::new(),
        false => vec![Series { name: measure.title.to_string(), points }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_may_be_explained_and_a_place_may_not() {
        let right = |reply: &str, gold: &str| is_right(reply, gold, agree(gold));
        assert!(right("Yes, there is.", "yes") && !right("There is: yes.", "yes") && right("no", "No."));
        assert!(right("Top left.", "top left") && !right("top left corner", "top left"));
    }

    #[test]
    fn an_answer_is_given_up_once_nothing_can_save_it() {
        let reply = |ids: &[u32], text: &str| Reply { ids: ids.to_vec(), text: text.to_string() };
        let whole = reply(&[1, 2, 3], "a red bus");
        let lost = |ids: &[u32], text: &str, gold| is_lost(&reply(ids, text), &whole, gold);
        assert!(lost(&[1, 5], "a blue bus", Some("bus")));
        assert!(!lost(&[1, 2], "a red bus", Some("bus")), "it may become the whole context's");
        assert!(!lost(&[4, 5], "top", Some("top left")) && !lost(&[4, 5], "top lef", Some("top left")));
        assert!(!lost(&[4, 5], "yes there is", Some("yes")), "it is right already");
        assert!(lost(&[4, 5], "there is", Some("yes")) && !lost(&[4], "ye", Some("yes")));
        assert!(lost(&[4], "", None) && !lost(&[1], "a", None));
    }

    #[test]
    fn what_was_chosen_is_checked_before_anything_runs() {
        let of = |percents: &[f32]| percents_of(percents).map_err(|e| e.to_string());
        assert_eq!(of(&[]).unwrap(), PERCENTS);
        assert_eq!(of(&[2.5, 0.0, 100.0, 2.5]).unwrap(), [0.0, 2.5, 100.0]);
        assert!(of(&[5.0, 101.0]).unwrap_err().contains("101 %"));
        assert!(of(&[f32::NAN]).is_err());
        let of = |fastv: Option<usize>, n| rankings(&Settings { fastv, ..Settings::default() }, n);
        assert_eq!(of(None, 2).unwrap()[4].1, Ranking::FastV(2));
        assert_eq!(of(Some(5), 6).unwrap()[4].1, Ranking::FastV(5));
        assert!(of(Some(0), 6).is_err() && of(Some(6), 6).is_err());
    }

    fn percents_of(percents: &[f32]) -> Result<Vec<f32>, SurveyError> {
        super::percents(&Settings { percents: percents.to_vec(), ..Settings::default() })
    }

    #[test]
    fn contexts_that_no_ranking_changes_are_asked_once() {
        let names = |first| -> Vec<String> {
            Context::of("norm", &[2.5, 10.0], first).iter().map(Context::to_string).collect()
        };
        let both = ["text + visual, 2.5 % by norm", "text + visual, 10 % by norm"];
        assert_eq!(names(false), both);
        let alone = ["full", "text only", "visual only, 2.5 % by norm", "visual only, 10 % by norm"];
        assert_eq!(names(true), [&alone[..], &both[..]].concat());
    }

    fn image(name: &str, rows: Vec<Vec<Value>>) -> ImageRows {
        ImageRows { image: name.to_string(), columns: &KIND.columns[1..], rows, facts: vec![] }
    }

    fn row(context: &str, rank: Option<&'static str>, percent: f32, numbers: [usize; 4]) -> Vec<Value> {
        let [tokens, bytes, right, same] = numbers;
        let tokens = Value::Number(tokens as f32);
        vec![
            context.into(),
            rank.into(),
            percent.into(),
            "?".into(),
            tokens,
            bytes.into(),
            right.into(),
            same.into(),
        ]
    }

    #[test]
    fn shares_are_of_all_questions_and_sizes_of_all_images() {
        let answer = Some("answer");
        let images = [
            image(
                "a.png",
                vec![
                    row(FULL, None, 100.0, [50, 500, 1, 1]),
                    row(TEXT, None, 0.0, [10, 100, 0, 0]),
                    row(VISUAL, answer, 10.0, [4, 40, 1, 0]),
                    row(VISUAL, answer, 2.5, [1, 10, 0, 0]),
                    row(BOTH, answer, 10.0, [14, 140, 1, 1]),
                    row(BOTH, answer, 10.0, [14, 140, 1, 0]),
                    row(BOTH, answer, 10.0, [14, 140, 1, 0]),
                    row(BOTH, answer, 2.5, [11, 110, 0, 1]),
                    row(BOTH, Some("norm"), 10.0, [14, 140, 0, 0]),
                ],
            ),
            image("b.png", vec![row(BOTH, answer, 10.0, [24, 240, 0, 0])]),
        ];
        let [right, same, tokens, bytes] = &MEASURES;
        let found = curves(&images, right);
        let names: Vec<&str> = found.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["answer", "norm"]);
        let at: Vec<&At> = found[0].points.iter().map(|point| &point.at).collect();
        assert_eq!(at, [&At::Number(2.5), &At::Number(10.0)]);
        assert_eq!(found[0].points[1].estimate, Estimate::share(3, 4));
        assert_eq!(curves(&images, same)[0].points[1].estimate, Estimate::share(1, 4));
        // Both images count alike, whatever is asked about them.
        let size = curves(&images, tokens)[0].points[1].estimate;
        assert_eq!((size.n, size.value), (2, 19.0));
        assert_eq!(curves(&images, bytes)[0].points[1].estimate.value, 190.0);
        let found = bars(&images, bytes);
        let at: Vec<String> = found[0]
            .points
            .iter()
            .map(|point| match &point.at {
                At::Name(name) => name.clone(),
                At::Number(number) => number.to_string(),
            })
            .collect();
        assert_eq!(at, ["full", "text only", "visual only, 2.5 %", "visual only, 10 %"]);
        assert_eq!(found[0].points[0].estimate.value, 500.0);
    }

    #[test]
    fn what_is_not_known_has_no_panel() {
        let mut unknown = row(FULL, None, 100.0, [50, 500, 0, 1]);
        unknown[6] = Value::Nothing;
        let images = [image("a.png", vec![unknown])];
        let [right, same, ..] = &MEASURES;
        assert!(bars(&images, right).is_empty() && curves(&images, same).is_empty());
        assert_eq!(bars(&images, same)[0].points.len(), 1);
    }
}
