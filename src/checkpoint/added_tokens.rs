//! The tokens that a folder adds to its tokenizer's vocabulary, by their text: what a family has to know of a tokenizer
//! before there is one.
//!
//! Knows the three files that list them; not how text becomes tokens.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::json::{JsonError, read};

/// The files that may name an added token, in the order in which they are asked.
pub const FILES: &str = "added_tokens.json, tokenizer_config.json or tokenizer.json";

/// The id of an added token, from the first file that has it.
///
/// # Errors
/// [`JsonError`], of a file that is no JSON.
pub fn id_of(dir: &Path, text: &str) -> Result<Option<u32>, JsonError> {
    let id = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    if let Some(json) = read(&dir.join("added_tokens.json"))?
        && let Some(found) = json.get(text).and_then(id)
    {
        return Ok(Some(found));
    }
    if let Some(json) = read(&dir.join("tokenizer_config.json"))? {
        let added = json["added_tokens_decoder"].as_object();
        let named = added.and_then(|added| added.iter().find(|(_, token)| token["content"] == text));
        if let Some(found) = named.and_then(|(id, _)| id.parse().ok()) {
            return Ok(Some(found));
        }
    }
    let json = read(&dir.join("tokenizer.json"))?.unwrap_or_default();
    let added = json["added_tokens"].as_array();
    let named = added.and_then(|added| added.iter().find(|token| token["content"] == text));
    Ok(named.and_then(|token| id(&token["id"])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_of_the_three_files_will_do() {
        let token = json!({ "id": 7, "content": "<x>" });
        let files = [
            ("added_tokens.json", json!({ "<y>": 8, "<x>": 7 })),
            ("tokenizer_config.json", json!({ "added_tokens_decoder": { "7": { "content": "<x>" } } })),
            ("tokenizer.json", json!({ "added_tokens": [{ "id": 6, "content": "<w>" }, token] })),
        ];
        for (name, json) in files {
            let dir = tempfile::tempdir().unwrap();
            assert_eq!(id_of(dir.path(), "<x>").unwrap(), None);
            std::fs::write(dir.path().join(name), json.to_string()).unwrap();
            assert_eq!(id_of(dir.path(), "<x>").unwrap(), Some(7), "{name}");
            assert_eq!(id_of(dir.path(), "<v>").unwrap(), None, "{name}");
            std::fs::write(dir.path().join(name), "{").unwrap();
            assert!(id_of(dir.path(), "<x>").unwrap_err().to_string().contains(name));
        }
    }
}
