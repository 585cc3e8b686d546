//! A run that was saved, as the window takes it up: it can be looked at without its model.
//!
//! Knows traces; nothing of the files that they were read from.

use std::sync::Arc;

use crate::{
    spec::experiment::Experiment,
    trace::{
        pattern::PatternRow,
        report::{Effect, End},
        run::{ModelInfo, Trace},
    },
    ui::store::{run::Run, setup::Setup},
    worker::protocol::{ImageView, Row, ToldRow},
};

/// What was read.
#[derive(Debug)]
pub struct SavedRun {
    /// The model that ran.
    pub model: ModelInfo,
    /// The image, as far as it can still be read.
    pub image: ImageView,
    /// The uncut run.
    pub uncut: Box<Run>,
    /// The run under cuts, if it was one.
    pub cut: Option<Box<Run>>,
}

/// A run as a window holds it, from its trace. `scored`: the uncut answer under the intervention, and what that did.
///
/// # Errors
/// In words: not every layer and head was recorded, which maps are drawn from.
pub fn run_of(
    experiment: Experiment,
    setup: Setup,
    trace: &Trace,
    scored: Option<(&Trace, &[Effect])>,
    end: End,
) -> Result<Run, String> {
    let all = (trace.model.n_layers, trace.model.n_heads);
    if (trace.kept.layers.len(), trace.kept.heads.len()) != all {
        return Err(format!(
            "the saved run holds the attention of {} of {} layers and {} of {} heads: run it again without --record to \
             look at it here",
            trace.kept.layers.len(),
            all.0,
            trace.kept.heads.len(),
            all.1
        ));
    }
    let mut run = Run { setup, prompt: trace.prompt.clone(), ..Run::new(0, experiment, None) };
    let rows = |trace: &Trace| -> Vec<Option<PatternRow>> {
        let mut rows = vec![None; trace.answer.len()];
        for (at, row) in trace.rows() {
            if let Some(place) = rows.get_mut(at) {
                *place = Some(row);
            }
        }
        rows
    };
    if let Some((forced, effects)) = scored {
        for ((token, effect), row) in forced.answer.iter().zip(effects).zip(rows(forced)) {
            run.score(token.clone(), *effect, row.map(|pattern| Row { pattern, resident: None }));
        }
    }
    for (token, row) in trace.answer.iter().zip(rows(trace)) {
        let row = row.map_or(ToldRow::Nothing, |pattern| ToldRow::New(Row { pattern, resident: None }));
        run.push(token.clone(), row);
    }
    run.end = Some(end);
    Ok(run)
}

/// A picture of an image whose file is gone: grey, of its size.
pub fn blank_picture(width: u32, height: u32) -> Arc<image::RgbImage> {
    const SIDE: u32 = 1024;
    let scale = (f64::from(SIDE) / f64::from(width.max(height).max(1))).min(1.0);
    let fit = |n: u32| ((f64::from(n) * scale).round() as u32).max(1);
    Arc::new(image::RgbImage::from_pixel(fit(width), fit(height), image::Rgb([96; 3])))
}
