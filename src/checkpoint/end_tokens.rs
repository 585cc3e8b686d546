//! Which tokens end an answer, and which file says so.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::json::{JsonError, Section, read};

/// What ends an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndTokens {
    /// Their ids; none where an answer ends with its length alone.
    pub ids: Vec<u32>,
    /// The file that says so, for people.
    pub source: String,
}

/// What ends an answer, as transformers (5.24) takes it: generation_config.json alone says so where it is, even if it
/// names no token; config.json without it, its root before its text model. Where neither file says anything,
/// transformers would never stop: then it is the tokenizer's end token.
///
/// # Errors
/// [`JsonError`].
pub fn end_tokens(dir: &Path, tokenizer: Option<u32>) -> Result<EndTokens, JsonError> {
    let from = |ids: Vec<u32>, source: &str| EndTokens { ids, source: source.to_string() };
    let file = dir.join("generation_config.json");
    if let Some(json) = read(&file)? {
        return Ok(match ids(&Section::root(&json, &file)?)? {
            Some(ids) => from(ids, "generation_config.json"),
            None => from(Vec::new(), "generation_config.json, which names none"),
        });
    }
    let file = dir.join("config.json");
    if let Some(json) = read(&file)? {
        let root = Section::root(&json, &file)?;
        if let Some(ids) = ids(&root)? {
            return Ok(from(ids, "config.json"));
        }
        if let Some(ids) = ids(&root.section("text_config")?)? {
            return Ok(from(ids, "text_config of config.json"));
        }
    }
    Ok(match tokenizer {
        Some(id) => from(vec![id], "tokenizer_config.json"),
        None => from(Vec::new(), "no file names one"),
    })
}

/// A token id or a list of them.
fn ids(section: &Section<'_>) -> Result<Option<Vec<u32>>, JsonError> {
    const KEY: &str = "eos_token_id";
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let ids = match section.get(KEY) {
        None => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(v) => one(v).map(|n| vec![n]),
    };
    let wrong = || section.wrong(KEY, "a token id or a list of them");
    ids.map(Some).ok_or_else(wrong)
}
