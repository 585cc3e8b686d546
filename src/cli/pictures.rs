//! The pictures that `run` leaves.

use sightline::{
    export::{
        error::ExportError,
        flow_svg::flow_svg,
        folder::{FLOW, phrase_picture, token_picture},
        picture,
    },
    files::output::Output,
    trace::{pattern::PatternRow, run::Trace, tokens::visual, words::Word},
};

use crate::cli::subject::Opened;

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
    let patches = opened.seen.geometry.patches();
    let visual = visual(&trace.prompt);
    let rows: Vec<(usize, PatternRow)> = trace.rows().collect();
    let map = |rows: &[&PatternRow]| brightest(trace, rows, &visual);
    let mut maps: Vec<(String, Vec<f32>)> = Vec::new();
    for (s, row) in &rows {
        let text = &trace.answer[*s].text;
        maps.extend(map(&[row]).map(|(layer, map)| (token_picture(*s, text, layer), map)));
    }
    for word in found.iter().flat_map(|(_, words)| words) {
        // The row that predicted a token is kept under the token's place in the answer.
        let place = |p: &usize| p.checked_sub(trace.prompt.len());
        let places: Vec<usize> = word.positions.iter().filter_map(place).collect();
        let here: Vec<&PatternRow> =
            rows.iter().filter(|(s, _)| places.contains(s)).map(|(_, row)| row).collect();
        if let (Some(first), Some((layer, map))) = (places.first(), map(&here)) {
            maps.push((phrase_picture(*first, &word.text, layer), map));
        }
    }
    let largest = |map: &[f32]| map.iter().copied().fold(0.0, f32::max);
    let largest: Vec<f32> = maps.iter().map(|(_, map)| largest(map)).collect();
    let reached = largest.iter().copied().fold(0.0, f32::max);
    let max = range.unwrap_or(reached);
    for (name, map) in &maps {
        let picture = picture::heatmap(&opened.image, &patches, map, max);
        picture::write_png(&picture, name, out)?;
    }
    out.write(FLOW, flow_svg(trace).as_bytes())?;
    let level = picture::level;
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
