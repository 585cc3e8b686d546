//! A scene from a seed and a number.

use crate::{
    scenes::{
        paint,
        scene::{Scene, SceneOptions},
        text,
    },
    statistics::dice::Dice,
};

/// Makes scene `index` of the world `seed`: the same picture and text every time.
pub fn generate(seed: u64, index: u64, options: &SceneOptions) -> Scene {
    let mut dice = Dice::new(seed, index);
    let painted = paint::paint(&mut dice, options);
    let description = text::description(&painted.objects, painted.background);
    let questions = text::questions(&mut dice, &painted.objects, painted.background, options.size);
    Scene {
        image: painted.image,
        mask: painted.mask,
        background: painted.background,
        objects: painted.objects,
        description,
        questions,
    }
}

/// Every word that descriptions, questions and answers use, sorted; punctuation is left out.
pub fn words() -> Vec<&'static str> {
    text::words()
}
