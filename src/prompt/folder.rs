//! What a folder's files say of tokenizer and template.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

use crate::{
    checkpoint::json::{JsonError, Section, read, read_text},
    files::input,
    prompt::error::PromptError,
};

/// tokenizer.json, without the limits of batches that someone once tokenized.
///
/// # Errors
/// [`PromptError::File`].
pub fn tokenizer(dir: &Path) -> Result<Tokenizer, PromptError> {
    let path = dir.join("tokenizer.json");
    let fail = |reason: String| PromptError::File { path: path.clone(), reason };
    let bytes = input::read(&path).map_err(|e| fail(format!("cannot be read ({e})")))?;
    refuse_charsmap(&bytes).map_err(fail)?;
    let mut tokenizer = guarded(|| Tokenizer::from_bytes(bytes)).map_err(fail)?;
    tokenizer.with_padding(None).with_truncation(None).map_err(|e| fail(e.to_string()))?;
    // What the post-processor adds to every text should not fail only once there is a question.
    guarded(|| tokenizer.encode("", true)).map_err(fail)?;
    Ok(tokenizer)
}

/// The tokenizers crate panics over some broken files where it could return an error.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("tokenizer.json is not whole: download it again".to_owned()),
    }
}

/// Refuses SentencePiece's compiled normalizer, which no supported model has: the tokenizers crate
/// follows its table without looking, out of bounds if it is broken.
fn refuse_charsmap(tokenizer: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        normalizer: Value,
    }
    fn holds(value: &Value) -> bool {
        match value {
            Value::Object(map) => map.contains_key("precompiled_charsmap") || map.values().any(holds),
            Value::Array(list) => list.iter().any(holds),
            _ => value == "Precompiled",
        }
    }
    match serde_json::from_slice::<Part>(tokenizer) {
        Ok(part) if !holds(&part.normalizer) => Ok(()),
        Ok(_) => {
            Err("the normalizer `Precompiled` is not supported, expected Llama's or GPT-2's kind".to_owned())
        }
        Err(e) => Err(format!("not a tokenizer: {e}")),
    }
}

/// Where a chat template may stand, in the order in which transformers (5.24) takes it: the processor's files, then
/// the tokenizer's.
const TEMPLATES: [&str; 5] = [
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "chat_templates/default.jinja",
    "tokenizer_config.json",
];

/// The template, from the first place that has one, and that place.
pub fn template_source(dir: &Path) -> Result<Option<(String, &'static str)>, JsonError> {
    for name in TEMPLATES {
        let file = dir.join(name);
        let found = if name.ends_with(".jinja") { read_text(&file)? } else { template_in(&file)? };
        if let Some(template) = found {
            return Ok(Some((template, name)));
        }
    }
    Ok(None)
}

/// The template that a settings file holds under its key: one, or the default of several.
fn template_in(file: &Path) -> Result<Option<String>, JsonError> {
    const KEY: &str = "chat_template";
    let Some(json) = read(file)? else { return Ok(None) };
    let root = Section::root(&json, file)?;
    let template = match root.get(KEY) {
        None => return Ok(None),
        Some(Value::String(template)) => Some(template.as_str()),
        Some(Value::Array(named)) => {
            named.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry["template"].as_str())
        }
        Some(Value::Object(named)) => named.get("default").and_then(Value::as_str),
        Some(_) => None,
    };
    let wrong = || root.wrong(KEY, "a template, or several, of which one is named `default`");
    template.map(|template| Some(template.to_owned())).ok_or_else(wrong)
}

/// A special token of tokenizer_config.json: its text, or an object with its text.
pub fn special_token(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// The token that stands for everything a vocabulary lacks.
pub fn unknown_token(model: &ModelWrapper) -> Option<&str> {
    match model {
        ModelWrapper::WordLevel(model) => Some(&model.unk_token),
        ModelWrapper::WordPiece(model) => Some(&model.unk_token),
        ModelWrapper::BPE(model) => model.unk_token.as_deref(),
        ModelWrapper::Unigram(_) => None,
    }
}
