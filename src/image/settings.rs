//! preprocessor_config.json by key: what image processors' settings have in common.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::{
    checkpoint::json::{JsonError, Section},
    image::error::MAX_SIDE,
};

/// What pixels may be scaled by: far beyond, they would all be alike, or infinite.
pub const FACTORS: RangeInclusive<f64> = 1e-6..=1e6;

/// The settings of an image processor.
#[derive(Clone, Debug)]
pub struct Settings<'a>(pub Section<'a>);

impl Settings<'_> {
    /// The class of the processor, as transformers names it, without the suffix of its backend.
    ///
    /// # Errors
    /// [`JsonError`], as all that follow, when it is not among `known`.
    pub fn class(&self, known: &[&'static str]) -> Result<&'static str, JsonError> {
        let expected = || format!("one of {}", known.join(", "));
        for key in ["image_processor_type", "feature_extractor_type", "processor_class"] {
            let Some(value) = self.0.get(key) else { continue };
            let name = value.as_str().unwrap_or("");
            let name = name.strip_suffix("Fast").or(name.strip_suffix("Pil")).unwrap_or(name);
            let found = known.iter().find(|k| **k == name);
            return found.copied().ok_or_else(|| self.0.wrong(key, &expected()));
        }
        Err(self.0.wrong("image_processor_type", &expected()))
    }

    /// Whether a step is taken, by its flag: absent, the class's `default`; `null`, no, as in transformers.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn step(&self, key: &str, default: bool) -> Result<bool, JsonError> {
        if self.0.is_null(key) { Ok(false) } else { self.0.boolean(key, default) }
    }

    /// Refuses `null` for a value that a step needs: transformers does, which has defaults only for what is absent.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn not_null(&self, keys: &[&str]) -> Result<(), JsonError> {
        match keys.iter().find(|key| self.0.is_null(key)) {
            None => Ok(()),
            Some(key) => Err(self.0.wrong(key, "a value, or no such key")),
        }
    }

    /// What levels are multiplied by.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn factor(&self, key: &str) -> Result<Option<f64>, JsonError> {
        let read = |v: &Value| v.as_f64().filter(|v| FACTORS.contains(v));
        let wrong = || self.0.wrong(key, "a number from 1e-6 to 1e6");
        self.0.get(key).map(|v| read(v).ok_or_else(wrong)).transpose()
    }

    /// A whole number.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>, JsonError> {
        let wrong = || self.0.wrong(key, "a whole number");
        self.0.get(key).map(|v| v.as_u64().ok_or_else(wrong)).transpose()
    }

    /// One number for all channels, or one for each.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn channels(&self, key: &str, least: f64) -> Result<Option<[f32; 3]>, JsonError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let read = |v: &Value| v.as_f64().filter(|v| (least..=*FACTORS.end()).contains(v)).map(|v| v as f32);
        let numbers: Option<Vec<f32>> = match value {
            Value::Array(list) => list.iter().map(read).collect(),
            other => read(other).map(|v| vec![v; 3]),
        };
        match numbers.as_deref() {
            Some(&[r, g, b]) => Ok(Some([r, g, b])),
            _ => Err(self.0.wrong(key, &format!("three numbers from {least:e} to {:e}", FACTORS.end()))),
        }
    }

    /// A length in pixels inside a size object.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn edge(&self, key: &str, value: &Value) -> Result<u32, JsonError> {
        (value.as_u64().filter(|v| (1..=u64::from(MAX_SIDE)).contains(v)))
            .map(|v| v as u32)
            .ok_or_else(|| self.0.wrong(key, &format!("lengths from 1 to {MAX_SIDE} pixels")))
    }

    /// The only keys of a size object, if they are exactly `names`.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn edges<const N: usize>(&self, key: &str, names: [&str; N]) -> Result<Option<[u32; N]>, JsonError> {
        let Some(Value::Object(object)) = self.0.get(key) else { return Ok(None) };
        let given = object.iter().filter(|(_, v)| !v.is_null());
        if given.clone().count() != N || !given.clone().all(|(k, _)| names.contains(&k.as_str())) {
            return Ok(None);
        }
        let mut out = [0; N];
        for (slot, name) in out.iter_mut().zip(names) {
            *slot = self.edge(key, object.get(name).unwrap_or(&Value::Null))?;
        }
        Ok(Some(out))
    }
}
