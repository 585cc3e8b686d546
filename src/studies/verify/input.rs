//! Up to the decoder: the prompt's ids, what reference.json says of them, the views through encoder and
//! projector, and the rows that all of it becomes.
//!
//! Pixels come from the reference, `[.., 3, height, width]`, so that no image is opened and no folder's image
//! processor asked. Visual embeddings are `[visual tokens, width]`, all views in order.

use std::path::Path;

use burn::tensor::Tensor;
use serde_json::json;

use crate::{
    checkpoint::json::Section,
    engine::decoding::{DecodingError, Rows, host, place_rows},
    model::{
        encoder::Pixels,
        hooks::{VisionRecording, Watch},
        projector::pixel_shuffle,
        rotary::consecutive,
    },
    studies::verify::{case::Case, compare::ATTENTION, report::VerifyError},
    trace::geometry::Grid,
};

/// What pixel shuffle makes of the tower's output, before the projector's norm.
const SHUFFLED: &str = "vision.shuffled";

/// The prompt; from here on the case knows its length.
pub(super) fn ids(case: &mut Case<'_>) -> Result<Vec<u32>, VerifyError> {
    let ids = case.ids("input_ids")?;
    case.len = ids.len();
    case.fits("input_ids", ids.len())?;
    Ok(ids)
}

/// What the JSON says of the case, where the tensors or the model can tell.
pub(super) fn facts(case: &mut Case<'_>, ids: &[u32]) {
    let (vlm, facts) = (case.vlm, case.facts);
    let visual: Vec<usize> = (0..ids.len()).filter(|&i| ids[i] == vlm.config.image_token_id).collect();
    let tokens = &facts.generation.tokens;
    let stored: Vec<u32> =
        case.find("gen.tokens").map(|s| s.values.iter().map(|&v| v as u32).collect()).unwrap_or_default();
    // Text after the last visual token and the family's closing markers, without the last row.
    let closing = vlm.family.markers_after();
    let question: Vec<usize> =
        visual.last().map_or(Vec::new(), |last| (last + 1 + closing..ids.len() - 1).collect());
    let wrong: Vec<&str> = [
        ("question_rows", facts.question_rows == question),
        ("T", facts.prompt_len == ids.len()),
        ("visual_positions", facts.visual_positions == visual),
        ("last_row", facts.last_row + 1 == ids.len()),
        ("gen.tokens", *tokens == stored),
    ]
    .into_iter()
    .filter_map(|(key, holds)| (!holds).then_some(key))
    .collect();
    let note = if wrong.is_empty() { String::new() } else { format!("wrong: {}", wrong.join(", ")) };
    case.push("reference.json", wrong.len() as f64, 0.0, note);
}

/// `[visual tokens, width]`: every view through encoder and projector.
pub(super) fn vision(case: &mut Case<'_>) -> Result<Tensor<2>, VerifyError> {
    let (vlm, cancel) = (case.vlm, case.cancel);
    let (views, size) = views(case)?;
    let grid = grid(case, views.len());
    let recorded = case.find("vision.hidden.0").is_some();
    let watch = if recorded { Watch::Everything } else { Watch::Nothing };
    let (mut features, mut shuffled, mut embeds) = (Vec::new(), Vec::new(), Vec::new());
    for (n, values) in views.iter().enumerate() {
        let pixels = Pixels { values, size, grid };
        let out = vlm.encoder.encode(pixels, watch, cancel).map_err(DecodingError::from)?;
        if let (Some(recording), 0) = (out.recorded, n) {
            inside(case, recording)?;
        }
        embeds.push(out.tokens);
        if case.find(SHUFFLED).is_some() {
            let patches = out.features.dims()[0] / grid.len();
            shuffled.extend(host(pixel_shuffle(out.features.clone(), grid, patches.isqrt()))?);
        }
        features.extend(host(out.features)?);
    }
    case.relative(vlm.family.features_name(), &features)?;
    if case.find(SHUFFLED).is_some() {
        case.relative(SHUFFLED, &shuffled)?;
    }
    let embeds = Tensor::cat(embeds, 0);
    case.relative("image_embeds", &host(embeds.clone())?)?;
    Ok(embeds)
}

/// The pixels of every view, `[3, height, width]` each, and the width and height that all of them have.
type Views = (Vec<Vec<f32>>, (u32, u32));

/// All views, at least one.
fn views(case: &mut Case<'_>) -> Result<Views, VerifyError> {
    let pixels = case.get("pixel_values")?;
    let shape = pixels.shape.clone();
    let side = case.vlm.family.side();
    let size = match shape[..] {
        [_, .., 3, height, width] => u32::try_from(width).ok().zip(u32::try_from(height).ok()),
        _ => None,
    };
    match size.filter(|&size| !pixels.values.is_empty() && side.is_none_or(|side| size == (side, side))) {
        Some((width, height)) => {
            let view = pixels.values.chunks(3 * width as usize * height as usize);
            Ok((view.map(|t| t.iter().map(|&v| v as f32).collect()).collect(), (width, height)))
        }
        None => {
            let [height, width] = ["height", "width"].map(|name| side.map_or(name.into(), |n| n.to_string()));
            let why = format!("has shape {shape:?}, expected [.., 3, {height}, {width}]");
            Err(case.unfit("pixel_values", why))
        }
    }
}

/// The grid of visual tokens that one of so many views becomes.
///
/// References hold no grid, and a wrong one would break the encoder rather than a comparison. So the
/// reference's number of visual tokens is only proposed: a square of that many (a class token beside them
/// is no part of it) must divide the patches and pass the family's check of processor_config.json,
/// which repeats it. A family that checks nothing there and yet needs the grid trusts the reference.
fn grid(case: &Case<'_>, n_views: usize) -> Grid {
    let patches = case.vlm.config.vision.grid();
    let fits = |&side: &usize| {
        let named = json!({ "image_seq_len": side * side, "image_seq_length": side * side });
        let checked = Section::root(&named, Path::new("reference.json"))
            .and_then(|processor| case.vlm.family.check_processor(&processor));
        side > 0 && patches.is_multiple_of(side) && checked.is_ok()
    };
    let proposed = (case.facts.visual_positions.len() / n_views).isqrt();
    let side = [proposed].into_iter().chain((1..=patches).rev()).find(fits).unwrap_or(patches);
    Grid { rows: side, cols: side }
}

/// The first view's way through the tower.
fn inside(case: &mut Case<'_>, recording: VisionRecording) -> Result<(), VerifyError> {
    for (k, hidden) in recording.hidden.into_iter().enumerate() {
        case.relative(&format!("vision.hidden.{k}"), &host(hidden)?)?;
    }
    for (k, pattern) in recording.pattern.into_iter().enumerate() {
        case.absolute(&format!("vision.attn.{k}"), &host(pattern)?, ATTENTION)?;
    }
    Ok(())
}

/// `[T, width]`: visual positions filled from the images, in order.
pub(super) fn merged(case: &Case<'_>, ids: &[u32], images: Tensor<2>) -> Result<Rows, VerifyError> {
    let visual = &case.facts.visual_positions;
    let given = images.dims()[0];
    if visual.len() != given || visual.iter().any(|&p| p >= ids.len()) {
        let why = format!("has {} places, the tiles give {given} visual tokens", visual.len());
        return Err(case.unfit("visual_positions", why));
    }
    Ok(Rows {
        resid: place_rows(case.vlm.decoder.embed(ids), visual, images),
        // One after another: a family's other positions depend on images that a reference does not hold, and
        // will come with its references; so will what it adds after layers.
        positions: consecutive(0, ids.len()),
        added: Vec::new(),
    })
}
