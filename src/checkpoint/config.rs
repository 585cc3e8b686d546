//! config.json as the numbers that a model is built from: the parts that families share.
//!
//! Reads the styles of transformers 4 (`rope_theta`, `torch_dtype`) and 5 (`rope_parameters`, `dtype`).
//! Absent keys take transformers' own defaults, class by class; those of a family are in its file in
//! `model/families`. What the program cannot compute is refused here, by key, before any weight is read.
//! Knows nothing of tensors.

use serde_json::Value;

use crate::checkpoint::json::{JsonError, Section};

/// A whole vision-language model.
#[derive(Clone, Debug, PartialEq)]
pub struct VlmConfig {
    /// The vision encoder.
    pub vision: VisionConfig,
    /// The language model.
    pub text: TextConfig,
    /// Id that stands for a visual token in a prompt.
    pub image_token_id: u32,
    /// The number format the weights were saved in, when the file says so.
    pub dtype: Option<String>,
    /// `model_type`, as written.
    pub model_type: String,
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
    /// Side of the input in pixels; `None` of an encoder that takes any.
    pub image_size: Option<usize>,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// MLP activation.
    pub act: Activation,
    /// Layer norm epsilon.
    pub eps: f64,
}

impl VisionConfig {
    /// Patches a side of an input of that size; 0 of an encoder that takes any.
    pub fn grid(&self) -> usize {
        self.image_size.unwrap_or(0) / self.patch_size
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.n_heads
    }
}

/// A Llama-like decoder.
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
    /// Longest sequence that is computed: what the config allows, up to where scaled positions or a sliding window
    /// would begin to count.
    pub context: usize,
    /// RMS norm epsilon.
    pub eps: f64,
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// Biases of the projections to queries, keys and values.
    pub qkv_bias: bool,
    /// Bias of attention's output projection.
    pub out_bias: bool,
    /// RMS norms of queries and keys, head by head, before they are turned.
    pub qk_norm: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Whether the head shares the embedding's weights.
    pub tied: bool,
}

/// Rotary position embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Which of a position's three axes turns each pair of numbers, `[head width / 2]`; empty where positions
    /// have one axis.
    pub axes: Vec<usize>,
    /// What the frequency of each pair is divided by, `[head width / 2]`; empty where that is 1.
    pub factors: Vec<f32>,
    /// What cosines and sines are multiplied by.
    pub attention: f32,
}

/// The sizes of a decoder whose config lacks them.
#[derive(Clone, Copy, Debug)]
pub struct TextDefaults {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width inside the MLPs.
    pub intermediate: usize,
    /// Key and value heads; `None` means as many as query heads.
    pub n_kv_heads: Option<usize>,
    /// Longest sequence.
    pub context: usize,
    /// RMS norm epsilon.
    pub eps: f64,
}

/// `LlamaConfig`'s.
pub const LLAMA: TextDefaults = TextDefaults {
    vocabulary: 32_000,
    width: 4096,
    intermediate: 11_008,
    n_kv_heads: None,
    context: 2048,
    eps: 1e-6,
};

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
    /// The keys that every family has, around its two parts. `image_token_id` is the default.
    ///
    /// # Errors
    /// [`JsonError`].
    pub fn read(
        root: &Section<'_>,
        vision: VisionConfig,
        text: TextConfig,
        image_token_id: usize,
    ) -> Result<Self, JsonError> {
        let image_key = if !root.absent("image_token_id") { "image_token_id" } else { "image_token_index" };
        let image_token_id = root.count_or(image_key, image_token_id, 0, u32::MAX as usize)?;
        if image_token_id >= text.vocabulary {
            return Err(JsonError::Value {
                file: root.file().to_path_buf(),
                key: image_key.to_string(),
                expected: format!("an id below the vocabulary's {}", text.vocabulary),
                found: image_token_id.to_string(),
            });
        }
        let dtype = ["dtype", "torch_dtype"].into_iter().find(|k| !root.absent(k));
        Ok(VlmConfig {
            vision,
            text,
            image_token_id: image_token_id as u32,
            dtype: dtype.map(|k| root.string(k, "")).transpose()?,
            model_type: root.string("model_type", "")?,
        })
    }
}

/// A size from 1 to what no real model exceeds.
///
/// # Errors
/// [`JsonError`].
pub fn dim(section: &Section<'_>, key: &str, default: usize) -> Result<usize, JsonError> {
    section.count_or(key, default, 1, MAX_DIM)
}

/// An activation by transformers' name.
///
/// # Errors
/// [`JsonError`].
pub fn activation(section: &Section<'_>, key: &str, default: &str) -> Result<Activation, JsonError> {
    Ok(match section.string(key, default)?.as_str() {
        "silu" | "swish" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        _ => return Err(section.wrong(key, "one of silu, gelu, gelu_pytorch_tanh, quick_gelu, relu")),
    })
}

/// A vision transformer's keys; what is absent takes `defaults`: width, width inside the MLPs, layers, heads,
/// image size and patch size.
///
/// # Errors
/// [`JsonError`].
pub fn vision_transformer(
    section: &Section<'_>,
    [width, intermediate, n_layers, n_heads, image_size, patch_size]: [usize; 6],
    act: &str,
    eps: f64,
) -> Result<VisionConfig, JsonError> {
    let image_size = side(section, "image_size", image_size)?;
    let config = VisionConfig {
        width: dim(section, "hidden_size", width)?,
        intermediate: dim(section, "intermediate_size", intermediate)?,
        n_layers: section.count_or("num_hidden_layers", n_layers, 1, MAX_LAYERS)?,
        n_heads: dim(section, "num_attention_heads", n_heads)?,
        channels: dim(section, "num_channels", 3)?,
        image_size: Some(image_size),
        patch_size: side(section, "patch_size", patch_size)?,
        act: activation(section, "hidden_act", act)?,
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
    if config.patch_size > image_size {
        return Err(section.wrong("patch_size", &format!("at most the image size {image_size}")));
    }
    if config.grid() > MAX_GRID {
        let most = MAX_GRID * config.patch_size;
        return Err(section.wrong("image_size", &format!("at most {most}, {MAX_GRID} patches a side")));
    }
    Ok(config)
}

/// A length that is written as one number, or as height and width, which must be alike.
///
/// # Errors
/// [`JsonError`].
fn side(section: &Section<'_>, key: &str, default: usize) -> Result<usize, JsonError> {
    let Some(Value::Array(sides)) = section.get(key) else { return dim(section, key, default) };
    let side = sides.first().and_then(Value::as_u64).map(|side| side as usize);
    side.filter(|side| (1..=MAX_DIM).contains(side) && sides.len() == 2 && sides[0] == sides[1])
        .ok_or_else(|| section.wrong(key, &format!("two equal numbers from 1 to {MAX_DIM}")))
}

/// A Llama-like decoder's keys, by `LlamaConfig`'s defaults.
///
/// # Errors
/// [`JsonError`].
pub fn llama(text: &Section<'_>, tied: bool, eps: f64) -> Result<TextConfig, JsonError> {
    let bias = text.boolean("attention_bias", false)?;
    let config = decoder(text, tied, TextDefaults { eps, ..LLAMA })?;
    let mlp_bias = text.boolean("mlp_bias", false)?;
    Ok(TextConfig { qkv_bias: bias, out_bias: bias, mlp_bias, ..config })
}

/// What all Llama-like decoders have in their configs, without biases.
///
/// # Errors
/// [`JsonError`].
pub fn decoder(text: &Section<'_>, tied: bool, defaults: TextDefaults) -> Result<TextConfig, JsonError> {
    let width = dim(text, "hidden_size", defaults.width)?;
    let n_heads = dim(text, "num_attention_heads", 32)?;
    let n_kv_heads = match text.is_null("num_key_value_heads") {
        true => n_heads,
        false => dim(text, "num_key_value_heads", defaults.n_kv_heads.unwrap_or(n_heads))?,
    };
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(text.wrong("num_key_value_heads", &format!("a divisor of the {n_heads} query heads")));
    }
    if text.absent("head_dim") && !width.is_multiple_of(n_heads) {
        return Err(text.wrong("num_attention_heads", &format!("a divisor of the hidden size {width}")));
    }
    let head_dim = dim(text, "head_dim", width / n_heads)?;
    if !head_dim.is_multiple_of(2) {
        return Err(text.wrong("head_dim", "an even number (RoPE turns pairs)"));
    }
    let longest = text.count_or("max_position_embeddings", defaults.context, 1, MAX_CONTEXT)?;
    let (rope, context) = rope(text, head_dim / 2, longest)?;
    Ok(TextConfig {
        vocabulary: dim(text, "vocab_size", defaults.vocabulary)?,
        width,
        intermediate: dim(text, "intermediate_size", defaults.intermediate)?,
        n_layers: text.count_or("num_hidden_layers", 32, 1, MAX_LAYERS)?,
        n_heads,
        n_kv_heads,
        head_dim,
        act: activation(text, "hidden_act", "silu")?,
        context,
        eps: text.number("rms_norm_eps", defaults.eps)?,
        rope,
        qkv_bias: false,
        out_bias: false,
        qk_norm: false,
        mlp_bias: false,
        tied,
    })
}

/// Which axis of a position turns each pair of a head's numbers, by `mrope_section`: how many pairs time, height
/// and width have. In order, or interleaved: time, height, width, time, .. as far as height and width reach.
///
/// # Errors
/// [`JsonError`]: no such key, or sections that do not add up.
pub fn mrope_axes(text: &Section<'_>, head_dim: usize, interleaved: bool) -> Result<Vec<usize>, JsonError> {
    const KEY: &str = "mrope_section";
    let half = head_dim / 2;
    let [new, old] = [text.section("rope_parameters")?, text.section("rope_scaling")?];
    let rope = if new.absent(KEY) { old } else { new };
    let count = |v: &Value| v.as_u64().map(|n| n as usize).filter(|n| (1..=half).contains(n));
    let sections: Option<Vec<usize>> =
        rope.get(KEY).and_then(Value::as_array).and_then(|list| list.iter().map(count).collect());
    match sections.as_deref() {
        Some(&[time, height, width]) if time + height + width == half => Ok((0..half)
            .map(|pair| match (interleaved, pair % 3) {
                (true, 1) => usize::from(pair < 3 * height),
                (true, 2) if pair < 3 * width => 2,
                (true, _) => 0,
                (false, _) => usize::from(pair >= time) + usize::from(pair >= time + height),
            })
            .collect()),
        _ => Err(rope.wrong(KEY, &format!("three numbers that add up to {half}, half the width of a head"))),
    }
}

/// Rotary embedding from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4), of so many pairs a
/// head, and the longest sequence for which it is right.
///
/// `dynamic` changes nothing up to the length that the model was made for. `longrope`, once called `su`, has its short
/// factors up to `original_max_position_embeddings`, and its long ones only beyond. Other scaled variants are refused:
/// computing them as plain ones would be silently wrong.
fn rope(text: &Section<'_>, pairs: usize, longest: usize) -> Result<(Rope, usize), JsonError> {
    const KINDS: &str = "\"default\", \"dynamic\" or \"longrope\" (other scaled RoPE is not supported)";
    let mut rope = Rope {
        theta: text.number("rope_theta", 10_000.0)?,
        axes: Vec::new(),
        factors: Vec::new(),
        attention: 1.0,
    };
    let mut context = longest;
    for key in ["rope_parameters", "rope_scaling"] {
        let section = text.section(key)?;
        for kind in ["rope_type", "type"] {
            match section.string(kind, "default")?.as_str() {
                // M-RoPE turns by three axes and scales nothing: `mrope_axes`.
                "default" | "mrope" => {}
                "dynamic" => context = context.min(original_context(text, &section, Some(longest))?),
                "longrope" | "su" => {
                    let original = original_context(text, &section, None)?;
                    (rope.factors, rope.attention) = long_rope(&section, pairs, original, longest)?;
                    context = context.min(original);
                }
                _ => return Err(section.wrong(kind, KINDS)),
            }
        }
        whole_heads(&section)?;
        if !section.absent("rope_theta") {
            rope.theta = section.number("rope_theta", rope.theta)?;
            return Ok((rope, context));
        }
    }
    whole_heads(text)?;
    Ok((rope, context))
}

/// Refuses an embedding that turns a part of each head only.
fn whole_heads(section: &Section<'_>) -> Result<(), JsonError> {
    match section.number("partial_rotary_factor", 1.0)? {
        1.0 => Ok(()),
        _ => Err(section.wrong("partial_rotary_factor", "1")),
    }
}

/// `original_max_position_embeddings`, beside the scaling or in the text's config.
fn original_context(
    text: &Section<'_>,
    scaling: &Section<'_>,
    default: Option<usize>,
) -> Result<usize, JsonError> {
    const KEY: &str = "original_max_position_embeddings";
    match (scaling.absent(KEY) && !text.absent(KEY), default) {
        (true, None) => text.count(KEY, 2, MAX_CONTEXT),
        (_, None) => scaling.count(KEY, 2, MAX_CONTEXT),
        (_, Some(default)) => scaling.count_or(KEY, default, 1, MAX_CONTEXT),
    }
}

/// The short factors of `longrope`, and what it multiplies cosines and sines by (transformers'
/// `_compute_longrope_parameters`).
fn long_rope(
    section: &Section<'_>,
    pairs: usize,
    original: usize,
    longest: usize,
) -> Result<(Vec<f32>, f32), JsonError> {
    const KEY: &str = "short_factor";
    let factor = |v: &Value| v.as_f64().map(|v| v as f32).filter(|v| *v > 0.0 && v.is_normal());
    let factors: Option<Vec<f32>> =
        section.get(KEY).and_then(Value::as_array).and_then(|list| list.iter().map(factor).collect());
    let factors = factors
        .filter(|factors| factors.len() == pairs)
        .ok_or_else(|| section.wrong(KEY, &format!("{pairs} positive numbers, one a pair of a head")))?;
    let stretch = longest as f64 / original as f64;
    let usual = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / (original as f64).ln()).sqrt() };
    Ok((factors, section.number("attention_factor", usual)? as f32))
}
