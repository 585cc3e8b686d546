//! `heads`: which heads look at the objects that words name, and which of them matter.
//!
//! A row is a word and a head of a layer. `word` is its first token's place in the answer. `inside` is the share of what
//! its rows pay the image in that head that goes to the object's patches, those of which it covers more than a quarter
//! (empty where they pay the image nothing); `chance` the share of the patches that these are; `delta` what
//! `answer -> visual @ LAYER # HEAD` does to the word's natural log probability, summed over its tokens.

use std::collections::BTreeMap;

use crate::{
    spec::study::HeadEffect,
    statistics::{
        interval::Figure,
        rank::{correlation, mean_ranks},
    },
    studies::survey::{
        bench::Bench,
        error::SurveyError,
        findings::{At, Estimate, ImageRows, Panel, Point, Row, Series, by_key, gathered},
        kind::Kind,
        named::named,
        settings::Settings,
    },
    trace::{run::ModelInfo, table::Value},
};

/// The study.
pub const KIND: Kind = Kind {
    name: "heads",
    about: "which heads look at the objects that words name, and what cutting each head's view of the image does",
    source: "Sightline's own; its effects of heads over many images",
    cost: "one description, and a scored cut for every head of every layer",
    columns: &["image", "word", "object", "layer", "head", "inside", "chance", "delta"],
    settings: &[],
    plain: false,
    measure,
    panels,
};

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let baseline = bench.ask(&bench.describing()).map_err(|e| bench.of_image(e))?;
    let trace = &baseline.trace;
    let words = named(bench, trace)?;
    if words.is_empty() {
        return Ok(());
    }
    let (n_layers, n_heads) = (trace.model.n_layers, trace.model.n_heads);
    let study = HeadEffect { tokens: Vec::new() };
    let cuts: Vec<_> =
        (0..n_layers * n_heads).map(|n| study.intervention(n / n_heads, n % n_heads)).collect();
    let scored = bench.score(&baseline, &cuts, &bench.seen).map_err(|e| bench.of_image(e))?;
    for word in &words {
        let (members, chance) = (word.inside(), word.chance());
        for layer in 0..n_layers {
            for (head, paid) in word.paid(trace, layer).iter().enumerate() {
                let scored = &scored[layer * n_heads + head];
                let delta: f32 = word.places.iter().map(|&place| scored[place].delta).sum();
                bench.row([
                    word.first().into(),
                    word.class.as_str().into(),
                    layer.into(),
                    head.into(),
                    Value::from(share(paid, &members)),
                    chance.into(),
                    delta.into(),
                ]);
            }
        }
    }
    Ok(())
}

/// The share of what is paid that goes to the members; `None` where nothing is.
fn share(paid: &[f32], members: &[bool]) -> Option<f32> {
    let all: f32 = paid.iter().sum();
    let inside: f32 = paid.iter().zip(members).filter(|(_, member)| **member).map(|(paid, _)| paid).sum();
    (all > 0.0).then(|| inside / all)
}

fn panels(images: &[ImageRows], _: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let grid = |title: &str, up: &str, of: fn(&Row<'_>) -> Option<f64>| Panel {
        title: title.to_string(),
        across: "layer".to_string(),
        up: up.to_string(),
        range: None,
        grid: true,
        series: grid(images, of),
    };
    let agreement = agreement(images).map(|estimate| Series {
        name: String::new(),
        points: vec![Point { at: At::Name("looking and mattering".to_string()), estimate }],
    });
    vec![
        grid("Attention inside the object's mask", "times what chance puts there, mean of words", looks),
        grid(
            "What cutting a head's view of the image does",
            "change of log probability, nats a word",
            changes,
        ),
        Panel {
            title: "Heads that look at the object, and heads that matter".to_string(),
            across: String::new(),
            up: "rank correlation over heads".to_string(),
            range: Some([-1.0, 1.0]),
            grid: false,
            series: agreement.into_iter().collect(),
        },
    ]
}

/// How much more a head looks at the object than chance would.
fn looks(row: &Row<'_>) -> Option<f64> {
    Some(row.number("inside")? / row.number("chance").filter(|&chance| chance > 0.0)?)
}

/// What cutting its view of the image does.
fn changes(row: &Row<'_>) -> Option<f64> {
    row.number("delta")
}

/// A head's number, and its layer's.
fn place(row: &Row<'_>) -> Option<(u64, u64)> {
    Some((row.number("head")? as u64, row.number("layer")? as u64))
}

/// Means over words: a row of cells a head.
fn grid(images: &[ImageRows], of: impl Fn(&Row<'_>) -> Option<f64>) -> Vec<Series> {
    let cells = by_key(images, |row| Some((place(row)?, of(row)?)));
    gathered(cells.into_iter().filter_map(|((head, layer), numbers)| {
        let point = Point { at: At::Number(layer as f64), estimate: Estimate::mean(&numbers)? };
        Some((format!("head {head}"), point))
    }))
}

/// Spearman's correlation, over all heads, of how much they look at the object with how much less likely the word is
/// without them: means over words, images drawn anew. `None` where there are no words.
fn agreement(images: &[ImageRows]) -> Option<Estimate> {
    let all: Vec<BTreeMap<(u64, u64), Sums>> = images.iter().map(sums).filter(|of| !of.is_empty()).collect();
    if all.is_empty() {
        return None;
    }
    let numbers: Vec<usize> = (0..all.len()).collect();
    let figure = |drawn: &mut dyn Iterator<Item = usize>| {
        let mut heads: BTreeMap<(u64, u64), Sums> = BTreeMap::new();
        for (place, sums) in drawn.flat_map(|n| &all[n]) {
            heads.entry(*place).or_default().add(sums);
        }
        let means: Vec<[f32; 2]> = heads.values().filter_map(Sums::means).collect();
        let ranks = |of: usize| mean_ranks(&means.iter().map(|mean| mean[of]).collect::<Vec<f32>>());
        f64::from(correlation(&ranks(0), &ranks(1)))
    };
    let n = all.len();
    let Figure { value, low, high } = Figure::bootstrap(&numbers, figure);
    Some(Estimate { n, value, low, high, sd: None })
}

/// One head's words, of an image or of several.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of how much it looks, and of how many words that is known.
    looks: [f64; 2],
    /// Of how much less likely words are without it, and of how many that is known.
    falls: [f64; 2],
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        for n in 0..2 {
            self.looks[n] += other.looks[n];
            self.falls[n] += other.falls[n];
        }
    }

    /// Both means, where both are known.
    fn means(&self) -> Option<[f32; 2]> {
        let mean = |[sum, n]: [f64; 2]| (n > 0.0).then(|| (sum / n) as f32);
        Some([mean(self.looks)?, mean(self.falls)?])
    }
}

/// One image's words, head by head.
fn sums(image: &ImageRows) -> BTreeMap<(u64, u64), Sums> {
    let mut heads: BTreeMap<(u64, u64), Sums> = BTreeMap::new();
    for row in image.iter() {
        let Some(place) = place(&row) else { continue };
        let counted = |number: Option<f64>| number.map_or([0.0, 0.0], |number| [number, 1.0]);
        let sums = Sums { looks: counted(looks(&row)), falls: counted(changes(&row).map(|delta| -delta)) };
        heads.entry(place).or_default().add(&sums);
    }
    heads
}
