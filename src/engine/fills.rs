//! What ablated tokens become: means, zeros, noise, or the embeddings of other images, each encoded once.
//!
//! Embeddings are `[rows, width]`.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

use burn::tensor::{Tensor, TensorData};

use crate::{
    engine::{
        change::Source,
        decoding::{DecodingError, host},
        error::RunError,
        load::Engine,
        see::{Seen, all_embeds},
    },
    image::files::image_files,
    progress::Cancel,
    spec::ablation::{Ablation, Fill},
    statistics::dice::Dice,
    trace::geometry::{Place, View},
};

/// The stream of random numbers that noise is drawn from: no draw of random patches comes so far.
const NOISE: u64 = u64::MAX;

/// What the tokens of an ablation become; `seed` draws noise.
///
/// # Errors
/// [`RunError`]: an image or folder that cannot be used, or an image of another shape.
pub fn source(
    engine: &Engine,
    ablation: &Ablation,
    images: &[&Seen],
    seed: u64,
    cancel: &Cancel,
) -> Result<Source, RunError> {
    let all = all_embeds(images);
    Ok(match &ablation.fill {
        Fill::Mean => Source::Same(all.mean_dim(0)),
        Fill::Zero => Source::Same(Tensor::zeros([1, engine.info.width], &engine.vlm.device)),
        Fill::Noise => {
            let shape = all.dims();
            let drawn = noise(&host(all)?, shape[1], seed);
            Source::Rows(Tensor::from_data(TensorData::new(drawn, shape), &engine.vlm.device))
        }
        Fill::MeanOf(dir) => {
            let mean = || Ok((mean_of(engine, dir, cancel)?, Vec::new()));
            Source::Same(donor(engine, &ablation.fill, cancel, mean)?.0)
        }
        Fill::Image(file) => {
            let encode = || {
                let seen = engine.look_at(file, cancel)?;
                Ok((seen.embeds, seen.geometry.views))
            };
            let (rows, views) = donor(engine, &ablation.fill, cancel, encode)?;
            let expected: Vec<&[View]> = images.iter().map(|seen| &seen.geometry.views[..]).collect();
            same_shape(ablation, file, &views, &expected)?;
            Source::Rows(rows)
        }
    })
}

/// Refuses a file whose views, and the grids of visual tokens in them, are not those of the prompt's images: a token
/// would be taken from another place.
///
/// # Errors
/// [`RunError::Ablation`].
pub fn same_shape(
    ablation: &Ablation,
    file: &Path,
    found: &[View],
    expected: &[&[View]],
) -> Result<(), RunError> {
    let form = |views: &[View]| views.iter().map(|v| (v.place, v.grid, v.lead)).collect::<Vec<_>>();
    if let [only] = expected
        && form(found) == form(only)
    {
        return Ok(());
    }
    let expected: Vec<String> = expected.iter().map(|views| shape(views)).collect();
    let why = format!(
        "{} becomes {} visual tokens, this prompt has {}: use an image of the same shape",
        file.display(),
        shape(found),
        match expected.is_empty() {
            true => "none".to_string(),
            false => expected.join(" of one image, then "),
        }
    );
    Err(RunError::Ablation { text: ablation.to_string(), why })
}

/// Rows by columns of an image's visual tokens, tile by tile: "2x6", "1x2 tiles of 4x4 and the whole in 4x4".
fn shape(views: &[View]) -> String {
    let (mut tiles, mut first, mut whole) = ([0, 0], None, None);
    for view in views {
        let grid = format!("{}x{}", view.grid.rows, view.grid.cols);
        match view.place {
            Place::Tile { row, col } => {
                tiles = [tiles[0].max(row + 1), tiles[1].max(col + 1)];
                first.get_or_insert(grid);
            }
            Place::Whole => whole = Some(grid),
        }
    }
    let tiled = first.map(|grid| format!("{}x{} tiles of {grid}", tiles[0], tiles[1]));
    match (tiled, whole) {
        (Some(tiles), Some(whole)) => format!("{tiles} and the whole in {whole}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => "no".to_string(),
    }
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

/// `[rows, width]`, as many as there are of `rows`: Gaussian noise with their mean and standard deviation (over n) in
/// every dimension. The seed and a row's place alone decide what is drawn for it.
fn noise(rows: &[f32], width: usize, seed: u64) -> Vec<f32> {
    let n = (rows.len() / width.max(1)).max(1) as f64;
    let over_rows = |of: &dyn Fn(usize, f64) -> f64| -> Vec<f64> {
        let mut sums = vec![0.0; width];
        for row in rows.chunks_exact(width.max(1)) {
            let numbers = row.iter().enumerate();
            sums.iter_mut().zip(numbers).for_each(|(sum, (i, &x))| *sum += of(i, f64::from(x)));
        }
        sums.into_iter().map(|sum| sum / n).collect()
    };
    let mean = over_rows(&|_, x| x);
    let variance = over_rows(&|i, x| (x - mean[i]).powi(2));
    let mut dice = Dice::new(seed, NOISE);
    let mut number = |i: usize| (mean[i % width] + variance[i % width].sqrt() * dice.normal()) as f32;
    (0..rows.len()).map(&mut number).collect()
}

/// The embeddings that a fill takes from elsewhere, made once; of one image also its views.
fn donor(
    engine: &Engine,
    fill: &Fill,
    cancel: &Cancel,
    make: impl FnOnce() -> Result<(Tensor<2>, Vec<View>), RunError>,
) -> Result<(Tensor<2>, Vec<View>), RunError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::geometry::Grid;

    fn view(place: Place, rows: usize, cols: usize) -> View {
        View { place, rect: [0.0; 4], grid: Grid { rows, cols }, lead: 0 }
    }

    #[test]
    fn an_image_of_as_many_tokens_in_another_grid_is_refused() {
        let ablation: Ablation = "visual = image:b.png".parse().unwrap();
        let refused = |found: &[View], expected: &[&[View]]| {
            same_shape(&ablation, Path::new("b.png"), found, expected).map_err(|e| e.to_string())
        };
        let single = |rows, cols| [view(Place::Whole, rows, cols)];
        let moved = View { rect: [0.0, 0.0, 9.0, 9.0], ..single(3, 4)[0] };
        assert_eq!(refused(&[moved], &[&single(3, 4)]), Ok(()), "pixels do not matter");
        let error = refused(&single(2, 6), &[&single(3, 4)]).unwrap_err();
        assert!(error.contains("b.png becomes 2x6 visual tokens, this prompt has 3x4: use"), "{error}");

        let tiles = |rows: usize, cols: usize| -> Vec<View> {
            let tile = |n| view(Place::Tile { row: n / cols, col: n % cols }, 4, 4);
            (0..rows * cols).map(tile).chain(single(4, 4)).collect()
        };
        assert_eq!(refused(&tiles(1, 2), &[&tiles(1, 2)]), Ok(()));
        let error = refused(&tiles(2, 1), &[&tiles(1, 2)]).unwrap_err();
        let parts = [
            "becomes 2x1 tiles of 4x4 and the whole in 4x4 visual",
            "has 1x2 tiles of 4x4 and the whole in 4x4:",
        ];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        // Of two images, one file cannot say what stands at every place.
        let error = refused(&single(3, 4), &[&single(3, 4), &single(1, 2)]).unwrap_err();
        assert!(error.contains("this prompt has 3x4 of one image, then 1x2:"), "{error}");
    }

    #[test]
    fn noise_has_the_rows_moments_and_is_drawn_by_the_seed() {
        // Three dimensions: far from 0, wide, and the same in every row.
        let (n, width) = (4000, 3);
        let rows: Vec<f32> =
            (0..n).flat_map(|i| [100.0 + (i % 2) as f32, 20.0 * (i % 5) as f32, 7.0]).collect();
        let drawn = noise(&rows, width, 5);
        assert_eq!(drawn.len(), rows.len());
        for (dimension, (mean, sd)) in
            [(100.5, 0.5), (40.0, 800.0_f64.sqrt()), (7.0, 0.0)].into_iter().enumerate()
        {
            let numbers: Vec<f64> =
                drawn.iter().skip(dimension).step_by(width).map(|&x| f64::from(x)).collect();
            let found = numbers.iter().sum::<f64>() / n as f64;
            let spread = (numbers.iter().map(|x| (x - found).powi(2)).sum::<f64>() / n as f64).sqrt();
            assert!((found - mean).abs() <= 0.08 * sd, "dimension {dimension}: mean {found}");
            assert!((spread - sd).abs() <= 0.06 * sd, "dimension {dimension}: deviation {spread}");
        }
        assert_eq!(noise(&rows, width, 5), drawn, "the seed alone decides");
        assert_ne!(noise(&rows, width, 6), drawn);
        let row = |n: usize| &drawn[n * width..(n + 1) * width];
        assert_ne!(row(0), row(1), "every token has a row of its own");
        // Fewer rows of the same moments: a row's place decides, and not how many there are.
        assert_eq!(noise(&rows[..200 * width], width, 5)[..9], drawn[..9]);
    }
}
