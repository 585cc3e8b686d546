//! Which tokens end an answer.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::checkpoint::json::{JsonError, read};

/// The ids that end generation: those of generation_config.json, as transformers takes them; without
/// that file, config.json's and the tokenizer's. Empty where no file names one.
///
/// # Errors
/// [`JsonError`].
pub fn end_tokens(dir: &Path, tokenizer: Option<u32>) -> Result<Vec<u32>, JsonError> {
    let ids = |value: &Value| -> Vec<u32> {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        list.iter().filter_map(|v| u32::try_from(v.as_u64()?).ok()).collect()
    };
    let file = |name: &str| Ok::<_, JsonError>(read(&dir.join(name))?.unwrap_or_default());
    let generation = ids(&file("generation_config.json")?["eos_token_id"]);
    if !generation.is_empty() {
        return Ok(generation);
    }
    let config = file("config.json")?;
    let all = ids(&config["eos_token_id"])
        .into_iter()
        .chain(ids(&config["text_config"]["eos_token_id"]))
        .chain(tokenizer);
    Ok(all.collect::<BTreeSet<u32>>().into_iter().collect())
}
