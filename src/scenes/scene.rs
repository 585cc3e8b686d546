//! One scene, and what kind of scenes to make: plain data.

use std::path::PathBuf;

use image::{GrayImage, RgbImage};
use serde::Serialize;

use crate::{
    files::error::WriteError,
    scenes::{
        backgrounds::Background,
        objects::{self, Tint},
        place::Place,
    },
};

/// What kind of scenes to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneOptions {
    /// Width and height in pixels. Objects scale with it: lengths in these docs are for 192.
    pub size: u32,
    /// Fewest objects of a scene.
    pub min_objects: usize,
    /// Most objects of a scene. Up to [`SceneOptions::MOST_APART`] every object has a place of its own in the
    /// 3 x 3 grid; above it places are shared, which is for training encoders.
    pub max_objects: usize,
}

impl SceneOptions {
    /// Up to this many objects stand in places of their own.
    pub const MOST_APART: usize = 6;
    /// More objects than this are refused.
    pub const MOST_OBJECTS: usize = 20;
    /// The sizes that can be drawn.
    pub const SIZES: std::ops::RangeInclusive<u32> = 64..=2048;

    /// Says what is wrong with these options, if anything.
    pub fn check(&self) -> Result<(), SceneError> {
        if !Self::SIZES.contains(&self.size) {
            return Err(SceneError::Size { size: self.size });
        }
        if self.min_objects == 0
            || self.min_objects > self.max_objects
            || self.max_objects > Self::MOST_OBJECTS
        {
            return Err(SceneError::Objects { min: self.min_objects, max: self.max_objects });
        }
        Ok(())
    }
}

impl Default for SceneOptions {
    fn default() -> Self {
        SceneOptions { size: 192, min_objects: 1, max_objects: 5 }
    }
}

/// One object of a scene.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SceneObject {
    /// Its class, an index into [`objects::classes`]; in files, the class's word.
    #[serde(serialize_with = "objects::class_word")]
    pub class: usize,
    /// The colour it was tinted in, or none where it keeps its natural colours.
    pub color: Option<Tint>,
    /// Where its centre stands in the 3 x 3 grid.
    pub place: Place,
    /// Centre in pixels, of the whole object, hidden parts included.
    pub center: [f32; 2],
    /// Visible box in pixels: left, top, width, height.
    #[serde(rename = "box")]
    pub bbox: [u32; 4],
    /// Share of its pixels that no other object hides.
    pub visible: f32,
}

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QuestionType {
    /// Is there a duck?
    Exists,
    /// What color is the duck?
    Color,
    /// Where is the duck?
    Where,
    /// What is left of the duck?
    LeftOf,
    /// What is above the duck?
    Above,
    /// How many objects are there?
    Count,
    /// What is the background?
    Background,
    /// What is at the top left?
    At,
}

/// A question with its one right answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// What it asks for.
    #[serde(rename = "type")]
    pub kind: QuestionType,
    /// Its text.
    pub question: String,
    /// The right answer.
    pub answer: String,
}

/// One scene: picture, truth and text.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The picture.
    pub image: RgbImage,
    /// 0 for background, k for visible pixels of object k, counted from 1.
    pub mask: GrayImage,
    /// What is behind the objects.
    pub background: Background,
    /// The objects, in reading order.
    pub objects: Vec<SceneObject>,
    /// The scene in one sentence.
    pub description: String,
    /// What can be asked without doubt about the answer.
    pub questions: Vec<Question>,
}

/// Why scenes could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The picture size is out of range.
    #[error("scenes can be {} to {} pixels wide, not {size}", SceneOptions::SIZES.start(), SceneOptions::SIZES.end())]
    Size {
        /// The size asked for.
        size: u32,
    },
    /// The object counts make no sense.
    #[error(
        "a scene has 1 to {} objects, and the least is not above the most: not {min} to {max}",
        SceneOptions::MOST_OBJECTS
    )]
    Objects {
        /// The least asked for.
        min: usize,
        /// The most asked for.
        max: usize,
    },
    /// A file or folder could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A picture could not be encoded or written.
    #[error("cannot write {path}: {source}")]
    Picture {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: image::ImageError,
    },
}
