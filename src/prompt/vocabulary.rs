//! vocab.json and merges.txt, as GPT-2 and Qwen2 have them, made into what tokenizer.json would say.
//!
//! As transformers' `Qwen2Converter` and `GPT2Converter` do it: byte-level BPE; the class of tokenizer_config.json
//! decides how text is split before.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    checkpoint::json::{read_required, read_text, shorten},
    prompt::{added::Settings, error::PromptError},
};

/// The vocabulary's file.
pub const VOCABULARY: &str = "vocab.json";
/// The merges', without which the vocabulary is none.
pub const MERGES: &str = "merges.txt";

/// How Qwen2 cuts text: words with their blank, digits one by one, signs, line breaks.
const QWEN: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What tokenizer.json would say.
///
/// # Errors
/// [`PromptError`], naming the file.
pub fn tokenizer(dir: &Path) -> Result<Value, PromptError> {
    let settings = Settings::read(dir)?;
    let (normalizer, splitter) = splitter(dir, &settings)?;
    let mut vocabulary = vocabulary(&dir.join(VOCABULARY))?;
    let merges = merges(&dir.join(MERGES))?;
    let added = settings.place(&mut vocabulary);
    let bytes = |prefix: bool, regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": false, "use_regex": regex });
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": splitter,
        "post_processor": bytes(false, true), "decoder": bytes(false, true),
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": merges },
    }))
}

/// Normalizer and pre-tokenizer of the tokenizer's class.
fn splitter(dir: &Path, settings: &Settings) -> Result<(Value, Value), PromptError> {
    let prefix = settings.flag(dir, "add_prefix_space", false)?;
    let bytes = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex });
    match settings.class() {
        Some("Qwen2Tokenizer") => {
            let split = json!({ "type": "Split", "pattern": { "Regex": QWEN }, "behavior": "Isolated", "invert": false });
            let both = json!({ "type": "Sequence", "pretokenizers": [split, bytes(false)] });
            Ok((json!({ "type": "NFC" }), both))
        }
        Some("GPT2Tokenizer") => Ok((Value::Null, bytes(true))),
        other => {
            let class = other.unwrap_or("none");
            Err(PromptError::File {
                path: dir.join("tokenizer_config.json"),
                reason: format!(
                    "`tokenizer_class` is {class}: of vocab.json and merges.txt those of Qwen2Tokenizer and \
                     GPT2Tokenizer can be read; for another let transformers write a tokenizer.json \
                     (AutoTokenizer.from_pretrained(..).save_pretrained(..))"
                ),
            })
        }
    }
}

/// Tokens by name.
fn vocabulary(file: &Path) -> Result<BTreeMap<String, u32>, PromptError> {
    let fail = |reason: &str| PromptError::File { path: file.to_path_buf(), reason: reason.to_owned() };
    let json = read_required(file)?;
    let tokens = json.as_object().filter(|tokens| !tokens.is_empty());
    let tokens = tokens.ok_or_else(|| fail("is no list of tokens by name"))?;
    let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
    let token = |(name, value): (&String, &Value)| match id(value) {
        Some(id) => Ok((name.clone(), id)),
        None => Err(fail(&format!("the token `{}` has no id", shorten(name, 60)))),
    };
    tokens.iter().map(token).collect()
}

/// Pairs that are merged, the first first.
fn merges(file: &Path) -> Result<Vec<[String; 2]>, PromptError> {
    let fail = |reason: String| PromptError::File { path: file.to_path_buf(), reason };
    let text = read_text(file)?.ok_or_else(|| fail("is missing beside vocab.json".to_owned()))?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Its first line says which version it has.
        if line.is_empty() || number == 0 && line.starts_with("#version") {
            continue;
        }
        let (left, right) = line
            .split_once(' ')
            .filter(|(_, right)| !right.contains(' '))
            .ok_or_else(|| fail(format!("line {} is no pair of tokens", number + 1)))?;
        merges.push([left.to_owned(), right.to_owned()]);
    }
    Ok(merges)
}
