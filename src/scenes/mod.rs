//! A made-up world whose truth is known: seeded scenes with masks, descriptions and questions.
//!
//! A scene is a textured background with a few objects from `objects`. Everything about it is known to the
//! pixel, so that what a model says, and where it looks, can be measured.
//!
//! ```text
//! scene.rs        one scene, and what kind of scenes to make
//! generate.rs     a scene from a seed and a number, the same every time
//! objects.rs      the object pictures and the tints
//! backgrounds.rs  the textures
//! place.rs        the 3 x 3 grid of place words, and what "left of" and "above" mean
//! paint.rs        lays objects out, draws them, keeps the masks
//! text.rs         description, questions and answers
//! folder.rs       writes a folder: pictures, masks, scenes.jsonl, COCO annotations
//! known.rs        what such a folder knows of one of its pictures
//! ```
//!
//! Knows nothing of models, tokens or windows.

mod backgrounds;
mod folder;
mod generate;
mod known;
mod objects;
mod paint;
mod place;
mod scene;
mod text;

pub use backgrounds::Background;
pub use folder::write_folder;
pub use generate::{generate, words};
pub use known::{KnownScene, known_scene};
pub use objects::{Tint, classes};
pub use place::Place;
pub use scene::{Question, QuestionType, Scene, SceneError, SceneObject, SceneOptions};

#[cfg(test)]
mod tests;
