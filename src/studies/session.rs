//! One experiment: an uncut run, the same under an intervention, and the control on random patches; as
//! a value that can be written down and run again.
//!
//! A session file is a model's name and a list of experiments with the numbers that they gave. Knows
//! runs and files of sessions; not what a command line or a window shows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ::image::RgbImage;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{engine::{answer::Baseline, decoding::DecodingError, load::{Engine, RunError, RunEvent, Seen}, resume::{Control, Outcome}}, image::process as model_image, progress::Cancel, spec::experiment::{ObjectMask, RunSpec}, trace::run::{Stop, Trace}};

/// The name that session files of this layout carry.
pub const FORMAT: &str = "sightline-session-1";
/// Largest session file that is read.
const MAX_BYTES: u64 = 256 << 20;
/// Log probabilities of two runs on like machines agree within this, in nats.
pub const TOLERANCE: f32 = 2e-4;

/// What to do with an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Experiment {
    /// Which pixels are the object, where a set names it.
    #[serde(default)]
    pub object: Option<ObjectMask>,
    /// The run; its intervention is what the uncut run is compared with.
    #[serde(flatten)]
    pub spec: RunSpec,
    /// Random draws of the control; 0 for none.
    #[serde(default)]
    pub control: usize,
}

/// What an experiment gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// The uncut run.
    pub baseline: Baseline,
    /// The intervention; `None` where there was none, or the uncut run was cancelled.
    pub outcome: Option<Outcome>,
    /// The control, where one was asked for and came to its end.
    pub control: Option<Control>,
}

impl Report {
    /// The run that was asked for: under the intervention, if there is one.
    pub fn trace(&self) -> &Trace {
        self.outcome.as_ref().map_or(&self.baseline.trace, |o| &o.free)
    }

    /// The numbers that a repetition must give again.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            baseline: numbers(&self.baseline.trace),
            answer: numbers(self.trace()),
            effects: self.outcome.as_ref().map(|o| o.effects.iter().map(|e| [e.delta, e.kl]).collect()),
            control: self.control.as_ref().map(|c| [c.delta.mean, c.kl.mean]),
        }
    }
}

fn numbers(trace: &Trace) -> Vec<(u32, f32)> {
    trace.answer.iter().map(|t| (t.id, t.logprob)).collect()
}

/// What a report is compared by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// Token ids and log probabilities of the uncut answer.
    pub baseline: Vec<(u32, f32)>,
    /// Of the answer that was asked for.
    pub answer: Vec<(u32, f32)>,
    /// Per baseline token: change in log probability, and divergence.
    pub effects: Option<Vec<[f32; 2]>>,
    /// Means of the control's draws: change in log probability, and divergence.
    pub control: Option<[f32; 2]>,
}

impl Numbers {
    /// The largest difference between two sets of numbers, in nats; infinite where tokens differ or a
    /// part is missing.
    pub fn difference(&self, other: &Numbers) -> f32 {
        let far = |a: f32, b: f32| if a == b { 0.0 } else { (a - b).abs() };
        let tokens = |a: &[(u32, f32)], b: &[(u32, f32)]| {
            let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0);
            let differences = a.iter().zip(b).map(|(a, b)| far(a.1, b.1));
            if same { largest(differences) } else { f32::INFINITY }
        };
        let pairs = |a: &[[f32; 2]], b: &[[f32; 2]]| {
            let both = a.iter().flatten().zip(b.iter().flatten());
            if a.len() == b.len() { largest(both.map(|(a, b)| far(*a, *b))) } else { f32::INFINITY }
        };
        let effects = match (&self.effects, &other.effects) {
            (Some(a), Some(b)) => pairs(a, b),
            (None, None) => 0.0,
            _ => f32::INFINITY,
        };
        let control = match (&self.control, &other.control) {
            (Some(a), Some(b)) => pairs(&[*a], &[*b]),
            (None, None) => 0.0,
            _ => f32::INFINITY,
        };
        let (baseline, answer) =
            (tokens(&self.baseline, &other.baseline), tokens(&self.answer, &other.answer));
        largest([baseline, answer, effects, control].into_iter())
    }
}

/// The largest of some differences; no number where one is none, which `f32::max` would pass over.
fn largest(differences: impl Iterator<Item = f32>) -> f32 {
    differences.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
}

impl Engine {
    /// Opens, processes and encodes an image file, and marks the object in it.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn look(
        &self,
        image: &Path,
        object: Option<&ObjectMask>,
        cancel: &Cancel,
        on_tile: &mut dyn FnMut(usize, usize),
    ) -> Result<(RgbImage, Seen), RunError> {
        let pixels = model_image::open(image)?;
        let mut seen = self.see(self.process(&pixels)?, cancel, on_tile)?;
        if let Some(object) = object {
            let mask = ::image::open(&object.file).map_err(|e| RunError::Mask {
                file: object.file.clone(),
                why: format!("cannot be read ({e})"),
            })?;
            self.mark(&mut seen, &mask.into_luma8(), object)?;
        }
        Ok((pixels, seen))
    }

    /// Runs an experiment on an encoded image. `on` hears of the answer that was asked for. A cancelled one
    /// returns what there was.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn experiment(
        &self,
        experiment: &Experiment,
        seen: &Seen,
        cancel: &Cancel,
        on: &mut dyn FnMut(RunEvent<'_>),
    ) -> Result<Report, RunError> {
        let images = [seen];
        let intervention = &experiment.spec.intervention;
        if intervention.is_empty() {
            let baseline = self.keep(&experiment.spec, &images, cancel, on)?;
            return Ok(Report { baseline, outcome: None, control: None });
        }
        let uncut = RunSpec { intervention: Default::default(), ..experiment.spec.clone() };
        let baseline = self.keep(&uncut, &images, cancel, &mut |_| {})?;
        if baseline.trace.stop == Stop::Cancelled {
            return Ok(Report { baseline, outcome: None, control: None });
        }
        let outcome = self.intervene(&baseline, intervention, &images, cancel, on)?;
        let control = match experiment.control {
            0 => None,
            draws => match self.control(&baseline, intervention, &images, draws, cancel) {
                // The rest is worth having without it.
                Err(RunError::Decoding(DecodingError::Cancelled(_))) => None,
                other => Some(other?),
            },
        };
        Ok(Report { baseline, outcome: Some(outcome), control })
    }
}

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
    /// Image file.
    pub image: PathBuf,
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
        let session: Session = serde_json::from_str(text).map_err(refused)?;
        if session.format != FORMAT {
            return Err(format!("has format `{}`, expected `{FORMAT}`", session.format));
        }
        if session.entries.is_empty() {
            return Err("has no entries: there is nothing to run".to_string());
        }
        // A misspelt key would otherwise be an experiment that differs from the one written down.
        let found = serde_json::from_str(text).map_err(refused)?;
        let known = serde_json::to_value(&session).map_err(refused)?;
        match unknown(&found, &known) {
            Some(key) => Err(format!("has `{key}`, which is none of a session's keys")),
            None => Ok(session),
        }
    }

    /// Writes a session file.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn write(&self, file: &Path) -> Result<(), SessionError> {
        let fail = |why: String| SessionError { file: file.to_path_buf(), why };
        let text = serde_json::to_string_pretty(self).map_err(|e| fail(e.to_string()))?;
        fs::write(file, text).map_err(|e| fail(format!("cannot be written ({e})")))
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

    fn numbers(logprob: f32) -> Numbers {
        Numbers {
            baseline: vec![(3, -0.5)],
            answer: vec![(3, logprob), (4, -1.0)],
            effects: Some(vec![[logprob, 0.25]]),
            control: None,
        }
    }

    #[test]
    fn numbers_differ_by_their_largest_part_and_infinitely_in_tokens() {
        assert_eq!(numbers(-0.5).difference(&numbers(-0.5)), 0.0);
        assert_eq!(numbers(-0.5).difference(&numbers(-0.75)), 0.25);
        assert!(numbers(f32::NAN).difference(&numbers(0.0)).is_nan());
        let mut other = numbers(-0.5);
        other.answer[1].0 = 9;
        assert_eq!(numbers(-0.5).difference(&other), f32::INFINITY);
        other = numbers(-0.5);
        other.effects = None;
        assert_eq!(numbers(-0.5).difference(&other), f32::INFINITY);
    }

    #[test]
    fn sessions_survive_their_file_and_others_are_refused_with_reasons() {
        let session = Session {
            format: FORMAT.to_string(),
            model: "m".into(),
            sha256: "00".to_string(),
            dtype: "f32".to_string(),
            entries: vec![Entry {
                image: "a.png".into(),
                experiment: Experiment {
                    object: Some(ObjectMask { file: "mask.png".into(), value: Some(2), share: 0.25 }),
                    spec: RunSpec::ask("what?", 4)
                        .with_knockouts(vec!["last -> visual @ 1".parse().unwrap()]),
                    control: 3,
                },
                numbers: Some(numbers(-0.125)),
            }],
        };
        let text = serde_json::to_string(&session).unwrap();
        assert_eq!(Session::parse(&text).unwrap(), session);
        for (text, part) in [
            (text.replace("session-1", "session-9"), "has format `sightline-session-9`"),
            (text.replace("last -> visual", "last => visual"), "there is no `->`"),
            (text.replace("\"control\"", "\"controls\""), "has `entries.0.controls`, which is none of"),
            (text.replace("\"share\"", "\"chare\""), "has `entries.0.object.chare`"),
            ("{".to_string(), "no session file"),
            (serde_json::to_string(&Session { entries: vec![], ..session }).unwrap(), "no entries"),
        ] {
            let error = Session::parse(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
