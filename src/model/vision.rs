//! The vision encoders: CLIP's (LLaVA) and SigLIP's (Idefics3, SmolVLM).
//!
//! One pre-norm transformer over the patches of one tile; the two differ in the class token, the
//! norms around the stack, and a bias. Activations are `[tokens, width]`, a tile at a time; patches
//! run row by row, CLIP's class token comes first. Does not know how pixels were made, nor where its
//! output goes.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax, module::attention};

use crate::{checkpoint::{config::{Family, VisionConfig, VlmConfig}, weights::{WeightError, Weights}}, model::{cpu::kernels as cpu, nn::{LayerNorm, Linear, activate}}, progress::{Cancel, Cancelled}};

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

/// What to record of a tile's way through the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing: the fast way.
    Nothing,
    /// Hidden states and patterns of every stored layer.
    Everything,
    /// The pattern of one layer.
    Layer(usize),
}

impl Watch {
    /// Whether a layer's pattern is recorded.
    fn pattern(self, layer: usize) -> bool {
        self == Watch::Everything || self == Watch::Layer(layer)
    }
}

/// What one tile becomes.
#[derive(Debug)]
pub struct VisionOutput {
    /// `[tokens, width]`: LLaVA's selected feature layers (not normed), class token kept or dropped;
    /// Idefics3's last hidden state after its norm.
    pub features: Tensor<2>,
    /// Everything inside, when asked for.
    pub recorded: Option<VisionRecording>,
}

/// The inside of the encoder for one tile.
#[derive(Debug, Default)]
pub struct VisionRecording {
    /// `L + 1` times `[tokens, width]`: input of the first layer, then every layer's output. Only where
    /// everything was watched.
    pub hidden: Vec<Tensor<2>>,
    /// `[heads, tokens, tokens]` of every watched layer, after the softmax.
    pub pattern: Vec<Tensor<3>>,
}

impl VisionTower {
    /// Loads the encoder that `config` describes.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights, config: &VlmConfig, device: &Device) -> Result<Self, WeightError> {
        let v = &config.vision;
        let (prefixes, select): (&[&str], _) = match &config.family {
            Family::Llava { feature_layers, keep_class_token, .. } => (
                &[
                    "vision_tower.vision_model.",
                    "vision_tower.",
                    "model.vision_tower.vision_model.",
                    "model.vision_tower.",
                ],
                Some((feature_layers.clone(), *keep_class_token)),
            ),
            Family::Idefics3 { .. } => (&["model.vision_model.", "vision_model."], None),
        };
        let prefix = w.prefix(prefixes, "embeddings.patch_embedding.weight");
        let clip = select.is_some();
        let patches = v.grid() * v.grid();
        let key = |name: &str| format!("{prefix}{name}");

        let filter = [v.width, 3, v.patch_size, v.patch_size];
        let patch_embedding = Linear {
            weight: w.matrix(&key("embeddings.patch_embedding.weight"), filter)?,
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
        let positions = w.matrix(&key("embeddings.position_embedding.weight"), [n_positions, v.width])?;
        let position_ids = if clip { (0..n_positions).collect() } else { position_ids(v.grid()) };
        Ok(VisionTower {
            config: v.clone(),
            patch_embedding,
            class_embedding: if clip {
                Some(w.vector(&key("embeddings.class_embedding"), v.width)?)
            } else {
                None
            },
            position_embedding: positions.rows(&position_ids),
            pre_norm: if clip { Some(norm("pre_layrnorm")?) } else { None },
            layers: (0..needed).map(layer).collect::<Result<_, _>>()?,
            spare,
            post_norm: if clip { None } else { Some(norm("post_layernorm")?) },
            select,
            device: device.clone(),
        })
    }

    /// Encodes one tile. `pixels` is `[3, image_size, image_size]`, normalised.
    ///
    /// # Errors
    /// [`Cancelled`] between layers.
    ///
    /// # Panics
    /// If `pixels` has another length: the image processor guarantees it.
    pub fn forward(&self, pixels: &[f32], watch: Watch, cancel: &Cancel) -> Result<VisionOutput, Cancelled> {
        let patches = self.patches(pixels);
        cpu::on_pool(&patches.clone(), || self.encode(patches, watch, cancel))
    }

    fn encode(&self, patches: Tensor<2>, watch: Watch, cancel: &Cancel) -> Result<VisionOutput, Cancelled> {
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
        let everything = watch == Watch::Everything;
        let needed =
            |layer: usize| everything || self.select.as_ref().is_some_and(|(l, _)| l.contains(&layer));
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
        if everything {
            recording.hidden = hidden.into_iter().flatten().collect();
        }
        Ok(VisionOutput { features, recorded: (watch != Watch::Nothing).then_some(recording) })
    }

    /// `[patches, 3 * patch * patch]`: each patch's pixels in the order of the filter's weights.
    fn patches(&self, pixels: &[f32]) -> Tensor<2> {
        let (side, p, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
        assert_eq!(pixels.len(), 3 * side * side, "pixels of one tile");
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

/// `[side * side]`: the row of the position embedding that each patch of an Idefics3 tile takes.
fn position_ids(side: usize) -> Vec<usize> {
    let along = buckets(side);
    along.iter().flat_map(|row| along.iter().map(move |col| row * side + col)).collect()
}

/// Along one edge of `Idefics3VisionEmbeddings`: which of `side` buckets the fraction `i / side` falls
/// into. In float32 that is not always `i` (19, 25, 29, .. a side), and the weights were trained so.
fn buckets(side: usize) -> Vec<usize> {
    let step = 1.0 / side as f64;
    let count = ((1.0 - step) / step).ceil() as usize;
    // torch.arange on a CPU, which rounds the first of every eight numbers before it counts on, as long
    // as there are sixteen more to make.
    let bound = |i: usize| {
        let (start, lane) = if i < count / 16 * 16 { (i / 8 * 8, i % 8) } else { (i, 0) };
        (f64::from((step + step * start as f64) as f32) + step * lane as f64) as f32
    };
    let bounds: Vec<f32> = (0..count).map(bound).collect();
    let fraction = |i: usize| (i as f32 * (1.0 / side as f32)).min(1.0 - 1e-6);
    (0..side).map(|i| bounds.partition_point(|&b| b <= fraction(i))).collect()
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
    fn load(w: &Weights, prefix: &str, c: &VisionConfig) -> Result<Self, WeightError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `Idefics3VisionEmbeddings` of transformers 5.24 computes: the places along an edge that fall
    /// into the bucket before their own.
    #[test]
    fn idefics3_positions_are_bucketed_as_the_reference_does() {
        let earlier: [(usize, &[usize]); 7] = [
            (19, &[12]),
            (25, &[5, 9, 10, 11, 12, 13, 15, 18, 20, 23]),
            (29, &[3, 6, 24]),
            (31, &[17, 21, 25, 29]),
            (38, &[12]),
            (54, &[44, 45]),
            (72, &[35, 51, 52, 53, 60, 61]),
        ];
        for (side, earlier) in earlier {
            let expected: Vec<usize> = (0..side).map(|i| i - usize::from(earlier.contains(&i))).collect();
            assert_eq!(buckets(side), expected, "{side} a side");
        }
        for side in (1..=18).chain([24, 26, 27, 28, 32, 37, 64, 128]) {
            assert_eq!(buckets(side), (0..side).collect::<Vec<_>>(), "{side} a side");
        }
        let ids = position_ids(19);
        assert_eq!(ids[11 * 19 + 11..][..3], [11 * 19 + 11, 11 * 19 + 11, 11 * 19 + 13]);
        assert_eq!(ids[12 * 19], 11 * 19, "rows too");
    }
}
