//! tokenizer.model, SentencePiece's own file, made into what tokenizer.json would say.
//!
//! As transformers' `build_tokenizer_from_spm_proto` does it: byte pair encoding whose merges are ranked by the scores
//! of the pieces that they make; the file's own rules for blanks; pieces that users defined are never taken apart.
//! Its own table of characters (a normalization other than `identity`) and unigram models, which no supported family
//! has, are refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs,
    path::Path,
};

use sentencepiece_model::{ModelType, NormalizerSpec, SentencePieceModel, TrainerSpec, Type};
use serde_json::{Value, json};

use crate::{
    files::input,
    prompt::{
        added::{Settings, token},
        error::PromptError,
    },
};

/// Its file.
pub const MODEL: &str = "tokenizer.model";
/// Largest file; those of real models have at most 5 MB.
const MAX_BYTES: u64 = 16 << 20;
/// Longest piece in bytes: every way to part it is looked at.
const MAX_PIECE: usize = 256;
/// What stands for a blank.
const BLANK: &str = "\u{2581}";

/// What tokenizer.json would say.
///
/// # Errors
/// [`PromptError`], naming the file.
pub fn tokenizer(dir: &Path) -> Result<Value, PromptError> {
    let path = dir.join(MODEL);
    let fail = |reason: String| PromptError::File { path: path.clone(), reason };
    let settings = Settings::read(dir)?;
    let size = input::size(&path).map_err(|e| fail(format!("cannot be read ({e})")))?;
    if size > MAX_BYTES {
        return Err(fail(format!("is {size} bytes long, the limit is {MAX_BYTES}")));
    }
    let bytes = fs::read(&path).map_err(|e| fail(format!("cannot be read ({e})")))?;
    let model = SentencePieceModel::from_slice(bytes)
        .map_err(|e| fail(format!("is no SentencePiece model ({e})")))?;
    let (trainer, normalizer) = (model.trainer().cloned(), model.normalizer().cloned());
    let (trainer, normalizer) = (trainer.unwrap_or_default(), normalizer.unwrap_or_default());
    refuse(&settings, &trainer, &normalizer).map_err(fail)?;
    let pieces = Pieces::of(&model, &settings).map_err(fail)?;
    let legacy = settings.flag(dir, "legacy", true)?;
    let add_bos = settings.flag(dir, "add_bos_token", true)?;
    if settings.flag(dir, "add_eos_token", false)? {
        let reason = "`add_eos_token` is true: a prompt that ends with an end token cannot be answered";
        return Err(PromptError::File { path: dir.join("tokenizer_config.json"), reason: reason.to_owned() });
    }
    let bos = if add_bos { pieces.bos(&settings, &trainer) } else { None };
    let unknown = pieces.unknown.clone();
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": pieces.added,
        "normalizer": spaces(&normalizer, legacy), "pre_tokenizer": parts(&normalizer, legacy, &pieces.whole),
        "post_processor": bos.map(begins), "decoder": decoder(&normalizer, trainer.byte_fallback()),
        "model": { "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": trainer.byte_fallback(),
            "ignore_merges": !pieces.whole.is_empty(), "merges": pieces.merges, "vocab": pieces.vocabulary },
    }))
}

/// What would be read otherwise than SentencePiece reads it.
fn refuse(settings: &Settings, trainer: &TrainerSpec, normalizer: &NormalizerSpec) -> Result<(), String> {
    let unlike = |what: &str, found: &dyn Display, expected: &str| {
        Err(format!(
            "{what} is {found}, expected {expected}; for another let transformers write a tokenizer.json \
             (AutoTokenizer.from_pretrained(..).save_pretrained(..))"
        ))
    };
    let class = settings.class().unwrap_or("LlamaTokenizer");
    if !["LlamaTokenizer", "InternLM2Tokenizer", "PreTrainedTokenizer"].contains(&class) {
        return unlike("`tokenizer_class` beside it", &class, "LlamaTokenizer or InternLM2Tokenizer");
    }
    if trainer.model_type() != ModelType::Bpe {
        let found = format!("{:?}", trainer.model_type()).to_lowercase();
        return unlike("its model type", &found, "bpe");
    }
    if !normalizer.precompiled_charsmap().is_empty() {
        return unlike("its normalization", &format!("`{}`", normalizer.name()), "`identity`");
    }
    if trainer.treat_whitespace_as_suffix() {
        return unlike("`treat_whitespace_as_suffix`", &true, "false");
    }
    Ok(())
}

/// The pieces of a model, with the tokens that its folder adds.
struct Pieces {
    vocabulary: BTreeMap<String, u32>,
    /// As tokenizer.json lists them.
    added: Vec<Value>,
    merges: Vec<[String; 2]>,
    /// Pieces that users defined.
    whole: Vec<String>,
    /// The piece for what the model has no other for.
    unknown: Option<String>,
}

impl Pieces {
    fn of(model: &SentencePieceModel, settings: &Settings) -> Result<Self, String> {
        let mut vocabulary = BTreeMap::new();
        let mut own = BTreeMap::new();
        for (id, piece) in (0..).zip(model.pieces()) {
            let name = piece.piece();
            if name.is_empty() || name.len() > MAX_PIECE {
                let len = name.len();
                return Err(format!("piece {id} is {len} bytes long, expected 1 to {MAX_PIECE}"));
            }
            if !piece.score().is_finite() {
                return Err(format!(
                    "piece {id} (`{name}`) has the score {}, expected a number",
                    piece.score()
                ));
            }
            if vocabulary.insert(name.to_owned(), id).is_some() {
                return Err(format!("piece {id} (`{name}`) is there twice"));
            }
            // Templates write control pieces: they are tokens where they stand, but not in what a user types.
            if matches!(piece.r#type(), Type::Control | Type::Unknown) {
                own.insert(id, token(id, name, true, false));
            }
        }
        if vocabulary.is_empty() {
            return Err("has no pieces".to_owned());
        }
        let added = [own.clone(), settings.added.clone()].into_iter().flatten().collect();
        let all = Settings { added, special: settings.special.clone(), config: Value::Null, bos: None };
        let added = all.place(&mut vocabulary);
        // A piece that gave way to an added token is none any more.
        let is = |id: u32, name: &str| vocabulary.get(name) == Some(&id) && !all.added.contains_key(&id);
        let of = |kind: Type| {
            let named = (0..).zip(model.pieces()).filter(move |(_, piece)| piece.r#type() == kind);
            named.map(|(id, piece)| (id, piece.piece(), piece.score()))
        };
        let normal: BTreeMap<&str, (u32, f32)> = of(Type::Normal)
            .filter(|(id, name, _)| is(*id, name))
            .map(|(id, name, score)| (name, (id, score)))
            .collect();
        let whole =
            of(Type::UserDefined).filter(|(id, name, _)| is(*id, name)).map(|(_, name, _)| name.to_owned());
        let unknown = of(Type::Unknown).next().map(|(_, name, _)| name.to_owned());
        let unknown = unknown.filter(|name| vocabulary.contains_key(name));
        Ok(Pieces { merges: merges(&normal), whole: whole.collect(), unknown, added, vocabulary })
    }

    /// The token that begins every text: its name and id.
    fn bos(&self, settings: &Settings, trainer: &TrainerSpec) -> Option<(String, u32)> {
        let name = settings.bos.clone().unwrap_or_else(|| trainer.bos_piece().to_owned());
        let id = *self.vocabulary.get(&name)?;
        Some((name, id))
    }
}

/// The merges that give the pieces: the best piece first, of one piece in the order of its halves.
fn merges(normal: &BTreeMap<&str, (u32, f32)>) -> Vec<[String; 2]> {
    let mut ranked: Vec<(f32, u32, &str, &str)> = Vec::new();
    for (piece, &(id, score)) in normal {
        let splits = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let known = splits.filter(|(left, right)| normal.contains_key(left) && normal.contains_key(right));
        ranked.extend(known.map(|(left, right)| (score, id, left, right)));
    }
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    ranked.into_iter().map(|(_, _, left, right)| [left.to_owned(), right.to_owned()]).collect()
}

/// What is done to blanks before a text is cut. `legacy`: every stretch between added tokens begins with a blank, not
/// only the text.
fn spaces(spec: &NormalizerSpec, legacy: bool) -> Value {
    let replace = |pattern: Value, by: &str| json!({ "type": "Replace", "pattern": pattern, "content": by });
    let mut steps = Vec::new();
    if spec.remove_extra_whitespaces() {
        steps.push(replace(json!({ "Regex": r"\A +| +\z" }), ""));
        steps.push(replace(json!({ "Regex": " {2,}" }), " "));
    }
    if spec.add_dummy_prefix() && legacy {
        steps.push(
            json!({ "type": "Prepend", "prepend": if spec.escape_whitespaces() { BLANK } else { " " } }),
        );
    }
    if spec.escape_whitespaces() {
        steps.push(replace(json!({ "String": " " }), BLANK));
    }
    if steps.is_empty() { Value::Null } else { json!({ "type": "Sequence", "normalizers": steps }) }
}

/// How a text is cut before its pieces are merged.
fn parts(spec: &NormalizerSpec, legacy: bool, whole: &[String]) -> Value {
    let mut steps = Vec::new();
    if spec.add_dummy_prefix() && !legacy {
        steps.push(
            json!({ "type": "Metaspace", "replacement": BLANK, "prepend_scheme": "first", "split": false }),
        );
    }
    if !whole.is_empty() {
        let mut whole: Vec<&String> = whole.iter().collect();
        whole.sort_by_key(|piece| std::cmp::Reverse(piece.chars().count()));
        let any: Vec<String> = whole.into_iter().map(|piece| literal(piece)).collect();
        let pattern = json!({ "Regex": any.join("|") });
        steps.push(json!({ "type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false }));
    }
    if steps.is_empty() { Value::Null } else { json!({ "type": "Sequence", "pretokenizers": steps }) }
}

/// A text as a pattern that matches it alone.
fn literal(text: &str) -> String {
    let signs: BTreeSet<char> = r"\.+*?()|[]{}^$#&-~".chars().collect();
    text.chars().flat_map(|c| signs.contains(&c).then_some('\\').into_iter().chain([c])).collect()
}

/// What puts a token before every text.
fn begins((name, id): (String, u32)) -> Value {
    let special = json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let text = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    let known = json!({ "id": name, "ids": [id], "tokens": [name] });
    json!({ "type": "TemplateProcessing", "single": [special, text("A")],
        "pair": [special, text("A"), special, text("B")], "special_tokens": { name: known } })
}

/// How tokens become text again.
fn decoder(spec: &NormalizerSpec, bytes: bool) -> Value {
    let mut steps = vec![json!({ "type": "Replace", "pattern": { "String": BLANK }, "content": " " })];
    if bytes {
        steps.push(json!({ "type": "ByteFallback" }));
    }
    steps.push(json!({ "type": "Fuse" }));
    if spec.add_dummy_prefix() {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_go_by_score_and_then_by_number_and_halves() {
        let normal =
            [("a", (3, -9.0)), ("b", (4, -9.0)), ("ab", (5, -1.0)), ("aab", (6, -1.0)), ("aa", (7, -0.5))];
        let found = merges(&normal.into_iter().collect());
        let found: Vec<[&str; 2]> =
            found.iter().map(|[left, right]| [left.as_str(), right.as_str()]).collect();
        assert_eq!(found, [["a", "a"], ["a", "b"], ["a", "ab"], ["aa", "b"]]);
    }

    #[test]
    fn a_piece_that_users_defined_is_meant_letter_by_letter() {
        assert_eq!(literal("<a.b|c>"), r"<a\.b\|c>");
        assert_eq!(literal("[x] \u{2581}"), "\\[x\\] \u{2581}");
    }
}
