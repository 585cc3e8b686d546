//! `effect`: what hiding each patch does to every word of a description.
//!
//! A row is an answer token and a patch: `delta` is the change of the token's natural log probability under
//! `answer -> visual[PATCH]~RINGS @ all`. Tokens count from 0, the end token among them; patches count over the image's
//! visual tokens. One that shows no patch has no rings.
//!
//! Facts are of words that name an object. A word's map is the fall (`-delta`, summed over its tokens) that hiding each
//! patch causes. `correlation`: Spearman's, of that map with the attention that the word's rows pay each patch, by head
//! and of the heads' mean. `inside`: the share of all that falls (rises count as 0) that lies on the object's patches,
//! those of which it covers more than a quarter; `chance`: their share of the patches; `peak`: 1 where the largest fall
//! is one of them. `object`: what `answer -> object @ all` does to the word; `random`: what hiding as many random
//! patches does.

use crate::{
    engine::{baseline::Baseline, many::Scored},
    spec::{
        experiment::Intervention,
        sets::{Name, Numbers, PatchSet, Set, Term},
        span::Span,
        study::{block, term},
    },
    statistics::rank::{correlation, mean_ranks, ranked, shuffled},
    studies::survey::{
        bench::{Bench, Fact},
        error::SurveyError,
        findings::{At, Estimate, ImageRows, Panel, Point, Series, facts_by_key, gathered},
        kind::Kind,
        named::{Named, named, share},
        settings::{Flow, Settings},
    },
    trace::run::{ModelInfo, Trace},
};

/// The study.
pub const KIND: Kind = Kind {
    name: "effect",
    about: "what hiding each patch does to every word, and how that goes with attention and with the object's mask",
    source: "Sightline's own; its effect map over many images",
    cost: "one description, a scored cut for every visual token, and five for every word that names an object",
    columns: &["image", "token", "text", "patch", "delta"],
    settings: &["rings"],
    plain: true,
    measure,
    panels,
};

/// Random draws of patches a word.
const DRAWS: u64 = 4;

/// Shares of the patches that are asked how much of a token's fall they carry, in percent.
const PERCENT: [usize; 4] = [1, 5, 10, 25];

const CORRELATION: &str = "correlation";
const INSIDE: &str = "inside";
const CHANCE: &str = "chance";
const PEAK: &str = "peak";
const OBJECT: &str = "object";
const RANDOM: &str = "random";

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let baseline = bench.ask(&bench.describing()).map_err(|e| bench.of_image(e))?;
    let rings = bench.settings.rings.unwrap_or_default();
    let patches = patches(bench, rings);
    let cuts: Vec<Intervention> =
        patches.iter().map(|&patch| hiding(Term { rings, ..block(&[patch]) })).collect();
    let scored = bench.score(&baseline, &cuts, &bench.seen).map_err(|e| bench.of_image(e))?;
    for (token, said) in baseline.trace.answer.iter().enumerate() {
        for (&patch, scored) in patches.iter().zip(&scored) {
            let delta = scored[token].delta;
            bench.row([token.into(), said.text.as_str().into(), patch.into(), delta.into()]);
        }
    }
    // Of another image, other patches are drawn.
    let number = bench.subjects.all.iter().position(|subject| subject.name == bench.subject.name);
    let mut draws = ((number.unwrap_or_default() as u64) << 32)..;
    for word in named(bench, &baseline.trace)? {
        let falls: Vec<f32> = scored.iter().map(|scored| -change(&word, scored)).collect();
        against_attention(bench, &baseline.trace, &word, &patches, &falls);
        against_mask(bench, &word, &patches, &falls);
        against_random(bench, &baseline, &word, &mut draws)?;
    }
    Ok(())
}

/// `answer -> KEY @ all`.
fn hiding(key: Term) -> Intervention {
    let query = Set(vec![term(Name::Span(Span::Answer))]);
    Flow { query, key: Set(vec![key]) }.cut(Numbers::All)
}

/// The visual tokens that can be hidden with so many rings.
fn patches(bench: &mut Bench<'_>, rings: usize) -> Vec<usize> {
    let shows = |patch: &usize| rings == 0 || bench.seen.geometry.cell_of(*patch).is_some();
    let (patches, others): (Vec<usize>, Vec<usize>) = (0..bench.patches().len()).partition(shows);
    for patch in others {
        bench.left_out(
            format!("patch {patch}"),
            "it is a visual token that shows no patch, and has no neighbours",
        );
    }
    patches
}

/// What a cut does to a word.
fn change(word: &Named, scored: &[Scored]) -> f32 {
    word.places.iter().map(|&place| scored[place].delta).sum()
}

/// How a word's map goes with the attention of its rows.
fn against_attention(bench: &mut Bench<'_>, trace: &Trace, word: &Named, patches: &[usize], falls: &[f32]) {
    let falls = mean_ranks(falls);
    for layer in 0..trace.model.n_layers {
        let mut mean = vec![0.0; patches.len()];
        for (head, paid) in word.paid(trace, layer).iter().enumerate() {
            let paid: Vec<f32> = patches.iter().map(|&patch| paid[patch]).collect();
            bench.fact(CORRELATION, Some(layer), Some(head), correlation(&mean_ranks(&paid), &falls));
            mean.iter_mut().zip(paid).for_each(|(mean, paid)| *mean += paid);
        }
        bench.fact(CORRELATION, Some(layer), None, correlation(&mean_ranks(&mean), &falls));
    }
}

/// How much of a word's map lies on the object.
fn against_mask(bench: &mut Bench<'_>, word: &Named, patches: &[usize], falls: &[f32]) {
    let inside = word.inside();
    let inside: Vec<bool> = patches.iter().map(|&patch| inside[patch]).collect();
    match on(falls, &inside) {
        Some((fallen, peak)) => {
            bench.fact(INSIDE, None, None, fallen);
            bench.fact(PEAK, None, None, f32::from(u8::from(peak)));
            bench.fact(CHANCE, None, None, share(&inside));
        }
        None => bench.left_out(
            format!("{} (token {}): its map against the mask", word.class, word.first()),
            "hiding no patch makes the word less likely",
        ),
    }
}

/// The share of all falls that is the members', and whether the largest is; `None` where nothing falls.
fn on(falls: &[f32], members: &[bool]) -> Option<(f32, bool)> {
    let peak = *ranked(falls).first()?;
    let fell = |fall: &f32| f64::from(fall.max(0.0));
    let all: f64 = falls.iter().map(fell).sum();
    let inside: f64 = falls.iter().zip(members).filter(|(_, member)| **member).map(|(f, _)| fell(f)).sum();
    (all > 0.0).then(|| ((inside / all) as f32, members[peak]))
}

/// What hiding the object does to a word, and what hiding as many random patches does: the mean of some draws.
fn against_random(
    bench: &mut Bench<'_>,
    baseline: &Baseline,
    word: &Named,
    draws: &mut impl Iterator<Item = u64>,
) -> Result<(), SurveyError> {
    let Some(marked) = bench.marked(word.object)? else { return Ok(()) };
    let members = marked.object.iter().flatten().filter(|member| **member).count();
    let all: Vec<usize> = (0..bench.patches().len()).collect();
    let random = |draw: u64| {
        let mut drawn = shuffled(&all, bench.settings.seed, draw);
        drawn.truncate(members);
        drawn.sort_unstable();
        hiding(block(&drawn))
    };
    let mut cuts = vec![hiding(term(Name::Patches(PatchSet::Object)))];
    cuts.extend(draws.take(DRAWS as usize).map(random));
    let scored = bench.score(baseline, &cuts, &marked).map_err(|e| bench.of_image(e))?;
    let changes: Vec<f32> = scored.iter().map(|scored| change(word, scored)).collect();
    bench.fact(OBJECT, None, None, changes[0]);
    bench.fact(RANDOM, None, None, changes[1..].iter().sum::<f32>() / DRAWS as f32);
    Ok(())
}

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let panel = |title: &str, across: &str, up: &str, range: Option<[f64; 2]>, series: Vec<Series>| Panel {
        title: title.to_string(),
        across: across.to_string(),
        up: up.to_string(),
        range,
        grid: false,
        series,
    };
    vec![
        panel(
            "A word's effect map against the attention of its rows",
            "layer",
            "rank correlation over patches",
            Some([-1.0, 1.0]),
            correlations(images),
        ),
        panel(
            "A word's effect map against the object that it names",
            "",
            "share",
            Some([0.0, 1.0]),
            mask(images),
        ),
        panel(
            "Hiding the object, and as many random patches",
            "",
            "change of log probability, nats a word",
            None,
            control(images),
        ),
        panel(
            "How few patches carry a token's effect",
            "patches, % of all, those of the largest fall first",
            "share of the fall",
            Some([0.0, 1.0]),
            concentration(images),
        ),
    ]
}

/// By layer: of the heads' mean, and of the head whose correlation is the highest there over all words.
fn correlations(images: &[ImageRows]) -> Vec<Series> {
    let of = |fact: &Fact| (fact.name == CORRELATION).then_some((fact.layer?, fact.head));
    let (mut mean, mut best): (Vec<Point>, Vec<Point>) = (Vec::new(), Vec::new());
    for ((layer, head), numbers) in facts_by_key(images, of) {
        let Some(estimate) = Estimate::mean(&numbers) else { continue };
        let point = Point { at: At::Number(layer as f64), estimate };
        match (head, best.last_mut().filter(|last| last.at == point.at)) {
            (None, _) => mean.push(point),
            (Some(_), Some(last)) if last.estimate.value >= estimate.value => {}
            (Some(_), Some(last)) => *last = point,
            (Some(_), None) => best.push(point),
        }
    }
    let named = |name: &str, points: Vec<Point>| Series { name: name.to_string(), points };
    let all = [named("mean of heads", mean), named("best head, chosen on these images", best)];
    all.into_iter().filter(|series| !series.points.is_empty()).collect()
}

/// The share of a map's falls that lies on the object, and how often its largest does, both beside chance.
fn mask(images: &[ImageRows]) -> Vec<Series> {
    let numbers = |name: &str| facts_by_key(images, |fact| (fact.name == name).then_some(())).remove(&());
    let (Some(inside), Some(peak), Some(chance)) = (numbers(INSIDE), numbers(PEAK), numbers(CHANCE)) else {
        return Vec::new();
    };
    let peaks: Vec<f64> = peak.into_iter().flatten().collect();
    let peak = Estimate::share(peaks.iter().filter(|&&peak| peak > 0.0).count(), peaks.len());
    let chance = Estimate::mean(&chance);
    let points = [
        ("effect map", "all falls", Estimate::mean(&inside)),
        ("effect map", "largest fall", Some(peak)),
        ("chance", "all falls", chance),
        ("chance", "largest fall", chance),
    ];
    gathered(points.into_iter().filter_map(|(series, at, estimate)| {
        Some((series.to_string(), Point { at: At::Name(at.to_string()), estimate: estimate? }))
    }))
}

/// What hiding the object does to its word, and what random patches do.
fn control(images: &[ImageRows]) -> Vec<Series> {
    let bars = [(OBJECT, "the object"), (RANDOM, "as many random patches")];
    gathered(bars.into_iter().filter_map(|(name, at)| {
        let numbers = facts_by_key(images, |fact| (fact.name == name).then_some(()));
        let estimate = Estimate::mean(numbers.get(&())?)?;
        Some((String::new(), Point { at: At::Name(at.to_string()), estimate }))
    }))
}

/// What share of a token's falls the patches of the largest carry: means over tokens that fall at all.
fn concentration(images: &[ImageRows]) -> Vec<Series> {
    let maps: Vec<Vec<Vec<f64>>> = images.iter().map(maps).collect();
    let point = |percent: usize| {
        let of_image = |maps: &Vec<Vec<f64>>| maps.iter().filter_map(|map| carried(map, percent)).collect();
        let estimate = Estimate::mean(&maps.iter().map(of_image).collect::<Vec<Vec<f64>>>())?;
        Some((String::new(), Point { at: At::Number(percent as f64), estimate }))
    };
    gathered(PERCENT.into_iter().filter_map(point))
}

/// One image's tokens: by how much each patch makes each less likely, the largest first.
fn maps(image: &ImageRows) -> Vec<Vec<f64>> {
    let mut maps: Vec<(Option<f64>, Vec<f64>)> = Vec::new();
    for row in image.iter() {
        let (token, delta) = (row.number("token"), row.number("delta").unwrap_or_default());
        match maps.last_mut().filter(|(last, _)| *last == token) {
            Some((_, map)) => map.push((-delta).max(0.0)),
            None => maps.push((token, vec![(-delta).max(0.0)])),
        }
    }
    let sorted = |(_, mut map): (Option<f64>, Vec<f64>)| {
        map.sort_unstable_by(|a, b| b.total_cmp(a));
        map
    };
    maps.into_iter().map(sorted).collect()
}

/// The share of all falls, the largest first, that the first of them carry: so many percent, and one at least. `None`
/// where nothing falls.
fn carried(falls: &[f64], percent: usize) -> Option<f64> {
    let all: f64 = falls.iter().sum();
    let first = (falls.len() * percent).div_ceil(100).max(1);
    (all > 0.0).then(|| falls.iter().take(first).sum::<f64>() / all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hiding_is_a_cut_that_could_be_typed() {
        let typed = |cut: Intervention| cut.knockouts[0].to_string();
        assert_eq!(typed(hiding(block(&[7]))), "answer -> visual[7] @ all");
        assert_eq!(typed(hiding(Term { rings: 2, ..block(&[7]) })), "answer -> visual[7]~2 @ all");
        assert_eq!(typed(hiding(block(&[3, 4, 9]))), "answer -> visual[3-4,9] @ all");
        assert_eq!(typed(hiding(term(Name::Patches(PatchSet::Object)))), "answer -> object @ all");
    }

    #[test]
    fn only_falls_count_on_the_object() {
        let falls = [1.0, -9.0, 3.0, 0.0];
        assert_eq!(on(&falls, &[false, false, true, false]), Some((0.75, true)));
        assert_eq!(on(&falls, &[true, true, false, true]), Some((0.25, false)));
        assert_eq!(on(&[-1.0, 0.0], &[true, true]), None);
        assert_eq!(on(&[], &[]), None);
    }

    #[test]
    fn the_first_patches_carry_their_share() {
        let mut falls = vec![0.0; 20];
        falls[..3].copy_from_slice(&[6.0, 3.0, 1.0]);
        let carried = |percent| carried(&falls, percent);
        assert_eq!([1, 5, 10, 25].map(carried), [0.6, 0.6, 0.9, 1.0].map(Some));
        assert_eq!(super::carried(&[0.0; 4], 25), None);
    }
}
