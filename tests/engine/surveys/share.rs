//! Attention shares, against whole patterns.
#![allow(clippy::unwrap_used)]

use sightline::{
    bundled,
    engine::inside::square,
    progress::Cancel,
    spec::{experiment::Experiment, picture::ImageSource, span::Span},
    studies::survey::settings::Settings,
};

use super::{BUNDLED, course, keep, measured, scenes};

#[test]
fn shares_are_means_over_rows_of_whole_patterns() {
    let subjects = scenes(2);
    let files: Vec<_> = subjects.all.iter().map(|subject| subject.image.clone()).collect();
    let settings = Settings { length: Some(10), ..Settings::default() };
    let (images, all) = measured(&course("share", settings, subjects));
    assert!(all.iter().all(|one| one.left_out.is_empty()));
    let (n_layers, n_heads) = (BUNDLED.info.n_layers, BUNDLED.info.n_heads);
    for (image, file) in images.iter().zip(files) {
        let asked = Experiment::ask(ImageSource::File(file.clone()), bundled::PROMPT, 10);
        let (baseline, _) = keep(&asked, &file);
        let n = baseline.n_rows();
        let spans: Vec<Span> = (0..n).map(|position| baseline.trace.span(position)).collect();
        let mut rows = image.iter();
        for query in ["answer", "question", "last"] {
            // The last row predicts the first token of the answer, and the last token is never looked from.
            let last = baseline.prompt.len() - 1;
            let of_query: Vec<usize> = match query {
                "answer" => (last..n).collect(),
                "question" => (0..n).filter(|&row| spans[row] == Span::Question).collect(),
                _ => vec![last],
            };
            if query == "answer" {
                assert_eq!(of_query.len(), baseline.trace.answer.len());
            }
            for layer in 0..n_layers {
                let mut mass = [0.0_f64; Span::COUNT];
                for head in 0..n_heads {
                    let square = square(&BUNDLED, &baseline, layer, head, &Cancel::default()).unwrap();
                    for &row in &of_query {
                        for (key, span) in spans.iter().enumerate() {
                            mass[span.index()] += f64::from(square[row * n + key]);
                        }
                    }
                }
                for key in Span::ALL {
                    let row = rows.next().unwrap();
                    let found = (row.text("query"), row.number("layer"), row.text("key"));
                    assert_eq!(found, (query, Some(layer as f64), key.name()));
                    let expected = mass[key.index()] / (n_heads * of_query.len()) as f64;
                    let found = row.number("mass").unwrap();
                    let what = format!("{}, {query}, layer {layer}, {key:?}", image.image);
                    assert!((found - expected).abs() < 1e-5, "{what}: {found}, expected {expected}");
                }
            }
        }
        assert!(rows.next().is_none());
    }
}
