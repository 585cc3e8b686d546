//! InternVL as transformers has it: InternViT, pixel shuffle and an MLP, Qwen2 or Llama; tiles beside a view of the whole.
//!
//! Transformers' `InternVLForConditionalGeneration`; [`InternVl`] is the whole family, of which `internvl_chat` reads the
//! other format. All visual tokens of an image stand between two markers.

use burn::tensor::Device;
use serde_json::Value;

use crate::{
    checkpoint::{
        config::{Activation, VlmConfig, activation, vision_transformer},
        json::{JsonError, Section},
        weight_error::WeightError,
        weights::Weights,
    },
    image::{
        crop::{CLIP_MEAN, CLIP_STD},
        plan::PixelPlan,
        ratio::Ratio,
        settings::Settings,
    },
    model::{
        decoder::DecoderKeys,
        encoder::{Encoder, TowerAndProjector},
        families::{conversation, family::Family, text::TextKind},
        names::{self, TowerNames},
        nn::{LayerNorm, Linear, NormKind},
        projector::{Mlp, Projector},
        vision::{TowerPlan, VisionTower},
    },
    trace::geometry::{Geometry, Grid, Piece},
};

/// PyTorch's own, which the projector's norm has whatever the configs say.
const PROJECTOR_EPS: f64 = 1e-5;

/// A configured InternVL.
#[derive(Clone, Debug)]
pub struct InternVl {
    /// The numbers that it is built from.
    pub config: VlmConfig,
    /// Its language model.
    pub kind: TextKind,
    /// What its configs say of the tower beyond sizes.
    pub tower: Tower,
    /// Pixel shuffle: this many patches a side become one visual token.
    pub scale_factor: usize,
    /// Between the projector's two layers.
    pub projector_act: Activation,
    /// Where its weights lie.
    pub keys: &'static Keys,
    /// The chat template of folders that have none that places an image.
    pub template: Option<&'static str>,
    /// Image settings of its own code, which then count instead of the folder's.
    pub settings: Option<Value>,
}

/// What configs say of InternViT beyond sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tower {
    /// The norms inside its layers.
    pub norm: NormKind,
    /// Biases of the projections to queries, keys and values.
    pub qkv_bias: bool,
    /// RMS norms of queries and keys.
    pub qk_norm: bool,
    /// The hidden state that the projector gets.
    pub select: usize,
}

/// Where a format keeps the weights.
#[derive(Debug)]
pub struct Keys {
    /// What may stand before the tower's parts.
    pub towers: &'static [&'static str],
    /// What these are called.
    pub tower: &'static TowerNames,
    /// What may stand before the projector's parts.
    pub projectors: &'static [&'static str],
    /// Its norm and its two layers.
    pub projector: [&'static str; 3],
    /// What may stand before the decoder's parts.
    pub models: &'static [&'static str],
    /// The head, by what it may be called.
    pub heads: &'static [&'static str],
}

/// Of transformers: files of the hub, and of `save_pretrained` with the names that version 5 has in memory.
const KEYS: Keys = Keys {
    towers: &["vision_tower.", "model.vision_tower."],
    tower: &names::INTERNVL,
    projectors: &["multi_modal_projector.", "model.multi_modal_projector."],
    projector: ["layer_norm", "linear_1", "linear_2"],
    models: &["language_model.model.", "model.language_model.", "language_model."],
    heads: &["language_model.lm_head.", "lm_head.", "model.lm_head."],
};

/// Reads `InternVLConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    Ok(Box::new(InternVl::read(root)?))
}

impl InternVl {
    fn read(root: &Section<'_>) -> Result<Self, JsonError> {
        let (text, vision) = (root.section("text_config")?, root.section("vision_config")?);
        let kind = match text.string("model_type", "qwen2")?.as_str() {
            "qwen2" => TextKind::Qwen2,
            "llama" => TextKind::Llama,
            _ => return Err(text.wrong("model_type", "\"qwen2\" or \"llama\"")),
        };
        let strategy = root.string("vision_feature_select_strategy", "default")?;
        if strategy != "default" {
            return Err(root.wrong("vision_feature_select_strategy", "\"default\" (no class token)"));
        }
        for key in ["use_absolute_position_embeddings", "use_mean_pooling"] {
            // Without the second, a norm would follow the last layer.
            if !vision.boolean(key, true)? {
                return Err(vision.wrong(key, "true"));
            }
        }
        let sizes = vision_transformer(&vision, [1024, 4096, 24, 16, 448, 14], "gelu", 1e-6)?;
        let tower = Tower {
            norm: norm_kind(&vision, "layer_norm")?,
            qkv_bias: vision.boolean("attention_bias", false)?,
            qk_norm: vision.boolean("use_qk_norm", false)?,
            select: hidden_state(root, "vision_feature_layer", sizes.n_layers)?,
        };
        let scale_factor = scale_factor(root, sizes.grid())?;
        let tied = root.boolean("tie_word_embeddings", true)?;
        Ok(InternVl {
            config: VlmConfig::read(root, sizes, kind.read(&text, tied)?, 151_667)?,
            kind,
            tower,
            scale_factor,
            projector_act: activation(root, "projector_hidden_act", "gelu")?,
            keys: &KEYS,
            template: Some(conversation::INTERNVL),
            settings: None,
        })
    }

    /// Visual tokens of a tile.
    pub fn grid(&self) -> Grid {
        let side = self.config.vision.grid() / self.scale_factor;
        Grid { rows: side, cols: side }
    }
}

impl Family for InternVl {
    fn config(&self) -> &VlmConfig {
        &self.config
    }

    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError> {
        let (vision, text, keys) = (&self.config.vision, self.config.text.width, self.keys);
        let plan = TowerPlan {
            prefix: w.prefix(keys.towers, &format!("{}.weight", keys.tower.patches)),
            names: keys.tower,
            norm: self.tower.norm,
            qkv_bias: self.tower.qkv_bias,
            qk_norm: self.tower.qk_norm,
            positions: (0..vision.grid() * vision.grid()).collect(),
            select: Some((vec![self.tower.select], false)),
        };
        // Stands for patches that are hidden in training.
        w.excuse(&format!("{}embeddings.mask_token", plan.prefix));
        let tower = VisionTower::load(w, vision, plan, device)?;
        let [norm, first, second] = keys.projector;
        let prefix = w.prefix(keys.projectors, &format!("{first}.weight"));
        let key = |name: &str| format!("{prefix}{name}");
        let width = vision.width * self.scale_factor * self.scale_factor;
        let projector = Projector::ShuffledMlp {
            scale_factor: self.scale_factor,
            norm: LayerNorm::load(w, &key(norm), width, PROJECTOR_EPS)?,
            mlp: Mlp {
                linear_1: Linear::load(w, &key(first), [text, width], true)?,
                act: self.projector_act,
                linear_2: Linear::load(w, &key(second), [text, text], true)?,
            },
        };
        Ok(Box::new(TowerAndProjector { tower, projector }))
    }

    /// A head that is stored counts, whatever the config says of tying, as in transformers.
    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys {
        let names = self.kind.names();
        let head = format!("{}weight", w.prefix(self.keys.heads, "weight"));
        DecoderKeys {
            model: w.prefix(self.keys.models, &format!("{}.weight", names.embedding)),
            tied: self.config.text.tied && !w.has(&head),
            head,
            names,
        }
    }

    fn image_settings(&self) -> Option<&Value> {
        self.settings.as_ref()
    }

    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError> {
        pixels(settings, self.grid())
    }

    fn layout(&self, image: &Geometry) -> Vec<Piece> {
        layout(image)
    }

    fn check_processor(&self, processor: &Section<'_>) -> Result<(), JsonError> {
        let expected = self.grid().len();
        match processor.get("image_seq_length").and_then(Value::as_u64) {
            Some(found) if found != expected as u64 => {
                let why = format!("{expected}: the model's config makes so many visual tokens of one tile");
                Err(processor.wrong("image_seq_length", &why))
            }
            _ => Ok(()),
        }
    }

    fn template(&self) -> Option<&'static str> {
        self.template
    }

    fn features_name(&self) -> &'static str {
        "vision.selected"
    }

    fn markers_after(&self) -> usize {
        1
    }
}

/// `GotOcr2ImageProcessor`, of a model whose tiles become `grid` visual tokens.
///
/// # Errors
/// [`JsonError`].
pub fn pixels(settings: &Settings<'_>, grid: Grid) -> Result<PixelPlan, JsonError> {
    settings.class(&["GotOcr2ImageProcessor", "InternVLImageProcessor", "InternVLProcessor"])?;
    let plan = Box::new(Ratio::read(settings, grid)?);
    Ok(PixelPlan { plan, filter: 3, mean: CLIP_MEAN, std: CLIP_STD })
}

/// What `InternVLProcessor` puts in the place of an image.
fn layout(image: &Geometry) -> Vec<Piece> {
    let marker = |text: &str| Piece::Marker(text.to_string());
    let tokens = (0..image.views.len()).flat_map(|view| image.tokens_of(view));
    [marker("<img>")].into_iter().chain(tokens).chain([marker("</img>")]).collect()
}

/// The norms of an InternViT.
///
/// # Errors
/// [`JsonError`].
pub fn norm_kind(vision: &Section<'_>, default: &str) -> Result<NormKind, JsonError> {
    match vision.string("norm_type", default)?.as_str() {
        "layer_norm" => Ok(NormKind::Layer),
        "rms_norm" => Ok(NormKind::Rms),
        _ => Err(vision.wrong("norm_type", "\"layer_norm\" or \"rms_norm\"")),
    }
}

/// An index into the tower's hidden states, the input of the first layer among them; negative ones count from the end.
///
/// # Errors
/// [`JsonError`].
pub fn hidden_state(root: &Section<'_>, key: &str, n_layers: usize) -> Result<usize, JsonError> {
    let states = n_layers as i64 + 1;
    let wanted = root.get(key).map_or(Some(-1), Value::as_i64).filter(|n| (-states..states).contains(n));
    let wanted =
        wanted.ok_or_else(|| root.wrong(key, &format!("a hidden state from -{states} to {n_layers}")))?;
    Ok(wanted.rem_euclid(states) as usize)
}

/// Patches a side that become one visual token: one over `downsample_ratio`.
///
/// # Errors
/// [`JsonError`].
pub fn scale_factor(root: &Section<'_>, patches: usize) -> Result<usize, JsonError> {
    const KEY: &str = "downsample_ratio";
    let ratio = root.number(KEY, 0.5)?;
    let scale = (1.0 / ratio).round();
    match (1.0..=patches as f64).contains(&scale) && (scale * ratio - 1.0).abs() < 1e-9 {
        true if patches.is_multiple_of(scale as usize) => Ok(scale as usize),
        _ => Err(root.wrong(KEY, &format!("one over a divisor of the {patches} patches a side"))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn read_json(json: Value) -> Result<InternVl, JsonError> {
        InternVl::read(&Section::root(&json, Path::new("config.json"))?)
    }

    /// The keys that OpenGVLab/InternVL3-1B-hf's own file has.
    fn internvl3_1b() -> Value {
        json!({
            "architectures": ["InternVLForConditionalGeneration"], "downsample_ratio": 0.5, "image_seq_length": 256,
            "image_token_id": 151667, "model_type": "internvl", "projector_hidden_act": "gelu",
            "text_config": {
                "architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896,
                "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 70,
                "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
                "rms_norm_eps": 1e-6, "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
                "rope_theta": 1000000.0, "sliding_window": null, "use_sliding_window": false, "vocab_size": 151674
            },
            "torch_dtype": "bfloat16",
            "vision_config": {
                "attention_bias": true, "hidden_act": "gelu", "hidden_size": 1024, "image_size": [448, 448],
                "intermediate_size": 4096, "layer_norm_eps": 1e-6, "model_type": "internvl_vision",
                "norm_type": "layer_norm", "num_attention_heads": 16, "num_hidden_layers": 24,
                "patch_size": [14, 14], "use_absolute_position_embeddings": true, "use_mask_token": false,
                "use_mean_pooling": true, "use_qk_norm": false
            },
            "vision_feature_layer": -1, "vision_feature_select_strategy": "default"
        })
    }

    #[test]
    fn the_real_internvl3_is_read() {
        let model = read_json(internvl3_1b()).unwrap();
        let (t, v) = (&model.config.text, &model.config.vision);
        assert_eq!((t.width, t.n_layers, t.n_heads, t.n_kv_heads, t.head_dim), (896, 24, 14, 2, 64));
        assert_eq!((t.intermediate, t.vocabulary, t.context, t.eps), (4864, 151_674, 32_768, 1e-6));
        assert_eq!((t.rope.theta, t.rope.factors.len(), t.rope.attention), (1e6, 0, 1.0));
        assert_eq!((t.qkv_bias, t.out_bias, t.mlp_bias, t.tied), (true, false, false, true));
        assert_eq!((v.width, v.n_layers, v.n_heads, v.intermediate, v.eps), (1024, 24, 16, 4096, 1e-6));
        assert_eq!((v.image_size, v.patch_size, v.act), (Some(448), 14, Activation::Gelu));
        let layers = Tower { norm: NormKind::Layer, qkv_bias: true, qk_norm: false, select: 24 };
        assert_eq!((model.tower, model.scale_factor), (layers, 2));
        assert_eq!((model.grid(), model.config.image_token_id), (Grid { rows: 16, cols: 16 }, 151_667));
    }

    #[test]
    fn absent_keys_are_those_of_transformers() {
        let text = json!({"model_type": "qwen2"});
        let model = read_json(json!({"model_type": "internvl", "text_config": text})).unwrap();
        let (t, v) = (&model.config.text, &model.config.vision);
        assert_eq!((t.width, t.n_kv_heads, t.context, t.rope.theta), (4096, 32, 32_768, 1e4));
        assert_eq!((v.width, v.n_layers, v.image_size), (1024, 24, Some(448)));
        assert_eq!(
            (model.tower.qkv_bias, model.tower.select, model.config.image_token_id),
            (false, 24, 151_667)
        );
    }

    #[test]
    fn a_window_and_long_positions_bound_the_context() {
        let context = |change: &dyn Fn(&mut Value)| {
            let mut json = internvl3_1b();
            change(&mut json["text_config"]);
            let config = read_json(json).unwrap().config.text;
            (config.context, config.rope)
        };
        let windowed = |layers: Value| {
            context(&|t: &mut Value| {
                t["use_sliding_window"] = true.into();
                t["sliding_window"] = 4096.into();
                t["max_window_layers"] = layers.clone();
            })
        };
        assert_eq!(windowed(json!(70)).0, 32_768, "no layer has it");
        assert_eq!(windowed(json!(21)).0, 4096);
        let version_5 = |t: &mut Value| {
            t["rope_scaling"] = Value::Null;
            t["rope_parameters"] = json!({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5e5});
        };
        assert_eq!((context(&version_5).0, context(&version_5).1.theta), (32_768, 5e5));
        let long = |t: &mut Value| {
            t["original_max_position_embeddings"] = 4096.into();
            t["rope_scaling"] =
                json!({"rope_type": "longrope", "short_factor": vec![1.5; 32], "long_factor": vec![9; 32]});
        };
        let (length, rope) = context(&long);
        assert_eq!((length, rope.factors), (4096, vec![1.5; 32]));
        // sqrt(1 + ln 8 / ln 4096): a quarter of twelve halvings.
        assert!((rope.attention - 1.25f32.sqrt()).abs() < 1e-6, "{}", rope.attention);
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_key() {
        let cases = [
            ("/text_config/model_type", json!("qwen3"), "text_config.model_type"),
            ("/text_config/rope_scaling", json!({"type": "yarn"}), "rope_scaling.type"),
            ("/text_config/rope_scaling", json!({"type": "su"}), "original_max_position_embeddings"),
            (
                "/text_config/rope_scaling",
                json!({"type": "su", "original_max_position_embeddings": 64, "short_factor": [1, 2]}),
                "rope_scaling.short_factor",
            ),
            ("/vision_config/use_mean_pooling", json!(false), "vision_config.use_mean_pooling"),
            ("/vision_config/norm_type", json!("batch_norm"), "vision_config.norm_type"),
            ("/vision_config/image_size", json!([448, 224]), "vision_config.image_size"),
            ("/vision_config/patch_size", json!([14]), "vision_config.patch_size"),
            ("/vision_feature_layer", json!(-26), "vision_feature_layer"),
            ("/vision_feature_layer", json!([1, 2]), "vision_feature_layer"),
            ("/vision_feature_select_strategy", json!("full"), "vision_feature_select_strategy"),
            ("/downsample_ratio", json!(0.3), "downsample_ratio"),
            ("/downsample_ratio", json!(2), "downsample_ratio"),
            ("/image_token_id", json!(151_674), "image_token_id"),
        ];
        for (pointer, value, key) in cases {
            let mut json = internvl3_1b();
            let (parent, last) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap()[last] = value;
            let message = read_json(json).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("expected"), "{pointer}: {message}");
        }
    }
}
