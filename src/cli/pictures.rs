//! The pictures that `run` leaves.

use std::sync::Arc;

use sightline::{
    export::{
        error::ExportError,
        flow_svg::flow_svg,
        folder::{FLOW, of_image, phrase_picture, token_picture},
        offer::encode,
        picture::level,
    },
    files::output::Output,
    trace::{
        offer::{Format, Offer},
        pattern::PatternRow,
        run::Trace,
        sheet::MapSheet,
        tokens::visual,
        words::Word,
    },
};

use crate::cli::subject::Opened;

/// A picture to be drawn.
struct Heatmap {
    /// Its file's.
    name: String,
    /// What it is of: a kind, and which.
    of: (&'static str, String),
    layer: usize,
    /// One a visual token.
    values: Vec<f32>,
}

impl Heatmap {
    /// What the file says of itself.
    fn settings(&self, trace: &Trace, max: f32, colours: &str) -> Vec<(String, String)> {
        let (kind, which) = &self.of;
        let knockouts: Vec<&str> = trace.knockouts.iter().map(|knockout| knockout.text.as_str()).collect();
        let all = [
            ("Model", trace.model.name.clone()),
            ("Weights sha256", trace.model.sha256.clone()),
            ("Answer", trace.answer_text()),
            ("Knockouts", knockouts.join("; ")),
            (*kind, which.clone()),
            ("Layer", self.layer.to_string()),
            ("Head", "mean of all that were kept".to_string()),
            ("Range", format!("0 to {max}")),
            ("Colours", colours.to_string()),
        ];
        all.map(|(name, value)| (name.to_string(), value)).into()
    }
}

/// One heatmap a token and a found phrase, from the layer whose head mean looks at the image most, all on
/// one range: from 0 to `range`, or to the largest value if none is given. What there is to say of them, once they
/// are in place.
pub fn write_pictures(
    trace: &Trace,
    found: &[(String, Vec<Word>)],
    opened: &Opened,
    range: Option<f32>,
    out: &Output,
) -> Result<String, ExportError> {
    let visual = visual(&trace.prompt);
    let rows: Vec<(usize, PatternRow)> = trace.rows().collect();
    let map = |rows: &[&PatternRow]| brightest(trace, rows, &visual);
    let mut maps: Vec<Heatmap> = Vec::new();
    for (s, row) in &rows {
        let text = &trace.answer[*s].text;
        maps.extend(map(&[row]).map(|(layer, values)| Heatmap {
            name: token_picture(*s, text, layer),
            of: ("Token", format!("{s}: {}", text.trim())),
            layer,
            values,
        }));
    }
    for word in found.iter().flat_map(|(_, words)| words) {
        // The row that predicted a token is kept under the token's place in the answer.
        let place = |p: &usize| p.checked_sub(trace.prompt.len());
        let places: Vec<usize> = word.positions.iter().filter_map(place).collect();
        let here: Vec<&PatternRow> =
            rows.iter().filter(|(s, _)| places.contains(s)).map(|(_, row)| row).collect();
        if let (Some(first), Some((layer, values))) = (places.first(), map(&here)) {
            let name = phrase_picture(*first, &word.text, layer);
            maps.push(Heatmap { name, of: ("Phrase", word.text.clone()), layer, values });
        }
    }
    let largest = |map: &Heatmap| map.values.iter().copied().fold(0.0, f32::max);
    let largest: Vec<f32> = maps.iter().map(largest).collect();
    let reached = largest.iter().copied().fold(0.0, f32::max);
    let max = range.unwrap_or(reached);
    let mut first = 0;
    for (number, (image, seen)) in opened.images.iter().zip(&opened.seen).enumerate() {
        let (picture, geometry) = (Arc::new(image.clone()), &seen.geometry);
        let here = first..first + geometry.n_tokens();
        for map in &maps {
            // Beside tiles, the view of the whole is painted.
            let values = &map.values[here.clone()];
            let mut sheet = MapSheet::new(Arc::clone(&picture), geometry, values, false, (0.0, max));
            sheet.caption = vec![format!("{} {}, layer {}", map.of.0, map.of.1, map.layer)];
            sheet.settings = map.settings(trace, max, sheet.colormap.name());
            let name = of_image(&map.name, number);
            out.write(&name, &encode(&Offer::Map(Box::new(sheet)), Format::Png)?)?;
        }
        first = here.end;
    }
    out.write(FLOW, flow_svg(trace).as_bytes())?;
    let mut said = format!("heatmaps: token_*.png, colours from 0 to {}; flow chart: flow.svg", level(max));
    let clipped = largest.iter().filter(|value| **value > max).count();
    if clipped > 0 {
        said += &format!(
            "\nheatmaps with values above {}, drawn in its colour: {clipped} of {}; the largest is {}",
            level(max),
            maps.len(),
            level(reached)
        );
    }
    Ok(said)
}

/// The mean over some rows and all heads at the visual tokens, in the layer where it looks at the image
/// most: its number, and the map.
fn brightest(trace: &Trace, rows: &[&PatternRow], visual: &[usize]) -> Option<(usize, Vec<f32>)> {
    let layers = rows.first().map_or(0, |row| row.n_layers);
    let mean = |layer: usize| -> Vec<f32> {
        let means: Vec<Vec<f32>> = rows.iter().map(|row| row.head_mean(layer)).collect();
        let of = |&key: &usize| means.iter().map(|m| m[key]).sum::<f32>() / means.len() as f32;
        visual.iter().map(of).collect()
    };
    let maps: Vec<Vec<f32>> = (0..layers).map(mean).collect();
    let share = |l: &usize| maps[*l].iter().sum::<f32>();
    let layer = (0..layers).max_by(|a, b| share(a).total_cmp(&share(b)))?;
    Some((trace.kept.layers[layer], maps[layer].clone()))
}
