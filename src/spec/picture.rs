//! Which image an experiment is about, and which part of it is the object.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An image, and what is marked in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Where it comes from.
    pub image: ImageSource,
    /// Which pixels are the object, where a set names it.
    #[serde(default)]
    pub object: Option<ObjectMask>,
}

/// Where an image comes from. It is decoded where it is needed, not by whoever names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageSource {
    /// A file.
    File(PathBuf),
    /// Bytes that lie in no file, and a name for them: what was pasted. Has no form in a session file.
    Bytes(Arc<[u8]>, String),
}

impl ImageSource {
    /// A name to show: of a file without its folder.
    pub fn name(&self) -> String {
        match self {
            ImageSource::File(path) => path
                .file_name()
                .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned()),
            ImageSource::Bytes(_, name) => name.clone(),
        }
    }

    /// Its file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            ImageSource::File(path) => Some(path),
            ImageSource::Bytes(..) => None,
        }
    }
}

impl Serialize for ImageSource {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            ImageSource::File(path) => path.serialize(to),
            ImageSource::Bytes(_, name) => {
                let why = format!("`{name}` lies in no file: save the image, and open it from there");
                Err(serde::ser::Error::custom(why))
            }
        }
    }
}

impl<'de> Deserialize<'de> for ImageSource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        PathBuf::deserialize(from).map(ImageSource::File)
    }
}

/// Which pixels of which file are the object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectMask {
    /// An image of the upright source image's size.
    pub file: PathBuf,
    /// Pixels of this value are the object; any but 0 if `None`.
    #[serde(default)]
    pub value: Option<u16>,
    /// A patch belongs to the object when more than this [`share`] of its area is covered, or all of it.
    #[serde(default, deserialize_with = "read_share")]
    pub share: f32,
}

/// A number as the share of a patch that must be covered, from 0 (touched) to 1 (all of it).
///
/// # Errors
/// In words: it is none.
pub fn share(number: f32) -> Result<f32, String> {
    match (0.0..=1.0).contains(&number) {
        true => Ok(number),
        false => {
            Err(format!("{number} is no share of a patch: expected a number from 0 (touched) to 1 (all)"))
        }
    }
}

fn read_share<'de, D: Deserializer<'de>>(from: D) -> Result<f32, D::Error> {
    share(f32::deserialize(from)?).map_err(serde::de::Error::custom)
}
