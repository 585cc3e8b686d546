//! Which objects a description still names when paths from the image are cut.
//!
//! Kaduri et al. (arXiv 2411.17491). A description is written anew, greedily, under each cut: in all layers, from a
//! layer on, and in all but a window that stays open. Objects that it names are held against those of the model's own
//! uncut description, as the paper does, and against those that the image shows; as multisets, all images together.
//!
//! # Cuts
//! `image -> generated` also blocks the last prompt row, which predicts the first token of the answer. The authors' code
//! cuts later rows alone: that is `image -> generated (first token spared)`. For the other paths the last prompt row
//! belongs to the answer too, so that `image -> text` leaves it its view of the image; the authors' code does not.
//! `image <-> text`: neither sees the other, answer rows see both (`-block_query` there). From a layer on means that
//! layer too. The open window is LLaVA's 4 to 20 of 32 layers, in proportion: n / 8 to 5 n / 8, both included.
//!
//! Knows one image and counts of objects; no tensors.

use std::collections::BTreeMap;

use crate::{
    engine::error::RunError,
    spec::{
        experiment::Intervention,
        sets::{Numbers, Range},
    },
    statistics::interval::Figure,
    studies::{
        eval::score::{DescriptionScore, Objects},
        survey::{
            bench::Bench,
            error::SurveyError,
            findings::{At, Estimate, ImageRows, Panel, Point, Series},
            kind::Kind,
            settings::{Flow, Settings},
        },
    },
    trace::run::ModelInfo,
};

/// The study.
pub const KIND: Kind = Kind {
    name: "knockout",
    about: "precision, recall and F1 of the objects that a description names when paths from the image are cut",
    source: "Kaduri et al., arXiv 2411.17491",
    cost: "one description, and for each of five paths one more in all layers, one from every later layer on (every fourth of models of more than 12 layers) and one with a window left open; each begins at its first cut layer and row",
    columns: &["image", "cut", "layers", "reference", "present", "said", "found"],
    settings: &["from"],
    plain: false,
    measure,
    panels,
};

const TEXT: &str = "bos + system + markers + question -> visual";
const GENERATED: &str = "answer -> visual";

/// Paths by name, and what cuts them.
const PATHS: [(&str, &[&str]); 5] = [
    ("image -> generated", &[GENERATED]),
    ("image -> generated (first token spared)", &["decode -> visual"]),
    ("image -> text", &[TEXT]),
    ("image -> text + generated", &[TEXT, GENERATED]),
    ("image <-> text", &[TEXT, "visual -> bos + system + markers + question"]),
];

/// The row of the uncut description: its cut, and its layers.
const UNCUT: &str = "none";
/// What is compared with: the model's own uncut description.
const OWN: &str = "own";
/// What is compared with: the objects that the image shows.
const TRUTH: &str = "truth";

/// Objects that a description is held against.
type References = Vec<(&'static str, Vec<String>)>;

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let places = places(bench.settings, bench.engine.info.n_layers)?;
    let mut experiment = bench.experiment(&bench.describing().text, None);
    // Only words count.
    experiment.record.pattern.none = true;
    let baseline = bench.keep(&experiment).map_err(|e| bench.of_image(e))?;
    let uncut = baseline.trace.answer_text();
    let references = references(bench, &uncut);
    if references.is_empty() {
        return Ok(());
    }
    add(bench, [UNCUT, UNCUT], &references, &uncut);
    for (path, flows) in PATHS {
        for layers in &places {
            let cut = cut(flows, layers)?;
            match bench.intervene(&baseline, &cut, &bench.seen) {
                Ok((trace, _)) => add(bench, [path, &layers.to_string()], &references, &trace.answer_text()),
                Err(e @ RunError::Knockout { .. }) => {
                    bench.left_out(format!("{path} in layers {layers}"), e.to_string());
                }
                Err(e) => return Err(bench.of_image(e)),
            }
        }
    }
    Ok(())
}

/// Layers in which every path is cut: all, from some layer on, and all but the window that stays open.
fn places(settings: &Settings, n_layers: usize) -> Result<Vec<Numbers>, SurveyError> {
    let every = if n_layers > 12 { 4 } else { 1 };
    let mut from = match settings.from.is_empty() {
        true => (0..n_layers).step_by(every).collect(),
        false => settings.from.clone(),
    };
    from.sort_unstable();
    from.dedup();
    let [first, last] = [n_layers / 8, 5 * n_layers / 8];
    // From layer 0 on is all of them.
    let from = from.into_iter().filter(|&layer| layer > 0);
    let mut places: Vec<Numbers> = std::iter::once(Numbers::All)
        .chain(from.map(|layer| Numbers::Of(vec![Range::From(layer)])))
        .collect();
    for layers in &places {
        let fail = |e| SurveyError::Choice(format!("cut from a layer on: {e}"));
        layers.resolve("layer", n_layers).map_err(fail)?;
    }
    // A model of one or two layers has none outside the window.
    if last - first + 1 < n_layers {
        places.push(Numbers::Except(vec![Range::Between(first, last)]));
    }
    Ok(places)
}

/// What cuts a path in some layers.
fn cut(flows: &[&str], layers: &Numbers) -> Result<Intervention, SurveyError> {
    let mut all = Intervention::default();
    for text in flows {
        let flow: Flow = text.parse().map_err(SurveyError::Choice)?;
        all.knockouts.extend(flow.cut(layers.clone()).knockouts);
    }
    Ok(all)
}

/// What descriptions of this image are held against; those without an object are left out aloud.
fn references(bench: &mut Bench<'_>, uncut: &str) -> References {
    let shown = bench.subject.objects.iter().map(|thing| thing.class.clone()).collect();
    let all: [(&str, Vec<String>, &str); 2] = [
        (OWN, bench.named(uncut), "the model's uncut description names no object"),
        (TRUTH, shown, "it is not known which objects this image shows, or it shows none"),
    ];
    let mut references = References::new();
    for (name, objects, why) in all {
        match objects.is_empty() {
            true => bench.left_out(format!("reference `{name}`"), why),
            false => references.push((name, objects)),
        }
    }
    references
}

/// One row a reference.
fn add(bench: &mut Bench<'_>, [cut, layers]: [&str; 2], references: &References, description: &str) {
    let said = bench.named(description);
    for (reference, present) in references {
        let Objects { present, said, found } = Objects::compare(present, &said);
        bench.row([
            cut.into(),
            layers.into(),
            (*reference).into(),
            present.into(),
            said.into(),
            found.into(),
        ]);
    }
}

/// Counts of every image, by cut and layers.
type Counts = BTreeMap<(String, String), Vec<Objects>>;

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let against = [(OWN, "the model's own description"), (TRUTH, "what the image shows")];
    let mut panels = Vec::new();
    for (reference, words) in against {
        let counts = counts(images, reference);
        for (figure, of) in FIGURES {
            panels.push(Panel {
                title: format!("{figure} of named objects against {words}"),
                across: "first layer that is cut".to_string(),
                series: PATHS.iter().filter_map(|(path, _)| by_first(&counts, path, of)).collect(),
                ..panel(figure)
            });
        }
        panels.push(Panel {
            title: format!("F1 of named objects against {words}, by where paths are cut"),
            across: "what is cut".to_string(),
            series: by_path(&counts),
            ..panel("F1")
        });
    }
    panels.retain(|panel| !panel.series.is_empty());
    panels
}

/// A panel of shares.
fn panel(figure: &str) -> Panel {
    Panel { up: format!("{figure}, all images together"), range: Some([0.0, 1.0]), ..Panel::default() }
}

/// A figure of a score.
type Of = fn(&DescriptionScore) -> Figure;

/// Names of figures, and where a score has them.
const FIGURES: [(&str, Of); 3] =
    [("F1", |score| score.f1), ("precision", |score| score.precision), ("recall", |score| score.recall)];

fn counts(images: &[ImageRows], reference: &str) -> Counts {
    let mut counts = Counts::new();
    for row in images.iter().flat_map(ImageRows::iter).filter(|row| row.text("reference") == reference) {
        let count = |column: &str| row.number(column).map_or(0, |number| number as usize);
        let objects = Objects { present: count("present"), said: count("said"), found: count("found") };
        let of = (row.text("cut").to_string(), row.text("layers").to_string());
        counts.entry(of).or_default().push(objects);
    }
    counts
}

/// A figure over all images.
fn estimate(images: &[Objects], of: fn(&DescriptionScore) -> Figure) -> Estimate {
    let Figure { value, low, high } = of(&DescriptionScore::new(&[], images, &[]));
    Estimate { n: images.len(), value, low, high, sd: None }
}

/// The first layer that is cut where all later ones are too.
fn first(layers: &str) -> Option<usize> {
    if layers == "all" { Some(0) } else { layers.strip_suffix('-')?.parse().ok() }
}

/// A figure of one path, by the layer from which on it is cut.
fn by_first(counts: &Counts, path: &str, of: fn(&DescriptionScore) -> Figure) -> Option<Series> {
    let here = counts.iter().filter(|((cut, _), _)| cut == path);
    let mut points: Vec<(usize, &Vec<Objects>)> =
        here.filter_map(|((_, layers), images)| Some((first(layers)?, images))).collect();
    points.sort_unstable_by_key(|(layer, _)| *layer);
    let point = |(layer, images): (usize, &Vec<Objects>)| Point {
        at: At::Number(layer as f64),
        estimate: estimate(images, of),
    };
    let points: Vec<Point> = points.into_iter().map(point).collect();
    (!points.is_empty()).then(|| Series { name: path.to_string(), points })
}

/// F1 of every path, cut in all layers and in all but the open window; beside them that of nothing cut.
fn by_path(counts: &Counts) -> Vec<Series> {
    let point = |name: &str, images: &[Objects]| Point {
        at: At::Name(name.to_string()),
        estimate: estimate(images, |score| score.f1),
    };
    let window = counts.keys().find(|(_, layers)| layers.starts_with('!')).map(|(_, layers)| layers.as_str());
    let places = [
        Some(("all", "cut in all layers".to_string())),
        window.map(|layers| (layers, format!("cut in all layers but {}", layers.trim_start_matches('!')))),
    ];
    let mut series = Vec::new();
    let uncut = counts.get(&(UNCUT.to_string(), UNCUT.to_string()));
    series.extend(
        uncut
            .map(|images| Series { name: "nothing cut".to_string(), points: vec![point("nothing", images)] }),
    );
    for (layers, name) in places.into_iter().flatten() {
        let of = |(path, _): &(&str, &[&str])| {
            Some(point(path, counts.get(&(path.to_string(), layers.to_string()))?))
        };
        let points: Vec<Point> = PATHS.iter().filter_map(of).collect();
        if !points.is_empty() {
            series.push(Series { name, points });
        }
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::table::Value;

    fn texts(places: &[Numbers]) -> Vec<String> {
        places.iter().map(Numbers::to_string).collect()
    }

    #[test]
    fn layers_are_all_then_from_each_on_then_all_but_the_window() {
        let of = |n_layers: usize| texts(&places(&Settings::default(), n_layers).unwrap());
        assert_eq!(of(6), ["all", "1-", "2-", "3-", "4-", "5-", "!0-3"]);
        assert_eq!(of(32), ["all", "4-", "8-", "12-", "16-", "20-", "24-", "28-", "!4-20"]);
        assert_eq!(of(80).last().unwrap(), "!10-50");
        assert_eq!((of(1), of(2), of(3).len()), (vec!["all".to_string()], texts(&places_of(&[1], 2)), 4));
        assert_eq!(texts(&places_of(&[5, 3, 0, 3], 6)), ["all", "3-", "5-", "!0-3"]);
        let wrong = Settings { from: vec![6], ..Settings::default() };
        let error = places(&wrong, 6).unwrap_err().to_string();
        assert!(error.contains("layer 6 does not exist: valid are 0 to 5"), "{error}");
    }

    fn places_of(from: &[usize], n_layers: usize) -> Vec<Numbers> {
        places(&Settings { from: from.to_vec(), ..Settings::default() }, n_layers).unwrap()
    }

    #[test]
    fn every_path_can_be_typed() {
        for (path, flows) in PATHS {
            let cut = cut(flows, &Numbers::All).unwrap();
            assert_eq!(cut.knockouts.len(), flows.len(), "{path}");
        }
        let window = Numbers::Except(vec![Range::Between(4, 20)]);
        let both = cut(PATHS[3].1, &window).unwrap().to_string();
        assert_eq!(both, "bos + system + markers + question -> visual @ !4-20; answer -> visual @ !4-20");
    }

    fn row(cut: &str, layers: &str, reference: &str, counts: [usize; 3]) -> Vec<Value> {
        let [present, said, found] = counts;
        vec![cut.into(), layers.into(), reference.into(), present.into(), said.into(), found.into()]
    }

    #[test]
    fn counts_of_all_images_are_put_together_before_figures_are_taken() {
        let image = |name: &str, rows| ImageRows {
            image: name.to_string(),
            columns: &KIND.columns[1..],
            rows,
            facts: vec![],
        };
        let path = PATHS[0].0;
        let images = [
            image(
                "a.png",
                vec![
                    row(UNCUT, UNCUT, OWN, [4, 4, 4]),
                    row(path, "all", OWN, [4, 2, 2]),
                    row(path, "10-", OWN, [4, 4, 3]),
                    row(path, "2-", OWN, [4, 4, 4]),
                    row(path, "!0-3", OWN, [4, 4, 1]),
                    row(path, "all", TRUTH, [8, 2, 0]),
                ],
            ),
            image("b.png", vec![row(UNCUT, UNCUT, OWN, [1, 1, 1]), row(path, "all", OWN, [1, 3, 0])]),
        ];
        let info: ModelInfo = serde_json::from_str(
            r#"{"name":"","sha256":"","family":"","n_layers":6,"n_heads":1,"n_kv_heads":1,"width":1,"vocabulary":1,
                "context":1,"parameters":1}"#,
        )
        .unwrap();
        let panels = panels(&images, &Settings::default(), &info);
        let titles: Vec<&str> = panels.iter().map(|panel| panel.title.as_str()).collect();
        assert_eq!(titles.len(), 8, "{titles:?}");
        let points = |panel: usize, series: usize| &panels[panel].series[series].points;
        let places: Vec<&At> = points(0, 0).iter().map(|point| &point.at).collect();
        assert_eq!(places, [&At::Number(0.0), &At::Number(2.0), &At::Number(10.0)]);
        // Of 5 objects 2 are found among 5 that are named. The mean of both images' F1 would be 1 / 3.
        let value = |panel: usize| points(panel, 0)[0].estimate.value;
        assert_eq!((value(0), value(1), value(2)), (2.0 * 2.0 / 10.0, 2.0 / 5.0, 2.0 / 5.0));
        let estimate = points(0, 0)[0].estimate;
        assert_eq!(estimate.n, 2);
        // One image alone, drawn twice: nothing, or two thirds.
        assert_eq!((estimate.low, estimate.high), (0.0, 4.0 / 6.0));
        assert_eq!((points(0, 0)[2].estimate.n, points(0, 0)[2].estimate.value), (1, 6.0 / 8.0));
        // Against the truth, only of the first image.
        assert_eq!((value(4), points(4, 0)[0].estimate.n), (0.0, 1));
        let bars = &panels[3].series;
        let names: Vec<&str> = bars.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["nothing cut", "cut in all layers", "cut in all layers but 0-3"]);
        assert_eq!(bars[0].points[0].estimate.value, 1.0);
        assert_eq!(bars[1].points[0].estimate.value, 0.4);
        assert_eq!(bars[2].points[0].estimate.value, 0.25);
        assert_eq!(bars[2].points[0].at, At::Name(path.to_string()));
    }
}
