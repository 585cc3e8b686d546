//! Small random models of every family, as their hubs have them: with the real chat templates, and tokenizers of the
//! real kinds.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use sightline::bundled;
use tempfile::TempDir;

use super::{copy_of, fixture, tiled_model};

/// A folder of every family, and of every kind of text model that comes with a tokenizer.
pub fn every_family() -> Vec<TempDir> {
    vec![
        smolvlm_like(),
        llava_like(),
        llava_phi3_like(),
        internvl_like(),
        internvl_chat_like(),
        internvl_chat_qwen2_like(),
        qwen2_like(),
        qwen2_5_like(),
        qwen3_like(),
    ]
}

/// The template of llava-hf's models: methods of strings, selectattr, the generation tag.
pub const LLAVA_TEMPLATE: &str = "{% for message in messages %}{% if message['role'] != 'system' %}\
    {{ message['role'].upper() + ': '}}{% endif %}{# Render all images first #}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}\
    {% endfor %}{# Render all text next #}{% if message['role'] != 'assistant' %}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
    {{ content['text'] + ' '}}{% endfor %}{% else %}\
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}\
    {% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

/// Adds a special token, or moves it to another id.
fn special(tokenizer: &mut Value, content: &str, id: usize) {
    tokenizer["model"]["vocab"][content] = id.into();
    let token = json!({"id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true});
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    tokens.retain(|t| t["content"] != token["content"]);
    tokens.push(token);
}

/// The bundled model's tokenizer, with further special tokens.
pub fn words_with<'a>(tokens: impl IntoIterator<Item = (&'a str, usize)>) -> Value {
    let text = fs::read(bundled::model().join("tokenizer.json")).unwrap();
    let mut tokenizer = serde_json::from_slice(&text).unwrap();
    tokens.into_iter().for_each(|(content, id)| special(&mut tokenizer, content, id));
    tokenizer
}

/// The kind of tokenizer that LLaVA-1.5 has: Llama's, which marks spaces in the text, puts one before
/// every stretch of it, adds BOS itself, and falls back to bytes. Byte `b` is token `5 + b`.
pub fn llama_tokenizer(image: usize) -> Value {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>", "<image>", "\u{2581}"].map(str::to_owned).to_vec();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend("USERAINT:whatis?<mge>".chars().map(String::from).collect::<BTreeSet<_>>());
    let merges = ["w h", "wh a", "wha t", "\u{2581} what", "i s", "\u{2581} is", "U S", "US E", "USE R"];
    tokens.extend(merges.map(|pair| pair.replace(' ', "")));
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = ["<unk>", "<s>", "</s>", "<image>"]
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let mut tokenizer = json!({
        "version": "1.0", "truncation": { "direction": "Right", "max_length": 5, "strategy": "LongestFirst",
            "stride": 0 }, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "Prepend", "prepend": "\u{2581}" },
            { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" } ] },
        "pre_tokenizer": null,
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "\u{2581}" }, "content": " " },
            { "type": "ByteFallback" }, { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 } ] },
        "model": { "type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "<unk>",
            "fuse_unk": true, "byte_fallback": true },
    });
    special(&mut tokenizer, "<image>", image);
    tokenizer
}

fn write(dir: &Path, name: &str, value: &Value) {
    fs::write(dir.join(name), value.to_string()).unwrap();
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// SmolVLM: tiles and markers, a template that reads a turn's first part, a tokenizer of words.
pub fn smolvlm_like() -> TempDir {
    let dir = tiled_model(512);
    let text = fs::read(dir.path().join("tokenizer.json")).unwrap();
    let mut tokenizer = serde_json::from_slice(&text).unwrap();
    special(&mut tokenizer, "<|im_start|>", 289);
    special(&mut tokenizer, "<end_of_utterance>", 288);
    write(dir.path(), "tokenizer.json", &tokenizer);
    let settings = json!({"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>"});
    write(dir.path(), "tokenizer_config.json", &settings);
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    let template = "chat_template.json";
    fs::copy(fixture("smolvlm-tokenizer").join(template), dir.path().join(template)).unwrap();
    dir
}

/// CLIP's: the shortest edge becomes `shortest`, of which the middle 56 x 56 pixels are kept.
fn clip_processor(dir: &Path, shortest: u32) {
    let size = json!({"height": 56, "width": 56});
    write(
        dir,
        "preprocessor_config.json",
        &json!({"image_processor_type": "CLIPImageProcessor", "do_resize": true, "do_center_crop": true,
            "do_rescale": true, "do_normalize": true, "do_convert_rgb": true, "resample": 3,
            "rescale_factor": 1.0 / 255.0, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "size": {"shortest_edge": shortest}, "crop_size": size}),
    );
}

/// LLaVA whose view is larger than the resized image, and so padded, and whose class token stays.
pub fn padded_llava_like() -> TempDir {
    let dir = llava_like();
    let mut config = read(&dir.path().join("config.json"));
    config["vision_feature_select_strategy"] = "full".into();
    write(dir.path(), "config.json", &config);
    clip_processor(dir.path(), 40);
    dir
}

/// LLaVA-Phi-3, its projections fused: Phi-3's turns, which end with a token of their own.
pub fn llava_phi3_like() -> TempDir {
    const TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' }}\
        {% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<image>\\n' }}\
        {% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}\
        {{ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";
    let dir = copy_of("tiny-llava-phi3-fused");
    let mut tokenizer = llama_tokenizer(318);
    for (content, id) in [("<|user|>", 315), ("<|end|>", 316), ("<|assistant|>", 317)] {
        special(&mut tokenizer, content, id);
    }
    write(dir.path(), "tokenizer.json", &tokenizer);
    write(dir.path(), "tokenizer_config.json", &json!({"bos_token": "<s>", "eos_token": "<|end|>"}));
    write(dir.path(), "chat_template.json", &json!({"chat_template": TEMPLATE}));
    clip_processor(dir.path(), 56);
    dir
}

/// InternVL2 with Qwen2, its tokenizer as vocab.json and merges.txt.
pub fn internvl_chat_qwen2_like() -> TempDir {
    copy_of("tiny-internvl-chat")
}

/// LLaVA-1.5: one view, no markers, a tokenizer that falls back on bytes.
pub fn llava_like() -> TempDir {
    let dir = copy_of("tiny-llava");
    write(dir.path(), "tokenizer.json", &llama_tokenizer(319));
    write(dir.path(), "tokenizer_config.json", &json!({"bos_token": "<s>", "eos_token": "</s>"}));
    write(dir.path(), "chat_template.json", &json!({"chat_template": LLAVA_TEMPLATE}));
    clip_processor(dir.path(), 56);
    dir
}

/// InternVL3 as transformers has it: tiles in the picture's ratio, a template that knows images, a tokenizer of bytes.
pub fn internvl_like() -> TempDir {
    copy_of("tiny-internvl")
}

/// InternVL2 as its authors ship it: InternLM2's fused weights, a conversation that only their code knows.
pub fn internvl_chat_like() -> TempDir {
    let dir = copy_of("tiny-internvl-chat-internlm2");
    let tokenizer = "tokenizer.json";
    fs::copy(fixture("tiny-internvl-chat-llama").join(tokenizer), dir.path().join(tokenizer)).unwrap();
    dir
}

/// A Qwen-VL of the fixtures with its hub's kind of template: one view of any shape, markers by the template, three
/// axes of positions. Views have 2 to 12 visual tokens.
fn qwen_like(name: &str, template: &str) -> TempDir {
    let dir = copy_of(name);
    let special = [
        ("<|im_end|>", 294),
        ("<|im_start|>", 295),
        ("<|vision_start|>", 296),
        ("<|vision_end|>", 297),
        ("<|image_pad|>", 298),
        ("<|video_pad|>", 299),
    ];
    write(dir.path(), "tokenizer.json", &words_with(special));
    write(dir.path(), "tokenizer_config.json", &json!({"bos_token": null, "eos_token": "<|im_end|>"}));
    let from = fixture("qwen-tokenizer").join(format!("chat_template-{template}.jinja"));
    fs::copy(from, dir.path().join("chat_template.jinja")).unwrap();
    write(dir.path(), "generation_config.json", &json!({"eos_token_id": [294]}));
    write(
        dir.path(),
        "preprocessor_config.json",
        &json!({"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, "merge_size": 2,
            "temporal_patch_size": 2, "min_pixels": 128, "max_pixels": 768,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}),
    );
    dir
}

/// Qwen2-VL: every patch sees its whole view.
pub fn qwen2_like() -> TempDir {
    qwen_like("tiny-qwen2-vl", "qwen2_5")
}

/// Qwen2.5-VL: windows.
pub fn qwen2_5_like() -> TempDir {
    qwen_like("tiny-qwen2_5-vl", "qwen2_5")
}

/// Qwen3-VL: features added after three layers.
pub fn qwen3_like() -> TempDir {
    qwen_like("tiny-qwen3-vl", "qwen3")
}
