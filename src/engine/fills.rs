//! What ablated tokens become: means, zeros, or the embeddings of other images, each encoded once.
//!
//! Embeddings are `[rows, width]`.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

use burn::tensor::Tensor;

use crate::{
    engine::{
        change::Source,
        decoding::DecodingError,
        error::RunError,
        load::Engine,
        see::{Seen, all_embeds},
    },
    image::files::image_files,
    progress::Cancel,
    spec::ablation::{Ablation, Fill},
};

/// What the tokens of an ablation become.
///
/// # Errors
/// [`RunError`]: an image or folder that cannot be used, or an image of another shape.
pub fn source(
    engine: &Engine,
    ablation: &Ablation,
    images: &[&Seen],
    cancel: &Cancel,
) -> Result<Source, RunError> {
    let all = all_embeds(images);
    Ok(match &ablation.fill {
        Fill::Mean => Source::Same(all.mean_dim(0)),
        Fill::Zero => Source::Same(Tensor::zeros([1, engine.info.width], &engine.vlm.device)),
        Fill::MeanOf(dir) => {
            Source::Same(donor(engine, &ablation.fill, cancel, || mean_of(engine, dir, cancel))?)
        }
        Fill::Image(file) => {
            let encode = || Ok(engine.look_at(file, cancel)?.embeds);
            let rows = donor(engine, &ablation.fill, cancel, encode)?;
            same_shape(ablation, file, rows.dims()[0], all.dims()[0])?;
            Source::Rows(rows)
        }
    })
}

/// Refuses a file that becomes `found` visual tokens where the prompt has `expected`.
///
/// # Errors
/// [`RunError::Ablation`].
pub fn same_shape(ablation: &Ablation, file: &Path, found: usize, expected: usize) -> Result<(), RunError> {
    if found == expected {
        return Ok(());
    }
    let why = format!(
        "{} becomes {found} visual tokens, this prompt has {expected}: use an image of the same shape",
        file.display()
    );
    Err(RunError::Ablation { text: ablation.to_string(), why })
}

/// The images of a folder to take the mean of: one at least.
///
/// # Errors
/// [`RunError::Mask`], naming the folder.
pub fn images_of(dir: &Path) -> Result<Vec<PathBuf>, RunError> {
    let fail = |why: String| RunError::Mask { file: dir.to_path_buf(), why };
    let files = image_files(dir).map_err(|e| fail(format!("cannot be read ({e})")))?;
    if files.is_empty() {
        return Err(fail("holds no image to take the mean of".to_string()));
    }
    Ok(files)
}

/// The embeddings that a fill takes from elsewhere, made once.
fn donor(
    engine: &Engine,
    fill: &Fill,
    cancel: &Cancel,
    make: impl FnOnce() -> Result<Tensor<2>, RunError>,
) -> Result<Tensor<2>, RunError> {
    cancel.check().map_err(DecodingError::from)?;
    let lock = || engine.donors.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = lock().get(fill) {
        return Ok(held.clone());
    }
    let made = make()?;
    lock().insert(fill.clone(), made.clone());
    Ok(made)
}

/// `[1, width]`: the mean visual embedding of every image of a folder.
fn mean_of(engine: &Engine, dir: &Path, cancel: &Cancel) -> Result<Tensor<2>, RunError> {
    let (mut sum, mut n) = (Tensor::zeros([1, engine.info.width], &engine.vlm.device), 0);
    for file in images_of(dir)? {
        let rows = engine.look_at(file, cancel)?.embeds;
        n += rows.dims()[0];
        sum = sum + rows.sum_dim(0);
    }
    Ok(sum / n as f32)
}
