//! What a folder's files say of tokenizer and template.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

use crate::{
    checkpoint::json::{JsonError, read, read_text},
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

/// The template, from the first place that has one, in the order in which transformers looks.
pub fn template_source(
    dir: &Path,
    processor: &Value,
    tokenizer: &Value,
) -> Result<Option<String>, JsonError> {
    if let Some(source) = read_text(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    let json = read(&dir.join("chat_template.json"))?.unwrap_or_default();
    let found = [&json, processor, tokenizer].into_iter().find_map(|file| match &file["chat_template"] {
        Value::String(source) => Some(source.clone()),
        // Several, by name.
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        Value::Object(named) => named.get("default").and_then(Value::as_str).map(str::to_owned),
        _ => None,
    });
    Ok(found)
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
