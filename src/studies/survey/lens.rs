//! `lens`: whether the logit lens on an object's patches names the object, layer by layer.
//!
//! Neo et al.: the most likely tokens at every visual position and layer. A row is an object and a layer: how many
//! `patches` are the object's (`kind` `object`: those of which it covers more than a quarter) or no object's at all
//! (`background`, the control, held against the same word), and at how many of them its class is `named` among the top
//! tokens. `token` is the token by which the class is followed, the first of several; it counts in any case, with
//! and without a blank before it. The row without a layer counts the patches that name it in some layer.
//! Only the prompt's pass is read; nothing that the model would answer plays a part.

use crate::{
    engine::baseline::Baseline,
    studies::{
        lens::{Lens, followed, lens},
        survey::{
            bench::Bench,
            error::SurveyError,
            findings::{At, Estimate, ImageRows, Panel, Point, Row, Series, gathered},
            kind::Kind,
            named::{filled, inside, none_known},
            settings::Settings,
        },
    },
    trace::{finding::LensReading, run::ModelInfo, table::Value, tokens::visual},
};

/// Tokens that count as named where nothing is said.
const TOP: usize = 5;

/// Whose patches are read.
const KINDS: [&str; 2] = ["object", "background"];

/// The study.
pub const KIND: Kind = Kind {
    name: "lens",
    about: "share of an object's patches, and of the background's, whose logit lens names the object, by layer",
    source: "Neo et al. (arXiv 2410.07149)",
    cost: "one pass of the prompt, and the head at every visual token of every layer",
    columns: &["image", "object", "token", "kind", "layer", "patches", "named"],
    settings: &["top"],
    plain: false,
    measure,
    panels,
};

/// An object whose patches are read.
struct Read {
    class: String,
    /// The token that is looked for.
    token: String,
    /// `[visual tokens]`
    inside: Vec<bool>,
}

fn measure(bench: &mut Bench<'_>) -> Result<(), SurveyError> {
    let objects = objects(bench)?;
    if objects.is_empty() {
        return Ok(());
    }
    let background = background(bench)?;
    let baseline = prompt_only(bench)?;
    let said = said(bench, &baseline)?;
    for object in &objects {
        let wanted = object.token.to_lowercase();
        for (kind, members) in KINDS.into_iter().zip([Some(&object.inside), background.as_ref()]) {
            let Some(members) = members else { continue };
            let patches: Vec<usize> = (0..members.len()).filter(|&patch| members[patch]).collect();
            let names = |layer: &[Vec<String>], patch: usize| layer[patch].contains(&wanted);
            let count = |named: &dyn Fn(usize) -> bool| patches.iter().filter(|&&patch| named(patch)).count();
            let layers = said.iter().map(|layer| count(&|patch| names(layer, patch)));
            let some = count(&|patch| said.iter().any(|layer| names(layer, patch)));
            let rows: Vec<(Option<usize>, usize)> =
                layers.enumerate().map(|(layer, named)| (Some(layer), named)).chain([(None, some)]).collect();
            for (layer, named) in rows {
                bench.row([
                    object.class.as_str().into(),
                    object.token.as_str().into(),
                    kind.into(),
                    Value::from(layer),
                    patches.len().into(),
                    named.into(),
                ]);
            }
        }
    }
    Ok(())
}

/// The image's objects that fill a patch and whose class the model has a token for.
fn objects(bench: &mut Bench<'_>) -> Result<Vec<Read>, SurveyError> {
    let (subject, folder) = (bench.subject, &bench.engine.folder);
    none_known(bench);
    let mut objects = Vec::new();
    for (n, object) in subject.objects.iter().enumerate() {
        let class = object.class.clone();
        let token = match followed(folder, &class) {
            Ok(followed) => folder.prompts.token_text(followed.id).trim().to_string(),
            Err(e) => {
                bench.left_out(class, e.to_string());
                continue;
            }
        };
        if token.is_empty() {
            bench.left_out(class, "its first token is a blank, which names nothing");
        } else if let Some(covered) = filled(bench, n)? {
            objects.push(Read { class, token, inside: inside(&covered) });
        }
    }
    Ok(objects)
}

/// `[visual tokens]`: the patches that show nothing of any object; left out aloud where there are none, or where not
/// all objects' pixels are known.
fn background(bench: &mut Bench<'_>) -> Result<Option<Vec<bool>>, SurveyError> {
    let mut free: Vec<bool> =
        (0..bench.patches().len()).map(|patch| bench.seen.geometry.cell_of(patch).is_some()).collect();
    for object in 0..bench.subject.objects.len() {
        let Some(covered) = bench.covered(object)? else {
            bench.left_out("background", "an object's pixels are not known: it may be anywhere");
            return Ok(None);
        };
        free.iter_mut().zip(covered).for_each(|(free, share)| *free &= share == 0.0);
    }
    if !free.contains(&true) {
        bench.left_out("background", "no patch is free of objects");
        return Ok(None);
    }
    Ok(Some(free))
}

/// The run whose prompt is read: an answer of one token, no attention kept.
fn prompt_only(bench: &Bench<'_>) -> Result<Baseline, SurveyError> {
    let mut experiment = bench.experiment(&bench.describing().text, None);
    experiment.max_new = 1;
    experiment.record.pattern.none = true;
    bench.keep(&experiment).map_err(|e| bench.of_image(e))
}

/// `[layers][visual tokens][top]`: what every layer would say, in lower case, without blanks around it.
fn said(bench: &Bench<'_>, baseline: &Baseline) -> Result<Vec<Vec<Vec<String>>>, SurveyError> {
    let top = bench.settings.top.unwrap_or(TOP);
    if top == 0 {
        return Err(SurveyError::Choice("the lens lists one token at least (top)".to_string()));
    }
    let layers = vec![true; bench.engine.info.n_layers];
    let at = Lens { positions: visual(&baseline.prompt.tokens), layers, top, chosen: None };
    let mut said = Vec::new();
    let text = |text: &str| text.trim().to_lowercase();
    lens(bench.engine, baseline, &at, bench.cancel, &mut |page| {
        let patch = |of: &LensReading| of.top.iter().map(|token| text(&token.text)).collect();
        said.push(page.readings.iter().map(patch).collect());
    })
    .map_err(|e| bench.of_image(e))?;
    Ok(said)
}

fn panels(images: &[ImageRows], settings: &Settings, _: &ModelInfo) -> Vec<Panel> {
    let top = settings.top.unwrap_or(TOP);
    let panel = |title: String, across: &str, series: Vec<Series>| Panel {
        title,
        across: across.to_string(),
        up: "share of patches".to_string(),
        range: Some([0.0, 1.0]),
        grid: false,
        series,
    };
    let mut layers: Vec<i64> =
        images.iter().flat_map(ImageRows::iter).filter_map(|row| Some(row.number("layer")? as i64)).collect();
    layers.sort_unstable();
    layers.dedup();
    let by_layer = KINDS.into_iter().flat_map(|kind| layers.iter().map(move |&layer| (kind, layer)));
    let by_layer = by_layer.filter_map(|(kind, layer)| {
        let estimate = share(images, kind, Some(layer))?;
        Some((kind.to_string(), Point { at: At::Number(layer as f64), estimate }))
    });
    let some = KINDS.into_iter().filter_map(|kind| {
        let estimate = share(images, kind, None)?;
        Some((String::new(), Point { at: At::Name(kind.to_string()), estimate }))
    });
    let names = match top {
        1 => "Patches whose likeliest token names the object".to_string(),
        top => format!("Patches whose {top} likeliest tokens name the object"),
    };
    vec![
        panel(format!("{names}, by layer"), "layer", gathered(by_layer)),
        panel(format!("{names}, in some layer"), "", gathered(some)),
    ]
}

/// The share of one kind's patches that name their object in a layer, or, without one, in some: of all patches
/// together, images drawn anew.
fn share(images: &[ImageRows], kind: &str, layer: Option<i64>) -> Option<Estimate> {
    let counts = |row: Row<'_>| {
        let here = row.text("kind") == kind && row.number("layer").map(|layer| layer as i64) == layer;
        here.then_some([row.number("named")?, row.number("patches")?])
    };
    let of_image = |image: &ImageRows| {
        image.iter().filter_map(counts).fold([0.0, 0.0], |[named, all], [n, of]| [named + n, all + of])
    };
    Estimate::ratio(&images.iter().map(of_image).collect::<Vec<_>>())
}
