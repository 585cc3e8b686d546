//! What a folder's files say of tokenizer and template.

use std::{fs, io, path::Path};

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{ModelWrapper, Tokenizer};

use crate::{
    checkpoint::json::{JsonError, Section, read, read_text},
    files::input,
    prompt::{error::PromptError, sentencepiece, vocabulary},
};

/// The tokenizer of a folder, and its file: tokenizer.json, or what older tokenizers wrote instead.
///
/// # Errors
/// [`PromptError`], naming the file.
pub fn tokenizer(dir: &Path) -> Result<(Tokenizer, &'static str), PromptError> {
    const WHOLE: &str = "tokenizer.json";
    let there = |name: &str| dir.join(name).exists();
    let (bytes, file) = if there(WHOLE) {
        let path = dir.join(WHOLE);
        let unread =
            |e: io::Error| PromptError::File { path: path.clone(), reason: format!("cannot be read ({e})") };
        (input::read(&path).map_err(unread)?, WHOLE)
    } else if there(vocabulary::VOCABULARY) {
        (vocabulary::tokenizer(dir)?.to_string().into_bytes(), vocabulary::VOCABULARY)
    } else if there(sentencepiece::MODEL) {
        (sentencepiece::tokenizer(dir)?.to_string().into_bytes(), sentencepiece::MODEL)
    } else {
        return Err(PromptError::NoTokenizer { dir: dir.to_path_buf() });
    };
    let fail = |reason: String| PromptError::File { path: dir.join(file), reason };
    refuse_charsmap(&bytes).map_err(fail)?;
    let whole = |reason: String| match reason.as_str() {
        BROKEN => fail(format!("{file} is not whole: download it again")),
        _ => fail(reason),
    };
    let mut tokenizer = guarded(|| Tokenizer::from_bytes(bytes)).map_err(whole)?;
    // Without the limits of batches that someone once tokenized.
    tokenizer.with_padding(None).with_truncation(None).map_err(|e| fail(e.to_string()))?;
    // What the post-processor adds to every text should not fail only once there is a question.
    guarded(|| tokenizer.encode("", true)).map_err(whole)?;
    Ok((tokenizer, file))
}

/// What a panic in the tokenizers crate is told as.
const BROKEN: &str = "the tokenizer's file is not whole: download it again";

/// The tokenizers crate panics over some broken files where it could return an error.
pub fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err(BROKEN.to_owned()),
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

/// A template, and where it comes from.
pub struct Template {
    /// As written.
    pub text: String,
    /// The file that has it.
    pub file: &'static str,
}

/// The template, from the first place that has one, in the order in which transformers' processors look: a
/// processor_config.json that has one, chat_template.json, chat_template.jinja, the folder of further ones. Where all of
/// these have none, the tokenizer's own.
///
/// # Errors
/// [`JsonError`]; also where transformers finds that the files contradict each other, or that of several templates
/// none is the default.
pub fn template_source(dir: &Path) -> Result<Option<Template>, JsonError> {
    const PROCESSOR: &str = "processor_config.json";
    const LEGACY: &str = "chat_template.json";
    const JINJA: &str = "chat_template.jinja";
    const FURTHER: &str = "additional_chat_templates";
    const DEFAULT: &str = "additional_chat_templates/default.jinja";
    const TOKENIZER: &str = "tokenizer_config.json";
    let further = holds_templates(&dir.join(FURTHER));
    let legacy = dir.join(LEGACY).exists();
    let refused = |expected: &str, found: &str| {
        let (file, key) = (dir.join(FURTHER), "default.jinja".to_owned());
        Err(JsonError::Value { file, key, expected: expected.to_owned(), found: found.to_owned() })
    };
    if further && legacy {
        return refused("no chat_template.json beside it", "one of several templates");
    }
    let (text, file) = match in_json(dir, PROCESSOR)? {
        Some(text) => return Ok(Some(Template { text, file: PROCESSOR })),
        None if legacy => (in_json(dir, LEGACY)?, LEGACY),
        None => match read_text(&dir.join(JINJA))? {
            Some(text) => (Some(text), JINJA),
            None => (read_text(&dir.join(DEFAULT))?, DEFAULT),
        },
    };
    match text {
        Some(text) if !text.is_empty() => Ok(Some(Template { text, file })),
        None if further => refused("a template, or a chat_template.jinja", "absent"),
        // An empty one counts as none.
        _ => Ok(in_json(dir, TOKENIZER)?.map(|text| Template { text, file: TOKENIZER })),
    }
}

/// Whether a folder has templates, by whatever names.
fn holds_templates(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|file| file.extension().is_some_and(|e| e == "jinja"))
}

/// The template of a settings file, or its default one of several.
fn in_json(dir: &Path, name: &str) -> Result<Option<String>, JsonError> {
    const KEY: &str = "chat_template";
    let file = dir.join(name);
    let Some(json) = read(&file)? else { return Ok(None) };
    let settings = Section::root(&json, &file)?;
    let found = match settings.get(KEY) {
        None => return Ok(None),
        Some(Value::Array(named)) => {
            named.iter().find(|entry| entry["name"] == "default").and_then(|entry| entry.get("template"))
        }
        Some(Value::Object(named)) => named.get("default"),
        one => one,
    };
    match found.and_then(Value::as_str) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(settings.wrong(KEY, "a template, or several of which one is named `default`")),
    }
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
