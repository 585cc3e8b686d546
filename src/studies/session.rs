//! Session files: experiments as values that can be written down and run again, with the numbers that they
//! gave. docs/formats.md has the layout.
//!
//! Knows experiments and files; not what a command line or a window shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{spec::experiment::Experiment, trace::report::Numbers};

/// The name that session files of this layout carry.
pub const FORMAT: &str = "sightline-session-2";
/// The layout before it, which is still read.
const FORMAT_1: &str = "sightline-session-1";
/// Largest session file that is read.
const MAX_BYTES: u64 = 256 << 20;
/// Log probabilities of two runs on like machines agree within this, in nats.
pub const TOLERANCE: f32 = 2e-4;

/// What a session file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// [`FORMAT`].
    pub format: String,
    /// Model folder.
    pub model: PathBuf,
    /// Of its weights, as traces state it.
    pub sha256: String,
    /// Number format of weights and KV cache, as on the command line.
    pub dtype: String,
    /// What was run, in order.
    pub entries: Vec<Entry>,
}

/// One experiment of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What was done.
    #[serde(flatten)]
    pub experiment: Experiment,
    /// What came out.
    #[serde(default)]
    pub numbers: Option<Numbers>,
}

/// A session file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct SessionError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl Session {
    /// Reads a session file.
    ///
    /// # Errors
    /// [`SessionError`]: unreadable, too large, not a session, or without an entry.
    pub fn read(file: &Path) -> Result<Self, SessionError> {
        let fail = |why: String| SessionError { file: file.to_path_buf(), why };
        let size = fs::metadata(file).map_err(|e| fail(format!("cannot be read ({e})")))?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("is {size} bytes long; a session has at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(file).map_err(|e| fail(format!("cannot be read ({e})")))?;
        Self::parse(&text).map_err(fail)
    }

    /// Reads a session from its text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = |e: serde_json::Error| format!("is no session file ({e})");
        let mut found: Value = serde_json::from_str(text).map_err(refused)?;
        match found["format"].as_str() {
            Some(FORMAT) => {}
            Some(FORMAT_1) => upgrade(&mut found),
            Some(other) => return Err(format!("has format `{other}`, expected `{FORMAT}`")),
            None => return Err(format!("is no session file (it has no `format`, expected `{FORMAT}`)")),
        }
        let session: Session = serde_json::from_value(found.clone()).map_err(refused)?;
        if session.entries.is_empty() {
            return Err("has no entries: there is nothing to run".to_string());
        }
        // A misspelt key would otherwise be an experiment that differs from the one written down.
        let known = serde_json::to_value(&session).map_err(refused)?;
        match unknown(&found, &known) {
            Some(key) => Err(format!("has `{key}`, which is none of a session's keys")),
            None => Ok(session),
        }
    }

    /// Writes a session file; one with what is no number among its numbers is not written.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn write(&self, file: &Path) -> Result<(), SessionError> {
        let fail = |why: String| SessionError { file: file.to_path_buf(), why };
        if self.entries.iter().flat_map(|entry| &entry.numbers).any(|numbers| !numbers.is_finite()) {
            return Err(fail("is not written: NaN or an infinity is among its numbers".to_string()));
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| fail(e.to_string()))?;
        fs::write(file, text).map_err(|e| fail(format!("cannot be written ({e})")))
    }
}

/// Makes a file of the first layout one of the second: it had one image and one question an entry.
fn upgrade(session: &mut Value) {
    session["format"] = FORMAT.into();
    for entry in session["entries"].as_array_mut().into_iter().flatten() {
        let Some(entry) = entry.as_object_mut() else { continue };
        let mut take = |key: &str| entry.remove(key).unwrap_or_default();
        let (image, object, prompt) = (take("image"), take("object"), take("prompt"));
        entry.insert("images".into(), json!([{ "image": image, "object": object }]));
        let content = json!(["image", { "text": prompt }]);
        entry.insert("turns".into(), json!([{ "role": "user", "content": content }]));
    }
}

/// Where `found` has a key that `known` lacks.
fn unknown(found: &Value, known: &Value) -> Option<String> {
    let below = |at: String, key: Option<String>| key.map(|key| format!("{at}.{key}"));
    match (found, known) {
        (Value::Object(found), Value::Object(known)) => found.iter().find_map(|(key, value)| {
            let Some(known) = known.get(key) else { return Some(key.clone()) };
            below(key.clone(), unknown(value, known))
        }),
        (Value::Array(found), Value::Array(known)) => (found.iter().zip(known).enumerate())
            .find_map(|(i, (found, known))| below(i.to_string(), unknown(found, known))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::picture::{ImageSource, ObjectMask};

    #[test]
    fn sessions_survive_their_file_and_others_are_refused_with_reasons() {
        let mut experiment = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4)
            .with_knockouts(vec!["last -> visual @ 1".parse().unwrap()]);
        experiment.images[0].object =
            Some(ObjectMask { file: "mask.png".into(), value: Some(2), share: 0.25 });
        experiment.control = 3;
        let session = Session {
            format: FORMAT.to_string(),
            model: "m".into(),
            sha256: "00".to_string(),
            dtype: "f32".to_string(),
            entries: vec![Entry {
                experiment,
                numbers: Some(Numbers {
                    baseline: vec![(3, -0.5)],
                    answer: vec![(3, -0.125)],
                    effects: None,
                    control: None,
                }),
            }],
        };
        let text = serde_json::to_string(&session).unwrap();
        assert_eq!(Session::parse(&text).unwrap(), session);
        for (text, part) in [
            (text.replace("session-2", "session-9"), "has format `sightline-session-9`"),
            (text.replace("last -> visual", "last => visual"), "there is no `->`"),
            (text.replace("\"control\"", "\"controls\""), "has `entries.0.controls`, which is none of"),
            (text.replace("\"share\"", "\"chare\""), "has `entries.0.images.0.object.chare`"),
            ("{".to_string(), "no session file"),
            (serde_json::to_string(&Session { entries: vec![], ..session }).unwrap(), "no entries"),
        ] {
            let error = Session::parse(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn files_of_the_first_layout_are_read_as_those_of_the_second() {
        let text = r#"{"format": "sightline-session-1", "model": "m", "sha256": "00", "dtype": "f32", "entries": [
            {"image": "a.png", "object": null, "prompt": "what?", "knockouts": ["answer -> visual @ 1"],
             "ablations": [], "forced_answer": null, "max_new": 4, "top": 5, "sampling": null, "seed": 0,
             "record": {"pattern": "answer @ all", "residuals_every": 1, "half": false, "limit": 8589934592},
             "control": 0, "numbers": null}]}"#;
        let session = Session::parse(text).unwrap();
        let expected = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4)
            .with_knockouts(vec!["answer -> visual @ 1".parse().unwrap()]);
        assert_eq!(session.entries[0].experiment, expected);
        let misspelt = text.replace("\"top\"", "\"tap\"");
        assert!(Session::parse(&misspelt).is_err());
    }
}
