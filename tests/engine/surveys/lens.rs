//! `lens`: counts against the lens read at every patch.

use std::collections::BTreeSet;

use sightline::{
    progress::Cancel,
    studies::{
        lens::{Lens, followed, lens},
        survey::{bench::Bench, findings::At, findings::ImageRows, findings::Row, settings::Settings},
    },
    trace::tokens::visual,
};

use super::{
    BUNDLED, course,
    effect::{close, described, image, panels, points},
    measured, scenes,
};

#[test]
fn counts_are_those_of_the_lens_at_every_patch() {
    let top = 3;
    let course = course("lens", Settings { top: Some(top), ..Settings::default() }, scenes(2));
    let (images, _) = measured(&course);
    for (n, subject) in course.subjects.all.iter().enumerate() {
        let (baseline, seen) = described(&course, n);
        let cancel = Cancel::default();
        let bench = Bench::new(&BUNDLED, &course.settings, &course.subjects, subject, seen, &cancel);
        let covered: Vec<Vec<f32>> =
            (0..subject.objects.len()).map(|object| bench.covered(object).unwrap().unwrap()).collect();
        let patches = covered[0].len();
        let background: Vec<usize> =
            (0..patches).filter(|&patch| covered.iter().all(|of| of[patch] == 0.0)).collect();
        let mut rows = images[n].iter();
        for (object, covered) in subject.objects.iter().zip(&covered) {
            let own: Vec<usize> = (0..patches).filter(|&patch| covered[patch] > 0.25).collect();
            if own.is_empty() {
                continue;
            }
            let id = followed(&BUNDLED.folder, &object.class).unwrap().id;
            let word = BUNDLED.folder.prompts.token_text(id).trim().to_lowercase();
            for (kind, patches) in [("object", &own), ("background", &background)] {
                let mut expected = by_layer(&baseline, patches, id, &word, top);
                let some: BTreeSet<usize> = expected.iter().flat_map(|(named, _)| named.clone()).collect();
                expected.push((some, 0));
                for (layer, (named, ranked)) in expected.iter().enumerate() {
                    let row: Row<'_> = rows.next().unwrap();
                    let place = (row.text("object"), row.text("kind"), row.text("token").to_lowercase());
                    assert_eq!(place, (object.class.as_str(), kind, word.clone()));
                    let last = layer + 1 == expected.len();
                    assert_eq!(row.number("layer"), (!last).then_some(layer as f64));
                    assert_eq!(row.number("patches"), Some(patches.len() as f64));
                    assert_eq!(row.number("named"), Some(named.len() as f64), "{kind} in layer {layer}");
                    assert!(named.len() >= *ranked, "the token itself is among the top and does not count");
                }
            }
        }
        assert!(rows.next().is_none());
    }
}

/// By layer: the patches that name a word among their top tokens, and how many have its own token there.
fn by_layer(
    baseline: &sightline::engine::baseline::Baseline,
    patches: &[usize],
    id: u32,
    word: &str,
    top: usize,
) -> Vec<(BTreeSet<usize>, usize)> {
    let all = visual(&baseline.trace.prompt);
    let positions = patches.iter().map(|&patch| all[patch]).collect();
    let at = Lens { positions, layers: vec![true; BUNDLED.info.n_layers], top, chosen: Some(id) };
    let mut layers = Vec::new();
    lens(&BUNDLED, baseline, &at, &Cancel::default(), &mut |page| {
        let says = |text: &str| text.trim().to_lowercase() == word;
        let named = page.readings.iter().filter(|reading| reading.top.iter().any(|token| says(&token.text)));
        let ranked =
            page.readings.iter().filter(|reading| reading.chosen.is_some_and(|(rank, _)| rank < top));
        layers.push((named.map(|reading| reading.position).collect(), ranked.count()));
    })
    .unwrap();
    layers
}

#[test]
fn shares_are_of_all_patches_together() {
    let rows = |counts: [[usize; 2]; 3]| -> ImageRows {
        let rows = counts.into_iter().zip([("object", Some(0)), ("background", Some(0)), ("object", None)]);
        let row = |([patches, named], (kind, layer)): ([usize; 2], (&str, Option<usize>))| {
            vec!["dog".into(), "dog".into(), kind.into(), layer.into(), patches.into(), named.into()]
        };
        image("lens", rows.map(row).collect(), vec![])
    };
    let images = [rows([[10, 1], [100, 0], [10, 2]]), rows([[30, 27], [100, 5], [30, 30]])];
    let [layers, some] = &panels("lens", &images)[..] else { panic!("two panels") };
    let [object, background] = &layers.series[..] else { panic!("objects and background") };
    assert_eq!((object.name.as_str(), background.name.as_str()), ("object", "background"));
    let (at, estimate) = points(object)[0].clone();
    assert_eq!((at, estimate.n), (At::Number(0.0), 40));
    // A mean of the images' shares would be 0.5.
    close(estimate.value, 0.7);
    assert_eq!((estimate.low, estimate.high), (0.1, 0.9), "patches of one image are no independent things");
    close(points(background)[0].1.value, 0.025);
    let bars = points(&some.series[0]);
    assert_eq!((bars.len(), &bars[0].0), (1, &At::Name("object".to_string())));
    close(bars[0].1.value, 0.8);
}
