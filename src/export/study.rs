//! The folder that a study over images leaves: `study.json`, `rows.csv`, and its figure as SVG and as PNG.
//!
//! All four are made from what the study found alone: no times, no places. They are put in place together; the record
//! that a study goes on from lies beside them and is not touched here.

use std::path::Path;

use crate::{
    export::{csv, error::ExportError, figure_png, svg},
    files::{
        error::WriteError,
        output::{Layout, Output},
    },
    studies::survey::{chart, course::Study},
    trace::{figure::Figure, table::Table},
};

/// What was done, and what it found, with intervals. Written last: where it is, all else is.
pub const STUDY: &str = "study.json";
/// A row for each image and condition.
pub const ROWS: &str = "rows.csv";
/// Its figure.
pub const FIGURE: &str = "figure.svg";
/// The same as pixels.
pub const PICTURE: &str = "figure.png";

/// All of them.
pub const FILES: [&str; 4] = [STUDY, ROWS, FIGURE, PICTURE];

static LAYOUT: Layout =
    Layout { folders: &[], seals: &[STUDY], leaves: |name| FILES[1..].contains(&name), durable: true };

/// Takes hold of a study's folder, as [`Output::open`].
///
/// # Errors
/// As there.
pub fn open(dir: &Path) -> Result<Output, WriteError> {
    Output::open(dir, &LAYOUT)
}

/// Writes all four, and puts them in place.
///
/// # Errors
/// [`ExportError`]; the folder's files stay as they were.
pub fn write(output: Output, study: &Study, rows: &Table) -> Result<(), ExportError> {
    let fail = |name: &str, why: String| ExportError::Encode { file: output.place(name), why };
    let figure = figure(study);
    let json = serde_json::to_string_pretty(study).map_err(|e| fail(STUDY, e.to_string()))? + "\n";
    let csv = csv::csv(rows).map_err(|why| fail(ROWS, why))?;
    let picture = figure_png::png(&figure).map_err(|why| fail(PICTURE, why))?;
    let svg = svg::svg(&figure);
    for (name, bytes) in
        [(ROWS, &csv[..]), (FIGURE, svg.as_bytes()), (PICTURE, &picture), (STUDY, json.as_bytes())]
    {
        output.write(name, bytes)?;
    }
    Ok(output.commit()?)
}

/// A study's figure, with what it was drawn from.
fn figure(study: &Study) -> Figure {
    let Study { study: name, model, n_measured, n_images, .. } = study;
    let plural = if *n_measured == 1 { "" } else { "s" };
    let mut figure =
        chart::figure(&format!("{name}: {}, {n_measured} image{plural}", model.name), &study.results);
    let settings = serde_json::to_string(&study.settings).unwrap_or_default();
    figure.settings = [
        ("study", name.clone()),
        ("model", format!("{} {}", model.name, model.sha256)),
        ("images", format!("{n_measured} of {n_images}")),
        ("settings", settings),
    ]
    .map(|(name, value)| (name.to_string(), value))
    .to_vec();
    figure
}
