//! Names of files in a model: which no server may give, and which are fetched.

use std::{collections::BTreeSet, path::Path};

/// All weights in one file.
const WEIGHTS: &str = "model.safetensors";

/// What is wrong with a name as a path below a folder; `None` where nothing is.
pub fn wrong(name: &str) -> Option<&'static str> {
    let parts = || name.split('/');
    if name.is_empty() || name.len() > 1000 {
        Some("is empty or endless")
    } else if name.contains(['\\', '\0', ':']) || name.chars().any(char::is_control) {
        Some("has a character that no name has")
    } else if name.starts_with('/') || Path::new(name).is_absolute() {
        Some("is absolute")
    } else if parts().any(|part| part == ".." || part == "." || part.is_empty()) {
        Some("leads out of its folder")
    } else {
        None
    }
}

/// Whether a file is weights.
pub fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

/// Which of a model's files are fetched: settings, tokenizer, templates, and safetensors weights; the one file of
/// weights where both it and pieces are there, as transformers prefers it.
pub fn wanted<'a>(names: impl Iterator<Item = &'a str> + Clone) -> BTreeSet<&'a str> {
    let small = names.clone().filter(|name| is_small(name));
    let one = names.clone().filter(|name| *name == WEIGHTS);
    let pieces = names.clone().filter(|name| is_piece(name));
    let any = names.filter(|name| is_weights(name) && !name.contains('/'));
    let mut weights: Vec<&str> = one.collect();
    if weights.is_empty() {
        weights = pieces.collect();
    }
    if !weights.iter().any(|name| is_weights(name)) {
        weights.extend(any);
    }
    small.chain(weights).collect()
}

/// Settings, tokenizer and templates.
fn is_small(name: &str) -> bool {
    const BEGIN: [&str; 11] = [
        "added_tokens",
        "chat_template",
        "config",
        "generation_config",
        "image_processor",
        "preprocessor",
        "processor",
        "special_tokens",
        "tokenizer",
        "video_preprocessor",
        "vocab",
    ];
    if let Some(template) = name.strip_prefix("additional_chat_templates/") {
        return template.ends_with(".jinja") && !template.contains('/');
    }
    let settings = name.ends_with(".json") || name.ends_with(".jinja");
    let known = settings && !name.contains('/') && BEGIN.iter().any(|begin| name.starts_with(begin));
    known || ["merges.txt", "vocab.txt", "tokenizer.model"].contains(&name)
}

/// One of several weight files, or their index.
fn is_piece(name: &str) -> bool {
    let piece = name
        .strip_prefix("model-")
        .is_some_and(|rest| rest.contains("-of-") && is_weights(rest) && !rest.contains('/'));
    piece || name == "model.safetensors.index.json"
}

/// What a model has instead of safetensors, in brackets; empty where nothing of it is known.
pub fn other_weights<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let endings = [".bin", ".gguf", ".onnx", ".pt", ".pth", ".h5", ".msgpack"];
    let found = |name: &&str| endings.iter().any(|ending| name.ends_with(ending));
    let others: Vec<&str> = names.filter(found).take(3).collect();
    if others.is_empty() { String::new() } else { format!(" (it has {})", others.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_wrong() {
        let all = [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/./b",
            "a//b",
            "a\\..\\x",
            "a\0b",
            "C:/x",
            "a\nb",
            "..",
            "x/",
        ];
        for name in all {
            assert!(wrong(name).is_some(), "{name:?}");
        }
        for name in
            ["config.json", "additional_chat_templates/tool.jinja", "onnx/model..fp16.onnx", "ä b.txt"]
        {
            assert_eq!(wrong(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_needed_is_fetched_and_nothing_else() {
        let chosen = |names: &[&'static str]| wanted(names.iter().copied()).into_iter().collect::<Vec<_>>();
        let small = [
            "added_tokens.json",
            "additional_chat_templates/rag.jinja",
            "chat_template.jinja",
            "chat_template.json",
            "config.json",
            "generation_config.json",
            "merges.txt",
            "preprocessor_config.json",
            "processor_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "video_preprocessor_config.json",
            "vocab.json",
        ];
        assert_eq!(chosen(&small), small);
        let not =
            ["README.md", "modeling.py", "onnx/model.onnx", "pytorch_model.bin", "sub/config.json", "x.gguf"];
        assert!(chosen(&not).is_empty());
        let pieces = [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
        ];
        assert_eq!(chosen(&pieces), pieces);
        assert_eq!(
            chosen(&[pieces[0], pieces[2], "model.safetensors", "model.fp16.safetensors"]),
            ["model.safetensors"]
        );
        assert_eq!(chosen(&["other.safetensors", "sub/x.safetensors"]), ["other.safetensors"]);
        assert_eq!(other_weights(not.into_iter()), " (it has onnx/model.onnx, pytorch_model.bin, x.gguf)");
    }
}
