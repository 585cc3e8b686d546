//! Whether the words of a model's own descriptions look at the objects they name, over a scenes folder
//! with masks.
//!
//! Knows runs and masks; which words count, and the measure itself, are `localisation`'s.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    engine::{error::RunError, load::Engine},
    image::mask::Mask,
    progress::Cancel,
    spec::{experiment::Experiment, picture::ImageSource},
    statistics::interval::Rate,
    studies::{
        eval::{
            error::EvalError,
            evaluate::see,
            folder::{Folder, Item},
            report::{Images, PassedOver},
        },
        localisation::{Hit, named, word_hits},
    },
};

/// Layer by layer.
#[derive(Clone, Debug, Serialize)]
pub struct Localisation {
    /// Words measured.
    pub words: usize,
    /// One a layer.
    pub layers: Vec<LayerHits>,
    /// Images of which nothing could be measured: they, or their masks, cannot be used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
}

/// How often one layer's peak hits.
#[derive(Clone, Debug, Serialize)]
pub struct LayerHits {
    /// A patch of the object.
    pub on: Rate,
    /// Such a patch or a neighbour.
    pub near: Rate,
}

/// Refuses a folder in which no image has a mask.
///
/// # Errors
/// [`EvalError::NoMask`], naming the first.
pub fn check_masks(folder: &Folder) -> Result<(), EvalError> {
    let mut masks = folder.items.iter().map(|item| mask_file(&folder.dir, &item.image)).peekable();
    match masks.peek().cloned() {
        Some(file) if masks.all(|mask| !mask.exists()) => Err(EvalError::NoMask { file }),
        _ => Ok(()),
    }
}

/// Describes every image with `describe` and measures every word that names an object. One bad image among many
/// loses nothing of the rest.
///
/// # Errors
/// [`EvalError`]; of the first image or mask, where none can be used.
pub fn localise(
    engine: &Engine,
    folder: &Folder,
    describe: &str,
    max_new: usize,
    cancel: &Cancel,
    on_image: &mut dyn FnMut(),
) -> Result<Localisation, EvalError> {
    let mut found: Vec<Vec<Hit>> = Vec::new();
    let (mut passed_over, mut first) = (Vec::new(), None);
    for item in &folder.items {
        match measure(engine, folder, item, describe, max_new, cancel) {
            Ok(hits) => found.extend(hits),
            Err(e) if e.is_of_one_image() => {
                passed_over.push(PassedOver { image: item.image.clone(), why: e.to_string() });
                first.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
        on_image();
    }
    if let Some(error) = first.filter(|_| passed_over.len() == folder.items.len()) {
        return Err(error);
    }
    let count = |layer: usize, hit: fn(&Hit) -> bool| {
        Rate::new(found.iter().filter(|layers| hit(&layers[layer])).count(), found.len())
    };
    let layers = (0..engine.info.n_layers)
        .map(|layer| LayerHits { on: count(layer, |h| h.on), near: count(layer, |h| h.near) })
        .collect();
    Ok(Localisation { words: found.len(), layers, passed_over })
}

/// What the words of one image's description hit, layer by layer.
fn measure(
    engine: &Engine,
    folder: &Folder,
    item: &Item,
    describe: &str,
    max_new: usize,
    cancel: &Cancel,
) -> Result<Vec<Vec<Hit>>, EvalError> {
    let mask = mask(&mask_file(&folder.dir, &item.image))?;
    let seen = see(engine, &item.image, Images::Own, cancel)?;
    let experiment = Experiment::ask(ImageSource::File(item.image.clone()), describe, max_new);
    let at = |e: RunError| EvalError::Run { image: item.image.clone(), source: e.into() };
    let trace = engine.scratch(&experiment, &[&seen], cancel, &mut |_| {}).map_err(at)?;
    let patches = seen.geometry.patches();
    let mut found = Vec::new();
    for (object, word) in named(&trace, &item.objects, &folder.classes) {
        // Later ones have no value of their own, in a mask of 16 bits neither.
        let Ok(value) = u16::try_from(object + 1) else { continue };
        let covered: Vec<f32> = patches.iter().map(|p| mask.covered(p.rect, Some(value))).collect();
        found.extend(word_hits(&trace, &word, &covered));
    }
    Ok(found)
}

/// `masks/NAME` beside `images/NAME`.
pub(in crate::studies) fn mask_file(dir: &Path, image: &Path) -> PathBuf {
    dir.join("masks").join(image.file_name().unwrap_or_default())
}

/// The mask of an image, from its file: pixels of value `k` are object `k`'s, counted from 1.
pub(in crate::studies) fn mask(file: &Path) -> Result<Mask, EvalError> {
    let fail = |why: String| EvalError::File { file: file.to_path_buf(), why };
    let mask = Mask::open(file).map_err(|e| fail(format!("the mask cannot be read ({e})")))?;
    match mask.exact() {
        Ok(()) => Ok(mask),
        Err(why) => Err(fail(format!("objects cannot be told apart: {why}"))),
    }
}

impl fmt::Display for Localisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for passed_over in &self.passed_over {
            writeln!(f, "{passed_over}")?;
        }
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
