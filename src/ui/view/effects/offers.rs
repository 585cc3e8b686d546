//! An effect map as data for others: the map, its blocks, its agreement with attention.
//!
//! Knows a study's findings; draws nothing.

use std::sync::Arc;

use crate::{
    spec::study::{Study, Taking},
    trace::{
        finding::Agreement,
        offer::Offer,
        palette::Colormap,
        sheet::{MapSheet, Underlay},
        table::{Table, Value},
        tensors::NamedTensor,
    },
    ui::{
        store::{images::Held, settings::Views, store::Store, studies::StudyRun},
        view::{
            effects::agreement::finest,
            effects::controls::studied,
            effects::mask::{fall, named, told},
        },
    },
};

/// An effect map as it stands on screen.
pub struct Shown<'a> {
    /// The image.
    pub held: &'a Held,
    /// The change a patch, by number; NaN where there is none.
    pub values: &'a Arc<Vec<f32>>,
    /// Numbers at the ends of the colours.
    pub range: (f32, f32),
}

/// Everything that there is of a study; the map only where it is on screen.
pub fn offers(store: &Store, study: &StudyRun, shown: Option<&Shown<'_>>) -> Vec<Offer> {
    let mut offers = Vec::new();
    if let Some(shown) = shown {
        offers.push(Offer::Map(Box::new(map_sheet(store, study, shown))));
    }
    offers.push(Offer::Table(blocks(study)));
    if !study.found.agreements.is_empty() {
        offers.push(Offer::Table(agreements(study)));
    }
    let mut tensors = Vec::new();
    if let Some(shown) = shown {
        let (shape, values) = (vec![shown.values.len()], shown.values.clone());
        tensors.push(NamedTensor { name: "effect.patches".to_string(), shape, values });
    }
    if let Some(Agreement { heads, mean, .. }) = finest(study) {
        let n_heads = heads.len() / mean.len().max(1);
        for (name, shape, values) in
            [("agreement", vec![mean.len(), n_heads], heads), ("agreement.mean", vec![mean.len()], mean)]
        {
            tensors.push(NamedTensor { name: name.to_string(), shape, values: Arc::new(values.clone()) });
        }
    }
    if !tensors.is_empty() {
        offers.push(Offer::Tensors { name: title(study), tensors });
    }
    offers
}

fn title(study: &StudyRun) -> String {
    format!("effects on run {}", study.base_name)
}

fn map_sheet(store: &Store, study: &StudyRun, shown: &Shown<'_>) -> MapSheet {
    let Shown { held, values, range } = shown;
    let view = &held.view;
    let tiles = store.map.views != Views::Whole;
    let object = store.runs.get(study.base).zip(view.objects.as_deref()).and_then(|(run, objects)| {
        let Study::Patches(of) = &study.study else { return None };
        named(run, &of.tokens, objects)
    });
    let mut caption = vec![
        format!("effect of patches on {}", studied(store, study)),
        "change of log probability, nats a patch; below 0 where the patch had helped".to_string(),
    ];
    if let Some(object) = object {
        caption.extend(fall(values, object).map(|fall| told(fall, object)));
    }
    let outlines = object.filter(|_| store.map.marks).map(|object| object.outline.to_vec());
    MapSheet {
        colormap: Colormap::Diverging,
        gamma: store.map.gamma,
        smooth: store.map.smooth,
        opacity: if store.map.underlay == Underlay::Nothing { 1.0 } else { store.map.opacity },
        underlay: store.map.underlay,
        outlines: outlines.unwrap_or_default(),
        caption,
        settings: settings(store, study, view.source.name()),
        ..MapSheet::new(view.picture.clone(), &view.geometry, values, tiles, *range)
    }
}

/// What the numbers follow from, by name.
fn settings(store: &Store, study: &StudyRun, image: String) -> Vec<(String, String)> {
    let mut settings = vec![
        ("image".to_string(), image),
        ("run".to_string(), study.base_name.clone()),
        ("steps".to_string(), format!("{} of {}", study.steps.0, study.steps.1)),
    ];
    if let Some(info) = store.model_info() {
        settings.insert(0, ("model".to_string(), format!("{} {}", info.name, info.sha256)));
    }
    if let Some(run) = store.runs.get(study.base) {
        settings.push(("question".to_string(), run.experiment.question()));
    }
    if let Study::Patches(of) = &study.study {
        let tokens: Vec<String> = of.tokens.iter().map(ToString::to_string).collect();
        let tokens = if tokens.is_empty() { "all".to_string() } else { tokens.join(",") };
        settings.push(("answer tokens".to_string(), tokens));
        let how = Taking::ALL.iter().find(|(_, how)| *how == of.how).map(|(name, _)| (*name).to_string());
        settings.push(("taken away by".to_string(), how.unwrap_or_default()));
        settings.push(("layers".to_string(), of.layers.to_string()));
        settings.push(("coarsest block".to_string(), of.coarsest.to_string()));
    }
    settings
}

fn blocks(study: &StudyRun) -> Table {
    let columns = ["block", "side (patches)", "patches", "change (nats)", "change a patch (nats)"];
    let rows = study.found.blocks.iter().enumerate().map(|(at, block)| {
        let patches: Vec<String> = block.patches.iter().map(ToString::to_string).collect();
        vec![
            Value::Whole(at as i64),
            Value::Whole(block.side as i64),
            Value::Text(patches.join(" ")),
            Value::Number(block.delta),
            Value::Number(block.delta / block.patches.len().max(1) as f32),
        ]
    });
    Table { name: title(study), columns: columns.map(str::to_string).to_vec(), rows: rows.collect() }
}

fn agreements(study: &StudyRun) -> Table {
    let columns = ["side (patches)", "layer", "head", "rank correlation"];
    let mut rows = Vec::new();
    for Agreement { side, heads, mean } in &study.found.agreements {
        let n_heads = heads.len() / mean.len().max(1);
        let row = |layer: usize, head: Value, value: f32| {
            vec![Value::Whole(*side as i64), Value::Whole(layer as i64), head, Value::Number(value)]
        };
        for (layer, &value) in mean.iter().enumerate() {
            rows.push(row(layer, Value::Text("mean".to_string()), value));
            let of_layer = heads.iter().skip(layer * n_heads).take(n_heads).enumerate();
            rows.extend(of_layer.map(|(head, value)| row(layer, Value::Whole(head as i64), *value)));
        }
    }
    let name = format!("agreement of {}", title(study));
    Table { name, columns: columns.map(str::to_string).to_vec(), rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::study::{PatchEffect, StudyKind},
        trace::finding::{Block, Finding},
        ui::store::studies::Studies,
    };

    #[test]
    fn blocks_and_agreements_are_told_row_by_row() {
        let mut studies = Studies::default();
        let study =
            PatchEffect { tokens: vec![1], how: Taking::Cut, layers: Default::default(), coarsest: 2 };
        studies.begin(3, Study::Patches(study), 1, "A".to_string());
        let block = Block { patches: vec![0, 1], side: 2, delta: -1.0 };
        studies.found(3, Finding::Block(block), (1, 4));
        let agreement = Agreement { side: 2, heads: vec![0.1, 0.2, 0.3, 0.4], mean: vec![0.5, 0.6] };
        studies.found(3, Finding::Agreement(agreement), (2, 4));
        let store = Store::new(String::new(), 8);
        let offered = offers(&store, studies.get(StudyKind::Patches).unwrap(), None);
        let [Offer::Table(blocks), Offer::Table(agreements), Offer::Tensors { tensors, .. }] = &offered[..]
        else {
            panic!("{offered:?}")
        };
        let expected = [
            Value::Whole(0),
            Value::Whole(2),
            Value::Text("0 1".to_string()),
            Value::Number(-1.0),
            Value::Number(-0.5),
        ];
        assert_eq!(blocks.rows, [expected.to_vec()]);
        assert_eq!(agreements.rows.len(), 2 * 3);
        let last = [Value::Whole(2), Value::Whole(1), Value::Whole(1), Value::Number(0.4)];
        assert_eq!(agreements.rows[5], last.to_vec());
        let shapes: Vec<&[usize]> = tensors.iter().map(|tensor| &tensor.shape[..]).collect();
        assert_eq!(shapes, [&[2, 2][..], &[2]]);
    }
}
