//! LLaVA-1.5 and its like: CLIP, a two-layer MLP, Llama or Phi-3; one view of the image's centre.
//!
//! Transformers' `LlavaForConditionalGeneration`. Visual tokens stand alone in the prompt, without markers. LLaVA-Phi-3 is
//! one of them: its hub files call their text a Llama, and are one; what is left in them of Phi-3's window counts for
//! nothing there.

use burn::tensor::Device;
use serde_json::Value;

use crate::{
    checkpoint::{
        config::{Activation, VisionConfig, VlmConfig, activation, vision_transformer},
        json::{JsonError, Section},
        weight_error::WeightError,
        weights::Weights,
    },
    image::{
        crop::{CLIP_MEAN, CLIP_STD, Crop},
        plan::PixelPlan,
        settings::Settings,
    },
    model::{
        decoder::DecoderKeys,
        encoder::{Encoder, TowerAndProjector},
        families::{conversation, family::Family, text::TextKind},
        names,
        nn::{Linear, NormKind},
        projector::{Mlp, Projector},
        vision::{TowerPlan, VisionTower},
    },
    trace::geometry::{Geometry, Grid, Piece},
};

/// A configured LLaVA.
#[derive(Clone, Debug, PartialEq)]
pub struct Llava {
    config: VlmConfig,
    /// Its language model: Llama, or Phi-3.
    kind: TextKind,
    /// Its conversation format.
    template: &'static str,
    /// Indices into the encoder's hidden states: 0 is its input, `L` (or -1) the output of its last layer.
    /// Several are concatenated. Already resolved to be non-negative.
    feature_layers: Vec<usize>,
    /// `full` keeps the class token, `default` drops it.
    keep_class_token: bool,
    /// Whether the projector has biases.
    projector_bias: bool,
    /// Between the projector's two layers.
    projector_act: Activation,
}

/// Reads `LlavaConfig`.
///
/// # Errors
/// [`JsonError`], naming the key.
pub fn read(root: &Section<'_>) -> Result<Box<dyn Family>, JsonError> {
    Ok(Box::new(Llava::read(root)?))
}

impl Llava {
    fn read(root: &Section<'_>) -> Result<Self, JsonError> {
        let (text, vision) = (root.section("text_config")?, root.section("vision_config")?);
        let kind = match text.string("model_type", "llama")?.as_str() {
            "llama" => TextKind::Llama,
            "phi3" => TextKind::Phi3,
            _ => return Err(text.wrong("model_type", "\"llama\" or \"phi3\"")),
        };
        let tied =
            root.boolean("tie_word_embeddings", false)? || text.boolean("tie_word_embeddings", false)?;
        let vision = clip(&vision)?;
        let strategy = root.string("vision_feature_select_strategy", "default")?;
        if !["default", "full"].contains(&strategy.as_str()) {
            return Err(root.wrong("vision_feature_select_strategy", "\"default\" or \"full\""));
        }
        // The mark that Phi-3's config leaves in one that was renamed: a Llama's has no such key.
        let phi3 = kind == TextKind::Phi3 || !text.absent("original_max_position_embeddings");
        Ok(Llava {
            template: if phi3 { conversation::LLAVA_PHI3 } else { conversation::LLAVA },
            feature_layers: feature_layers(root, vision.n_layers)?,
            keep_class_token: strategy == "full",
            projector_bias: root.boolean("multimodal_projector_bias", true)?,
            projector_act: activation(root, "projector_hidden_act", "gelu")?,
            config: VlmConfig::read(root, vision, kind.read(&text, tied)?, 32_000)?,
            kind,
        })
    }

    fn grid(&self) -> Grid {
        let side = self.config.vision.grid();
        Grid { rows: side, cols: side }
    }
}

impl Family for Llava {
    fn config(&self) -> &VlmConfig {
        &self.config
    }

    fn encoder(&self, w: &Weights<'_>, device: &Device) -> Result<Box<dyn Encoder>, WeightError> {
        let (vision, text) = (&self.config.vision, self.config.text.width);
        let prefixes = [
            "vision_tower.vision_model.",
            "vision_tower.",
            "model.vision_tower.vision_model.",
            "model.vision_tower.",
        ];
        let plan = TowerPlan {
            prefix: w.prefix(&prefixes, "embeddings.patch_embedding.weight"),
            names: &names::CLIP,
            norm: NormKind::Layer,
            qkv_bias: true,
            qk_norm: false,
            positions: (0..self.grid().len()).collect(),
            select: Some((self.feature_layers.clone(), self.keep_class_token)),
        };
        let tower = VisionTower::load(w, vision, plan, device)?;
        let prefixes = ["multi_modal_projector.", "model.multi_modal_projector."];
        let prefix = w.prefix(&prefixes, "linear_1.weight");
        let linear = |name: &str, from: usize| {
            Linear::load(w, &format!("{prefix}{name}"), [text, from], self.projector_bias)
        };
        let projector = Projector::Mlp(Mlp {
            linear_1: linear("linear_1", vision.width * self.feature_layers.len())?,
            act: self.projector_act,
            linear_2: linear("linear_2", text)?,
        });
        Ok(Box::new(TowerAndProjector { tower, projector }))
    }

    fn decoder_keys(&self, w: &Weights<'_>) -> DecoderKeys {
        let models = ["language_model.model.", "model.language_model.", "language_model."];
        let heads = ["language_model.lm_head.", "lm_head.", "model.lm_head."];
        DecoderKeys {
            model: w.prefix(&models, "embed_tokens.weight"),
            head: format!("{}weight", w.prefix(&heads, "weight")),
            tied: self.config.text.tied,
            names: self.kind.names(),
        }
    }

    fn pixels(&self, settings: &Settings<'_>) -> Result<PixelPlan, JsonError> {
        pixels(settings, self.grid(), usize::from(self.keep_class_token))
    }

    fn layout(&self, image: &Geometry) -> Vec<Piece> {
        (0..image.views.len()).flat_map(|view| image.tokens_of(view)).collect()
    }

    fn template(&self) -> Option<&'static str> {
        Some(self.template)
    }

    fn features_name(&self) -> &'static str {
        "vision.selected"
    }

    fn markers_after(&self) -> usize {
        0
    }
}

/// `CLIPImageProcessor`, or `LlavaImageProcessor`, of a model whose view becomes `grid` visual tokens after
/// `lead` others.
///
/// # Errors
/// [`JsonError`].
pub fn pixels(settings: &Settings<'_>, grid: Grid, lead: usize) -> Result<PixelPlan, JsonError> {
    let class = settings.class(&[
        "CLIPImageProcessor",
        "CLIPFeatureExtractor",
        "LlavaProcessor",
        "LlavaImageProcessor",
    ])?;
    // LlavaImageProcessor can pad to a square first; the others only pad batches.
    if class == "LlavaImageProcessor" && settings.0.boolean("do_pad", false)? {
        return Err(settings.0.wrong("do_pad", "false (padding to a square is not implemented)"));
    }
    let plan = Box::new(Crop::read(settings, grid, lead)?);
    Ok(PixelPlan { plan, filter: 3, mean: CLIP_MEAN, std: CLIP_STD })
}

/// `CLIPVisionConfig`; as a whole absent, the one that `LlavaConfig` fills in.
fn clip(vision: &Section<'_>) -> Result<VisionConfig, JsonError> {
    if vision.exists() && vision.string("model_type", "clip_vision_model")? != "clip_vision_model" {
        return Err(vision.wrong("model_type", "\"clip_vision_model\""));
    }
    let defaults = match vision.exists() {
        true => [768, 3072, 12, 12, 224, 32],
        false => [1024, 4096, 24, 16, 336, 14],
    };
    vision_transformer(vision, defaults, "quick_gelu", 1e-5)
}

fn feature_layers(root: &Section<'_>, n_layers: usize) -> Result<Vec<usize>, JsonError> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use serde_json::json;

    fn read_json(json: Value) -> Result<Llava, JsonError> {
        Llava::read(&Section::root(&json, Path::new("config.json"))?)
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
        let llava = read_json(llava_7b()).unwrap();
        let c = &llava.config;
        let t = &c.text;
        assert_eq!((t.width, t.intermediate, t.n_layers, t.n_heads), (4096, 11008, 32, 32));
        assert_eq!((t.n_kv_heads, t.head_dim, t.vocabulary, t.context), (32, 128, 32064, 4096));
        assert_eq!((t.rope.theta, t.eps, t.act, t.tied), (10_000.0, 1e-5, Activation::Silu, false));
        assert_eq!((c.vision.act, c.vision.eps), (Activation::QuickGelu, 1e-5));
        assert_eq!((&llava.feature_layers[..], llava.keep_class_token), (&[23][..], false));
        assert_eq!((llava.projector_bias, llava.projector_act), (true, Activation::Gelu));
        assert_eq!(llava.grid(), Grid { rows: 24, cols: 24 });
        assert_eq!(c.dtype.as_deref(), Some("float16"));
    }

    #[test]
    fn an_empty_llava_is_the_default_llava() {
        let c =
            read_json(json!({"model_type": "llava", "text_config": {"vocab_size": 32001}})).unwrap().config;
        assert_eq!((c.vision.width, c.vision.n_layers, c.vision.image_size), (1024, 24, Some(336)));
        assert_eq!(c.image_token_id, 32_000);
        assert_eq!(c.text.eps, 1e-6);
    }

    /// The keys that xtuner/llava-phi-3-mini-hf's own file has: a Llama, with what Phi-3's config left.
    #[test]
    fn the_real_llava_phi3_is_a_llama() {
        let mut j = llava_7b();
        j["image_token_index"] = json!(32038);
        j["text_config"] = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 3072, "intermediate_size": 8192,
            "max_position_embeddings": 4096, "model_type": "llama", "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "sliding_window": 2047, "vocab_size": 32064
        });
        let llava = read_json(j.clone()).unwrap();
        let t = &llava.config.text;
        assert_eq!((t.width, t.n_heads, t.n_kv_heads, t.head_dim, t.context), (3072, 32, 32, 96, 4096));
        assert_eq!((llava.kind, llava.template), (TextKind::Llama, conversation::LLAVA_PHI3));
        // Phi-3 itself sees no further than its window.
        j["text_config"]["model_type"] = json!("phi3");
        let llava = read_json(j).unwrap();
        assert_eq!((llava.kind, llava.config.text.context), (TextKind::Phi3, 2047));
        assert_eq!(read_json(llava_7b()).unwrap().template, conversation::LLAVA);
    }

    #[test]
    fn transformers_5_keys_are_read() {
        let mut j = llava_7b();
        j["text_config"]["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        j["text_config"]["tie_word_embeddings"] = json!(true);
        j.as_object_mut().unwrap().remove("torch_dtype");
        j["dtype"] = json!("bfloat16");
        let c = read_json(j).unwrap().config;
        assert_eq!(c.text.rope.theta, 5e5);
        assert!(c.text.tied);
        assert_eq!(c.dtype.as_deref(), Some("bfloat16"));
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_key() {
        let cases = [
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
            let message = read_json(j).unwrap_err().to_string();
            assert!(message.contains(key) && message.contains("expected"), "{pointer}: {message}");
        }
    }
}
