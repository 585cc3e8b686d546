//! The vision transformer that CLIP (LLaVA) and SigLIP (Idefics3, SmolVLM) share.
//!
//! One pre-norm transformer over the patches of one square view; the two differ in the class token, the
//! norms around the stack, and a bias, which a [`TowerPlan`] says. Activations are `[tokens, width]`, a view
//! at a time; patches run row by row, a class token comes first. Does not know how pixels were made, nor
//! where its output goes.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax, module::attention};

use crate::{
    checkpoint::{config::VisionConfig, weight_error::WeightError, weights::Weights},
    model::{
        cpu,
        hooks::{VisionRecording, Watch},
        nn::{LayerNorm, Linear, Matrix, activate},
    },
    progress::{Cancel, Cancelled},
};

/// What a family's tower looks like, and where its files keep it.
#[derive(Clone, Debug)]
pub struct TowerPlan {
    /// What stands before `embeddings` and `encoder`.
    pub prefix: String,
    /// A class token before the patches, no bias at the patches, a norm before the stack and none after.
    pub class_token: bool,
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
    /// `[width]`, CLIP only.
    class_embedding: Option<Tensor<1>>,
    /// `[tokens, width]`.
    position_embedding: Tensor<2>,
    pre_norm: Option<LayerNorm>,
    /// Layers that the output needs, in order.
    layers: Vec<Layer>,
    /// Later layers, when stored: only a recording runs them.
    spare: Vec<Layer>,
    post_norm: Option<LayerNorm>,
    /// CLIP: hidden states to concatenate, and whether to keep the class token.
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
        let TowerPlan { prefix, class_token: clip, positions, select } = plan;
        let patches = v.grid() * v.grid();
        let key = |name: &str| format!("{prefix}{name}");

        let filter = [v.width, 3, v.patch_size, v.patch_size];
        let patch_embedding = Linear {
            weight: Matrix::load(w, &key("embeddings.patch_embedding.weight"), filter)?,
            bias: if clip { None } else { Some(w.vector(&key("embeddings.patch_embedding.bias"), v.width)?) },
        };
        let layer = |n: usize| Layer::load(w, &key(&format!("encoder.layers.{n}.")), v);
        let needed = select.as_ref().map_or(v.n_layers, |(l, _)| l.iter().copied().max().unwrap_or(0));
        let mut spare = Vec::new();
        for n in needed..v.n_layers {
            if !w.has(&key(&format!("encoder.layers.{n}.self_attn.q_proj.weight"))) {
                break;
            }
            spare.push(layer(n)?);
            w.list_unused(&key(&format!("encoder.layers.{n}.")));
        }
        if clip {
            w.excuse(&key("post_layernorm.weight"));
            w.excuse(&key("post_layernorm.bias"));
        }
        let norm = |name: &str| LayerNorm::load(w, &key(name), v.width, v.eps);
        let n_positions = patches + usize::from(clip);
        let table = key("embeddings.position_embedding.weight");
        let table = Matrix::load(w, &table, [n_positions, v.width])?;
        let class_position = clip.then_some(0).into_iter();
        let positions: Vec<usize> =
            class_position.chain(positions.iter().map(|p| p + usize::from(clip))).collect();
        Ok(VisionTower {
            config: v.clone(),
            patch_embedding,
            class_embedding: if clip {
                Some(w.vector(&key("embeddings.class_embedding"), v.width)?)
            } else {
                None
            },
            position_embedding: table.rows(&positions),
            pre_norm: if clip { Some(norm("pre_layrnorm")?) } else { None },
            layers: (0..needed).map(layer).collect::<Result<_, _>>()?,
            spare,
            post_norm: if clip { None } else { Some(norm("post_layernorm")?) },
            select,
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
            x = Tensor::cat(vec![class.clone().unsqueeze(), x], 0);
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
        let (side, p, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
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
        let v = &self.config;
        let layer = self.layers.first().map_or(0, Layer::parameters);
        self.patch_embedding.parameters()
            + self.position_embedding.shape().num_elements()
            + v.width * (usize::from(self.class_embedding.is_some()) + 2)
            + layer * self.layers.len()
    }
}

/// One pre-norm encoder layer.
#[derive(Clone, Debug)]
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Layer {
    fn load(w: &Weights<'_>, prefix: &str, c: &VisionConfig) -> Result<Self, WeightError> {
        let square =
            |name: &str| Linear::load(w, &format!("{prefix}self_attn.{name}"), [c.width, c.width], true);
        let norm = |name: &str| LayerNorm::load(w, &format!("{prefix}{name}"), c.width, c.eps);
        Ok(Layer {
            norm1: norm("layer_norm1")?,
            q: square("q_proj")?,
            k: square("k_proj")?,
            v: square("v_proj")?,
            out: square("out_proj")?,
            norm2: norm("layer_norm2")?,
            fc1: Linear::load(w, &format!("{prefix}mlp.fc1"), [c.intermediate, c.width], true)?,
            fc2: Linear::load(w, &format!("{prefix}mlp.fc2"), [c.width, c.intermediate], true)?,
        })
    }

    /// The attention pattern is only made when someone looks: fused attention otherwise.
    fn forward(&self, x: Tensor<2>, c: &VisionConfig, record: bool) -> (Tensor<2>, Option<Tensor<3>>) {
        let tokens = x.dims()[0];
        let h = self.norm1.forward(x.clone());
        let heads =
            |t: Tensor<2>| -> Tensor<3> { t.reshape([tokens, c.n_heads, c.head_dim()]).swap_dims(0, 1) };
        let [q, k, v] = Linear::forward_all([&self.q, &self.k, &self.v], h).map(heads);
        let (mixed, pattern) = attend([q, k, v], c, record);
        let x = self.out.forward_onto(x, mixed);
        let h = self.fc1.forward(self.norm2.forward(x.clone()));
        (self.fc2.forward_onto(x, activate(c.act, h)), pattern)
    }

    fn parameters(&self) -> usize {
        let linears = [&self.q, &self.k, &self.v, &self.out, &self.fc1, &self.fc2];
        let norms = 4 * self.q.weight.dims()[0];
        linears.iter().map(|l| l.parameters()).sum::<usize>() + norms
    }
}

/// Attention of every token over every token: `[tokens, width]`, and the pattern when asked for.
fn attend([q, k, v]: [Tensor<3>; 3], c: &VisionConfig, record: bool) -> (Tensor<2>, Option<Tensor<3>>) {
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
    let mut pattern = vec![0.0; heads * rows.len() * tokens];
    if let Some(done) = cpu::attention(&q, [&k, &v], &how, &mut pattern) {
        return (done.mixed, record.then(|| cpu::tensor(pattern, shape)));
    }
    let (mixed, pattern) = if record {
        let pattern = softmax(q.matmul(k.transpose()) * scale, 2);
        (pattern.clone().matmul(v), Some(pattern))
    } else {
        let batch = |t: Tensor<3>| -> Tensor<4> { t.unsqueeze() };
        let mixed = attention(batch(q), batch(k), batch(v), None, None, Default::default());
        (mixed.squeeze_dim(0), None)
    };
    (mixed.swap_dims(0, 1).reshape([tokens, c.width]), pattern)
}
