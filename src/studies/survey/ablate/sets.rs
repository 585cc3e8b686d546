//! What is overwritten, and with what: the object and its neighbourhood, unusual tokens, and any number of random ones or
//! of those with the highest gradient.
//!
//! Where a model adds further features of the image after its first layers, they go with the tokens: else the object
//! would still be there. Knows the grammar; runs nothing but the uncut answer's gradient.

use std::path::Path;

use crate::{
    engine::{baseline::Baseline, error::RunError, resume::overwritten},
    spec::{
        ablation::{Ablation, Fill},
        experiment::Intervention,
        parse::parse_set,
    },
    studies::survey::{
        ablate::{gate::Candidate, prompts::Prompt},
        bench::Bench,
        error::SurveyError,
        settings::Settings,
    },
};

/// Sets of the grammar whose sizes the image decides.
const NAMED: [&str; 4] = ["object", "object~1", "object~2", "register"];
/// The neighbourhood that random tokens are matched to, and what rows call as many of them.
const MATCHED: (&str, &str) = ("object~1", "random like object~1");
/// Ranked sets of which as many as wished are taken.
pub const COUNTED: [&str; 2] = ["random", "gradient"];
/// What rows call all sets, in the order of the figure.
pub const SETS: [&str; 7] =
    ["object", "object~1", "object~2", "register", "random like object~1", "random", "gradient"];
/// Numbers of tokens where none are chosen: those of the paper.
const COUNTS: [usize; 7] = [5, 10, 20, 40, 60, 100, 250];

/// One set with one fill.
pub struct Planned {
    /// What rows call the set.
    pub set: &'static str,
    /// How many tokens are overwritten.
    pub n: usize,
    /// With what.
    pub fill: String,
    /// As it could be typed.
    pub intervention: Intervention,
}

/// What tokens become, by name: the chosen fills, else the mean over the images beside this one.
///
/// # Errors
/// [`SurveyError::Choice`]: a fill that the study does not know.
pub fn fills(settings: &Settings, image: &Path) -> Result<Vec<(String, Fill)>, SurveyError> {
    let dir = image.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fill = |name: &str| match name {
        "mean" => Ok(Fill::MeanOf(dir.to_path_buf())),
        "zero" => Ok(Fill::Zero),
        "noise" => Ok(Fill::Noise),
        _ => Err(SurveyError::Choice(format!(
            "`{name}` is no fill of this study: it has mean, zero and noise"
        ))),
    };
    match settings.fills.is_empty() {
        true => Ok(vec![("mean".to_string(), fill("mean")?)]),
        false => settings.fills.iter().map(|name| Ok((name.clone(), fill(name)?))).collect(),
    }
}

/// How many tokens of the ranked sets are overwritten in turn, of an image with `available`; and those that it has not.
///
/// # Errors
/// [`SurveyError::Choice`] for none.
pub fn counts(settings: &Settings, available: usize) -> Result<(Vec<usize>, Vec<usize>), SurveyError> {
    let mut counts = settings.counts.clone();
    if counts.is_empty() {
        counts = COUNTS.to_vec();
    }
    counts.sort_unstable();
    counts.dedup();
    if counts.first() == Some(&0) {
        return Err(SurveyError::Choice("0 visual tokens cannot be overwritten: 1 at least".to_string()));
    }
    Ok(counts.into_iter().partition(|&n| n <= available))
}

/// All that is overwritten of one image for one object; a named set that has no member is left out aloud, once an image.
///
/// # Errors
/// [`SurveyError`]; also when cancelled.
pub fn planned(
    bench: &mut Bench<'_>,
    baseline: &Baseline,
    prompt: Prompt,
    candidate: &Candidate,
    counts: &[usize],
    fills: &[(String, Fill)],
) -> Result<Vec<Planned>, SurveyError> {
    let mut sets: Vec<(&'static str, usize, String)> = Vec::new();
    for text in NAMED {
        let plain = overwriting(bench, text, Fill::Zero)?;
        let seen = [&candidate.marked];
        match overwritten(bench.engine, baseline, &plain, &seen, bench.cancel) {
            Ok(n) => sets.push((text, n, text.to_string())),
            Err(RunError::Ablation { why, .. }) => left_out_once(bench, text, &why),
            Err(e) => return Err(bench.of_image(e)),
        }
    }
    let first = |set: &str, n: usize| format!("{set}[0-{}]", n.saturating_sub(1));
    let (like, name) = MATCHED;
    if let Some(&(_, n, _)) = sets.iter().find(|(set, ..)| *set == like) {
        sets.push((name, n, first("random", n)));
    }
    let by_gradient = bench.settings.gradients || prompt == Prompt::Generative;
    if !by_gradient {
        let why = "ranking by gradient takes 50 passes forth and back a question: it is done where asked for (gradients)";
        left_out_once(bench, &format!("gradient, {}", prompt.name()), why);
    }
    for set in COUNTED.into_iter().filter(|set| by_gradient || *set != "gradient") {
        sets.extend(counts.iter().map(|&n| (set, n, first(set, n))));
    }
    let mut all = Vec::with_capacity(fills.len() * sets.len());
    for (name, fill) in fills {
        for &(set, n, ref text) in &sets {
            let intervention = overwriting(bench, text, fill.clone())?;
            all.push(Planned { set, n, fill: name.clone(), intervention });
        }
    }
    Ok(all)
}

/// The ablation of a set, as written.
fn overwriting(bench: &Bench<'_>, set: &str, fill: Fill) -> Result<Intervention, SurveyError> {
    let tokens = parse_set(set).map_err(SurveyError::Choice)?;
    let deepstack = bench.engine.info.deepstack > 0;
    Ok(Intervention { knockouts: Vec::new(), ablations: vec![Ablation { tokens, fill, deepstack }] })
}

/// Of several objects and prompts, the first says it for all.
fn left_out_once(bench: &mut Bench<'_>, what: &str, why: &str) {
    if !bench.found.left_out.iter().any(|one| one.what == what && one.why == why) {
        bench.left_out(what, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_tokens_are_those_of_the_paper_as_far_as_the_image_has_them() {
        let split = |chosen: &[usize], available| {
            let settings = Settings { counts: chosen.to_vec(), ..Settings::default() };
            counts(&settings, available).map_err(|e| e.to_string())
        };
        assert_eq!(split(&[], 144), Ok((vec![5, 10, 20, 40, 60, 100], vec![250])));
        assert_eq!(split(&[40, 7, 40, 144], 144), Ok((vec![7, 40, 144], vec![])));
        assert!(split(&[0, 3], 144).unwrap_err().contains("1 at least"));
    }

    #[test]
    fn the_mean_is_that_of_the_images_beside_this_one() {
        let fills_of = |names: &[&str], image: &str| {
            let settings =
                Settings { fills: names.iter().map(ToString::to_string).collect(), ..Settings::default() };
            fills(&settings, Path::new(image)).map_err(|e| e.to_string())
        };
        let mean = |dir: &str| ("mean".to_string(), Fill::MeanOf(dir.into()));
        assert_eq!(fills_of(&[], "/a/images/b.png"), Ok(vec![mean("/a/images")]));
        assert_eq!(fills_of(&["mean"], "b.png"), Ok(vec![mean(".")]));
        let others = vec![("noise".to_string(), Fill::Noise), ("zero".to_string(), Fill::Zero)];
        assert_eq!(fills_of(&["noise", "zero"], "b.png"), Ok(others));
        assert!(fills_of(&["grey"], "b.png").unwrap_err().contains("`grey` is no fill of this study"));
    }
}
