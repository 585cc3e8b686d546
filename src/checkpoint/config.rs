//! config.json of a Hugging Face folder, as the numbers that the model is built from.
//!
//! Reads the styles of transformers 4 (`rope_theta`, `torch_dtype`) and 5 (`rope_parameters`,
//! `dtype`). Absent keys take transformers' own defaults, class by class: `LlavaConfig`,
//! `CLIPVisionConfig`, `Idefics3Config`, `Idefics3VisionConfig`, `LlamaConfig`. What the program
//! cannot compute is refused here, by key, before any weight is read. Knows nothing of tensors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::checkpoint::json::shorten;

/// Why config.json cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({source}); is this a Hugging Face model folder?", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("{}: not valid JSON ({source})", file.display())]
    Json {
        /// Which file.
        file: PathBuf,
        /// The parser's word.
        source: serde_json::Error,
    },
    /// A key holds something this program does not compute.
    #[error("{}: `{key}` is {found}, expected {expected}", file.display())]
    Value {
        /// Which file.
        file: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// A whole vision-language model.
#[derive(Clone, Debug, PartialEq)]
pub struct VlmConfig {
    /// Which family, and what only it has.
    pub family: Family,
    /// The vision encoder.
    pub vision: VisionConfig,
    /// The language model.
    pub text: TextConfig,
    /// Id that stands for a visual token in a prompt.
    pub image_token_id: u32,
    /// Ids that end an answer, from config.json; generation_config.json may say otherwise.
    pub eos_token_ids: Vec<u32>,
    /// The number format the weights were saved in, when the file says so.
    pub dtype: Option<String>,
    /// `model_type`, as written.
    pub model_type: String,
}

/// The supported architectures.
#[derive(Clone, Debug, PartialEq)]
pub enum Family {
    /// `LlavaForConditionalGeneration`.
    Llava {
        /// Indices into the encoder's hidden states: 0 is its input, `L` (or -1) the output of its
        /// last layer. Several are concatenated. Already resolved to be non-negative.
        feature_layers: Vec<usize>,
        /// `full` keeps the class token, `default` drops it.
        keep_class_token: bool,
        /// Whether the projector has biases.
        projector_bias: bool,
        /// Between the projector's two layers.
        projector_act: Activation,
    },
    /// `Idefics3ForConditionalGeneration` and `SmolVLMForConditionalGeneration`.
    Idefics3 {
        /// Pixel shuffle: this many patches a side become one visual token.
        scale_factor: usize,
    },
}

/// A vision transformer over square patches.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Width of its residual stream.
    pub width: usize,
    /// Width inside its MLPs.
    pub intermediate: usize,
    /// Layers.
    pub n_layers: usize,
    /// Attention heads.
    pub n_heads: usize,
    /// Colour channels.
    pub channels: usize,
    /// Side of the input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// MLP activation.
    pub act: Activation,
    /// Layer norm epsilon.
    pub eps: f64,
}

impl VisionConfig {
    /// Patches a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.n_heads
    }
}

/// A Llama decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLPs.
    pub intermediate: usize,
    /// Layers.
    pub n_layers: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides the query heads (GQA).
    pub n_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// MLP gate activation.
    pub act: Activation,
    /// Longest sequence.
    pub context: usize,
    /// RMS norm epsilon.
    pub eps: f64,
    /// RoPE base.
    pub rope_theta: f64,
    /// Biases in the attention projections.
    pub attention_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Whether the head shares the embedding's weights.
    pub tied: bool,
}

/// Activation functions by transformers' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `silu`, `swish`.
    Silu,
    /// `gelu`: exact, by erf.
    Gelu,
    /// `gelu_pytorch_tanh`, `gelu_new`.
    GeluTanh,
    /// `quick_gelu`: x * sigmoid(1.702 x).
    QuickGelu,
    /// `relu`.
    Relu,
}

/// Limits no real model reaches; they keep a corrupt file from asking for absurd memory.
const MAX_DIM: usize = 1 << 20;
const MAX_LAYERS: usize = 1 << 10;
const MAX_GRID: usize = 1 << 10;
/// Positions beyond this are not whole numbers in float32, in which RoPE's angles are computed.
const MAX_CONTEXT: usize = 1 << 24;

impl VlmConfig {
    /// Reads `dir/config.json`.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the key.
    pub fn from_dir(dir: &Path) -> Result<Self, ConfigError> {
        let file = dir.join("config.json");
        let text =
            fs::read_to_string(&file).map_err(|source| ConfigError::Read { file: file.clone(), source })?;
        let json =
            serde_json::from_str(&text).map_err(|source| ConfigError::Json { file: file.clone(), source })?;
        Self::from_json(&json, &file)
    }

    /// Interprets parsed JSON; `file` is only named in errors.
    ///
    /// # Errors
    /// As [`VlmConfig::from_dir`].
    pub fn from_json(json: &Value, file: &Path) -> Result<Self, ConfigError> {
        let root = Section { json: Some(json), path: String::new(), file };
        if !json.is_object() {
            return Err(root.refuse("config.json", "a JSON object", json));
        }
        let model_type = root.string("model_type", "")?;
        let llava = match model_type.as_str() {
            "llava" => true,
            "idefics3" | "smolvlm" => false,
            _ => {
                return Err(root.wrong(
                    "model_type",
                    "one of \"llava\", \"idefics3\", \"smolvlm\" (the families this program runs)",
                ));
            }
        };
        let text = root.section("text_config")?;
        let vision = root.section("vision_config")?;
        let text_type = text.string("model_type", "llama")?;
        if text_type != "llama" {
            return Err(text.wrong("model_type", "\"llama\""));
        }
        let tied = root.boolean("tie_word_embeddings", false)?
            || llava && text.boolean("tie_word_embeddings", false)?
            || root.absent("tie_word_embeddings") && text.boolean("tie_word_embeddings", false)?;
        let vision_config = if llava { clip(&vision)? } else { siglip(&vision)? };
        let family = if llava {
            let strategy = root.string("vision_feature_select_strategy", "default")?;
            if !["default", "full"].contains(&strategy.as_str()) {
                return Err(root.wrong("vision_feature_select_strategy", "\"default\" or \"full\""));
            }
            Family::Llava {
                feature_layers: feature_layers(&root, vision_config.n_layers)?,
                keep_class_token: strategy == "full",
                projector_bias: root.boolean("multimodal_projector_bias", true)?,
                projector_act: root.activation("projector_hidden_act", "gelu")?,
            }
        } else {
            let scale_factor = root.dim("scale_factor", 2)?;
            if vision_config.grid() % scale_factor != 0 {
                return Err(root.wrong(
                    "scale_factor",
                    &format!("a divisor of the {} patches a side", vision_config.grid()),
                ));
            }
            Family::Idefics3 { scale_factor }
        };
        let text_config = llama(&text, tied, if llava || text.json.is_some() { 1e-6 } else { 1e-5 })?;
        let image_key = if !root.absent("image_token_id") { "image_token_id" } else { "image_token_index" };
        let image_token_id = match (llava, root.absent(image_key)) {
            (true, true) => 32_000,
            (false, true) => 128_257,
            _ => root.count(image_key, 0, u32::MAX as usize)?,
        };
        if image_token_id >= text_config.vocabulary {
            return Err(ConfigError::Value {
                file: file.to_path_buf(),
                key: image_key.to_string(),
                expected: format!("an id below the vocabulary's {}", text_config.vocabulary),
                found: image_token_id.to_string(),
            });
        }
        let dtype = ["dtype", "torch_dtype"].into_iter().find(|k| !root.absent(k));
        Ok(VlmConfig {
            family,
            vision: vision_config,
            text: text_config,
            image_token_id: image_token_id as u32,
            eos_token_ids: ids(if root.absent("eos_token_id") { &text } else { &root }, "eos_token_id", 2)?,
            dtype: dtype.map(|k| root.string(k, "")).transpose()?,
            model_type,
        })
    }

    /// Visual tokens that one tile becomes.
    pub fn tokens_per_tile(&self) -> usize {
        let side = self.token_grid();
        side * side + usize::from(matches!(self.family, Family::Llava { keep_class_token: true, .. }))
    }

    /// Visual tokens a side of one tile (the class token, if kept, comes before them).
    pub fn token_grid(&self) -> usize {
        match self.family {
            Family::Llava { .. } => self.vision.grid(),
            Family::Idefics3 { scale_factor } => self.vision.grid() / scale_factor,
        }
    }
}

/// `CLIPVisionConfig`; as a whole absent, the one that `LlavaConfig` fills in.
fn clip(vision: &Section<'_>) -> Result<VisionConfig, ConfigError> {
    if vision.json.is_some() && vision.string("model_type", "clip_vision_model")? != "clip_vision_model" {
        return Err(vision.wrong("model_type", "\"clip_vision_model\""));
    }
    let defaults = match vision.json {
        Some(_) => [768, 3072, 12, 12, 224, 32],
        None => [1024, 4096, 24, 16, 336, 14],
    };
    vision_transformer(vision, defaults, "quick_gelu", 1e-5)
}

/// `Idefics3VisionConfig`, equal to `SmolVLMVisionConfig`.
fn siglip(vision: &Section<'_>) -> Result<VisionConfig, ConfigError> {
    vision_transformer(vision, [1152, 3072, 12, 16, 224, 32], "gelu_pytorch_tanh", 1e-6)
}

fn vision_transformer(
    section: &Section<'_>,
    [width, intermediate, n_layers, n_heads, image_size, patch_size]: [usize; 6],
    act: &str,
    eps: f64,
) -> Result<VisionConfig, ConfigError> {
    let config = VisionConfig {
        width: section.dim("hidden_size", width)?,
        intermediate: section.dim("intermediate_size", intermediate)?,
        n_layers: section.count_or("num_hidden_layers", n_layers, 1, MAX_LAYERS)?,
        n_heads: section.dim("num_attention_heads", n_heads)?,
        channels: section.dim("num_channels", 3)?,
        image_size: section.dim("image_size", image_size)?,
        patch_size: section.dim("patch_size", patch_size)?,
        act: section.activation("hidden_act", act)?,
        eps: section.number("layer_norm_eps", eps)?,
    };
    if config.channels != 3 {
        return Err(section.wrong("num_channels", "3 (RGB)"));
    }
    if !config.width.is_multiple_of(config.n_heads) {
        return Err(
            section.wrong("num_attention_heads", &format!("a divisor of the hidden size {}", config.width))
        );
    }
    if config.patch_size > config.image_size {
        return Err(section.wrong("patch_size", &format!("at most the image size {}", config.image_size)));
    }
    if config.grid() > MAX_GRID {
        let most = MAX_GRID * config.patch_size;
        return Err(section.wrong("image_size", &format!("at most {most}, {MAX_GRID} patches a side")));
    }
    Ok(config)
}

fn llama(text: &Section<'_>, tied: bool, eps: f64) -> Result<TextConfig, ConfigError> {
    let width = text.dim("hidden_size", 4096)?;
    let n_heads = text.dim("num_attention_heads", 32)?;
    let n_kv_heads = text.dim("num_key_value_heads", n_heads)?;
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(text.wrong("num_key_value_heads", &format!("a divisor of the {n_heads} query heads")));
    }
    if text.absent("head_dim") && !width.is_multiple_of(n_heads) {
        return Err(text.wrong("num_attention_heads", &format!("a divisor of the hidden size {width}")));
    }
    let head_dim = text.dim("head_dim", width / n_heads)?;
    if !head_dim.is_multiple_of(2) {
        return Err(text.wrong("head_dim", "an even number (RoPE turns pairs)"));
    }
    Ok(TextConfig {
        vocabulary: text.dim("vocab_size", 32_000)?,
        width,
        intermediate: text.dim("intermediate_size", 11_008)?,
        n_layers: text.count_or("num_hidden_layers", 32, 1, MAX_LAYERS)?,
        n_heads,
        n_kv_heads,
        head_dim,
        act: text.activation("hidden_act", "silu")?,
        context: text.count_or("max_position_embeddings", 2048, 1, MAX_CONTEXT)?,
        eps: text.number("rms_norm_eps", eps)?,
        rope_theta: rope_theta(text)?,
        attention_bias: text.boolean("attention_bias", false)?,
        mlp_bias: text.boolean("mlp_bias", false)?,
        tied,
    })
}

/// The RoPE base, from `rope_parameters` (transformers 5) or `rope_theta` (4). Scaled variants are
/// refused: computing them as plain RoPE would be silently wrong.
fn rope_theta(text: &Section<'_>) -> Result<f64, ConfigError> {
    let plain = text.number("rope_theta", 10_000.0)?;
    for key in ["rope_parameters", "rope_scaling"] {
        let rope = text.section(key)?;
        for kind in ["rope_type", "type"] {
            if rope.string(kind, "default")? != "default" {
                return Err(rope.wrong(kind, "\"default\" (scaled RoPE is not supported)"));
            }
        }
        if rope.number("partial_rotary_factor", 1.0)? != 1.0 {
            return Err(rope.wrong("partial_rotary_factor", "1"));
        }
        if !rope.absent("rope_theta") {
            return rope.number("rope_theta", plain);
        }
    }
    if text.number("partial_rotary_factor", 1.0)? != 1.0 {
        return Err(text.wrong("partial_rotary_factor", "1"));
    }
    Ok(plain)
}

fn feature_layers(root: &Section<'_>, n_layers: usize) -> Result<Vec<usize>, ConfigError> {
    const KEY: &str = "vision_feature_layer";
    let expected = format!("a hidden state from -{} to {n_layers}, or a list of such", n_layers + 1);
    let resolve = |v: &Value| {
        let wanted = v.as_i64()?;
        let index = if wanted < 0 { n_layers as i64 + 1 + wanted } else { wanted };
        (0..=n_layers as i64).contains(&index).then_some(index as usize)
    };
    let layers = match root.get(KEY) {
        None => resolve(&Value::from(-2)).map(|l| vec![l]),
        Some(Value::Array(list)) if !list.is_empty() => list.iter().map(resolve).collect(),
        Some(one) => resolve(one).map(|l| vec![l]),
    };
    layers.ok_or_else(|| root.wrong(KEY, &expected))
}

fn ids(section: &Section<'_>, key: &str, default: u32) -> Result<Vec<u32>, ConfigError> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let ids = match section.get(key) {
        None => Some(vec![default]),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(v) => one(v).map(|n| vec![n]),
    };
    ids.ok_or_else(|| section.wrong(key, "a token id or a list of them"))
}

/// One object of the file, which may be absent, with the path that errors name.
struct Section<'a> {
    json: Option<&'a Value>,
    path: String,
    file: &'a Path,
}

impl<'a> Section<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.json?.get(key).filter(|v| !v.is_null())
    }

    fn absent(&self, key: &str) -> bool {
        self.get(key).is_none()
    }

    fn refuse(&self, key: &str, expected: &str, found: &Value) -> ConfigError {
        let (key, found) = (format!("{}{key}", self.path), shorten(&found.to_string(), 60));
        ConfigError::Value { file: self.file.to_path_buf(), key, expected: expected.to_string(), found }
    }

    fn wrong(&self, key: &str, expected: &str) -> ConfigError {
        match self.get(key) {
            Some(v) => self.refuse(key, expected, v),
            None => self.refuse(key, expected, &Value::from("absent")),
        }
    }

    fn section(&self, key: &str) -> Result<Section<'a>, ConfigError> {
        let json = self.get(key);
        if json.is_some_and(|v| !v.is_object()) {
            return Err(self.wrong(key, "an object"));
        }
        Ok(Section { json, path: format!("{}{key}.", self.path), file: self.file })
    }

    fn string(&self, key: &str, default: &str) -> Result<String, ConfigError> {
        match self.get(key) {
            None => Ok(default.to_string()),
            Some(Value::String(s)) => Ok(s.clone()),
            Some(_) => Err(self.wrong(key, "a string")),
        }
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(_) => Err(self.wrong(key, "true or false")),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            // The model computes in float32: what is 0 or infinite there would turn every answer into
            // nothing, in silence.
            Some(v) => v
                .as_f64()
                .filter(|n| *n > 0.0 && (*n as f32).is_normal())
                .ok_or_else(|| self.wrong(key, "a positive number that float32 can hold")),
        }
    }

    fn dim(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        self.count_or(key, default, 1, MAX_DIM)
    }

    fn count_or(&self, key: &str, default: usize, min: usize, max: usize) -> Result<usize, ConfigError> {
        if self.absent(key) { Ok(default) } else { self.count(key, min, max) }
    }

    fn count(&self, key: &str, min: usize, max: usize) -> Result<usize, ConfigError> {
        self.get(key)
            .and_then(Value::as_u64)
            .map(|n| n as usize)
            .filter(|n| (min..=max).contains(n))
            .ok_or_else(|| self.wrong(key, &format!("a whole number from {min} to {max}")))
    }

    fn activation(&self, key: &str, default: &str) -> Result<Activation, ConfigError> {
        Ok(match self.string(key, default)?.as_str() {
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
            "quick_gelu" => Activation::QuickGelu,
            "relu" => Activation::Relu,
            _ => return Err(self.wrong(key, "one of silu, gelu, gelu_pytorch_tanh, quick_gelu, relu")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> Result<VlmConfig, ConfigError> {
        VlmConfig::from_json(&json, Path::new("config.json"))
    }

    /// The keys that llava-hf/llava-1.5-7b-hf's own file has.
    fn llava_7b() -> Value {
        json!({
            "architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100,
            "image_token_index": 32000, "model_type": "llava", "pad_token_id": 32001,
            "projector_hidden_act": "gelu",
            "text_config": {
                "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
                "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05,
                "torch_dtype": "float16", "vocab_size": 32064
            },
            "tie_word_embeddings": false, "torch_dtype": "float16",
            "vision_config": {
                "hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
                "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
                "patch_size": 14, "projection_dim": 768, "vocab_size": 32000
            },
            "vision_feature_layer": -2, "vision_feature_select_strategy": "default", "vocab_size": 32064
        })
    }

    #[test]
    fn the_real_llava_7b_names_no_text_width() {
        let c = read(llava_7b()).unwrap();
        let t = &c.text;
        assert_eq!((t.width, t.intermediate, t.n_layers, t.n_heads), (4096, 11008, 32, 32));
        assert_eq!((t.n_kv_heads, t.head_dim, t.vocabulary, t.context), (32, 128, 32064, 4096));
        assert_eq!((t.rope_theta, t.eps, t.act, t.tied), (10_000.0, 1e-5, Activation::Silu, false));
        assert_eq!((c.vision.act, c.vision.eps), (Activation::QuickGelu, 1e-5));
        assert_eq!(
            c.family,
            Family::Llava {
                feature_layers: vec![23],
                keep_class_token: false,
                projector_bias: true,
                projector_act: Activation::Gelu,
            }
        );
        assert_eq!((c.tokens_per_tile(), c.token_grid()), (576, 24));
        assert_eq!(c.dtype.as_deref(), Some("float16"));
    }

    #[test]
    fn an_empty_llava_is_the_default_llava() {
        let c = read(json!({"model_type": "llava", "text_config": {"vocab_size": 32001}})).unwrap();
        assert_eq!((c.vision.width, c.vision.n_layers, c.vision.image_size), (1024, 24, 336));
        assert_eq!(c.image_token_id, 32_000);
        assert_eq!(c.text.eps, 1e-6);
    }

    #[test]
    fn transformers_5_keys_are_read() {
        let mut j = llava_7b();
        j["text_config"]["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        j["text_config"]["tie_word_embeddings"] = json!(true);
        j.as_object_mut().unwrap().remove("torch_dtype");
        j["dtype"] = json!("bfloat16");
        let c = read(j).unwrap();
        assert_eq!(c.text.rope_theta, 5e5);
        assert!(c.text.tied);
        assert_eq!(c.dtype.as_deref(), Some("bfloat16"));
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_key() {
        let cases = [
            ("/model_type", json!("qwen2_vl"), "model_type"),
            ("/text_config/model_type", json!("mistral"), "text_config.model_type"),
            (
                "/text_config/rope_scaling",
                json!({"rope_type": "llama3", "factor": 8}),
                "rope_scaling.rope_type",
            ),
            ("/text_config/hidden_act", json!("mish"), "text_config.hidden_act"),
            ("/text_config/num_hidden_layers", json!(-3), "text_config.num_hidden_layers"),
            ("/text_config/num_key_value_heads", json!(5), "text_config.num_key_value_heads"),
            ("/text_config/vocab_size", json!(100), "image_token_index"),
            ("/vision_config", json!([]), "vision_config"),
            ("/vision_config/hidden_size", json!(1e30), "vision_config.hidden_size"),
            ("/vision_feature_layer", json!(-26), "vision_feature_layer"),
            ("/vision_feature_layer", json!(i64::MIN), "vision_feature_layer"),
            ("/text_config/num_hidden_layers", json!(1e12 as u64), "text_config.num_hidden_layers"),
            ("/text_config/vocab_size", json!(1u64 << 40), "text_config.vocab_size"),
            ("/text_config/max_position_embeddings", json!(u64::MAX), "text_config.max_position_embeddings"),
            ("/text_config/num_attention_heads", json!(0), "text_config.num_attention_heads"),
            ("/text_config/num_attention_heads", json!(33), "text_config.num_attention_heads"),
            ("/text_config/head_dim", json!(3), "text_config.head_dim"),
            ("/text_config/rope_theta", json!(0), "text_config.rope_theta"),
            ("/text_config/rope_theta", json!(-1e4), "text_config.rope_theta"),
            ("/text_config/rope_theta", json!(1e300), "text_config.rope_theta"),
            ("/text_config/rms_norm_eps", json!(1e-300), "text_config.rms_norm_eps"),
            ("/text_config/rms_norm_eps", json!("NaN"), "text_config.rms_norm_eps"),
            ("/vision_config/patch_size", json!(0), "vision_config.patch_size"),
            ("/vision_config/patch_size", json!(337), "vision_config.patch_size"),
            ("/vision_config/image_size", json!(1 << 20), "vision_config.image_size"),
            ("/vision_config/num_attention_heads", json!(7), "vision_config.num_attention_heads"),
            ("/vision_feature_select_strategy", json!("cls"), "vision_feature_select_strategy"),
        ];
        for (pointer, value, key) in cases {
            let mut j = llava_7b();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            j.pointer_mut(parent).unwrap()[last] = value;
            let message = read(j).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("expected"), "{pointer}: {message}");
        }
    }
}
