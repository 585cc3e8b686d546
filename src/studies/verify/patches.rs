//! References that keep images as rows of patches, of any size (Qwen): their views, and what follows from where
//! patches and tokens stand.
//!
//! `pixel_values` is `[patches, numbers of a patch]`, one image after another, `image_grid_thw` `[images, 3]`: frames,
//! and patches down and across. `position_ids` is `[3, T]`.

use crate::{
    engine::decoding::host,
    image::patches::Patches,
    model::{hooks::VisionRecording, rotary::Position},
    studies::verify::{
        case::Case,
        compare::{ATTENTION, FEATURES, distance},
        report::VerifyError,
    },
    trace::geometry::{Geometry, Grid, Place, View},
};

/// One view of the reference.
pub(super) struct ReferenceView {
    /// `[3, height, width]`.
    pub(super) values: Vec<f32>,
    /// Width and height.
    pub(super) size: (u32, u32),
    /// Its visual tokens.
    pub(super) grid: Grid,
}

/// The views of the case, one an image, and the images' geometries.
pub(super) fn views(
    case: &mut Case<'_>,
    patches: Patches,
) -> Result<(Vec<ReferenceView>, Vec<Geometry>), VerifyError> {
    let grids = grids(case, patches)?;
    let (stored, each) = (case.get("pixel_values")?, patches.len());
    let needed: usize = grids.iter().map(|[rows, cols]| rows * cols).sum();
    if stored.shape[..] != [needed, each] || stored.values.len() != needed * each {
        let why = format!("has shape {:?}, expected [{needed}, {each}] by image_grid_thw", stored.shape);
        return Err(case.unfit("pixel_values", why));
    }
    let values: Vec<f32> = stored.values.iter().map(|&v| v as f32).collect();
    let (mut views, mut geometries, mut again, mut first) = (vec![], vec![], vec![], 0);
    for patched @ [rows, cols] in grids {
        let here = first..first + rows * cols * each;
        first = here.end;
        let size = ((cols * patches.side) as u32, (rows * patches.side) as u32);
        let grid = Grid { rows: rows / patches.merge, cols: cols / patches.merge };
        let view =
            View { place: Place::Whole, rect: [0.0, 0.0, size.0 as f32, size.1 as f32], grid, lead: 0 };
        let values = patches.pixels(&values[here], patched);
        again.extend(patches.rows(&values, size));
        views.push(ReferenceView { values, size, grid });
        geometries.push(Geometry { source: size, rows: 0, cols: 0, views: vec![view] });
    }
    // Both frames of a still image are one picture.
    case.push("pixel_values", distance(&again, &stored.values), 0.0, "as pixels, and cut again".to_string());
    Ok((views, geometries))
}

/// Patches down and across of every image, one image at least; compared with reference.json.
fn grids(case: &mut Case<'_>, patches: Patches) -> Result<Vec<[usize; 2]>, VerifyError> {
    /// Patches a side beyond any image.
    const MOST: f64 = 4096.0;
    let stored = case.get("image_grid_thw")?;
    let side = |v: f64| (v.fract() == 0.0 && (1.0..=MOST).contains(&v)).then_some(v as usize);
    let grid = |image: &[f64]| match image {
        &[1.0, rows, cols] => {
            let whole = |side: &usize| side.is_multiple_of(patches.merge);
            Some([side(rows).filter(whole)?, side(cols).filter(whole)?])
        }
        _ => None,
    };
    let grids: Option<Vec<[usize; 2]>> = stored.values.chunks(3).map(grid).collect();
    let Some(grids) = grids.filter(|grids| !grids.is_empty()) else {
        let why =
            format!("holds {:?}, expected 1, patches down, patches across of each image", stored.values);
        return Err(case.unfit("image_grid_thw", why));
    };
    let said = case.facts.image_grid_thw.iter().flatten();
    let differing = match &case.facts.image_grid_thw {
        Some(said) if said.len() != grids.len() => 1,
        _ => said.zip(&grids).filter(|(said, [rows, cols])| **said != [1, *rows, *cols]).count(),
    };
    case.push("image_grid_thw", differing as f64, 0.0, "reference.json".to_string());
    Ok(grids)
}

/// What the tower makes of the places of patches, of all views: rotations, learned positions, windows.
pub(super) fn places(
    case: &mut Case<'_>,
    recordings: &[VisionRecording],
    views: &[ReferenceView],
) -> Result<(), VerifyError> {
    let names = recordings.first().map(|r| r.places.iter().map(|(name, _)| *name).collect());
    let names: Vec<&str> = names.unwrap_or_default();
    for (n, name) in names.into_iter().enumerate() {
        let mut ours = Vec::new();
        for (_, table) in recordings.iter().filter_map(|recording| recording.places.get(n)) {
            ours.extend(host(table.clone())?);
        }
        let tolerance = if name.contains("rope") { ATTENTION } else { FEATURES };
        case.absolute(name, &ours, tolerance)?;
    }
    let merged = case.vlm.family.patches().map_or(1, |patches| patches.merge * patches.merge);
    let (mut tokens, mut index, mut ends) = (0, Vec::new(), vec![0.0f32]);
    for (recording, view) in recordings.iter().zip(views) {
        for window in &recording.windows {
            index.extend(window.iter().map(|token| (tokens + token) as f32));
            ends.push((index.len() * merged) as f32);
        }
        tokens += view.grid.len();
    }
    if !index.is_empty() {
        case.absolute("vision.window_index", &index, 0.0)?;
        case.absolute("vision.cu_window_seqlens", &ends, 0.0)?;
    }
    Ok(())
}

/// The prompt's positions, and where new tokens go on.
pub(super) fn positions(case: &mut Case<'_>, ours: &[Position]) -> Result<(), VerifyError> {
    if case.find("position_ids").is_none() {
        return Ok(());
    }
    let by_axis: Vec<f32> =
        (0..3).flat_map(|axis| ours.iter().map(move |position| position[axis] as f32)).collect();
    case.absolute("position_ids", &by_axis, 0.0)?;
    let next = ours.iter().flatten().max().map_or(0, |&last| i64::from(last) + 1);
    let delta = next - ours.len() as i64;
    case.absolute("rope_deltas", &[delta as f32], 0.0)?;
    if let Some(said) = case.facts.rope_deltas {
        case.push("rope_deltas", delta.abs_diff(said) as f64, 0.0, "reference.json".to_string());
    }
    Ok(())
}
