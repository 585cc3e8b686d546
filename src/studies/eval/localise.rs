//! Whether the words of a model's own descriptions look at the objects they name, over a scenes folder
//! with masks.
//!
//! A word counts when it is the class of exactly one object of its scene. Its row is the one that
//! predicted it. Knows runs and masks; the measure itself is `interp::localisation`.

use std::{fmt, path::Path};

use ::image::GrayImage;
use serde::Serialize;

use crate::studies::eval::{evaluate::{EvalError, Images, see}, folder::Folder, score::Rate};
use crate::{engine::{load::Engine, patches::covered}, progress::Cancel, spec::experiment::RunSpec, studies::localisation::{Hit, hits}};

/// Layer by layer.
#[derive(Clone, Debug, Serialize)]
pub struct Localisation {
    /// Words measured.
    pub words: usize,
    /// One a layer.
    pub layers: Vec<LayerHits>,
}

/// How often one layer's peak hits.
#[derive(Clone, Debug, Serialize)]
pub struct LayerHits {
    /// A patch of the object.
    pub on: Rate,
    /// Such a patch or a neighbour.
    pub near: Rate,
}

/// Describes every image with `describe` and measures every word that names an object.
///
/// # Errors
/// [`EvalError`], of the first image or mask that cannot be used.
pub fn localise(
    engine: &Engine,
    folder: &Folder,
    describe: &str,
    max_new: usize,
    cancel: &Cancel,
    on_image: &mut dyn FnMut(),
) -> Result<Localisation, EvalError> {
    let mut found: Vec<Vec<Hit>> = Vec::new();
    for item in &folder.items {
        let seen = see(engine, &item.image, Images::Own, cancel)?;
        let (patches, _) = engine.patches(&seen.processed);
        let mask = mask(&folder.dir, &item.image)?;
        let spec = RunSpec::ask(describe, max_new);
        let at = |source| EvalError::Run { image: item.image.clone(), source };
        let trace = engine.run(&spec, &[&seen], cancel, &mut |_| {}).map_err(at)?;
        for (s, row) in trace.rows() {
            let word = trace.answer[s].text.trim();
            let mut named = item.objects.iter().enumerate().filter(|(_, class)| *class == word);
            if let (Some((object, _)), None) = (named.next(), named.next()) {
                // Object 255 and later ones have no level of their own in a mask of 8 bits.
                let Ok(value) = u8::try_from(object + 1) else { continue };
                let covered: Vec<f32> = patches.iter().map(|p| covered(&mask, *p, Some(value))).collect();
                let layers = hits(&row, &trace.prompt, &covered);
                if !layers.is_empty() {
                    found.push(layers);
                }
            }
        }
        on_image();
    }
    let count = |layer: usize, hit: fn(&Hit) -> bool| {
        Rate::new(found.iter().filter(|layers| hit(&layers[layer])).count(), found.len())
    };
    let layers = (0..engine.info.n_layers)
        .map(|layer| LayerHits { on: count(layer, |h| h.on), near: count(layer, |h| h.near) })
        .collect();
    Ok(Localisation { words: found.len(), layers })
}

/// `masks/NAME` beside `images/NAME`: pixel `k` is object `k`'s, counted from 1.
fn mask(dir: &Path, image: &Path) -> Result<GrayImage, EvalError> {
    let file = dir.join("masks").join(image.file_name().unwrap_or_default());
    match ::image::open(&file) {
        Ok(mask) => Ok(mask.into_luma8()),
        Err(e) => Err(EvalError::File { file, why: format!("the mask cannot be read ({e})") }),
    }
}

impl fmt::Display for Localisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "peak of the head mean, {} words that name one object:", self.words)?;
        write!(f, "layer   on the object                 or one patch beside it")?;
        for (n, LayerHits { on, near }) in self.layers.iter().enumerate() {
            write!(
                f,
                "\n{n:>5}   {:.3}  {:.3} to {:.3}         {:.3}  {:.3} to {:.3}",
                on.value, on.low, on.high, near.value, near.low, near.high
            )?;
        }
        Ok(())
    }
}
