//! `heads`: every row against the cut as it would be typed and the attention by its definition.

use sightline::{
    progress::Cancel,
    studies::survey::{
        bench::Bench,
        findings::{At, ImageRows, Row},
        settings::Settings,
    },
    trace::{table::Value, tokens::visual},
};

use super::{
    BUNDLED, course,
    effect::{close, described, image, panels, points, same, typed, worded},
    measured, scenes,
};

#[test]
fn every_row_is_a_heads_view_cut_and_what_it_pays_the_object() {
    let course = course("heads", Settings::default(), scenes(1));
    let (images, _) = measured(&course);
    let (baseline, seen) = described(&course, 0);
    let (trace, cancel) = (&baseline.trace, Cancel::default());
    let (n_layers, n_heads) = (trace.model.n_layers, trace.model.n_heads);
    let positions = visual(&trace.prompt);
    let subject = &course.subjects.all[0];
    let bench = Bench::new(&BUNDLED, &course.settings, &course.subjects, subject, seen.clone(), &cancel);
    let words = worded(&bench, trace);
    let rows: Vec<Row<'_>> = images[0].iter().collect();
    assert!(!words.is_empty(), "the description names no object");
    assert_eq!(rows.len(), words.len() * n_layers * n_heads);
    for (n, row) in rows.iter().enumerate() {
        let (word, layer, head) = (&words[n / (n_layers * n_heads)], n / n_heads % n_layers, n % n_heads);
        let place = ["word", "layer", "head"].map(|column| row.number(column).unwrap() as usize);
        assert_eq!(place, [word.places[0], layer, head]);
        assert_eq!(row.text("object"), subject.objects[word.object].class);
        let (mut inside, mut all) = (0.0, 0.0);
        for (&position, covered) in positions.iter().zip(&word.covered) {
            let paid: f32 =
                word.places.iter().map(|&row| trace.pattern[row].head(layer, head)[position]).sum();
            all += paid;
            inside += if *covered > 0.25 { paid } else { 0.0 };
        }
        // A head may look at no patch at all.
        match row.number("inside") {
            Some(share) => same(share, inside / all),
            None => assert_eq!(all, 0.0),
        }
        let members = word.covered.iter().filter(|&&share| share > 0.25).count();
        same(row.number("chance").unwrap(), members as f32 / positions.len() as f32);
    }
    for (layer, head) in [(0, 0), (1, n_heads - 1), (n_layers - 1, 0)] {
        let deltas = typed(&baseline, &seen, &format!("answer -> visual @ {layer} # {head}"));
        for (n, word) in words.iter().enumerate() {
            let row = rows[(n * n_layers + layer) * n_heads + head];
            same(row.number("delta").unwrap(), word.places.iter().map(|&token| deltas[token]).sum());
        }
    }
}

/// One word on an image, of heads of one layer: how much each looks at it, and what cutting it does.
fn word(heads: &[(Option<f32>, f32)]) -> ImageRows {
    let row = |(head, (inside, delta)): (usize, &(Option<f32>, f32))| {
        let inside: Value = (*inside).into();
        vec![
            3_usize.into(),
            "dog".into(),
            0_usize.into(),
            head.into(),
            inside,
            0.25_f32.into(),
            (*delta).into(),
        ]
    };
    image("heads", heads.iter().enumerate().map(row).collect(), vec![])
}

#[test]
fn grids_are_means_over_words_and_go_together_by_rank() {
    let images = [
        word(&[(Some(0.25), -1.0), (Some(0.5), -2.0), (None, 0.0)]),
        word(&[(Some(1.0), -4.0), (Some(0.25), -3.5), (Some(0.125), 0.0)]),
    ];
    let [looks, changes, together] = &panels("heads", &images)[..] else { panic!("three panels") };
    assert!(looks.grid && changes.grid && !together.grid);
    let cells = |of: usize| points(&looks.series[of])[0].clone();
    assert_eq!(
        looks.series.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
        ["head 0", "head 1", "head 2"]
    );
    assert_eq!(cells(0).0, At::Number(0.0));
    close(cells(0).1.value, 2.5);
    close(cells(1).1.value, 1.5);
    assert_eq!(
        (cells(2).1.n, cells(2).1.value),
        (1, 0.5),
        "a head that pays the image nothing looks nowhere"
    );
    close(points(&changes.series[0])[0].1.value, -2.5);
    // Heads look by 2.5, 1.5, 0.5; words fall by 2.5, 2.75, 0: ranks 2 1 0 and 1 2 0, Spearman's 0.5.
    let agreement = points(&together.series[0])[0].1;
    close(agreement.value, 0.5);
    assert_eq!(agreement.n, 2);
    assert!(agreement.low <= 0.5 && agreement.high == 1.0, "{agreement:?}");
}

#[test]
fn a_head_of_two_digits_comes_after_those_of_one() {
    let images = [word(&[(Some(0.5), -1.0); 11])];
    assert_eq!(panels("heads", &images)[0].series[10].name, "head 10");
    assert!(panels("heads", &[])[2].series.is_empty());
}
