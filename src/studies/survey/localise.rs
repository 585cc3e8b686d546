//! `localise`: whether the attention of words that name an object peaks on it, layer by layer.
//!
//! Kaduri et al.: the words of the model's own description, heads averaged, the peak of the rows that predicted the
//! word (`localisation`, which `eval` shares). Their figure is over one range of layers; here is every layer. A row is a
//! word and a layer: `word` is its first token's place in the answer, `on` and `near` are 1 where the peak is a patch of
//! the object, or at most one beside it. Facts: the shares of all patches that would have counted: what chance hits.

use crate::{
    studies::{
        localisation::{Hit, targets, word_hits},
        survey::{
            bench::Bench,
            error::SurveyError,
            findings::{Estimate, ImageRows, Panel, Point, Series, facts_by_key, share_curves},
            kind::Kind,
            named::named,
            settings::Settings,
        },
    },
    trace::run::ModelInfo,
};

/// The study.
pub const KIND: Kind = Kind {
    name: "localise",
    about: "whether the attention of words that name an object peaks inside its mask, by layer",
    source: "Kaduri et al. (arXiv 2411.17491)",
    cost: "one description",
    columns: &["image", "word", "object", "layer", "on", "near"],
    settings: &[],
    plain: false,
    measure,
    panels,
};

/// What counts as a hit: its column, and its fact.
const HITS: [(&str, &str); 2] = [("on", "on the object"), ("near", "on the object or one patch beside it")];

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let baseline = bench.ask(&bench.describing()).map_err(|e| bench.of_image(e))?;
    let trace = &baseline.trace;
    for word in named(bench, trace)? {
        let Some(layers) = word_hits(trace, &word.word, &word.covered) else {
            bench.left_out(word.class, "a visual token shows no patch, and the peak may be there");
            continue;
        };
        for (layer, hit) in layers.iter().enumerate() {
            let [on, near] = [hit.on, hit.near].map(usize::from);
            bench.row([
                word.first().into(),
                word.class.as_str().into(),
                layer.into(),
                on.into(),
                near.into(),
            ]);
        }
        let targets = targets(&trace.prompt, &word.covered);
        let share = |hit: fn(&Hit) -> bool| {
            targets.iter().filter(|target| hit(target)).count() as f32 / targets.len() as f32
        };
        bench.fact("on", None, None, share(|hit| hit.on));
        bench.fact("near", None, None, share(|hit| hit.near));
    }
    Ok(())
}

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let mut series: Vec<Series> = Vec::new();
    for (column, name) in HITS {
        let curves = share_curves(images, |row| {
            Some((name.to_string(), row.number("layer")? as i64, row.number(column)? > 0.0))
        });
        let chance = facts_by_key(images, |fact| (fact.name == column).then_some(()));
        let chance = chance.get(&()).and_then(|shares| Estimate::mean(shares));
        let level = curves.iter().zip(chance).map(|(curve, estimate)| Series {
            name: format!("chance, {name}"),
            points: curve.points.iter().map(|point| Point { at: point.at.clone(), estimate }).collect(),
        });
        let level: Vec<Series> = level.collect();
        series.extend(curves.into_iter().chain(level));
    }
    vec![Panel {
        title: "Where the attention of a word peaks that names an object".to_string(),
        across: "layer".to_string(),
        up: "share of words".to_string(),
        range: Some([0.0, 1.0]),
        grid: false,
        series,
    }]
}
