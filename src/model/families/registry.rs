//! The families that this program runs, by `model_type`. A new family is a file beside this one and a line
//! here.

use std::{path::Path, sync::Arc};

use crate::{
    checkpoint::json::{JsonError, Section, read_required},
    model::families::{family::Family, idefics3, internvl, internvl_chat, llava, qwen2_vl, qwen3_vl},
};

/// Reads a family's config.json.
type Read = fn(&Section<'_>) -> Result<Box<dyn Family>, JsonError>;

/// `model_type`, and who reads it.
const FAMILIES: &[(&str, Read)] = &[
    ("llava", llava::read),
    ("idefics3", idefics3::read),
    ("smolvlm", idefics3::read),
    ("internvl", internvl::read),
    ("internvl_chat", internvl_chat::read),
    ("qwen2_vl", qwen2_vl::read),
    ("qwen2_5_vl", qwen2_vl::read_2_5),
    ("qwen3_vl", qwen3_vl::read),
];

/// Every `model_type` that is supported.
pub fn model_types() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}

/// The family of a folder, configured by its config.json.
///
/// # Errors
/// [`JsonError`], naming file and key.
pub fn open(dir: &Path) -> Result<Arc<dyn Family>, JsonError> {
    let file = dir.join("config.json");
    let json = read_required(&file)?;
    from_json(&Section::root(&json, &file)?)
}

/// The family that a config describes.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn from_json(root: &Section<'_>) -> Result<Arc<dyn Family>, JsonError> {
    let model_type = root.string("model_type", "")?;
    let found = FAMILIES.iter().find(|(name, _)| *name == model_type);
    let Some((_, read)) = found else {
        let known: Vec<String> = model_types().map(|name| format!("\"{name}\"")).collect();
        let expected = format!("one of {} (the families this program runs)", known.join(", "));
        return Err(root.wrong("model_type", &expected));
    };
    Ok(Arc::from(read(root)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_that_is_not_run_is_refused_with_the_list_of_those_that_are() {
        let config = json!({"model_type": "qwen7_vl"});
        let root = Section::root(&config, Path::new("config.json")).unwrap();
        let error = from_json(&root).unwrap_err().to_string();
        assert!(error.contains("`model_type` is \"qwen7_vl\""), "{error}");
        assert!(error.contains("\"llava\", \"idefics3\", \"smolvlm\""), "{error}");
    }
}
