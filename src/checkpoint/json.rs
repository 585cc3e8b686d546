//! JSON files of a model folder, read by key: what is there has the right type or is an error that names
//! file, key, what was found and what was expected. `null` counts as absent, unless `is_null` is asked.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::files::input;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({source}); is this a Hugging Face model folder?", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The folder of a file is not there.
    #[error("{}: no such folder", folder.display())]
    NoFolder {
        /// Which folder.
        folder: PathBuf,
    },
    /// The file is not JSON.
    #[error("{}: not valid JSON ({source})", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// A key holds something this program does not compute.
    #[error("{}: `{key}` is {found}, expected {expected}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// The beginning of a text, for error messages that repeat what a file holds.
pub fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// A text file, or `None` if there is no such file.
///
/// # Errors
/// [`JsonError::Read`].
pub fn read_text(file: &Path) -> Result<Option<String>, JsonError> {
    match input::read_text(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JsonError::Read { file: file.to_path_buf(), source }),
    }
}

/// A JSON file, or `None` if there is no such file.
///
/// # Errors
/// [`JsonError::Read`] or [`JsonError::Syntax`].
pub fn read(file: &Path) -> Result<Option<Value>, JsonError> {
    let syntax = |source| JsonError::Syntax { file: file.to_path_buf(), source };
    read_text(file)?.map(|text| serde_json::from_str(&text).map_err(syntax)).transpose()
}

/// A JSON file that must be there.
///
/// # Errors
/// [`JsonError::Read`], [`JsonError::NoFolder`] or [`JsonError::Syntax`].
pub fn read_required(file: &Path) -> Result<Value, JsonError> {
    let missing = || match file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Some(folder) => JsonError::NoFolder { folder: folder.to_path_buf() },
        None => JsonError::Read { file: file.to_path_buf(), source: io::ErrorKind::NotFound.into() },
    };
    read(file)?.ok_or_else(missing)
}

/// One object of a file, which may be absent, with the path that errors name.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    json: Option<&'a Value>,
    path: String,
    file: &'a Path,
}

impl<'a> Section<'a> {
    /// The whole of a file; `file` is only named in errors.
    ///
    /// # Errors
    /// [`JsonError::Value`] when it is no object.
    pub fn root(json: &'a Value, file: &'a Path) -> Result<Self, JsonError> {
        let root = Section { json: Some(json), path: String::new(), file };
        if json.is_object() { Ok(root) } else { Err(root.refuse("the file", "a JSON object", json)) }
    }

    /// Whether the object is there at all.
    pub fn exists(&self) -> bool {
        self.json.is_some()
    }

    /// Which file it is in.
    pub fn file(&self) -> &Path {
        self.file
    }

    /// A key's value; `null` is none.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.json?.get(key).filter(|v| !v.is_null())
    }

    /// Whether a key has no value.
    pub fn absent(&self, key: &str) -> bool {
        self.get(key).is_none()
    }

    /// Whether a key is there without a value: `null`, where that says something else than no key.
    pub fn is_null(&self, key: &str) -> bool {
        self.json.and_then(|json| json.get(key)).is_some_and(Value::is_null)
    }

    fn refuse(&self, key: &str, expected: &str, found: &Value) -> JsonError {
        let (key, found) = (format!("{}{key}", self.path), shorten(&found.to_string(), 60));
        JsonError::Value { file: self.file.to_path_buf(), key, expected: expected.to_string(), found }
    }

    /// The error of a key that holds something else than `expected`.
    pub fn wrong(&self, key: &str, expected: &str) -> JsonError {
        match self.json.and_then(|json| json.get(key)) {
            Some(v) => self.refuse(key, expected, v),
            None => self.refuse(key, expected, &Value::from("absent")),
        }
    }

    /// An object inside this one.
    ///
    /// # Errors
    /// [`JsonError::Value`], as all that follow.
    pub fn section(&self, key: &str) -> Result<Section<'a>, JsonError> {
        let json = self.get(key);
        if json.is_some_and(|v| !v.is_object()) {
            return Err(self.wrong(key, "an object"));
        }
        Ok(Section { json, path: format!("{}{key}.", self.path), file: self.file })
    }

    /// A text.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn string(&self, key: &str, default: &str) -> Result<String, JsonError> {
        match self.get(key) {
            None => Ok(default.to_string()),
            Some(Value::String(s)) => Ok(s.clone()),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    /// A flag.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, JsonError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    /// A positive number.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn number(&self, key: &str, default: f64) -> Result<f64, JsonError> {
        match self.get(key) {
            None => Ok(default),
            // The model computes in float32: what is 0 or infinite there would turn every answer into
            // nothing, in silence.
            Some(v) => v
                .as_f64()
                .filter(|n| *n > 0.0 && (*n as f32).is_normal())
                .ok_or_else(|| self.wrong(key, "a positive number that float32 can hold")),
        }
    }

    /// A whole number from `min` to `max`, or `default`.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn count_or(&self, key: &str, default: usize, min: usize, max: usize) -> Result<usize, JsonError> {
        if self.absent(key) { Ok(default) } else { self.count(key, min, max) }
    }

    /// A whole number from `min` to `max`.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn count(&self, key: &str, min: usize, max: usize) -> Result<usize, JsonError> {
        self.get(key)
            .and_then(Value::as_u64)
            .map(|n| n as usize)
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from {min} to {max}")))
    }
}
