//! `localise`: the same hits as `eval` counts, and nothing passed over silently.

use sightline::{
    bundled,
    progress::Cancel,
    studies::{
        eval::{
            folder::{Folder, FolderOptions},
            localise::localise,
        },
        survey::{
            bench::DESCRIBE,
            findings::{Estimate, ImageRows, Row},
            settings::{LENGTH, Settings},
        },
    },
};

use super::{
    BUNDLED, course,
    effect::{close, fact, image, panels, points},
    measured, scenes,
};

const IMAGES: usize = 4;

#[test]
fn hits_are_those_that_eval_counts() {
    let course = course("localise", Settings::default(), scenes(IMAGES));
    let (images, all) = measured(&course);
    let options = FolderOptions { limit: Some(IMAGES), ..FolderOptions::default() };
    let folder = Folder::open(&bundled::scenes(), &options).unwrap();
    let counted = localise(&BUNDLED, &folder, DESCRIBE, LENGTH, &Cancel::default(), &mut || {}).unwrap();
    assert!(counted.words > 0, "no word names an object");
    for (layer, counted) in counted.layers.iter().enumerate() {
        let here = |row: &Row<'_>| row.number("layer") == Some(layer as f64);
        let rows: Vec<Row<'_>> = images.iter().flat_map(ImageRows::iter).filter(here).collect();
        let hits = |column: &str| rows.iter().filter(|row| row.number(column) == Some(1.0)).count();
        assert_eq!(
            (rows.len(), hits("on"), hits("near")),
            (counted.on.n, counted.on.right, counted.near.right)
        );
    }
    for (subject, (rows, all)) in course.subjects.all.iter().zip(images.iter().zip(&all)) {
        let words = rows.rows.len() / BUNDLED.info.n_layers;
        let chances = |name: &str| all.facts.iter().filter(|fact| fact.name == name).count();
        assert_eq!((chances("on"), chances("near")), (words, words));
        for object in &subject.objects {
            let measured = rows.iter().any(|row| row.text("object") == object.class);
            let told = all.left_out.iter().any(|left_out| left_out.what == object.class);
            assert!(measured != told, "{} on {}", object.class, subject.name);
        }
    }
}

#[test]
fn shares_are_of_words_and_stand_beside_chance() {
    let word = |place: usize, on: [usize; 2], near: [usize; 2]| {
        let row = move |layer: usize| {
            vec![place.into(), "dog".into(), layer.into(), on[layer].into(), near[layer].into()]
        };
        (0..2).map(row).collect::<Vec<_>>()
    };
    let chance = |on: f32, near: f32| [fact("on", None, None, on), fact("near", None, None, near)];
    let images = [
        image(
            "localise",
            [word(1, [0, 1], [1, 1]), word(4, [0, 1], [0, 1])].concat(),
            [chance(0.1, 0.2), chance(0.2, 0.4)].concat(),
        ),
        image("localise", word(1, [1, 1], [1, 1]), chance(0.3, 0.9).to_vec()),
    ];
    let all = panels("localise", &images);
    let [on, by_chance, near, near_by_chance] = &all[0].series[..] else { panic!("two curves, two levels") };
    let shares = |curve| points(curve).into_iter().map(|(_, estimate)| estimate).collect::<Vec<Estimate>>();
    assert_eq!(shares(on), [Estimate::share(1, 3), Estimate::share(3, 3)]);
    assert_eq!(shares(near), [Estimate::share(2, 3), Estimate::share(3, 3)]);
    assert!(shares(by_chance).iter().all(|level| level.n == 3));
    shares(by_chance).iter().for_each(|level| close(level.value, 0.2));
    shares(near_by_chance).iter().for_each(|level| close(level.value, 0.5));
}
