//! The Llama decoder: RMS norm, rotary attention with grouped keys, gated MLP; hooks inside.
//!
//! Layouts: residual stream `[rows, width]`, queries `[heads, rows, head width]`, keys and values
//! `[kv heads, keys, head width]`, scores and pattern `[heads, rows, keys]`. Query head `h` reads key
//! head `h / (heads / kv heads)`. One sequence at a time. Residual stream, norms, softmax and logits
//! are float32; products with weights and the cache run in the weights' format. Everything from
//! embeddings to logits is differentiable.

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, activation::softmax};

use super::{
    Cancel, Cancelled,
    config::{Family, TextConfig, VlmConfig},
    hooks::{Hooks, Recorded},
    kv_cache::KvCache,
    nn::{Linear, RmsNorm, activate, matmul_t},
    weights::{WeightError, Weights},
};

/// Added to a blocked score in effect: the lowest finite float32. Its exponential is exactly 0 beside
/// any real score, and WGSL, unlike IEEE arithmetic, makes no promise about infinities.
const BLOCKED: f32 = f32::MIN;

/// A loaded decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: TextConfig,
    /// `[vocabulary, width]`.
    embedding: Tensor<2>,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    /// `[vocabulary, width]`; the embedding itself when tied.
    head: Tensor<2>,
    cache_dtype: DType,
    device: Device,
}

/// The rows of one forward pass.
#[derive(Debug)]
pub struct Step<'a> {
    /// `[rows, width]`, float32.
    pub embeds: Tensor<2>,
    /// Rotary position of each row.
    pub positions: &'a [u32],
    /// `[1, rows, keys]`, true where a row may not look; keys are the cached ones, then the rows.
    pub hidden: Tensor<3, Bool>,
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward {
    /// `[rows, width]`: output of the last block, before the final norm.
    pub resid: Tensor<2>,
    /// What the hooks kept.
    pub recorded: Recorded,
}

impl Decoder {
    /// Loads the decoder that `config` describes.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights, config: &VlmConfig, device: &Device) -> Result<Self, WeightError> {
        let c = &config.text;
        let (prefixes, heads): (&[&str], &[&str]) = match config.family {
            Family::Llava { .. } => (
                &["language_model.model.", "model.language_model.", "language_model."],
                &["language_model.lm_head.", "lm_head.", "model.lm_head."],
            ),
            Family::Idefics3 { .. } => (&["model.text_model.", "text_model."], &["lm_head."]),
        };
        let prefix = w.prefix(prefixes, "embed_tokens.weight");
        let head_key = format!("{}weight", w.prefix(heads, "weight"));
        let embedding_key = format!("{prefix}embed_tokens.weight");
        let shape = [c.vocabulary, c.width];
        let embedding = w.matrix(&embedding_key, shape)?;
        let head = if c.tied {
            w.excuse_copy(&head_key, &embedding_key, shape)?;
            embedding.clone()
        } else {
            w.matrix(&head_key, shape)?
        };
        let block = |n: usize| Block::load(w, &format!("{prefix}layers.{n}."), c);
        Ok(Decoder {
            config: c.clone(),
            cache_dtype: embedding.dtype(),
            embedding,
            blocks: (0..c.n_layers).map(block).collect::<Result<_, _>>()?,
            final_norm: RmsNorm::load(w, &format!("{prefix}norm"), c.width, c.eps)?,
            head,
            device: device.clone(),
        })
    }

    /// `[rows, width]`, float32: the embeddings of token ids.
    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        let n = ids.len();
        let index: Tensor<1, Int> = Tensor::from_data(TensorData::new(ids, [n]), &self.device);
        self.embedding.clone().select(0, index).cast(DType::F32)
    }

    /// Runs the blocks on new rows, extending the cache.
    ///
    /// # Errors
    /// [`Cancelled`] between layers; the cache is then unusable.
    pub fn forward(
        &self,
        step: Step<'_>,
        cache: &mut KvCache,
        hooks: &Hooks,
        cancel: &Cancel,
    ) -> Result<Forward, Cancelled> {
        let rotary = Rotary::new(step.positions, &self.config, &self.device);
        let mut recorded = Recorded::default();
        let mut x = step.embeds;
        for (n, block) in self.blocks.iter().enumerate() {
            cancel.check()?;
            if hooks.resid {
                recorded.resid_pre.push(x.clone());
            }
            let h = block.norm1.forward(x.clone());
            let (q, k, v) = self.project(block, h, &rotary);
            let (k, v) = cache.append(n, k.cast(self.cache_dtype), v.cast(self.cache_dtype));
            let attended = self.attend(n, [q, k, v], step.hidden.clone(), hooks, &mut recorded);
            x = x + block.out.forward(attended);
            let h = block.norm2.forward(x.clone());
            let gated = activate(self.config.act, block.gate.forward(h.clone())) * block.up.forward(h);
            x = x + block.down.forward(gated);
        }
        cache.advance(step.positions);
        Ok(Forward { resid: x, recorded })
    }

    /// Queries, keys and values of new rows, rotated.
    fn project(&self, block: &Block, h: Tensor<2>, rotary: &Rotary) -> (Tensor<3>, Tensor<3>, Tensor<3>) {
        let c = &self.config;
        let rows = h.dims()[0];
        let split = |t: Tensor<2>, heads: usize| t.reshape([rows, heads, c.head_dim]).swap_dims(0, 1);
        let q = split(block.q.forward(h.clone()), c.n_heads);
        let k = split(block.k.forward(h.clone()), c.n_kv_heads);
        let v = split(block.v.forward(h), c.n_kv_heads);
        (rotary.turn(q), rotary.turn(k), v)
    }

    /// `[rows, heads * head width]`; records the pattern and the proof of its cuts.
    fn attend(
        &self,
        layer: usize,
        [q, k, v]: [Tensor<3>; 3],
        hidden: Tensor<3, Bool>,
        hooks: &Hooks,
        recorded: &mut Recorded,
    ) -> Tensor<2> {
        let c = &self.config;
        let [_, rows, _] = q.dims();
        let keys = k.dims()[1];
        let group = c.n_heads / c.n_kv_heads;
        // The query heads that share a key head stand under each other as more rows of it.
        let q = q.reshape([c.n_kv_heads, group * rows, c.head_dim]);
        let scores = product(q, k.transpose()).reshape([c.n_heads, rows, keys]);
        let scores = scores * (c.head_dim as f64).powf(-0.5);
        let blocked = hooks.blocked.get(layer).map(Vec::as_slice).unwrap_or_default();
        let hidden = blocked.iter().fold(hidden, |h, b| match (h.dims()[0], b.mask.dims()[0]) {
            (1, heads) if heads > 1 => h.expand([heads, rows, keys]).bool_or(b.mask.clone()),
            (heads, 1) if heads > 1 => h.bool_or(b.mask.clone().expand([heads, rows, keys])),
            _ => h.bool_or(b.mask.clone()),
        });
        let pattern = softmax(scores.mask_fill(hidden.expand([c.n_heads, rows, keys]), BLOCKED), 2);
        for b in blocked {
            let mask = b.mask.clone().expand([c.n_heads, rows, keys]);
            let left = pattern.clone().mask_fill(mask.bool_not(), 0.0).max();
            recorded.blocked_mass.push((layer, b.tag, left));
        }
        recorded.pattern.extend(hooks.pattern.of(&pattern));
        let mixed = product(pattern.reshape([c.n_kv_heads, group * rows, keys]), v);
        mixed.reshape([c.n_heads, rows, c.head_dim]).swap_dims(0, 1).reshape([rows, c.n_heads * c.head_dim])
    }

    /// Final norm and head: `[rows, width]` before the norm to `[rows, vocabulary]` logits.
    pub fn unembed(&self, resid: Tensor<2>) -> Tensor<2> {
        matmul_t(self.final_norm.forward(resid), self.head.clone())
    }

    /// Final norm alone: the reference's last hidden state.
    pub fn norm(&self, resid: Tensor<2>) -> Tensor<2> {
        self.final_norm.forward(resid)
    }

    /// Number of weights; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let c = &self.config;
        let table = c.vocabulary * c.width;
        let block = self.blocks.first().map_or(0, |b| b.parameters() + 2 * c.width);
        table * if c.tied { 1 } else { 2 } + block * c.n_layers + c.width
    }
}

/// A product in the second factor's format, given as float32.
fn product(a: Tensor<3>, b: Tensor<3>) -> Tensor<3> {
    match b.dtype() {
        DType::F32 => a.matmul(b),
        dtype => a.cast(dtype).matmul(b).cast(DType::F32),
    }
}

/// One decoder layer.
#[derive(Clone, Debug)]
struct Block {
    norm1: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(w: &Weights, prefix: &str, c: &TextConfig) -> Result<Self, WeightError> {
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let attn = |name: &str, shape| {
            Linear::load(w, &format!("{prefix}self_attn.{name}"), shape, c.attention_bias)
        };
        let mlp = |name: &str, shape| Linear::load(w, &format!("{prefix}mlp.{name}"), shape, c.mlp_bias);
        let norm = |name: &str| RmsNorm::load(w, &format!("{prefix}{name}"), c.width, c.eps);
        Ok(Block {
            norm1: norm("input_layernorm")?,
            q: attn("q_proj", [q, c.width])?,
            k: attn("k_proj", [kv, c.width])?,
            v: attn("v_proj", [kv, c.width])?,
            out: attn("o_proj", [c.width, q])?,
            norm2: norm("post_attention_layernorm")?,
            gate: mlp("gate_proj", [c.intermediate, c.width])?,
            up: mlp("up_proj", [c.intermediate, c.width])?,
            down: mlp("down_proj", [c.width, c.intermediate])?,
        })
    }

    fn parameters(&self) -> usize {
        let linears = [&self.q, &self.k, &self.v, &self.out, &self.gate, &self.up, &self.down];
        linears.iter().map(|l| l.parameters()).sum()
    }
}

/// Rotary embedding of given positions, by halves as in transformers (not by interleaved pairs).
struct Rotary {
    /// `[1, rows, head width / 2]`.
    cos: Tensor<3>,
    sin: Tensor<3>,
}

impl Rotary {
    /// Angles are computed in float32, as the reference does.
    fn new(positions: &[u32], c: &TextConfig, device: &Device) -> Self {
        let half = c.head_dim / 2;
        let frequency: Vec<f32> =
            (0..half).map(|i| 1.0 / (c.rope_theta as f32).powf((2 * i) as f32 / c.head_dim as f32)).collect();
        let angles = positions.iter().flat_map(|&p| frequency.iter().map(move |f| p as f32 * f));
        let angles: Vec<f32> = angles.collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            Tensor::from_data(TensorData::new(values, [1, positions.len(), half]), device)
        };
        Rotary { cos: table(f32::cos), sin: table(f32::sin) }
    }

    /// Turns `[heads, rows, head width]`.
    fn turn(&self, x: Tensor<3>) -> Tensor<3> {
        let half = x.dims()[2] / 2;
        let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        Tensor::cat(vec![first, b * cos + a * sin], 2)
    }
}
