//! Which tokens end an answer.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::json::{JsonError, Section, read};

const GENERATION: &str = "generation_config.json";
const CONFIG: &str = "config.json";
const KEY: &str = "eos_token_id";

/// The tokens that end an answer, and who says so.
#[derive(Debug, PartialEq, Eq)]
pub struct EndTokens {
    /// Their ids; none where no file names one, and answers run to their limit.
    pub ids: Vec<u32>,
    /// The file that says so, and which part of it.
    pub source: String,
}

impl EndTokens {
    /// Takes in what someone else says ends an answer, where it is not among them already.
    pub fn add(&mut self, id: u32, source: String) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
            self.source = format!("{}, {source}", self.source);
        }
    }
}

/// What transformers stops at: generation_config.json has the first word where it is there, even when it names none;
/// without it config.json has, and of that a token of the whole before one of its `text_config` (`llm_config` in
/// InternVL's own). No class's default counts. What a chat template ends an answer with is added to it by who knows
/// the template: some folders name a token that the model never ends with.
///
/// # Errors
/// [`JsonError`], naming file and key.
pub fn end_tokens(dir: &Path) -> Result<EndTokens, JsonError> {
    let generation = dir.join(GENERATION);
    if let Some(json) = read(&generation)? {
        return said(&Section::root(&json, &generation)?, GENERATION);
    }
    let config = dir.join(CONFIG);
    let json = read(&config)?.unwrap_or_else(|| Value::Object(Default::default()));
    let root = Section::root(&json, &config)?;
    for (part, source) in
        [("text_config", "config.json (text_config)"), ("llm_config", "config.json (llm_config)")]
    {
        let text = root.section(part)?;
        if root.absent(KEY) && !text.absent(KEY) {
            return said(&text, source);
        }
    }
    said(&root, CONFIG)
}

/// A token id or a list of them.
fn said(section: &Section<'_>, source: &str) -> Result<EndTokens, JsonError> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let ids: Option<Vec<u32>> = match section.get(KEY) {
        None => return Ok(EndTokens { ids: Vec::new(), source: format!("{source} (names none)") }),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(v) => one(v).map(|n| vec![n]),
    };
    let ids = ids.ok_or_else(|| section.wrong(KEY, "a token id or a list of them"))?;
    Ok(EndTokens { ids, source: source.to_string() })
}
