//! The decoder that all families share: RMS norm, rotary attention with grouped keys, gated MLP; hooks
//! inside. By configuration: norms of queries and keys, biases, positions with three axes, and visual
//! features that are added to the residual stream after chosen layers.
//!
//! Layouts: residual stream `[rows, width]`, queries `[heads, rows, head width]`, keys and values
//! `[kv heads, keys, head width]`, scores and pattern `[heads, rows, keys]`. Query head `h` reads key
//! head `h / (heads / kv heads)`. One sequence at a time. Residual stream, norms, softmax and logits
//! are float32; products with weights and the cache run in the weights' format. Everything from
//! embeddings to logits is differentiable.

use std::{cell::OnceCell, ops::Range, sync::Arc};

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, activation::softmax};

use crate::{
    checkpoint::{config::TextConfig, weight_error::WeightError, weights::Weights},
    device::limits::largest_tensor,
    model::{
        cpu,
        hooks::{Blocked, Groups, Hooks, Keep, Recorded},
        kv_cache::{KvCache, format_of},
        names::{DecoderNames, head_by_head, in_order},
        nn::{Linear, Matrix, RmsNorm, gated, index},
        rotary::{Position, Rotary},
    },
    progress::{Cancel, Cancelled},
};

/// Added to a blocked score in effect: the lowest finite float32. Its exponential is exactly 0 beside
/// any real score, and WGSL, unlike IEEE arithmetic, makes no promise about infinities.
const BLOCKED: f32 = f32::MIN;

/// Rows whose scores exist at one time: attention's memory grows with the prompt, not its square.
const CHUNK: usize = 128;

/// A loaded decoder.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: TextConfig,
    /// `[vocabulary, width]`.
    embedding: Matrix,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    /// `[vocabulary, width]`; the embedding itself when tied.
    head: Matrix,
    tied: bool,
    cache_dtype: DType,
    /// Float32 numbers of the largest tensor that the device holds.
    most: usize,
    device: Device,
}

/// Where a family's files keep the decoder's weights.
#[derive(Clone, Debug)]
pub struct DecoderKeys {
    /// What stands before the embedding, `layers` and `norm`.
    pub model: String,
    /// The head's matrix.
    pub head: String,
    /// Whether the embedding is the head.
    pub tied: bool,
    /// What the parts are called.
    pub names: &'static DecoderNames,
}

/// What the attention of one layer gives.
struct OfLayer {
    /// `[rows, heads * head width]`.
    mixed: Tensor<2>,
    /// `[kept heads, kept rows, keys]`, unless it was written elsewhere.
    pattern: Option<Tensor<3>>,
    /// `[rows, groups]`, the mean of all heads, if that was asked for.
    groups: Option<Tensor<2>>,
}

/// The rows of one forward pass. They follow the keys that the cache holds: a row sees those, the rows
/// before it, and itself.
#[derive(Debug)]
pub struct Step<'a> {
    /// `[rows, width]`, float32: the input of the first of `layers`.
    pub resid: Tensor<2>,
    /// Rotary position of each row.
    pub positions: &'a [Position],
    /// Added to the output of a layer: its number, and `[rows, width]`, 0 where nothing is added.
    pub added: &'a [(usize, Tensor<2>)],
    /// Which blocks to run; all of them but for a resumed run.
    pub layers: Range<usize>,
    /// How many of the last rows to give the output of. The others, in the last block, matter by their keys
    /// and values alone and are not taken past its attention.
    pub read: usize,
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Forward {
    /// `[read rows, width]`: output of the last block that ran, before the final norm.
    pub resid: Tensor<2>,
    /// What the hooks kept.
    pub recorded: Recorded,
}

impl Decoder {
    /// Loads the decoder that a config describes.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(
        w: &Weights<'_>,
        keys: &DecoderKeys,
        c: &TextConfig,
        device: &Device,
    ) -> Result<Self, WeightError> {
        let DecoderKeys { model: prefix, head: head_key, tied, names } = keys;
        let embedding_key = format!("{prefix}{}.weight", names.embedding);
        let shape = [c.vocabulary, c.width];
        let embedding = Matrix::load(w, &embedding_key, shape)?;
        let head = if *tied {
            w.excuse_copy(head_key, &embedding_key, shape)?;
            embedding.clone()
        } else {
            Matrix::load(w, head_key, shape)?
        };
        let block = |n: usize| Block::load(w, &format!("{prefix}layers.{n}."), names, c);
        Ok(Decoder {
            config: c.clone(),
            cache_dtype: format_of(embedding.dtype()),
            most: largest_tensor(device).map_or(usize::MAX, |bytes| bytes as usize / 4),
            embedding,
            blocks: (0..c.n_layers).map(block).collect::<Result<_, _>>()?,
            final_norm: RmsNorm::load(w, &format!("{prefix}norm"), c.width, c.eps)?,
            head,
            tied: *tied,
            device: device.clone(),
        })
    }

    /// How many rows may predict something in one pass, where the last sees so many keys: what is kept of them, and
    /// their logits, must fit into one tensor.
    pub fn most_rows(&self, keys: usize) -> usize {
        let c = &self.config;
        (self.most / (c.n_layers * c.n_heads * keys).max(c.vocabulary)).max(1)
    }

    /// Bytes of the largest tensor that a pass would make, and of the largest that the device holds, where that is
    /// less.
    pub fn too_large(&self, rows: usize, keys: usize, keep: &Keep) -> Option<[usize; 2]> {
        let c = &self.config;
        let layers = (0..c.n_layers).filter(|&layer| keep.layer(layer)).count();
        let kept = layers * keep.n_heads(c.n_heads) * keep.rows.len();
        let wide = c.intermediate.max(c.width).max(c.n_heads * c.head_dim);
        let largest = (rows * wide).max(keys * c.n_kv_heads * c.head_dim).max(kept.max(c.n_heads) * keys);
        (largest > self.most).then(|| [largest, self.most].map(|numbers| 4 * numbers))
    }

    /// Format of keys and values.
    pub fn cache_dtype(&self) -> DType {
        self.cache_dtype
    }

    /// `[rows, width]`, float32: the embeddings of token ids.
    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let ids: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        self.embedding.rows(&ids)
    }

    /// Every block.
    pub fn all_layers(&self) -> Range<usize> {
        0..self.blocks.len()
    }

    /// Runs blocks on new rows, extending the cache of these blocks.
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
        cpu::on_pool(&step.resid.clone(), || self.run(step, cache, hooks, cancel))
    }

    fn run(
        &self,
        step: Step<'_>,
        cache: &mut KvCache,
        hooks: &Hooks,
        cancel: &Cancel,
    ) -> Result<Forward, Cancelled> {
        let rotary = Rotary::new(step.positions, &self.config, &self.device);
        let mut recorded = Recorded::default();
        let mut x = step.resid;
        let rows = x.dims()[0];
        let keys = cache.layer_len(step.layers.start) + rows;
        let last = step.layers.end.saturating_sub(1);
        // On the CPU what is kept is written where it stays; elsewhere it is joined in the end.
        let keep = &hooks.pattern;
        let n_kept = step.layers.clone().filter(|&n| keep.layer(n)).count();
        let shape = [n_kept, keep.n_heads(self.config.n_heads), keep.rows.len(), keys];
        let each = shape[1] * shape[2] * keys;
        let mut written = vec![0.0; if cpu::is_plain(&x) { n_kept * each } else { 0 }];
        let (mut places, mut parts) = (written.chunks_exact_mut(each.max(1)), Vec::new());
        let (members, mut groups) = (OnceCell::new(), Vec::new());
        for n in step.layers {
            cancel.check()?;
            if hooks.resid_every > 0 && n % hooks.resid_every == 0 {
                recorded.resid_pre.push((n, x.clone()));
            }
            let [q, k, v] = self.projected(n, x.clone(), &rotary);
            let (k, v) = cache.append(n, k, v, self.cache_dtype);
            let place = if keep.layer(n) { places.next().unwrap_or_default() } else { &mut [] };
            let of = self.attend(n, [q, k, v], hooks, place, &members, &mut recorded);
            let mut attended = of.mixed;
            parts.extend(of.pattern);
            groups.extend(of.groups);
            if n == last && step.read < rows {
                [x, attended] = [x, attended].map(|rows| read_of(rows, step.read));
            }
            x = self.finished(n, x, attended);
            for (_, features) in step.added.iter().filter(|(layer, _)| *layer == n) {
                // The last block may have given fewer rows than ran.
                let rows = x.dims()[0];
                x = x + read_of(features.clone(), rows);
            }
        }
        if n_kept > 0 {
            let pattern =
                if parts.is_empty() { cpu::tensor(written, shape) } else { Tensor::stack(parts, 0) };
            recorded.pattern = Some(pattern);
        }
        recorded.groups = (!groups.is_empty()).then(|| Tensor::stack(groups, 0));
        cache.advance(keys, step.positions);
        Ok(Forward { resid: x, recorded })
    }

    /// Its settings.
    pub(super) fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Where its weights lie.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// `[rows, heads * head width]` of rows that attend, and the largest value left on the pairs of each cut, `[1]`.
    pub(super) fn attended(
        &self,
        layer: usize,
        qkv: [Tensor<3>; 3],
        hooks: &Hooks,
    ) -> (Tensor<2>, Vec<Tensor<1>>) {
        let mut recorded = Recorded::default();
        let of = self.attend(layer, qkv, hooks, &mut [], &OnceCell::new(), &mut recorded);
        (of.mixed, recorded.blocked_mass.into_iter().map(|(_, _, left)| left).collect())
    }

    /// Queries, keys and values of rows that enter a layer, rotated.
    pub(super) fn projected(&self, layer: usize, resid: Tensor<2>, rotary: &Rotary) -> [Tensor<3>; 3] {
        let (c, block) = (&self.config, &self.blocks[layer]);
        let h = block.norm1.forward(resid);
        let rows = h.dims()[0];
        let [q, k, v] = Linear::forward_all([&block.q, &block.k, &block.v], h);
        let v = v.reshape([rows, c.n_kv_heads, c.head_dim]).swap_dims(0, 1);
        let [q, k] = match &block.qk_norm {
            Some([of_q, of_k]) => [by_head(of_q, q, c.head_dim), by_head(of_k, k, c.head_dim)],
            None => [q, k],
        };
        [rotary.turn(q, c.n_heads), rotary.turn(k, c.n_kv_heads), v]
    }

    /// Rows of the residual stream that entered a layer with what it adds: `attended`, projected, and its MLP.
    pub(super) fn finished(&self, layer: usize, x: Tensor<2>, attended: Tensor<2>) -> Tensor<2> {
        let block = &self.blocks[layer];
        let x = block.out.forward_onto(x, attended);
        let h = block.norm2.forward(x.clone());
        let [gate, up] = Linear::forward_all([&block.gate, &block.up], h);
        block.down.forward_onto(x, gated(self.config.act, gate, up))
    }

    /// Attention of all rows, some at a time; records the proof of the cuts. What is kept of the pattern is written
    /// to `place` or, without one, given as a tensor. `members` holds what [`members_of`] gives, once it was needed.
    fn attend(
        &self,
        layer: usize,
        [q, k, v]: [Tensor<3>; 3],
        hooks: &Hooks,
        place: &mut [f32],
        members: &OnceCell<Tensor<3>>,
        recorded: &mut Recorded,
    ) -> OfLayer {
        let (rows, keys) = (q.dims()[1], k.dims()[1]);
        let blocked = hooks.blocked.get(layer).map(Vec::as_slice).unwrap_or_default();
        let how = cpu::Attend {
            scale: self.scale() as f32,
            causal: true,
            blocked,
            fill: BLOCKED,
            rows: if hooks.pattern.layer(layer) { &hooks.pattern.rows } else { &[] },
            heads: hooks.pattern.heads.as_deref(),
            groups: hooks.groups.as_ref(),
        };
        if let Some(done) = cpu::attention(&q, [&k, &v], &how, place) {
            for (b, left) in blocked.iter().zip(done.left) {
                recorded.blocked_mass.push((layer, b.tag, Tensor::from_data([left], &self.device)));
            }
            let groups = hooks.groups.as_ref().map(|g| cpu::tensor(done.groups, [rows, g.count]));
            return OfLayer { mixed: done.mixed, pattern: None, groups };
        }
        let (mut mixed, mut kept, mut grouped) = (Vec::new(), Vec::new(), Vec::new());
        let chunk = CHUNK.min(self.most / (self.config.n_heads * keys)).max(1);
        for first in (0..rows).step_by(chunk) {
            let here = first..rows.min(first + chunk);
            let seen = keys - rows + here.end;
            let q = q.clone().narrow(1, first, here.len());
            let (k, v) = (k.clone().narrow(1, 0, seen), v.clone().narrow(1, 0, seen));
            let (attended, pattern) = self.attend_rows(layer, here.clone(), [q, k, v], blocked, recorded);
            mixed.push(attended);
            kept.extend(kept_part(&pattern, here, keys, layer, &hooks.pattern));
            grouped.extend(hooks.groups.as_ref().map(|groups| {
                mass_of(pattern, members.get_or_init(|| members_of(groups, keys, &self.device)))
            }));
        }
        OfLayer {
            mixed: Tensor::cat(mixed, 0),
            pattern: (!kept.is_empty()).then(|| Tensor::cat(kept, 1)),
            groups: (!grouped.is_empty()).then(|| Tensor::cat(grouped, 0)),
        }
    }

    /// Factor of the scores.
    fn scale(&self) -> f64 {
        (self.config.head_dim as f64).powf(-0.5)
    }

    /// `[rows, heads * head width]` and the pattern, `[heads, rows, keys]`, of some rows of a pass, the
    /// last of which stands at the last key.
    fn attend_rows(
        &self,
        layer: usize,
        here: Range<usize>,
        [q, k, v]: [Tensor<3>; 3],
        blocked: &[Arc<Blocked>],
        recorded: &mut Recorded,
    ) -> (Tensor<2>, Tensor<3>) {
        let c = &self.config;
        let (rows, keys) = (here.len(), k.dims()[1]);
        let all = [c.n_heads, rows, keys];
        let group = c.n_heads / c.n_kv_heads;
        // The query heads that share a key head stand under each other as more rows of it.
        let q = q.reshape([c.n_kv_heads, group * rows, c.head_dim]);
        let scores = product(q, k.transpose()).reshape(all);
        let scores = scores * self.scale();
        let mut hidden = self.later_keys(rows, keys);
        let cuts: Vec<(usize, Tensor<3, Bool>)> =
            blocked.iter().map(|b| (b.tag, self.pairs(b, here.clone(), keys))).collect();
        for (_, cut) in &cuts {
            hidden = match (hidden.dims()[0], cut.dims()[0]) {
                (1, heads) if heads > 1 => hidden.expand(all).bool_or(cut.clone()),
                (heads, 1) if heads > 1 => hidden.bool_or(cut.clone().expand(all)),
                _ => hidden.bool_or(cut.clone()),
            };
        }
        let pattern = softmax(scores.mask_fill(hidden.expand(all), BLOCKED), 2);
        for (tag, cut) in cuts {
            let left = pattern.clone().mask_fill(cut.expand(all).bool_not(), 0.0).max();
            recorded.blocked_mass.push((layer, tag, left));
        }
        let mixed = product(pattern.clone().reshape([c.n_kv_heads, group * rows, keys]), v);
        let mixed = mixed.reshape([c.n_heads, rows, c.head_dim]).swap_dims(0, 1);
        (mixed.reshape([rows, c.n_heads * c.head_dim]), pattern)
    }

    /// `[1, rows, keys]`, true where a key comes after its row; row `i` stands at key `keys - rows + i`.
    fn later_keys(&self, rows: usize, keys: usize) -> Tensor<3, Bool> {
        let index = |from: usize, to: usize| Tensor::<1, Int>::arange(from as i64..to as i64, &self.device);
        let row = index(keys - rows, keys).reshape([1, rows, 1]).expand([1, rows, keys]);
        index(0, keys).reshape([1, 1, keys]).expand([1, rows, keys]).greater(row)
    }

    /// `[1 or heads, rows, keys]`: the pairs of a cut among some rows of its pass; 1 means every head.
    fn pairs(&self, b: &Blocked, here: Range<usize>, keys: usize) -> Tensor<3, Bool> {
        let flags = |flags: &[bool], shape: [usize; 3]| -> Tensor<3, Bool> {
            Tensor::from_data(TensorData::new(flags.to_vec(), shape), &self.device)
        };
        let every_head = b.heads.iter().all(|&h| h);
        let (heads, rows) = (if every_head { 1 } else { b.heads.len() }, here.len());
        let all = [heads, rows, keys];
        let of_rows = flags(&b.rows[here], [1, rows, 1]).expand(all);
        let pairs = of_rows.bool_and(flags(&b.keys[..keys], [1, 1, keys]).expand(all));
        if every_head { pairs } else { pairs.bool_and(flags(&b.heads, [heads, 1, 1]).expand(all)) }
    }

    /// Final norm and head: `[rows, width]` before the norm to `[rows, vocabulary]` logits.
    pub fn unembed(&self, resid: Tensor<2>) -> Tensor<2> {
        self.head.product(self.final_norm.forward(resid))
    }

    /// Final norm alone: the reference's last hidden state.
    pub fn norm(&self, resid: Tensor<2>) -> Tensor<2> {
        self.final_norm.forward(resid)
    }

    /// Number of weights; a tied head counts once.
    pub fn parameters(&self) -> usize {
        let c = &self.config;
        let table = c.vocabulary * c.width;
        let norms = 2 * c.width + if c.qk_norm { 2 * c.head_dim } else { 0 };
        let block = self.blocks.first().map_or(0, |b| b.parameters() + norms);
        table * if self.tied { 1 } else { 2 } + block * c.n_layers + c.width
    }
}

/// Norms every head of `[rows, heads * head width]` by itself.
fn by_head(norm: &RmsNorm, x: Tensor<2>, head_dim: usize) -> Tensor<2> {
    let [rows, all] = x.dims();
    norm.forward(x.reshape([rows * all / head_dim, head_dim])).reshape([rows, all])
}

/// The last `n` rows.
pub(super) fn read_of(rows: Tensor<2>, n: usize) -> Tensor<2> {
    let first = rows.dims()[0] - n;
    rows.narrow(0, first, n)
}

/// `[kept heads, kept rows, keys]`: what is kept of some rows' pattern; `None` where nothing is. Keys
/// after the last that these rows see are 0.
fn kept_part(
    pattern: &Tensor<3>,
    here: Range<usize>,
    keys: usize,
    layer: usize,
    keep: &Keep,
) -> Option<Tensor<3>> {
    let rows: Vec<usize> = keep.rows.iter().filter(|r| here.contains(r)).map(|r| r - here.start).collect();
    if rows.is_empty() || !keep.layer(layer) {
        return None;
    }
    let device = pattern.device();
    let pick = |from: Tensor<3>, dim: usize, places: &[usize]| {
        if places.len() == from.dims()[dim] { from } else { from.select(dim, index(places, &device)) }
    };
    let mut part = pick(pattern.clone(), 1, &rows);
    if let Some(heads) = &keep.heads {
        part = pick(part, 0, heads);
    }
    let [heads, rows, seen] = part.dims();
    if seen < keys {
        part = Tensor::cat(vec![part, Tensor::zeros([heads, rows, keys - seen], &device)], 2);
    }
    Some(part)
}

/// `[1, groups, keys]`: 1 where a key belongs to a group, else 0.
fn members_of(groups: &Groups, keys: usize, device: &Device) -> Tensor<3> {
    let mut members = vec![0.0f32; groups.count * keys];
    for (run, group) in groups.runs(keys) {
        members[group * keys..][run].fill(1.0);
    }
    Tensor::from_data(TensorData::new(members, [1, groups.count, keys]), device)
}

/// `[rows, groups]`: what rows whose pattern is `[heads, rows, keys]` give each group of `members`, the mean of all
/// heads. The rows may see fewer keys than there are members. Sums, and no product of matrices: some devices round what
/// enters one.
fn mass_of(pattern: Tensor<3>, members: &Tensor<3>) -> Tensor<2> {
    let ([_, rows, seen], [_, groups, _]) = (pattern.dims(), members.dims());
    let mean = pattern.mean_dim(0).reshape([rows, 1, seen]);
    (mean * members.clone().narrow(2, 0, seen)).sum_dim(2).reshape([rows, groups])
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
    /// Of queries and of keys, `[head width]`.
    qk_norm: Option<[RmsNorm; 2]>,
    out: Linear,
    norm2: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(
        w: &Weights<'_>,
        prefix: &str,
        names: &DecoderNames,
        c: &TextConfig,
    ) -> Result<Self, WeightError> {
        let key = |name: &str| format!("{prefix}{name}");
        let head_norm = |name: &str| RmsNorm::load(w, &key(name), c.head_dim, c.eps);
        let norm = |name: &str| RmsNorm::load(w, &key(name), c.width, c.eps);
        let (q, kv) = (c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim);
        let rows = match names.grouped {
            true => head_by_head(c.n_kv_heads, [q / c.n_kv_heads, c.head_dim, c.head_dim]),
            false => in_order([q, kv, kv]),
        };
        let [q, k, v] = Linear::load_parts(w, prefix, names.qkv, c.width, &rows, c.qkv_bias)?;
        let rows = in_order([c.intermediate; 2]);
        let [gate, up] = Linear::load_parts(w, prefix, names.gate_up, c.width, &rows, c.mlp_bias)?;
        Ok(Block {
            norm1: norm(names.norm1)?,
            q,
            k,
            v,
            qk_norm: match (c.qk_norm, names.qk_norm) {
                (true, [of_q, of_k]) => Some([head_norm(of_q)?, head_norm(of_k)?]),
                (false, _) => None,
            },
            out: Linear::load(w, &key(names.out), [c.width, c.n_heads * c.head_dim], c.out_bias)?,
            norm2: norm(names.norm2)?,
            gate,
            up,
            down: Linear::load(w, &key(names.down), [c.width, c.intermediate], c.mlp_bias)?,
        })
    }

    fn parameters(&self) -> usize {
        let linears = [&self.q, &self.k, &self.v, &self.out, &self.gate, &self.up, &self.down];
        linears.iter().map(|l| l.parameters()).sum()
    }
}
