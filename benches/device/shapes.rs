//! Models of real shapes with random weights, written as Hugging Face folders: what `--shape` names.
//!
//! Weights are float16 and of a size that keeps numbers finite, and are written piece by piece from one block of random
//! numbers: a model of 14 GB takes a few megabytes of memory to write. Keys and shapes are the files' (`[out, in]`).

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
};

use half::f16;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use serde_json::{Map, Value, json};

use crate::Outcome;

/// Random numbers that a tensor is filled from, over and over. A prime: no two rows of a matrix are alike.
const BLOCK: usize = 1_048_573;

/// A key, and the shape of its tensor.
type Tensors = Vec<(String, Vec<usize>)>;

/// What a folder holds, and what is asked of it.
pub struct Shape {
    /// As `--shape` has it.
    pub name: &'static str,
    config: Value,
    settings: Value,
    tensors: Tensors,
    /// Width and height of the picture that is shown.
    pub picture: (u32, u32),
    /// Floating-point operations of encoder and projector for that picture.
    pub vision_flop: f64,
}

/// The sizes of a decoder.
struct Text {
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head: usize,
    vocabulary: usize,
}

/// The sizes of a tower.
struct Tower {
    width: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    side: usize,
    patch: usize,
}

/// The shapes of a name: `tiny` is one of each family, small enough for a software adapter.
pub fn named(name: &str) -> Option<Vec<Shape>> {
    Some(match name {
        "smolvlm-256m" => vec![smolvlm_256m()],
        "qwen2.5-vl-3b" => vec![qwen_3b()],
        "llava-7b" => vec![llava_7b()],
        "all" => vec![smolvlm_256m(), qwen_3b(), llava_7b()],
        "tiny" => {
            let text = |kv_heads| Text {
                width: 64,
                inner: 160,
                layers: 2,
                heads: 4,
                kv_heads,
                head: 16,
                vocabulary: 320,
            };
            let tower = |inner, side, patch| Tower { width: 48, inner, layers: 2, heads: 4, side, patch };
            vec![
                smolvlm("tiny-smolvlm", &text(2), &tower(96, 64, 8), 2),
                qwen("tiny-qwen2.5-vl", &text(2), &tower(84, 32, 4), 16, &[1]),
                llava("tiny-llava", &text(4), &tower(96, 56, 14)),
            ]
        }
        _ => return None,
    })
}

fn smolvlm_256m() -> Shape {
    let text =
        Text { width: 576, inner: 1536, layers: 30, heads: 9, kv_heads: 3, head: 64, vocabulary: 49_280 };
    let tower = Tower { width: 768, inner: 3072, layers: 12, heads: 12, side: 512, patch: 16 };
    smolvlm("smolvlm-256m", &text, &tower, 4)
}

fn qwen_3b() -> Shape {
    let text = Text {
        width: 2048,
        inner: 11_008,
        layers: 36,
        heads: 16,
        kv_heads: 2,
        head: 128,
        vocabulary: 151_936,
    };
    let tower = Tower { width: 1280, inner: 3420, layers: 32, heads: 16, side: 560, patch: 14 };
    qwen("qwen2.5-vl-3b", &text, &tower, 112, &[7, 15, 23, 31])
}

fn llava_7b() -> Shape {
    let text = Text {
        width: 4096,
        inner: 11_008,
        layers: 32,
        heads: 32,
        kv_heads: 32,
        head: 128,
        vocabulary: 32_064,
    };
    let tower = Tower { width: 1024, inner: 4096, layers: 24, heads: 16, side: 336, patch: 14 };
    llava("llava-7b", &text, &tower)
}

/// Idefics3 with one view.
fn smolvlm(name: &'static str, t: &Text, v: &Tower, shuffle: usize) -> Shape {
    let mut text = t.config(100_000.0, 1e-5);
    text["model_type"] = "llama".into();
    let patches = (v.side / v.patch).pow(2);
    let config = json!({
        "architectures": ["Idefics3ForConditionalGeneration"], "model_type": "idefics3", "scale_factor": shuffle,
        "image_token_id": t.vocabulary - 1, "tie_word_embeddings": false, "text_config": text, "torch_dtype": "float16",
        "vision_config": {"model_type": "idefics3_vision", "hidden_act": "gelu_pytorch_tanh", "hidden_size": v.width,
            "intermediate_size": v.inner, "num_hidden_layers": v.layers, "num_attention_heads": v.heads,
            "image_size": v.side, "patch_size": v.patch, "num_channels": 3, "layer_norm_eps": 1e-6},
    });
    let mut settings = pixels("Idefics3ImageProcessor", 1);
    settings["do_image_splitting"] = false.into();
    settings["size"] = json!({"longest_edge": v.side});
    settings["max_image_size"] = json!({"longest_edge": v.side});
    let tower = "model.vision_model";
    let mut tensors = t.tensors("model.text_model", Some("lm_head"), false);
    tensors.extend(v.layers(&format!("{tower}.encoder.layers"), "out_proj"));
    tensors
        .extend(with_bias(&format!("{tower}.embeddings.patch_embedding"), &[v.width, 3, v.patch, v.patch]));
    tensors.push((format!("{tower}.embeddings.position_embedding.weight"), vec![patches, v.width]));
    tensors.extend(with_bias(&format!("{tower}.post_layernorm"), &[v.width]));
    let wide = v.width * shuffle * shuffle;
    tensors.push(("model.connector.modality_projection.proj.weight".into(), vec![t.width, wide]));
    let vision_flop = v.flop(patches, 2.0 * (v.width * v.inner) as f64, patches)
        + 2.0 * (patches / (shuffle * shuffle) * t.width * wide) as f64;
    Shape { name, config, settings, tensors, picture: (v.side as u32, v.side as u32), vision_flop }
}

/// LLaVA-1.5: the last layer of the tower is in the file, and not run.
fn llava(name: &'static str, t: &Text, v: &Tower) -> Shape {
    let mut text = t.config(10_000.0, 1e-5);
    text["model_type"] = "llama".into();
    let patches = (v.side / v.patch).pow(2);
    let config = json!({
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_seq_length": patches,
        "image_token_index": t.vocabulary - 1, "projector_hidden_act": "gelu", "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default", "tie_word_embeddings": false, "text_config": text,
        "torch_dtype": "float16",
        "vision_config": {"model_type": "clip_vision_model", "hidden_act": "quick_gelu", "hidden_size": v.width,
            "intermediate_size": v.inner, "num_hidden_layers": v.layers, "num_attention_heads": v.heads,
            "image_size": v.side, "patch_size": v.patch, "num_channels": 3, "layer_norm_eps": 1e-5,
            "projection_dim": v.width},
    });
    let mut settings = pixels("CLIPImageProcessor", 3);
    settings["do_center_crop"] = true.into();
    settings["size"] = json!({"shortest_edge": v.side});
    settings["crop_size"] = json!({"height": v.side, "width": v.side});
    let tower = "vision_tower.vision_model";
    let mut tensors = t.tensors("language_model.model", Some("language_model.lm_head"), false);
    tensors.extend(v.layers(&format!("{tower}.encoder.layers"), "out_proj"));
    tensors.push((format!("{tower}.embeddings.class_embedding"), vec![v.width]));
    tensors.push((format!("{tower}.embeddings.patch_embedding.weight"), vec![v.width, 3, v.patch, v.patch]));
    tensors.push((format!("{tower}.embeddings.position_embedding.weight"), vec![patches + 1, v.width]));
    for norm in ["pre_layrnorm", "post_layernorm"] {
        tensors.extend(with_bias(&format!("{tower}.{norm}"), &[v.width]));
    }
    tensors.extend(with_bias("multi_modal_projector.linear_1", &[t.width, v.width]));
    tensors.extend(with_bias("multi_modal_projector.linear_2", &[t.width, t.width]));
    let run = Tower { layers: v.layers - 1, ..*v };
    let vision_flop = run.flop(patches + 1, 2.0 * (v.width * v.inner) as f64, patches + 1)
        + 2.0 * (patches * t.width * (v.width + t.width)) as f64;
    Shape { name, config, settings, tensors, picture: (v.side as u32, v.side as u32), vision_flop }
}

/// Qwen2.5-VL: `full` are the layers whose patches see the whole view; in the others they see a window.
fn qwen(name: &'static str, t: &Text, v: &Tower, window: usize, full: &[usize]) -> Shape {
    const MERGE: usize = 2;
    let (half, unit) = (t.head / 2, v.patch * MERGE);
    let patches = (v.side / v.patch).pow(2);
    let ids = t.vocabulary - 4;
    let mut config = t.config(1e6, 1e-6);
    let more = json!({
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "torch_dtype": "float16",
        "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "vision_start_token_id": ids,
        "vision_end_token_id": ids + 1, "video_token_id": ids + 2, "image_token_id": ids + 3, "use_sliding_window": false,
        "rope_scaling": {"type": "mrope", "mrope_section": [half / 4, (half - half / 4) / 2, half - half / 4 - (half - half / 4) / 2]},
        "vision_config": {"depth": v.layers, "hidden_act": "silu", "hidden_size": v.width, "intermediate_size": v.inner,
            "num_heads": v.heads, "in_chans": 3, "out_hidden_size": t.width, "patch_size": v.patch,
            "spatial_patch_size": v.patch, "spatial_merge_size": MERGE, "temporal_patch_size": 2, "window_size": window,
            "fullatt_block_indexes": full, "tokens_per_second": 2},
    });
    merge(&mut config, more);
    let mut settings = pixels("Qwen2VLImageProcessor", 3);
    merge(
        &mut settings,
        json!({"patch_size": v.patch, "merge_size": MERGE, "temporal_patch_size": 2, "min_pixels": 4 * unit * unit,
            "max_pixels": 16_384 * unit * unit}),
    );
    let mut tensors = t.tensors("model", None, true);
    tensors.push(("visual.patch_embed.proj.weight".into(), vec![v.width, 3, 2, v.patch, v.patch]));
    for layer in 0..v.layers {
        let at = format!("visual.blocks.{layer}");
        tensors.extend(["norm1", "norm2"].map(|norm| (format!("{at}.{norm}.weight"), vec![v.width])));
        tensors.extend(with_bias(&format!("{at}.attn.qkv"), &[3 * v.width, v.width]));
        tensors.extend(with_bias(&format!("{at}.attn.proj"), &[v.width, v.width]));
        tensors.extend(with_bias(&format!("{at}.mlp.gate_proj"), &[v.inner, v.width]));
        tensors.extend(with_bias(&format!("{at}.mlp.up_proj"), &[v.inner, v.width]));
        tensors.extend(with_bias(&format!("{at}.mlp.down_proj"), &[v.width, v.inner]));
    }
    let wide = v.width * MERGE * MERGE;
    tensors.push(("visual.merger.ln_q.weight".into(), vec![v.width]));
    tensors.extend(with_bias("visual.merger.mlp.0", &[wide, wide]));
    tensors.extend(with_bias("visual.merger.mlp.2", &[t.width, wide]));
    let seen = (window / v.patch).pow(2).min(patches);
    let mean = (full.len() * patches + (v.layers - full.len()) * seen) / v.layers;
    let vision_flop = v.flop(patches, 3.0 * (v.width * v.inner) as f64, mean)
        + 2.0 * (patches / (MERGE * MERGE) * wide * (wide + t.width)) as f64;
    Shape { name, config, settings, tensors, picture: (v.side as u32, v.side as u32), vision_flop }
}

impl Text {
    fn config(&self, theta: f64, eps: f64) -> Value {
        json!({
            "hidden_act": "silu", "hidden_size": self.width, "intermediate_size": self.inner, "head_dim": self.head,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "vocab_size": self.vocabulary, "max_position_embeddings": 4096,
            "rms_norm_eps": eps, "rope_theta": theta, "tie_word_embeddings": false, "bos_token_id": 1,
            "eos_token_id": 2, "pad_token_id": 0,
        })
    }

    /// The decoder's under `at`, with a head of its own if it has a key.
    fn tensors(&self, at: &str, head: Option<&str>, qkv_bias: bool) -> Tensors {
        let (w, q, kv) = (self.width, self.heads * self.head, self.kv_heads * self.head);
        let table = vec![self.vocabulary, w];
        let mut all = vec![
            (format!("{at}.embed_tokens.weight"), table.clone()),
            (format!("{at}.norm.weight"), vec![w]),
        ];
        all.extend(head.map(|head| (format!("{head}.weight"), table)));
        for layer in 0..self.layers {
            let at = format!("{at}.layers.{layer}");
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                all.push((format!("{at}.{norm}.weight"), vec![w]));
            }
            for (name, out) in [("q", q), ("k", kv), ("v", kv)] {
                let key = format!("{at}.self_attn.{name}_proj");
                all.push((format!("{key}.weight"), vec![out, w]));
                all.extend(qkv_bias.then(|| (format!("{key}.bias"), vec![out])));
            }
            all.push((format!("{at}.self_attn.o_proj.weight"), vec![w, q]));
            for (name, out, inner) in
                [("gate", self.inner, w), ("up", self.inner, w), ("down", w, self.inner)]
            {
                all.push((format!("{at}.mlp.{name}_proj.weight"), vec![out, inner]));
            }
        }
        all
    }
}

impl Tower {
    /// CLIP's and SigLIP's.
    fn layers(&self, at: &str, out: &str) -> Tensors {
        let square = [self.width, self.width];
        let layer = |layer: usize| {
            let at = format!("{at}.{layer}");
            let attention = ["q_proj", "k_proj", "v_proj", out]
                .into_iter()
                .flat_map(|name| with_bias(&format!("{at}.self_attn.{name}"), &square))
                .collect::<Tensors>();
            [
                attention,
                with_bias(&format!("{at}.layer_norm1"), &[self.width]),
                with_bias(&format!("{at}.layer_norm2"), &[self.width]),
                with_bias(&format!("{at}.mlp.fc1"), &[self.inner, self.width]),
                with_bias(&format!("{at}.mlp.fc2"), &[self.width, self.inner]),
            ]
            .concat()
        };
        (0..self.layers).flat_map(layer).collect()
    }

    /// Of `patches` rows whose MLP has `mlp` weights and that see `seen` others.
    fn flop(&self, patches: usize, mlp: f64, seen: usize) -> f64 {
        let weights = 4.0 * (self.width * self.width) as f64 + mlp;
        (2 * self.layers * patches) as f64 * (weights + 2.0 * (seen * self.width) as f64)
    }
}

fn with_bias(key: &str, shape: &[usize]) -> Tensors {
    vec![(format!("{key}.weight"), shape.to_vec()), (format!("{key}.bias"), shape[..1].to_vec())]
}

fn pixels(class: &str, resample: u32) -> Value {
    json!({"image_processor_type": class, "do_resize": true, "do_rescale": true, "do_normalize": true,
        "do_convert_rgb": true, "resample": resample, "rescale_factor": 1.0 / 255.0,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

impl Shape {
    /// Weights in the file.
    pub fn parameters(&self) -> usize {
        self.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Writes the folder, unless it is there already: the weights get their name last.
    pub fn write(&self, dir: &Path) -> Outcome<()> {
        let weights = dir.join("model.safetensors");
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), self.config.to_string())?;
        fs::write(dir.join("preprocessor_config.json"), self.settings.to_string())?;
        if weights.is_file() {
            return Ok(());
        }
        let part = dir.join("model.part");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        let header = self.header();
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let block: Vec<f32> =
            (0..BLOCK).map(|_| random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect();
        for (at, (key, shape)) in self.tensors.iter().enumerate() {
            let (n, value) = (shape.iter().product::<usize>(), value_of(key, shape));
            for i in 0..n {
                out.write_all(&f16::from_f32(value(block[(i + 7919 * at) % BLOCK])).to_le_bytes())?;
            }
        }
        out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(part, weights)?;
        Ok(())
    }

    fn header(&self) -> String {
        let mut at = 0;
        let mut header = Map::new();
        for (key, shape) in &self.tensors {
            let end = at + 2 * shape.iter().product::<usize>();
            header.insert(key.clone(), json!({"dtype": "F16", "shape": shape, "data_offsets": [at, end]}));
            at = end;
        }
        let text = Value::Object(header).to_string();
        format!("{text}{}", " ".repeat(text.len().next_multiple_of(8) - text.len()))
    }
}

/// What a number from -1 to 1 becomes in a tensor: near 1 in a norm, small in a bias, and in a matrix so large that rows
/// keep their size.
fn value_of(key: &str, shape: &[usize]) -> impl Fn(f32) -> f32 {
    let norm = shape.len() == 1 && key.ends_with("weight");
    let inner: usize = shape[1..].iter().product();
    let (base, scale) = match (norm, shape.len()) {
        (true, _) => (1.0, 0.05),
        (false, 1) => (0.0, 0.05),
        _ if key.contains("embed") && shape.len() == 2 => (0.0, 0.5),
        _ => (0.0, (3.0 / inner as f32).sqrt()),
    };
    move |x| base + scale * x
}
