//! The pictures that `run` leaves.

use std::{error::Error, path::Path};

use sightline::{
    export::{flow_svg, picture},
    trace::{pattern::PatternRow, run::Trace, tokens::visual, words::Word},
};

use crate::cli::subject::Opened;

/// One heatmap a token and a found phrase, from the layer whose head mean looks at the image most, all on
/// one range: from 0 to `range`, or to the largest value if none is given.
pub fn write_pictures(
    trace: &Trace,
    found: &[(String, Vec<Word>)],
    opened: &Opened,
    range: Option<f32>,
    out: &Path,
) -> Result<(), Box<dyn Error>> {
    let patches = opened.seen.geometry.patches();
    let visual = visual(&trace.prompt);
    let rows: Vec<(usize, PatternRow)> = trace.rows().collect();
    let map = |rows: &[&PatternRow]| brightest(trace, rows, &visual);
    let mut maps: Vec<(String, usize, Vec<f32>)> = Vec::new();
    for (s, row) in &rows {
        let word: String = trace.answer[*s].text.chars().filter(|c| c.is_alphanumeric()).collect();
        maps.extend(map(&[row]).map(|(layer, map)| (format!("token_{s:02}_{word}"), layer, map)));
    }
    for word in found.iter().flat_map(|(_, words)| words) {
        // The row that predicted a token is kept under the token's place in the answer.
        let place = |p: &usize| p.checked_sub(trace.prompt.len());
        let places: Vec<usize> = word.positions.iter().filter_map(place).collect();
        let here: Vec<&PatternRow> =
            rows.iter().filter(|(s, _)| places.contains(s)).map(|(_, row)| row).collect();
        if let (Some(first), Some((layer, map))) = (places.first(), map(&here)) {
            let name: String = word.text.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
            maps.push((format!("phrase_{first:02}_{name}"), layer, map));
        }
    }
    let largest = |map: &[f32]| map.iter().copied().fold(0.0, f32::max);
    let largest: Vec<f32> = maps.iter().map(|(_, _, map)| largest(map)).collect();
    let reached = largest.iter().copied().fold(0.0, f32::max);
    let max = range.unwrap_or(reached);
    for (name, layer, map) in &maps {
        let picture = picture::heatmap(&opened.image, &patches, map, max);
        picture::save_png(&picture, &out.join(format!("{name}_layer_{layer}.png")))?;
    }
    flow_svg::save_flow_svg(trace, &out.join("flow.svg"))?;
    println!("heatmaps: token_*.png, colours from 0 to {}; flow chart: flow.svg", picture::level(max));
    let clipped = largest.iter().filter(|value| **value > max).count();
    if clipped > 0 {
        println!(
            "heatmaps with values above {}, drawn in its colour: {clipped} of {}; the largest is {}",
            picture::level(max),
            maps.len(),
            picture::level(reached)
        );
    }
    Ok(())
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
