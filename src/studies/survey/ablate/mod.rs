//! Whether an answer about an object is lost when visual tokens are overwritten (Neo et al., arXiv 2410.07149).
//!
//! A row is one object, asked for in one way (`prompts`), with one set of tokens overwritten (`sets`): `wrong` is 1 where
//! the answer, which was right, is not right any more. Objects pass a gate (`gate`); rows of those that fail it with
//! the picture's own noise have `gate` 0 and count in no figure. `n` is how many tokens are overwritten, `area` the share
//! of the image that the object covers, `objects` how many the image is known to show.

mod gate;
mod prompts;
mod sets;

use std::collections::BTreeMap;

use crate::{
    engine::{baseline::Baseline, many::Scored},
    spec::{ablation::Fill, experiment::Intervention, sets::PatchSet},
    studies::{
        eval::score::ClassNames,
        survey::{
            ablate::{gate::Candidate, prompts::Prompt, sets::SETS},
            bench::Bench,
            error::SurveyError,
            findings::{At, Estimate, ImageRows, Panel, Point, Series},
            kind::Kind,
            settings::Settings,
        },
    },
    trace::{run::ModelInfo, table::Value},
};

/// The study.
pub const KIND: Kind = Kind {
    name: "ablate",
    about: "share of right answers about an object that turn wrong when its visual tokens, or others, are overwritten",
    source: "Neo et al., arXiv 2410.07149",
    cost: "an image: for each object two answers to each of three prompts, some 20 overwritten contexts scored \
           together, and those answers again that change; 50 passes with gradients for the description; every image of \
           the folder is encoded once more for the mean",
    columns: &["image", "object", "prompt", "objects", "area", "gate", "set", "n", "fill", "wrong"],
    settings: &["counts", "fills", "gradients"],
    plain: false,
    measure,
    panels,
};

/// What is the same for all objects of an image.
struct Plan {
    names: ClassNames,
    counts: Vec<usize>,
    fills: Vec<(String, Fill)>,
}

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let available = bench.seen.geometry.n_tokens();
    let (counts, beyond) = sets::counts(bench.settings, available)?;
    let fills = sets::fills(bench.settings, &bench.subject.image)?;
    for n in beyond {
        bench.left_out(format!("{n} tokens"), format!("the image has {available} visual tokens"));
    }
    let candidates = gate::candidates(bench)?;
    let plan = Plan { names: ClassNames::new(&bench.subjects.classes), counts, fills };
    // A given prompt is asked alone.
    let prompts = if bench.settings.prompt.is_some() { &Prompt::ALL[..1] } else { &Prompt::ALL[..] };
    for &prompt in prompts {
        let mut held: Option<Kept> = None;
        for candidate in &candidates {
            let mut kept = asked(bench, prompt, candidate, &plan.names, held.take())?;
            object(bench, prompt, candidate, &mut kept, &plan)?;
            held = Some(kept);
        }
    }
    Ok(())
}

/// An uncut answer, and those that are the same whichever object is looked at.
struct Kept {
    baseline: Baseline,
    /// By the intervention's text: what the model answers then.
    answers: BTreeMap<String, String>,
}

impl Kept {
    /// What the model answers where tokens are overwritten. `scored` is what that does to the uncut answer: one whose
    /// every token is still the likeliest is given again.
    fn answer(
        &mut self,
        bench: &Bench<'_>,
        candidate: &Candidate,
        intervention: &Intervention,
        scored: &[Scored],
    ) -> Result<String, SurveyError> {
        if scored.iter().all(|token| token.rank == 0) {
            return Ok(self.baseline.trace.answer_text());
        }
        let text = intervention.to_string();
        if let Some(known) = self.answers.get(&text) {
            return Ok(known.clone());
        }
        let answer = bench.intervene(&self.baseline, intervention, &candidate.marked);
        let answer = answer.map_err(|e| bench.of_image(e))?.0.answer_text();
        if !intervention.patch_sets().contains(&PatchSet::Object) {
            self.answers.insert(text, answer.clone());
        }
        Ok(answer)
    }
}

/// The uncut answer; `held` where that is about the same question.
fn asked(
    bench: &Bench<'_>,
    prompt: Prompt,
    candidate: &Candidate,
    names: &ClassNames,
    held: Option<Kept>,
) -> Result<Kept, SurveyError> {
    let describing = bench.describing().text;
    let question = prompt.question(&describing, &bench.subject.questions, &candidate.class, names);
    let mut experiment = bench.experiment(&question.text, question.begins);
    experiment.record.pattern.none = true;
    match held {
        Some(held) if held.baseline.experiment == experiment => Ok(held),
        _ => {
            let baseline = bench.keep(&experiment).map_err(|e| bench.of_image(e))?;
            Ok(Kept { baseline, answers: BTreeMap::new() })
        }
    }
}

/// The rows of one object and prompt.
fn object(
    bench: &mut Bench<'_>,
    prompt: Prompt,
    candidate: &Candidate,
    kept: &mut Kept,
    plan: &Plan,
) -> Result<(), SurveyError> {
    let baseline = &kept.baseline;
    let (class, what) = (&candidate.class, format!("{}, {}", candidate.class, prompt.name()));
    let is_right = |answer: &str| prompt.is_right(answer, class, &plan.names);
    if !is_right(&baseline.trace.answer_text()) {
        bench.left_out(what, "the model's answer is not right with nothing overwritten");
        return Ok(());
    }
    let passed = candidate.is_lost(bench, prompt, &baseline.experiment, &plan.names)?;
    if !passed {
        let why = "the model is still right with the object noised out of the picture: its rows have gate 0 and count in \
                   no figure";
        bench.left_out(what, why);
    }
    let planned = sets::planned(bench, baseline, prompt, candidate, &plan.counts, &plan.fills)?;
    let all: Vec<_> = planned.iter().map(|one| one.intervention.clone()).collect();
    let scored = bench.score(baseline, &all, &candidate.marked).map_err(|e| bench.of_image(e))?;
    for (one, scored) in planned.into_iter().zip(scored) {
        let wrong = !is_right(&kept.answer(bench, candidate, &one.intervention, &scored)?);
        let row: [Value; 9] = [
            class.as_str().into(),
            prompt.name().into(),
            bench.subject.objects.len().into(),
            candidate.area.into(),
            usize::from(passed).into(),
            one.set.into(),
            one.n.into(),
            one.fill.into(),
            usize::from(wrong).into(),
        ];
        bench.row(row);
    }
    Ok(())
}

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    drawn(images)
}

/// One panel a prompt of which there are rows.
fn drawn(images: &[ImageRows]) -> Vec<Panel> {
    let series = Prompt::ALL.map(|prompt| (prompt, curves(images, prompt)));
    let there = series.into_iter().filter(|(_, series)| !series.is_empty());
    let panel = |(prompt, series): (Prompt, Vec<Series>)| Panel {
        title: format!("right answers that turn wrong, {} prompt", prompt.name()),
        across: "visual tokens overwritten".to_string(),
        up: "share of right answers that turn wrong".to_string(),
        range: Some([0.0, 1.0]),
        grid: false,
        series,
    };
    there.map(panel).collect()
}

/// What one point of a curve counts.
#[derive(Default)]
struct Tally {
    n: usize,
    wrong: usize,
    /// Tokens overwritten, of all together.
    tokens: f64,
}

/// One curve a set: over the number of tokens where that is chosen, else one point at their mean number. Rows whose
/// objects failed the gate do not count.
fn curves(images: &[ImageRows], prompt: Prompt) -> Vec<Series> {
    let mut tallies: BTreeMap<(usize, &str, Option<u64>), Tally> = BTreeMap::new();
    for row in images.iter().flat_map(ImageRows::iter) {
        let counts = row.text("prompt") == prompt.name() && row.number("gate") == Some(1.0);
        let set = SETS.iter().position(|set| *set == row.text("set"));
        let (true, Some(set), Some(n), Some(wrong)) = (counts, set, row.number("n"), row.number("wrong"))
        else {
            continue;
        };
        let at = sets::COUNTED.contains(&SETS[set]).then_some(n as u64);
        let tally = tallies.entry((set, row.text("fill"), at)).or_default();
        tally.n += 1;
        tally.wrong += usize::from(wrong > 0.0);
        tally.tokens += n;
    }
    let first = tallies.keys().next().map(|(_, fill, _)| *fill);
    let several = tallies.keys().any(|(_, fill, _)| Some(*fill) != first);
    let mut series: Vec<Series> = Vec::new();
    for ((set, fill, _), Tally { n, wrong, tokens }) in tallies {
        let name = if several { format!("{} = {fill}", SETS[set]) } else { SETS[set].to_string() };
        let point = Point { at: At::Number(tokens / n as f64), estimate: Estimate::share(wrong, n) };
        match series.last_mut().filter(|last| last.name == name) {
            Some(last) => last.points.push(point),
            None => series.push(Series { name, points: vec![point] }),
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Object, prompt, gate, set, n, fill, wrong.
    type Short = (&'static str, &'static str, usize, &'static str, usize, &'static str, usize);

    fn image(name: &str, rows: &[Short]) -> ImageRows {
        let row = |&(object, prompt, gate, set, n, fill, wrong): &Short| -> Vec<Value> {
            let area = Value::Number(0.1);
            vec![
                object.into(),
                prompt.into(),
                3_usize.into(),
                area,
                gate.into(),
                set.into(),
                n.into(),
                fill.into(),
                wrong.into(),
            ]
        };
        let rows = rows.iter().map(row).collect();
        ImageRows { image: name.to_string(), columns: &KIND.columns[1..], rows, facts: vec![] }
    }

    fn named<'a>(panel: &'a Panel, name: &str) -> &'a Series {
        panel.series.iter().find(|series| series.name == name).unwrap()
    }

    #[test]
    fn shares_are_of_right_answers_that_turn_wrong_behind_the_gate() {
        let images = [
            image(
                "a.png",
                &[
                    ("duck", "polling", 1, "object~1", 9, "mean", 1),
                    ("duck", "polling", 1, "random like object~1", 9, "mean", 0),
                    ("duck", "polling", 1, "random", 5, "mean", 0),
                    ("duck", "polling", 1, "random", 100, "mean", 1),
                    ("duck", "polling", 0, "object~1", 50, "mean", 0),
                    ("duck", "vqa", 1, "object", 4, "mean", 1),
                ],
            ),
            image(
                "b.png",
                &[
                    ("house", "polling", 1, "object~1", 16, "mean", 1),
                    ("apple", "polling", 1, "object~1", 20, "mean", 0),
                    ("apple", "polling", 1, "random", 5, "mean", 1),
                ],
            ),
        ];
        let panels = drawn(&images);
        assert_eq!(panels.len(), 2, "nothing was described");
        let polling = &panels[0];
        assert!(polling.title.contains("polling") && panels[1].title.contains("vqa"));
        let names: Vec<&str> = polling.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["object~1", "random like object~1", "random"]);
        // Of three objects, with 15 tokens on average, two are lost; the one that failed the gate is none of them.
        let object = &named(polling, "object~1").points;
        assert_eq!(object.len(), 1);
        assert_eq!((&object[0].at, object[0].estimate), (&At::Number(15.0), Estimate::share(2, 3)));
        let random: Vec<(&At, Estimate)> =
            named(polling, "random").points.iter().map(|point| (&point.at, point.estimate)).collect();
        let expected =
            [(&At::Number(5.0), Estimate::share(1, 2)), (&At::Number(100.0), Estimate::share(1, 1))];
        assert_eq!(random, expected);
        assert_eq!(named(&panels[1], "object").points[0].estimate, Estimate::share(1, 1));
    }

    #[test]
    fn fills_have_curves_of_their_own() {
        let rows = [
            ("duck", "generative", 1, "object", 4, "mean", 1),
            ("duck", "generative", 1, "object", 4, "zero", 0),
        ];
        let panels = drawn(&[image("a.png", &rows)]);
        let shares: Vec<(&str, f64)> =
            panels[0].series.iter().map(|s| (s.name.as_str(), s.points[0].estimate.value)).collect();
        assert_eq!(shares, [("object = mean", 1.0), ("object = zero", 0.0)]);
        assert!(drawn(&[]).is_empty());
    }
}
