//! The vision transformer that CLIP (LLaVA), SigLIP (Idefics3, SmolVLM) and InternViT (InternVL) share.
//!
//! One pre-norm transformer over the patches of one square view; they differ in the class token, the norms, biases,
//! and whether what a layer adds is scaled, which a [`TowerPlan`] and its names say. Activations are `[tokens, width]`, a
//! view at a time; patches run row by row, a class token comes first. Does not know how pixels were made, nor
//! where its output goes.

use burn::tensor::{DType, Device, Tensor, TensorData, activation::softmax, module::attention};

use crate::{
    checkpoint::{config::VisionConfig, weight_error::WeightError, weights::Weights},
    model::{
        cpu,
        hooks::{VisionRecording, Watch},
        names::{TowerNames, in_order},
        nn::{LayerNorm, Linear, Matrix, Norm, NormKind, RmsNorm},
    },
    progress::{Cancel, Cancelled},
};

/// What a family's tower looks like, and where its files keep it.
#[derive(Clone, Debug)]
pub struct TowerPlan {
    /// What stands before `embeddings` and `encoder`.
    pub prefix: String,
    /// What its parts are called, and so which there are.
    pub names: &'static TowerNames,
    /// The norms inside the layers.
    pub norm: NormKind,
    /// Biases of the projections to queries, keys and values.
    pub qkv_bias: bool,
    /// RMS norms of queries and keys over the whole width, before they are divided into heads.
    pub qk_norm: bool,
    /// `[patches]`: the row of the position embedding that each patch takes, the class token's left out.
    pub positions: Vec<usize>,
    /// Hidden states to concatenate (0 is the input of the first layer), and whether to keep the class
    /// token; `None` takes the normed output of the last layer.
    pub select: Option<(Vec<usize>, bool)>,
}

/// A loaded vision encoder.
#[derive(Clone, Debug)]
pub struct VisionTower {
    config: VisionConfig,
    /// `[width, 3 * patch * patch]`.
    patch_embedding: Linear,
    /// `[1, width]`, where there is a class token.
    class_embedding: Option<Tensor<2>>,
    /// `[tokens, width]`.
    position_embedding: Tensor<2>,
    pre_norm: Option<LayerNorm>,
    /// Layers that the output needs, in order.
    layers: Vec<Layer>,
    /// Later layers, when stored: only a recording runs them.
    spare: Vec<Layer>,
    post_norm: Option<LayerNorm>,
    /// Hidden states to concatenate, and whether to keep the class token.
    select: Option<(Vec<usize>, bool)>,
    device: Device,
}

/// What one view becomes.
#[derive(Debug)]
pub struct TowerOutput {
    /// `[tokens, width]`: the selected hidden states (not normed), class token kept or dropped; or the last
    /// hidden state after its norm.
    pub features: Tensor<2>,
    /// Everything inside, when asked for.
    pub recorded: Option<VisionRecording>,
}

impl VisionTower {
    /// Loads the tower that a config and a plan describe.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(
        w: &Weights<'_>,
        v: &VisionConfig,
        plan: TowerPlan,
        device: &Device,
    ) -> Result<Self, WeightError> {
        let TowerPlan { prefix, names, select, .. } = &plan;
        let key = |name: &str| format!("{prefix}{name}");
        let filter = [v.width, 3, v.patch_size, v.patch_size];
        let patches = key(names.patches);
        let patch_embedding = Linear {
            weight: Matrix::load(w, &format!("{patches}.weight"), filter)?,
            bias: match names.patch_bias {
                true => Some(w.vector(&format!("{patches}.bias"), v.width)?),
                false => None,
            },
        };
        let layer = |n: usize| Layer::load(w, &key(&format!("{}{n}.", names.layers)), v, &plan);
        let needed = select.as_ref().map_or(v.n_layers, |(l, _)| l.iter().copied().max().unwrap_or(0));
        let mut spare = Vec::new();
        for n in needed..v.n_layers {
            let prefix = key(&format!("{}{n}.", names.layers));
            if !w.has(&format!("{prefix}{}.weight", names.norm1)) {
                break;
            }
            spare.push(layer(n)?);
            w.list_unused(&prefix);
        }
        let norm = |name: &str| LayerNorm::load(w, &key(name), v.width, v.eps);
        let mut post_norm = None;
        match (names.post_norm, select) {
            (Some(name), None) => post_norm = Some(norm(name)?),
            (Some(name), Some(_)) => {
                w.excuse(&key(&format!("{name}.weight")));
                w.excuse(&key(&format!("{name}.bias")));
            }
            (None, _) => {}
        }
        let (class_embedding, position_embedding) = embeddings(w, v, &plan)?;
        Ok(VisionTower {
            config: v.clone(),
            patch_embedding,
            class_embedding,
            position_embedding,
            pre_norm: names.pre_norm.map(norm).transpose()?,
            layers: (0..needed).map(layer).collect::<Result<_, _>>()?,
            spare,
            post_norm,
            select: select.clone(),
            device: device.clone(),
        })
    }

    /// Encodes one view. `pixels` is `[3, image_size, image_size]`, normalised.
    ///
    /// # Errors
    /// [`Cancelled`] between layers.
    ///
    /// # Panics
    /// If `pixels` has another length: the image processor guarantees it.
    pub fn forward(&self, pixels: &[f32], watch: Watch, cancel: &Cancel) -> Result<TowerOutput, Cancelled> {
        let patches = self.patches(pixels);
        cpu::on_pool(&patches.clone(), || self.encode(patches, watch, cancel))
    }

    fn encode(&self, patches: Tensor<2>, watch: Watch, cancel: &Cancel) -> Result<TowerOutput, Cancelled> {
        let mut x = self.patch_embedding.forward(patches);
        if let Some(class) = &self.class_embedding {
            x = Tensor::cat(vec![class.clone(), x], 0);
        }
        x = x + self.position_embedding.clone();
        if let Some(norm) = &self.pre_norm {
            x = norm.forward(x);
        }
        let mut recording = VisionRecording::default();
        // Whoever needs a layer's output again; the others' memory is written over.
        let needed =
            |layer: usize| watch.states() || self.select.as_ref().is_some_and(|(l, _)| l.contains(&layer));
        let keep = |layer: usize, x: &Tensor<2>| needed(layer).then(|| x.clone());
        let mut hidden = vec![keep(0, &x)];
        let spare = if watch == Watch::Nothing { &[] } else { self.spare.as_slice() };
        for (n, layer) in self.layers.iter().chain(spare).enumerate() {
            cancel.check()?;
            let (y, pattern) = layer.forward(x, &self.config, watch.pattern(n));
            recording.pattern.extend(pattern);
            hidden.push(keep(hidden.len(), &y));
            x = y;
        }
        let features = match &self.select {
            Some((layers, keep_class)) => {
                let chosen = layers.iter().filter_map(|&l| hidden[l].clone()).collect();
                let features = Tensor::cat(chosen, 1);
                let tokens = features.dims()[0];
                if *keep_class { features } else { features.narrow(0, 1, tokens - 1) }
            }
            None => match &self.post_norm {
                Some(norm) => norm.forward(x),
                None => x,
            },
        };
        if watch.states() {
            recording.hidden = hidden.into_iter().flatten().collect();
        }
        Ok(TowerOutput { features, recorded: (watch != Watch::Nothing).then_some(recording) })
    }

    /// `[patches, 3 * patch * patch]`: each patch's pixels in the order of the filter's weights.
    fn patches(&self, pixels: &[f32]) -> Tensor<2> {
        let (side, p, grid) =
            (self.config.image_size.unwrap_or(0), self.config.patch_size, self.config.grid());
        assert_eq!(pixels.len(), 3 * side * side, "pixels of one view");
        let mut out = Vec::with_capacity(grid * grid * 3 * p * p);
        for row in 0..grid {
            for col in 0..grid {
                for channel in 0..3 {
                    for y in 0..p {
                        let at = (channel * side + row * p + y) * side + col * p;
                        out.extend_from_slice(&pixels[at..at + p]);
                    }
                }
            }
        }
        Tensor::from_data(TensorData::new(out, [grid * grid, 3 * p * p]), &self.device)
    }

    /// Layers whose weights are at hand, used or not.
    pub fn n_stored(&self) -> usize {
        self.layers.len() + self.spare.len()
    }

    /// Number of weights, the unused ones left out.
    pub fn parameters(&self) -> usize {
        let class = if self.class_embedding.is_some() { self.config.width } else { 0 };
        let norms = [&self.pre_norm, &self.post_norm].into_iter().flatten();
        self.patch_embedding.parameters()
            + self.position_embedding.shape().num_elements()
            + class
            + norms.map(LayerNorm::parameters).sum::<usize>()
            + self.layers.iter().map(Layer::parameters).sum::<usize>()
    }
}

/// The class token, `[1, width]`, and the position embedding, `[tokens, width]`, float32.
fn embeddings(
    w: &Weights<'_>,
    v: &VisionConfig,
    plan: &TowerPlan,
) -> Result<(Option<Tensor<2>>, Tensor<2>), WeightError> {
    let TowerPlan { prefix, names, positions, .. } = plan;
    let key = |name: &str| format!("{prefix}{name}");
    let lead = usize::from(names.class.is_some());
    let n = v.grid() * v.grid() + lead;
    let table = key(names.positions);
    let table = match names.batched {
        true => Matrix::new(w.matrix(&table, [1, n, v.width])?.reshape([n, v.width])),
        false => Matrix::load(w, &table, [n, v.width])?,
    };
    let class = match (names.class, names.batched) {
        (None, _) => None,
        (Some(name), true) => Some(w.matrix(&key(name), [1, 1, v.width])?.cast(DType::F32)),
        (Some(name), false) => Some(w.vector(&key(name), v.width)?.unsqueeze()),
    };
    let rows: Vec<usize> = (0..lead).chain(positions.iter().map(|p| p + lead)).collect();
    Ok((class, table.rows(&rows)))
}

/// One pre-norm encoder layer.
#[derive(Clone, Debug)]
struct Layer {
    norm1: Norm,
    q: Linear,
    k: Linear,
    v: Linear,
    /// Of queries and of keys, over the whole width.
    qk_norm: Option<[RmsNorm; 2]>,
    out: Linear,
    norm2: Norm,
    fc1: Linear,
    fc2: Linear,
    /// `[width]`: what attention and the MLP are multiplied by before they are added.
    scales: Option<[Tensor<1>; 2]>,
}

impl Layer {
    fn load(w: &Weights<'_>, prefix: &str, c: &VisionConfig, plan: &TowerPlan) -> Result<Self, WeightError> {
        let TowerPlan { names, norm: kind, qkv_bias, qk_norm, .. } = plan;
        let key = |name: &str| format!("{prefix}{name}");
        let norm = |name: &str| Norm::load(w, &key(name), *kind, c.width, c.eps);
        let of_heads = |name: &str| RmsNorm::load(w, &key(name), c.width, c.eps);
        let rows = in_order([c.width; 3]);
        let [q, k, v] = Linear::load_parts(w, prefix, names.qkv, c.width, &rows, *qkv_bias)?;
        Ok(Layer {
            norm1: norm(names.norm1)?,
            q,
            k,
            v,
            qk_norm: match (qk_norm, names.qk_norm) {
                (true, [of_q, of_k]) => Some([of_heads(of_q)?, of_heads(of_k)?]),
                (false, _) => None,
            },
            out: Linear::load(w, &key(names.out), [c.width, c.width], true)?,
            norm2: norm(names.norm2)?,
            fc1: Linear::load(w, &key("mlp.fc1"), [c.intermediate, c.width], true)?,
            fc2: Linear::load(w, &key("mlp.fc2"), [c.width, c.intermediate], true)?,
            scales: match names.scales {
                Some([of_attention, of_mlp]) => {
                    Some([w.vector(&key(of_attention), c.width)?, w.vector(&key(of_mlp), c.width)?])
                }
                None => None,
            },
        })
    }

    /// The attention pattern is only made when someone looks: fused attention otherwise.
    fn forward(&self, x: Tensor<2>, c: &VisionConfig, record: bool) -> (Tensor<2>, Option<Tensor<3>>) {
        let tokens = x.dims()[0];
        let h = self.norm1.forward(x.clone());
        let heads =
            |t: Tensor<2>| -> Tensor<3> { t.reshape([tokens, c.n_heads, c.head_dim()]).swap_dims(0, 1) };
        let [q, k, v] = Linear::forward_all([&self.q, &self.k, &self.v], h);
        let [q, k] = match &self.qk_norm {
            Some([of_q, of_k]) => [of_q.forward(q), of_k.forward(k)],
            None => [q, k],
        };
        let (mixed, pattern) = attend([q, k, v].map(heads), record);
        let x = self.add(0, x, &self.out, mixed);
        let h = self.fc1.forward_activated(self.norm2.forward(x.clone()), c.act);
        (self.add(1, x, &self.fc2, h), pattern)
    }

    /// The residual stream `x` with a linear layer of `y`: attention's (0) or the MLP's (1).
    fn add(&self, which: usize, x: Tensor<2>, last: &Linear, y: Tensor<2>) -> Tensor<2> {
        match &self.scales {
            Some(scales) => x + last.forward(y) * scales[which].clone().unsqueeze(),
            None => last.forward_onto(x, y),
        }
    }

    fn parameters(&self) -> usize {
        let linears = [&self.q, &self.k, &self.v, &self.out, &self.fc1, &self.fc2];
        let norms = self.norm1.parameters() + self.norm2.parameters();
        // Norms of queries and keys, and scales, are two of the layer's width each.
        let pairs = usize::from(self.qk_norm.is_some()) + usize::from(self.scales.is_some());
        linears.iter().map(|l| l.parameters()).sum::<usize>() + norms + 2 * pairs * self.q.weight.dims()[0]
    }
}

/// Attention of every token over every token: of `[heads, tokens, head width]` each, `[tokens, heads * head width]`,
/// and the pattern, `[heads, tokens, tokens]`, when asked for.
pub(super) fn attend([q, k, v]: [Tensor<3>; 3], record: bool) -> (Tensor<2>, Option<Tensor<3>>) {
    let [heads, tokens, width] = q.dims();
    let scale = (width as f64).powf(-0.5);
    let rows: Vec<usize> = if record { (0..tokens).collect() } else { Vec::new() };
    let how = cpu::Attend {
        scale: scale as f32,
        causal: false,
        blocked: &[],
        fill: f32::MIN,
        rows: &rows,
        heads: None,
        groups: None,
    };
    let shape = [heads, rows.len(), tokens];
    let mut pattern = vec![0.0; if cpu::is_plain(&q) { heads * rows.len() * tokens } else { 0 }];
    if let Some(done) = cpu::attention(&q, [&k, &v], &how, &mut pattern) {
        return (done.mixed, record.then(|| cpu::tensor(pattern, shape)));
    }
    let (mixed, pattern) = if record {
        let pattern = softmax(q.matmul(k.transpose()) * scale, 2);
        (pattern.clone().matmul(v), Some(pattern))
    } else {
        (in_chunks(q, [k, v]), None)
    };
    (mixed.swap_dims(0, 1).reshape([tokens, heads * width]), pattern)
}

/// `[heads, tokens, head width]`: burn's attention, some rows at a time where all of their scores would be too many.
fn in_chunks(q: Tensor<3>, keys_and_values: [Tensor<3>; 2]) -> Tensor<3> {
    /// Scores that may exist at one time: 1 GB.
    const SCORES: usize = 1 << 28;
    let [heads, tokens, _] = q.dims();
    let [k, v] = keys_and_values.map(|t| -> Tensor<4> { t.unsqueeze() });
    let chunk = (SCORES / (heads * tokens)).max(1);
    let of = |first: usize| -> Tensor<3> {
        let q: Tensor<4> = q.clone().narrow(1, first, chunk.min(tokens - first)).unsqueeze();
        attention(q, k.clone(), v.clone(), None, None, Default::default()).squeeze_dim(0)
    };
    if chunk >= tokens { of(0) } else { Tensor::cat((0..tokens).step_by(chunk).map(of).collect(), 1) }
}
