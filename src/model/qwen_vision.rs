//! Qwen's vision tower and mergers: patches turned by row and column, of views of any size.
//!
//! Transformers' `Qwen2VisionTransformerPretrainedModel`, `Qwen2_5_VisionTransformerPretrainedModel` and
//! `Qwen3VLVisionModel`; what differs a [`Style`] says. Activations are `[patches, width]`, one view at a time, in the
//! order of [`Patches`]. With windows, patches go through window by window, and whatever leaves the tower
//! (features, recordings) is back in that order. Does not know how pixels were made, nor where visual tokens go.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    checkpoint::{
        config::{Activation, VisionConfig},
        weight_error::WeightError,
        weights::Weights,
    },
    image::patches::Patches,
    model::{
        cpu,
        encoder::{Encoded, Encoder, Pixels},
        hooks::{VisionRecording, Watch},
        nn::{Linear, Matrix, Norm, NormKind, gated, index},
        rotary::Rotary,
        vision::attend,
    },
    progress::{Cancel, Cancelled},
    trace::{geometry::Grid, tokens::Cell},
};

/// Epsilon of all norms: a constant of the reference's code.
pub const EPS: f64 = 1e-6;
/// Base of the rotary frequencies, likewise.
const THETA: f32 = 10_000.0;

/// Which of the three towers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Layer norms, an MLP of two layers.
    Qwen2,
    /// RMS norms, a gated MLP with biases.
    Qwen2_5,
    /// Layer norms, an MLP of two layers, a bias at the patches.
    Qwen3,
}

impl Style {
    fn norm(self) -> NormKind {
        match self {
            Style::Qwen2_5 => NormKind::Rms,
            Style::Qwen2 | Style::Qwen3 => NormKind::Layer,
        }
    }
}

/// What a tower has beyond what all vision transformers have.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerConfig {
    /// What all have.
    pub vision: VisionConfig,
    /// Which tower.
    pub style: Style,
    /// How views are cut.
    pub patches: Patches,
    /// Attention in windows.
    pub windows: Option<Windows>,
    /// Side of the table of learned positions, in patches, where there is one.
    pub table: Option<usize>,
    /// Blocks, ascending, whose output is merged too: features that the decoder adds after its layer 0, 1, ..
    pub deepstack: Vec<usize>,
    /// Width of visual tokens.
    pub out: usize,
}

/// Attention in windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Side in visual tokens.
    pub side: usize,
    /// Blocks in which every patch sees all of its view.
    pub full: Vec<usize>,
}

/// A loaded tower with its mergers.
#[derive(Clone, Debug)]
pub struct QwenTower {
    config: TowerConfig,
    /// `[width, numbers of a patch]`.
    patch_embedding: Linear,
    /// `[side * side, width]`, row by row.
    table: Option<Matrix>,
    blocks: Vec<Block>,
    merger: Merger,
    /// One a block of the config's list.
    deepstack: Vec<Merger>,
    device: Device,
}

impl QwenTower {
    /// Loads the tower that a config describes; `prefix` is what stands before `patch_embed` and `blocks`.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(
        w: &Weights<'_>,
        prefix: &str,
        config: &TowerConfig,
        device: &Device,
    ) -> Result<Self, WeightError> {
        let Patches { side, frames, .. } = config.patches;
        let width = config.vision.width;
        let key = |name: &str| format!("{prefix}{name}");
        let bias = match config.style {
            Style::Qwen3 => Some(w.vector(&key("patch_embed.proj.bias"), width)?),
            Style::Qwen2 | Style::Qwen2_5 => None,
        };
        let filter = [width, 3, frames, side, side];
        let weight = Matrix::load(w, &key("patch_embed.proj.weight"), filter)?;
        let table = |side: usize| Matrix::load(w, &key("pos_embed.weight"), [side * side, width]);
        let block = |n: usize| Block::load(w, &key(&format!("blocks.{n}.")), config);
        let deepstack =
            |k: usize| Merger::load(w, &key(&format!("deepstack_merger_list.{k}.")), config, true);
        Ok(QwenTower {
            config: config.clone(),
            patch_embedding: Linear { weight, bias },
            table: config.table.map(table).transpose()?,
            blocks: (0..config.vision.n_layers).map(block).collect::<Result<_, _>>()?,
            merger: Merger::load(w, &key("merger."), config, false)?,
            deepstack: (0..config.deepstack.len()).map(deepstack).collect::<Result<_, _>>()?,
            device: device.clone(),
        })
    }

    fn run(
        &self,
        patches: Tensor<2>,
        grid: Grid,
        watch: Watch,
        cancel: &Cancel,
    ) -> Result<Encoded, Cancelled> {
        let (config, everything) = (&self.config, watch == Watch::Everything);
        let order = Order::new(grid, config, &self.device);
        let (rotary, mut recording) = (self.rotary(grid, &order), VisionRecording::default());
        let mut x = self.patch_embedding.forward(patches);
        if let Some(table) = &self.table {
            let positions = self.interpolated(table, grid);
            recording.places.extend(everything.then(|| ("vision.pos_embed", positions.clone())));
            x = x + positions;
        }
        x = order.there(x);
        let mut hidden = vec![watch.states().then(|| order.back(x.clone()))];
        let mut added = Vec::new();
        for (n, block) in self.blocks.iter().enumerate() {
            cancel.check()?;
            let whole = config.windows.as_ref().is_none_or(|windows| windows.full.contains(&n));
            let groups = if whole { order.whole() } else { order.groups.clone() };
            let pattern;
            (x, pattern) = block.forward(x, config, &rotary, &groups, watch.pattern(n));
            recording.pattern.extend(pattern.map(|pattern| order.square_back(pattern)));
            hidden.push(watch.states().then(|| order.back(x.clone())));
            if let Some(k) = config.deepstack.iter().position(|&block| block == n) {
                added.push((k, self.deepstack[k].forward(order.back(x.clone()))));
            }
        }
        let features = order.back(x);
        recording.hidden = hidden.into_iter().flatten().collect();
        if everything {
            let names = ["vision.rope.cos", "vision.rope.sin"];
            recording.places.extend(names.into_iter().zip(rotary.tables().map(|t| order.back(t))));
            recording.windows = config.windows.as_ref().map(|w| windows_of(grid, w.side)).unwrap_or_default();
        }
        let recorded = (watch != Watch::Nothing).then_some(recording);
        Ok(Encoded { tokens: self.merger.forward(features.clone()), added, features, recorded })
    }

    /// The turns of a view's patches, as they go through: half of a head's pairs by row, half by column.
    fn rotary(&self, grid: Grid, order: &Order) -> Rotary {
        let half = self.config.vision.head_dim() / 2;
        let frequency = |i: usize| 1.0 / THETA.powf((2 * i) as f32 / half as f32);
        let frequencies: Vec<f32> = (0..half / 2).map(frequency).collect();
        let places = self.config.patches.places(self.down_and_across(grid));
        let angles: Vec<f32> = (0..places.len())
            .flat_map(|place| places[order.at(place)])
            .flat_map(|place| frequencies.iter().map(move |f| place as f32 * f))
            .collect();
        Rotary::by(&angles, half, &self.device)
    }

    /// `[patches, width]`: the table of learned positions, stretched over a view corner to corner.
    fn interpolated(&self, table: &Matrix, grid: Grid) -> Tensor<2> {
        let sizes @ [rows, cols] = self.down_and_across(grid);
        let side = self.config.table.unwrap_or(1);
        // The entry before a place, the one behind it, and how much of that.
        let along = |at: usize, size: usize| match size {
            0 | 1 => (0, 0, 0.0),
            _ => {
                let (at, last) = (at * (side - 1), size - 1);
                (at / last, (at / last + 1).min(side - 1), (at % last) as f32 / last as f32)
            }
        };
        let places = self.config.patches.places(sizes);
        let corner = |below: bool, right: bool| {
            let entry = |&[row, col]: &[usize; 2]| {
                let ((r0, r1, dr), (c0, c1, dc)) = (along(row, rows), along(col, cols));
                let (row, by_row) = if below { (r1, dr) } else { (r0, 1.0 - dr) };
                let (col, by_col) = if right { (c1, dc) } else { (c0, 1.0 - dc) };
                (row * side + col, by_row * by_col)
            };
            let (entries, weights): (Vec<usize>, Vec<f32>) = places.iter().map(entry).unzip();
            let weights = Tensor::from_data(TensorData::new(weights, [places.len(), 1]), &self.device);
            table.rows(&entries) * weights
        };
        corner(false, false) + corner(false, true) + corner(true, false) + corner(true, true)
    }

    /// Patches down and across of so many visual tokens.
    fn down_and_across(&self, Grid { rows, cols }: Grid) -> [usize; 2] {
        [rows, cols].map(|tokens| tokens * self.config.patches.merge)
    }
}

impl Encoder for QwenTower {
    fn encode(&self, view: Pixels<'_>, watch: Watch, cancel: &Cancel) -> Result<Encoded, Cancelled> {
        let patches = self.config.patches;
        let rows = patches.rows(view.values, view.size);
        let shape = [rows.len() / patches.len(), patches.len()];
        let rows = Tensor::from_data(TensorData::new(rows, shape), &self.device);
        cpu::on_pool(&rows.clone(), || self.run(rows, view.grid, watch, cancel))
    }

    fn n_layers(&self) -> usize {
        self.blocks.len()
    }

    fn parameters(&self) -> usize {
        let table = self.table.as_ref().map_or(0, |table| table.dims().iter().product());
        self.patch_embedding.parameters()
            + table
            + self.blocks.iter().map(Block::parameters).sum::<usize>()
            + self.merger.parameters()
            + self.deepstack.iter().map(Merger::parameters).sum::<usize>()
    }
}

/// Visual tokens of every window of a grid, window by window; those at the right and lower edge may be smaller.
fn windows_of(grid: Grid, side: usize) -> Vec<Vec<usize>> {
    let (down, across) = (grid.rows.div_ceil(side), grid.cols.div_ceil(side));
    let mut windows = vec![Vec::new(); down * across];
    for (token, Cell { row, col }) in grid.cells().enumerate() {
        windows[row / side * across + col / side].push(token);
    }
    windows
}

/// Windows of one size, which follow each other.
#[derive(Clone, Copy, Debug)]
struct Group {
    windows: usize,
    /// Patches of each.
    patches: usize,
}

/// The order in which a view's patches go through.
struct Order {
    /// Row of the pixels at each place, and place of each row; `None` where these are the same.
    moved: Option<(Vec<usize>, [Tensor<1, Int>; 2])>,
    groups: Vec<Group>,
    patches: usize,
}

impl Order {
    fn new(grid: Grid, config: &TowerConfig, device: &Device) -> Self {
        let each = config.patches.merge * config.patches.merge;
        let patches = grid.len() * each;
        let mut order = Order { moved: None, groups: vec![Group { windows: 1, patches }], patches };
        let Some(windows) = &config.windows else { return order };
        let mut windows = windows_of(grid, windows.side);
        // Those of a size go through together. Inside a window order means nothing.
        windows.sort_by_key(|window| std::cmp::Reverse(window.len()));
        order.groups = windows
            .chunk_by(|a, b| a.len() == b.len())
            .map(|alike| Group { windows: alike.len(), patches: alike.first().map_or(0, Vec::len) * each })
            .collect();
        let rows: Vec<usize> =
            windows.iter().flatten().flat_map(|token| token * each..(token + 1) * each).collect();
        let mut places = vec![0; patches];
        rows.iter().enumerate().for_each(|(place, &row)| places[row] = place);
        let moves = [index(&rows, device), index(&places, device)];
        order.moved = Some((rows, moves));
        order
    }

    /// Row of the pixels at a place.
    fn at(&self, place: usize) -> usize {
        self.moved.as_ref().map_or(place, |(rows, _)| rows[place])
    }

    /// All patches as one window.
    fn whole(&self) -> Vec<Group> {
        vec![Group { windows: 1, patches: self.patches }]
    }

    /// `[patches, ..]` from the order of the pixels.
    fn there(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.moved {
            Some((_, [there, _])) => x.select(0, there.clone()),
            None => x,
        }
    }

    /// `[patches, ..]` in the order of the pixels again.
    fn back(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.moved {
            Some((_, [_, back])) => x.select(0, back.clone()),
            None => x,
        }
    }

    /// `[heads, patches, patches]`, likewise.
    fn square_back(&self, x: Tensor<3>) -> Tensor<3> {
        match &self.moved {
            Some((_, [_, back])) => x.select(1, back.clone()).select(2, back.clone()),
            None => x,
        }
    }
}

/// A block's MLP.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a layer")]
enum Mlp {
    Plain { first: Linear, second: Linear },
    Gated { gate: Linear, up: Linear, down: Linear },
}

impl Mlp {
    fn load(w: &Weights<'_>, prefix: &str, c: &TowerConfig) -> Result<Self, WeightError> {
        let (width, inside) = (c.vision.width, c.vision.intermediate);
        let inward = |name: &str| Linear::load(w, &format!("{prefix}{name}"), [inside, width], true);
        let outward = |name: &str| Linear::load(w, &format!("{prefix}{name}"), [width, inside], true);
        Ok(match c.style {
            Style::Qwen2 => Mlp::Plain { first: inward("fc1")?, second: outward("fc2")? },
            Style::Qwen3 => Mlp::Plain { first: inward("linear_fc1")?, second: outward("linear_fc2")? },
            Style::Qwen2_5 => {
                Mlp::Gated { gate: inward("gate_proj")?, up: inward("up_proj")?, down: outward("down_proj")? }
            }
        })
    }

    /// `x` and what the MLP makes of `h`.
    fn forward_onto(&self, x: Tensor<2>, h: Tensor<2>, act: Activation) -> Tensor<2> {
        match self {
            Mlp::Plain { first, second } => second.forward_onto(x, first.forward_activated(h, act)),
            Mlp::Gated { gate, up, down } => {
                let [gate, up] = Linear::forward_all([gate, up], h);
                down.forward_onto(x, gated(act, gate, up))
            }
        }
    }

    fn parameters(&self) -> usize {
        match self {
            Mlp::Plain { first, second } => first.parameters() + second.parameters(),
            Mlp::Gated { gate, up, down } => gate.parameters() + up.parameters() + down.parameters(),
        }
    }
}

/// One block.
#[derive(Clone, Debug)]
struct Block {
    norm1: Norm,
    /// Queries, keys, values.
    qkv: [Linear; 3],
    out: Linear,
    norm2: Norm,
    mlp: Mlp,
}

impl Block {
    fn load(w: &Weights<'_>, prefix: &str, c: &TowerConfig) -> Result<Self, WeightError> {
        let width = c.vision.width;
        let key = |name: &str| format!("{prefix}{name}");
        let norm = |name: &str| Norm::load(w, &key(name), c.style.norm(), width, EPS);
        // One matrix in the file: rows of queries, of keys, of values.
        let weight = w.matrix(&key("attn.qkv.weight"), [3 * width, width])?;
        let bias = w.vector(&key("attn.qkv.bias"), 3 * width)?;
        let part = |n: usize| Linear {
            weight: Matrix::new(weight.clone().narrow(0, n * width, width)),
            bias: Some(bias.clone().narrow(0, n * width, width)),
        };
        Ok(Block {
            norm1: norm("norm1")?,
            qkv: [part(0), part(1), part(2)],
            out: Linear::load(w, &key("attn.proj"), [width, width], true)?,
            norm2: norm("norm2")?,
            mlp: Mlp::load(w, &key("mlp."), c)?,
        })
    }

    /// Patches attend within the windows of `groups`, which follow each other.
    fn forward(
        &self,
        x: Tensor<2>,
        c: &TowerConfig,
        rotary: &Rotary,
        groups: &[Group],
        record: bool,
    ) -> (Tensor<2>, Option<Tensor<3>>) {
        let (patches, heads) = (x.dims()[0], c.vision.n_heads);
        let [q, k, v] = Linear::forward_all(self.qkv.each_ref(), self.norm1.forward(x.clone()));
        let v = v.reshape([patches, heads, c.vision.head_dim()]).swap_dims(0, 1);
        let (mixed, pattern) = in_groups([rotary.turn(q, heads), rotary.turn(k, heads), v], groups, record);
        let x = self.out.forward_onto(x, mixed);
        let h = self.norm2.forward(x.clone());
        (self.mlp.forward_onto(x, h, c.vision.act), pattern)
    }

    fn parameters(&self) -> usize {
        let norms = self.norm1.parameters() + self.norm2.parameters();
        let attention: usize = self.qkv.iter().chain([&self.out]).map(Linear::parameters).sum();
        attention + self.mlp.parameters() + norms
    }
}

/// Attention inside windows, all of a size at once: of `[heads, patches, head width]` each, `[patches, heads * head
/// width]`, and the pattern, `[heads, patches, patches]`, 0 outside the windows, when asked for.
fn in_groups(qkv: [Tensor<3>; 3], groups: &[Group], record: bool) -> (Tensor<2>, Option<Tensor<3>>) {
    let [heads, all, width] = qkv[0].dims();
    let (mut mixed, mut patterns, mut first) = (Vec::new(), Vec::new(), 0);
    for &Group { windows, patches } in groups {
        let here = windows * patches;
        // A window's head is a head.
        let part =
            |t: &Tensor<3>| t.clone().narrow(1, first, here).reshape([heads * windows, patches, width]);
        let (out, pattern) = attend(qkv.each_ref().map(part), record);
        let out = out.reshape([patches, heads, windows, width]).permute([2, 0, 1, 3]);
        mixed.push(out.reshape([here, heads * width]));
        if let Some(pattern) = pattern {
            let pattern = pattern.reshape([heads, here, patches]);
            let window = |n: usize| pattern.clone().narrow(1, n * patches, patches);
            patterns.extend((0..windows).map(|n| among(window(n), first + n * patches, all)));
        }
        first += here;
    }
    (joined(mixed, 0), record.then(|| joined(patterns, 1)))
}

/// `[heads, rows, all]`: the keys of a window from `first` on, 0 around them.
fn among(pattern: Tensor<3>, first: usize, all: usize) -> Tensor<3> {
    let ([heads, rows, keys], device) = (pattern.dims(), pattern.device());
    let zeros = |n: usize| (n > 0).then(|| Tensor::zeros([heads, rows, n], &device));
    let parts = [zeros(first), Some(pattern), zeros(all - first - keys)];
    joined(parts.into_iter().flatten().collect(), 2)
}

/// One behind the other; a single one as it is.
fn joined<const D: usize>(mut parts: Vec<Tensor<D>>, dim: usize) -> Tensor<D> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, dim) }
}

/// From the patches of a visual token to the token.
#[derive(Clone, Debug)]
struct Merger {
    norm: Norm,
    /// Width that the norm goes over: a patch's, or that of all patches of a token together.
    normed: usize,
    first: Linear,
    second: Linear,
}

impl Merger {
    fn load(w: &Weights<'_>, prefix: &str, c: &TowerConfig, together: bool) -> Result<Self, WeightError> {
        let width = c.vision.width;
        let all = width * c.patches.merge * c.patches.merge;
        let [norm, first, second] = match c.style {
            Style::Qwen2 | Style::Qwen2_5 => ["ln_q", "mlp.0", "mlp.2"],
            Style::Qwen3 => ["norm", "linear_fc1", "linear_fc2"],
        };
        let key = |name: &str| format!("{prefix}{name}");
        let normed = if together { all } else { width };
        Ok(Merger {
            norm: Norm::load(w, &key(norm), c.style.norm(), normed, EPS)?,
            normed,
            first: Linear::load(w, &key(first), [all, all], true)?,
            second: Linear::load(w, &key(second), [c.out, all], true)?,
        })
    }

    /// `[patches, width]`, those of a token one after another, to `[tokens, width of tokens]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let ([patches, width], [all, _]) = (x.dims(), self.first.weight.dims());
        let x = self.norm.forward(x.reshape([patches * width / self.normed, self.normed]));
        let x = x.reshape([patches * width / all, all]);
        self.second.forward(self.first.forward_activated(x, Activation::Gelu))
    }

    fn parameters(&self) -> usize {
        self.first.parameters() + self.second.parameters() + self.norm.parameters()
    }
}
