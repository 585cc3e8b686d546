//! What is known of a picture that lies in a folder of scenes.
//!
//! Reads the one line of scenes.jsonl that is about it; opens no picture.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::files::input;

/// A picture's objects, and where its mask lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownScene {
    /// The class of every object; object `k` of the mask is number `k - 1` here.
    pub classes: Vec<String>,
    /// The mask.
    pub mask: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    file: String,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    class: String,
}

/// Looks a picture up: `FOLDER/images/NAME`, with `FOLDER/scenes.jsonl` and `FOLDER/masks/NAME`. `None` of any
/// other picture, also where the folder is not as it should be: then nothing is known.
pub fn known_scene(image: &Path) -> Option<KnownScene> {
    let name = image.file_name()?;
    let images = image.parent().filter(|folder| folder.ends_with("images"))?;
    let folder = images.parent()?;
    let mask = folder.join("masks").join(name);
    if !mask.is_file() {
        return None;
    }
    let lines = input::open(&folder.join("scenes.jsonl")).ok()?;
    let mut scenes = BufReader::new(lines).lines().map_while(Result::ok);
    let scene = scenes.find_map(|line| {
        let line: Line = serde_json::from_str(&line).ok()?;
        (name == line.file.as_str()).then_some(line)
    })?;
    Some(KnownScene { classes: scene.objects.into_iter().map(|o| o.class).collect(), mask })
}
