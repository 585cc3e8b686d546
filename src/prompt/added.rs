//! Tokens beside a vocabulary: the names and ids that a folder's settings add to it.
//!
//! As transformers reads them: `added_tokens_decoder` of tokenizer_config.json, then added_tokens.json for what that
//! does not name. Knows settings; nothing of how text is cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use crate::checkpoint::json::{JsonError, Section, read};

const SETTINGS: &str = "tokenizer_config.json";
const ADDED: &str = "added_tokens.json";
const SPECIAL: &str = "special_tokens_map.json";
/// Settings that name one special token each.
const ROLES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a folder's settings say of its tokenizer.
pub struct Settings {
    /// tokenizer_config.json; an empty object where there is none.
    pub config: Value,
    /// Tokens by id, as tokenizer.json has them.
    pub added: BTreeMap<u32, Value>,
    /// Names of special tokens, wherever they stand.
    pub special: BTreeSet<String>,
    /// The name of the token that begins a text.
    pub bos: Option<String>,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// [`JsonError`], naming file and key.
    pub fn read(dir: &Path) -> Result<Self, JsonError> {
        let [config, added, map] = [SETTINGS, ADDED, SPECIAL].map(|name| object(&dir.join(name)));
        let (config, named, map) = (config?, added?, map?);
        let special: BTreeSet<String> = [&config, &map].into_iter().flat_map(special_names).collect();
        let mut added = decoder(&config, &dir.join(SETTINGS))?;
        let known: BTreeSet<String> = added.values().filter_map(content).collect();
        let file = dir.join(ADDED);
        let section = Section::root(&named, &file)?;
        for (name, id) in named.as_object().into_iter().flatten() {
            let id = token_id(id).ok_or_else(|| section.wrong(name, "a token id"))?;
            if !known.contains(name) {
                let is_special = special.contains(name);
                added.entry(id).or_insert_with(|| token(id, name, is_special, !is_special));
            }
        }
        let bos = [&config, &map].into_iter().find_map(|settings| name_of(&settings["bos_token"]));
        Ok(Settings { config, added, special, bos })
    }

    /// A flag of tokenizer_config.json.
    ///
    /// # Errors
    /// [`JsonError::Value`].
    pub fn flag(&self, dir: &Path, key: &str, default: bool) -> Result<bool, JsonError> {
        Section::root(&self.config, &dir.join(SETTINGS))?.boolean(key, default)
    }

    /// The name of the token that ends a text.
    pub fn eos(&self) -> Option<String> {
        name_of(&self.config["eos_token"])
    }

    /// The class that the tokenizer had in transformers, without the word that says how fast it is.
    pub fn class(&self) -> Option<&str> {
        self.config["tokenizer_class"].as_str().map(|class| class.strip_suffix("Fast").unwrap_or(class))
    }

    /// Puts the added tokens into a vocabulary under their ids: a piece that stands there by another name gives way.
    /// Special tokens that the vocabulary has already become added tokens of that id. Returns what tokenizer.json
    /// would list.
    pub fn place(&self, vocabulary: &mut BTreeMap<String, u32>) -> Vec<Value> {
        let mut all = self.added.clone();
        for name in &self.special {
            if let Some(&id) = vocabulary.get(name)
                && !all.values().any(|token| token["content"] == **name)
            {
                all.entry(id).or_insert_with(|| token(id, name, true, false));
            }
        }
        vocabulary.retain(|_, id| !all.contains_key(id));
        vocabulary.extend(all.iter().filter_map(|(id, token)| Some((content(token)?, *id))));
        all.into_values().collect()
    }
}

/// An added token as tokenizer.json has it.
pub fn token(id: u32, content: &str, special: bool, normalized: bool) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized, "special": special })
}

fn content(token: &Value) -> Option<String> {
    token["content"].as_str().map(str::to_owned)
}

fn token_id(id: &Value) -> Option<u32> {
    id.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// A file's object; an empty one where there is no such file.
fn object(file: &Path) -> Result<Value, JsonError> {
    let json = read(file)?.unwrap_or_else(|| json!({}));
    Section::root(&json, file)?;
    Ok(json)
}

/// `added_tokens_decoder`: tokens by id.
fn decoder(config: &Value, file: &Path) -> Result<BTreeMap<u32, Value>, JsonError> {
    let listed = Section::root(config, file)?.section("added_tokens_decoder")?;
    let mut added = BTreeMap::new();
    for (id, fields) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let wrong = || listed.wrong(id, "a token with its `content`, by its id");
        let number: u32 = id.parse().map_err(|_| wrong())?;
        let name = fields["content"].as_str().ok_or_else(wrong)?;
        let flag = |key: &str, default: bool| fields[key].as_bool().unwrap_or(default);
        let special = flag("special", false);
        let mut made = token(number, name, special, flag("normalized", !special));
        for key in ["single_word", "lstrip", "rstrip"] {
            made[key] = flag(key, false).into();
        }
        added.insert(number, made);
    }
    Ok(added)
}

/// Names of special tokens in a file of settings.
fn special_names(settings: &Value) -> Vec<String> {
    let roles = ROLES.iter().filter_map(|role| name_of(&settings[*role]));
    let further = settings["additional_special_tokens"].as_array().into_iter().flatten();
    roles.chain(further.filter_map(name_of)).collect()
}

/// A special token of the settings: its name, or an object with its name.
fn name_of(token: &Value) -> Option<String> {
    token.as_str().map(str::to_owned).or_else(|| content(token))
}
