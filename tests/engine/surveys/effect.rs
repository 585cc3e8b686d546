//! `effect`: every row against the cut as it would be typed, its facts against their definitions.

use sightline::{
    engine::{baseline::Baseline, resume::effects, see::Seen},
    progress::Cancel,
    spec::{
        experiment::{Experiment, Intervention},
        picture::ImageSource,
    },
    studies::survey::{
        bench::{Bench, DESCRIBE, Fact},
        course::Course,
        findings::{At, Estimate, ImageRows, Panel, Row, Series},
        kinds,
        record::Measured,
        settings::Settings,
    },
    trace::{run::Trace, table::Value, tokens::visual, words},
};

use super::{BUNDLED, course, keep, measured, scenes};

/// The description of an image, asked as studies ask for it.
pub fn described(course: &Course, n: usize) -> (Baseline, Seen) {
    let image = &course.subjects.all[n].image;
    keep(&Experiment::ask(ImageSource::File(image.clone()), DESCRIBE, 128), image)
}

/// What a typed cut does to every token.
pub fn typed(baseline: &Baseline, seen: &Seen, cut: &str) -> Vec<f32> {
    let intervention = Intervention { knockouts: vec![cut.parse().unwrap()], ablations: vec![] };
    let effects = effects(&BUNDLED, baseline, &intervention, &[seen], &Cancel::default()).unwrap();
    effects.iter().map(|effect| effect.delta).collect()
}

#[track_caller]
pub fn same(found: f64, expected: f32) {
    assert!((found - f64::from(expected)).abs() < 1e-5, "found {found}, expected {expected}");
}

/// A word that names an object, by the definition: the object, its share of every patch, and the word's tokens.
pub struct Worded {
    pub object: usize,
    pub covered: Vec<f32>,
    /// Its tokens' places in the answer.
    pub places: Vec<usize>,
}

/// Words that name an object which is the only one of its class and fills a patch.
pub fn worded(bench: &Bench<'_>, trace: &Trace) -> Vec<Worded> {
    let objects = &bench.subject.objects;
    let mut all = Vec::new();
    for (object, thing) in objects.iter().enumerate() {
        let only = objects.iter().filter(|other| other.class == thing.class).count() == 1;
        let covered = bench.covered(object).unwrap().unwrap();
        if !only || covered.iter().all(|&share| share <= 0.25) {
            continue;
        }
        for word in words::find(&words::answer(trace), &thing.class) {
            let places = word.positions.iter().map(|p| p - trace.prompt.len()).collect();
            all.push(Worded { object, covered: covered.clone(), places });
        }
    }
    all
}

/// Spearman's rank correlation, by definition.
fn spearman(a: &[f32], b: &[f32]) -> f64 {
    let ranks = |of: &[f32]| -> Vec<f64> {
        let rank = |v: &f32| {
            let alike = of.iter().filter(|other| *other == v).count() - 1;
            of.iter().filter(|other| *other < v).count() as f64 + alike as f64 / 2.0
        };
        of.iter().map(rank).collect()
    };
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let both = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    both(&a, &b) / (both(&a, &a) * both(&b, &b)).sqrt()
}

#[test]
fn every_row_is_a_cut_that_could_be_typed() {
    for rings in [0, 1] {
        let settings = Settings { rings: Some(rings), ..Settings::default() };
        let course = course("effect", settings, scenes(1));
        let (images, _) = measured(&course);
        let (baseline, seen) = described(&course, 0);
        let (answer, patches) = (&baseline.trace.answer, visual(&baseline.trace.prompt).len());
        assert!(answer.last().unwrap().end, "the end token counts");
        let rows: Vec<Row<'_>> = images[0].iter().collect();
        assert_eq!(rows.len(), answer.len() * patches);
        for (n, row) in rows.iter().enumerate() {
            let place = (row.number("token").unwrap(), row.number("patch").unwrap());
            assert_eq!(place, ((n / patches) as f64, (n % patches) as f64));
            assert_eq!(row.text("text"), answer[n / patches].text);
        }
        for patch in [0, 40, patches - 1] {
            let ring = if rings > 0 { format!("~{rings}") } else { String::new() };
            let deltas = typed(&baseline, &seen, &format!("answer -> visual[{patch}]{ring} @ all"));
            for (token, &delta) in deltas.iter().enumerate() {
                same(rows[token * patches + patch].number("delta").unwrap(), delta);
            }
        }
    }
}

#[test]
fn facts_are_what_rows_attention_and_mask_say() {
    let course = course("effect", Settings::default(), scenes(1));
    let (images, all) = measured(&course);
    let (baseline, seen) = described(&course, 0);
    let trace = &baseline.trace;
    let positions = visual(&trace.prompt);
    let cancel = Cancel::default();
    let subject = &course.subjects.all[0];
    let bench = Bench::new(&BUNDLED, &course.settings, &course.subjects, subject, seen, &cancel);
    let words = worded(&bench, trace);
    assert!(!words.is_empty(), "the description names no object");
    let facts = |name: &str| -> Vec<f64> {
        all[0].facts.iter().filter(|fact| fact.name == name).map(|fact| f64::from(fact.value)).collect()
    };
    let rows: Vec<Row<'_>> = images[0].iter().collect();
    let delta = |token: usize, patch: usize| rows[token * positions.len() + patch].number("delta").unwrap();
    for (n, word) in words.iter().enumerate() {
        let falls: Vec<f32> = (0..positions.len())
            .map(|patch| -word.places.iter().map(|&token| delta(token, patch) as f32).sum::<f32>())
            .collect();
        let inside: Vec<bool> = word.covered.iter().map(|&share| share > 0.25).collect();
        let fell = |only: bool| -> f32 {
            let counted = falls.iter().zip(&inside).filter(|(_, inside)| **inside || !only);
            counted.map(|(fall, _)| fall.max(0.0)).sum()
        };
        same(facts("inside")[n], fell(true) / fell(false));
        let peak = (0..falls.len()).max_by(|&a, &b| falls[a].total_cmp(&falls[b])).unwrap();
        same(facts("peak")[n], f32::from(u8::from(inside[peak])));
        let members = inside.iter().filter(|inside| **inside).count();
        same(facts("chance")[n], members as f32 / inside.len() as f32);

        let (layer, head) = (trace.model.n_layers - 1, trace.model.n_heads - 1);
        let paid: Vec<f32> = positions
            .iter()
            .map(|&position| {
                word.places.iter().map(|&row| trace.pattern[row].head(layer, head)[position]).sum()
            })
            .collect();
        let mut of_head =
            all[0].facts.iter().filter(|fact| (fact.layer, fact.head) == (Some(layer), Some(head)));
        same(of_head.nth(n).unwrap().value.into(), spearman(&paid, &falls) as f32);

        let marked = bench.marked(word.object).unwrap().unwrap();
        let cut = typed(&baseline, &marked, "answer -> object @ all");
        same(facts("object")[n], word.places.iter().map(|&token| cut[token]).sum());
    }
    assert_eq!(facts("random").len(), words.len());
    let text = serde_json::to_string(&all[0]).unwrap();
    assert_eq!(serde_json::from_str::<Measured>(&text).unwrap(), all[0], "facts survive their file");
}

/// An image of one study, as if measured.
pub fn image(study: &str, rows: Vec<Vec<Value>>, facts: Vec<Fact>) -> ImageRows {
    let columns = &kinds::of(study).unwrap().columns[1..];
    ImageRows { image: String::new(), columns, rows, facts }
}

pub fn fact(name: &str, layer: Option<usize>, head: Option<usize>, value: f32) -> Fact {
    Fact { name: name.to_string(), layer, head, value }
}

/// The panels of a study.
pub fn panels(study: &str, images: &[ImageRows]) -> Vec<Panel> {
    (kinds::of(study).unwrap().panels)(images, &Settings::default(), &BUNDLED.info)
}

/// Places and figures of a curve.
pub fn points(series: &Series) -> Vec<(At, Estimate)> {
    series.points.iter().map(|point| (point.at.clone(), point.estimate)).collect()
}

#[track_caller]
pub fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "found {found}, expected {expected}");
}

#[test]
fn figures_are_those_of_the_facts() {
    let of = |facts: [f32; 8]| {
        let [mean, first, second, later, inside, peak, chance, object] = facts;
        let heads = [(0, None, mean), (0, Some(0), first), (0, Some(1), second), (1, Some(1), later)];
        let heads =
            heads.into_iter().map(|(layer, head, value)| fact("correlation", Some(layer), head, value));
        let bars =
            [("inside", inside), ("peak", peak), ("chance", chance), ("object", object), ("random", 1.0)];
        let bars = bars.into_iter().map(|(name, value)| fact(name, None, None, value));
        image("effect", vec![], heads.chain(bars).collect())
    };
    let images =
        [of([0.1, 0.2, 0.5, -0.5, 0.5, 1.0, 0.1, -2.0]), of([0.3, 0.4, 0.0, -0.1, 0.75, 0.0, 0.2, -4.0])];
    let [attention, mask, control, _] = &panels("effect", &images)[..] else { panic!("four panels") };

    let [mean, best] = &attention.series[..] else { panic!("two curves") };
    close(points(mean)[0].1.value, 0.2);
    let best = points(best);
    assert_eq!((best.len(), &best[0].0, &best[1].0), (2, &At::Number(0.0), &At::Number(1.0)));
    // Head 0's mean is 0.3, head 1's 0.25: no head is the best of one image alone.
    close(best[0].1.value, 0.3);
    close(best[1].1.value, -0.3);

    let [map, chance] = &mask.series[..] else { panic!("map and chance") };
    close(points(map)[0].1.value, 0.625);
    assert_eq!(points(map)[1].1, Estimate::share(1, 2));
    close(points(chance)[0].1.value, 0.15);
    assert_eq!(points(chance)[0].1, points(chance)[1].1);

    let bars = points(&control.series[0]);
    assert_eq!((bars[0].1.value, bars[1].1.value), (-3.0, 1.0));
    assert!(panels("effect", &[]).iter().all(|panel| panel.series.is_empty()));
}

#[test]
fn concentration_is_of_tokens_that_fall() {
    let token = |token: usize, deltas: [f32; 3], others: f32| -> Vec<Vec<Value>> {
        let deltas = deltas.into_iter().chain([others; 17]).enumerate();
        deltas.map(|(patch, delta)| vec![token.into(), "a".into(), patch.into(), delta.into()]).collect()
    };
    // Of twenty patches: one falls by 6, one by 3, one by 1; all rise; all fall alike.
    let first = [token(0, [-3.0, -6.0, -1.0], 0.5), token(1, [1.0, 2.0, 3.0], 0.0)].concat();
    let images = [image("effect", first, vec![]), image("effect", token(0, [-1.0; 3], -1.0), vec![])];
    let all = panels("effect", &images);
    let curve = points(&all[3].series[0]);
    let places: Vec<At> = curve.iter().map(|(at, _)| at.clone()).collect();
    assert_eq!(places, [1.0, 5.0, 10.0, 25.0].map(At::Number));
    let means = [(0.6 + 0.05) / 2.0, (0.6 + 0.05) / 2.0, (0.9 + 0.1) / 2.0, (1.0 + 0.25) / 2.0];
    for ((_, estimate), mean) in curve.iter().zip(means) {
        close(estimate.value, mean);
        assert_eq!(estimate.n, 2);
    }
}
