//! InternVL2, 2.5 and 3 as OpenGVLab ships them: the family of `internvl`, read from the original's config.
//!
//! `InternVLChatModel` of their own code. What that code has in itself and no other file says is here: tiles and colours
//! of images by config.json (preprocessor_config.json is CLIP's, and not followed), conversations by their name, and the
//! image token by its text.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    checkpoint::{
        added_tokens::{self, id_of},
        config::{Activation, VisionConfig, VlmConfig, vision_transformer},
        json::{JsonError, Section},
    },
    model::{
        families::{
            conversation,
            family::Family,
            internvl::{InternVl, Keys, Tower, hidden_state, norm_kind, scale_factor},
            text::TextKind,
        },
        names,
    },
};

/// Stands for a visual token.
const IMAGE: &str = "<IMG_CONTEXT>";

/// Most tiles that an image may be cut into.
const MAX_TILES: usize = 1024;

/// Of the original's files.
const KEYS: Keys = Keys {
    towers: &["vision_model."],
    tower: &names::INTERN_VIT,
    projectors: &["mlp1."],
    projector: ["0", "1", "3"],
    models: &["language_model.model."],
    heads: &["language_model.lm_head.", "language_model.output."],
};

/// Reads `InternVLChatConfig`.
///
/// # Errors
/// [`JsonError`], naming the key; also when no file of the folder names the image token.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    Ok(Box::new(read_chat(root)?))
}

fn read_chat(root: &Section<'_>) -> Result<InternVl, JsonError> {
    let (text, vision) = (root.section("llm_config")?, root.section("vision_config")?);
    let kind = text_kind(&text)?;
    // Absent, it is v1: rows and columns of tokens change places.
    if root.string("ps_version", "v1")? != "v2" {
        return Err(root.wrong("ps_version", "\"v2\""));
    }
    let sizes = vision_sizes(root, &vision)?;
    let tower = Tower {
        norm: norm_kind(&vision, "rms_norm")?,
        qkv_bias: vision.boolean("qkv_bias", false)?,
        qk_norm: vision.boolean("qk_normalization", true)?,
        select: hidden_state(root, "select_layer", sizes.n_layers)?,
    };
    let (scale_factor, settings) =
        (scale_factor(root, sizes.grid())?, settings(root, sizes.image_size.unwrap_or_default())?);
    let template = conversation_of(root)?;
    let dir = root.file().parent().unwrap_or(Path::new(""));
    let text = kind.read(&text, text.boolean("tie_word_embeddings", false)?)?;
    let image = image_token(root, dir, text.vocabulary)?;
    Ok(InternVl {
        config: VlmConfig::read(root, sizes, text, image)?,
        kind,
        tower,
        scale_factor,
        projector_act: Activation::Gelu,
        keys: &KEYS,
        template,
        settings: Some(settings),
    })
}

/// The language model, by the class that the config names.
fn text_kind(text: &Section<'_>) -> Result<TextKind, JsonError> {
    const KEY: &str = "architectures";
    let classes = [
        ("Qwen2ForCausalLM", TextKind::Qwen2),
        ("LlamaForCausalLM", TextKind::Llama),
        ("InternLM2ForCausalLM", TextKind::InternLm2),
        ("Phi3ForCausalLM", TextKind::Phi3),
    ];
    let named = text.get(KEY).and_then(|list| list.get(0)).and_then(Value::as_str);
    let found = classes.iter().find(|(class, _)| named == Some(class));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        let known: Vec<String> = classes.iter().map(|(class, _)| format!("[\"{class}\"]")).collect();
        text.wrong(KEY, &format!("one of {}", known.join(", ")))
    })
}

/// The tower's sizes; of two for the image, the one in force.
fn vision_sizes(root: &Section<'_>, vision: &Section<'_>) -> Result<VisionConfig, JsonError> {
    const KEY: &str = "force_image_size";
    let sizes = vision_transformer(vision, [3200, 12_800, 48, 25, 224, 14], "gelu", 1e-6)?;
    let side = sizes.image_size.unwrap_or_default();
    match root.count_or(KEY, side, 1, usize::MAX)? {
        forced if forced == side => Ok(sizes),
        _ => Err(root
            .wrong(KEY, &format!("{side}, as vision_config's image_size (positions are not interpolated)"))),
    }
}

/// What `dynamic_preprocess` and `build_transform` of the original do, in the words of transformers' processor.
fn settings(root: &Section<'_>, side: usize) -> Result<Value, JsonError> {
    let fewest = root.count_or("min_dynamic_patch", 1, 1, MAX_TILES)?;
    let most = root.count_or("max_dynamic_patch", fewest.max(6), fewest, MAX_TILES)?;
    let (fewest, most) = if root.boolean("dynamic_image_size", false)? { (fewest, most) } else { (1, 1) };
    Ok(json!({
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": { "height": side, "width": side },
        "min_patches": fewest, "max_patches": most,
        "use_thumbnail": root.boolean("use_thumbnail", false)?,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }))
}

/// The conversation that the config names.
fn conversation_of(root: &Section<'_>) -> Result<Option<&'static str>, JsonError> {
    const KEY: &str = "template";
    match root.string(KEY, "")?.as_str() {
        "" => Ok(None),
        "Hermes-2" | "internlm2-chat" => Ok(Some(conversation::HERMES_2)),
        "phi3-chat" => Ok(Some(conversation::PHI3_CHAT)),
        "internvl2_5" => Ok(Some(conversation::INTERNVL2_5)),
        _ => Err(root.wrong(KEY, "one of Hermes-2, internlm2-chat, phi3-chat, internvl2_5")),
    }
}

/// The id of the image token, which config.json does not have.
fn image_token(root: &Section<'_>, dir: &Path, vocabulary: usize) -> Result<usize, JsonError> {
    let found = id_of(dir, IMAGE)?;
    found.map(|id| id as usize).filter(|&id| id < vocabulary).ok_or_else(|| JsonError::Value {
        file: root.file().to_path_buf(),
        key: format!("the id of {IMAGE} in {}", added_tokens::FILES),
        expected: format!("an id below the vocabulary's {vocabulary}"),
        found: found.map_or("absent".to_string(), |id| id.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nn::NormKind;

    /// What all of InternVL2's files have, with a text and an InternViT of 300M or 6B weights.
    fn internvl2(template: &str, llm: Value, six_b: bool) -> Value {
        let vision = match six_b {
            false => json!({ "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
                "intermediate_size": 4096, "norm_type": "layer_norm", "qk_normalization": false, "qkv_bias": true }),
            true => json!({ "hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25,
                "intermediate_size": 12800, "norm_type": "rms_norm", "qk_normalization": true, "qkv_bias": false }),
        };
        let mut config = json!({
            "architectures": ["InternVLChatModel"], "downsample_ratio": 0.5, "dynamic_image_size": true,
            "force_image_size": 448, "llm_config": llm, "max_dynamic_patch": 12, "min_dynamic_patch": 1,
            "model_type": "internvl_chat", "ps_version": "v2", "select_layer": -1, "template": template,
            "torch_dtype": "bfloat16", "use_thumbnail": true, "vision_config": vision
        });
        let common = json!({ "hidden_act": "gelu", "image_size": 448, "layer_norm_eps": 1e-6, "patch_size": 14,
            "model_type": "intern_vit_6b" });
        for (key, value) in common.as_object().unwrap() {
            config["vision_config"][key] = value.clone();
        }
        config
    }

    /// The text of an InternVL2: class, width, layers, heads, key heads, MLP, vocabulary; what else differs.
    fn llm(class: &str, sizes: [usize; 6], more: Value) -> Value {
        let [width, layers, heads, kv, mlp, vocabulary] = sizes;
        let mut llm = json!({ "architectures": [class], "hidden_size": width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": mlp,
            "vocab_size": vocabulary, "hidden_act": "silu", "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-5, "rope_theta": 1000000 });
        for (key, value) in more.as_object().unwrap() {
            llm[key] = value.clone();
        }
        llm
    }

    /// A config read in a folder whose tokenizer has the image token `id`.
    fn read_json(config: &Value, id: u32) -> Result<InternVl, JsonError> {
        let dir = tempfile::tempdir().unwrap();
        let added = json!({ IMAGE: id, "<|im_end|>": 92_542, "<|end|>": 32_007 });
        std::fs::write(dir.path().join("added_tokens.json"), added.to_string()).unwrap();
        let file = dir.path().join("config.json");
        read_chat(&Section::root(config, &file)?)
    }

    fn dynamic(factor: f64) -> Value {
        json!({ "bias": false, "rope_scaling": { "type": "dynamic", "factor": factor } })
    }

    #[test]
    fn the_real_models_are_read() {
        let qwen = json!({ "rms_norm_eps": 1e-6, "sliding_window": 32768, "use_sliding_window": false });
        let intern = "InternLM2ForCausalLM";
        let models = [
            ("1B", "Hermes-2", "Qwen2ForCausalLM", [896, 24, 14, 2, 4864, 151_655], qwen, 151_648, false),
            ("2B", "internlm2-chat", intern, [2048, 24, 16, 8, 8192, 92_553], dynamic(2.0), 92_546, false),
            ("8B", "internlm2-chat", intern, [4096, 32, 32, 8, 14_336, 92_553], dynamic(2.0), 92_546, false),
            ("26B", "internlm2-chat", intern, [6144, 48, 48, 8, 16_384, 92_553], dynamic(3.0), 92_546, true),
        ];
        for (name, template, class, sizes, more, image, six_b) in models {
            let model = read_json(&internvl2(template, llm(class, sizes, more), six_b), image).unwrap();
            let t = &model.config.text;
            let found = [t.width, t.n_layers, t.n_heads, t.n_kv_heads, t.intermediate, t.vocabulary];
            assert_eq!((found, model.config.image_token_id), (sizes, image), "{name}");
            assert_eq!((t.context, t.rope.theta, t.rope.factors.len()), (32_768, 1e6, 0), "{name}");
            assert_eq!((t.qkv_bias, t.out_bias), (name == "1B", false), "{name}");
            let kind = if six_b { NormKind::Rms } else { NormKind::Layer };
            let select = if six_b { 45 } else { 24 };
            let tower = Tower { norm: kind, qkv_bias: !six_b, qk_norm: six_b, select };
            assert_eq!((model.tower, model.grid().len()), (tower, 256), "{name}");
            assert_eq!(model.template, Some(conversation::HERMES_2), "{name}");
        }
    }

    #[test]
    fn long_positions_and_windows_of_phi3_bound_the_context() {
        let factors = |n: f64| (0..48).map(|i| n + f64::from(i) / 48.0).collect::<Vec<f64>>();
        let long = json!({ "max_position_embeddings": 131_072, "original_max_position_embeddings": 4096,
            "rope_theta": 1e4, "sliding_window": 262_144,
            "rope_scaling": { "type": "su", "short_factor": factors(1.0), "long_factor": factors(4.0) } });
        let mut config =
            internvl2("phi3-chat", llm("Phi3ForCausalLM", [3072, 32, 32, 32, 8192, 32_020], long), false);
        let model = read_json(&config, 32_013).unwrap();
        let t = &model.config.text;
        assert_eq!((t.context, t.rope.factors.len(), t.rope.factors[0]), (4096, 48, 1.0));
        assert!((f64::from(t.rope.attention) - (1.0 + 32f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-6);
        assert_eq!(model.template, Some(conversation::PHI3_CHAT));
        config["llm_config"]["sliding_window"] = 2047.into();
        assert_eq!(read_json(&config, 32_013).unwrap().config.text.context, 2047);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_key() {
        let sizes = [2048, 24, 16, 8, 8192, 92_553];
        let config = internvl2("internlm2-chat", llm("InternLM2ForCausalLM", sizes, dynamic(2.0)), false);
        let cases = [
            ("/ps_version", json!("v1"), "ps_version"),
            ("/ps_version", Value::Null, "ps_version"),
            ("/llm_config/architectures", json!(["GemmaForCausalLM"]), "llm_config.architectures"),
            ("/llm_config/architectures", Value::Null, "llm_config.architectures"),
            ("/force_image_size", json!(224), "force_image_size"),
            ("/template", json!("vicuna"), "template"),
            ("/min_dynamic_patch", json!(0), "min_dynamic_patch"),
            ("/max_dynamic_patch", json!(1 << 20), "max_dynamic_patch"),
            ("/select_layer", json!(25), "select_layer"),
            ("/llm_config/vocab_size", json!(92_546), "<IMG_CONTEXT>"),
        ];
        for (pointer, value, key) in cases {
            let mut config = config.clone();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            config.pointer_mut(parent).unwrap()[last] = value;
            let message = read_json(&config, 92_546).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("expected"), "{pointer}: {message}");
        }
        let message = read_chat(&Section::root(&config, Path::new("/nowhere/config.json")).unwrap());
        let message = message.unwrap_err().to_string();
        assert!(message.contains("<IMG_CONTEXT>") && message.contains("is absent"), "{message}");
    }
}
