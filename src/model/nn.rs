//! The layers that vision tower, projector and decoder share.
//!
//! Activations are `[rows, width]`, float32; what a [`Matrix`] is made of is for the device to choose.
//! On the CPU, `cpu` does the work where it can. Knows nothing of attention or of files' key styles.

use std::ops::Range;

use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use crate::{
    checkpoint::{config::Activation, weight_error::WeightError, weights::Weights},
    model::{cpu, names::Parts},
};

/// Places of rows or columns, as operators take them.
pub fn index(places: &[usize], device: &Device) -> Tensor<1, Int> {
    let places: Vec<i32> = places.iter().map(|&place| place as i32).collect();
    let n = places.len();
    Tensor::from_data(TensorData::new(places, [n]), device)
}

/// A weight matrix or embedding table, `[out, in]`, in the chosen weight format.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few, and each is used in every pass")]
pub enum Matrix {
    /// On the CPU.
    Panels(cpu::Panels),
    /// Elsewhere: transposed as a view when used. Blocks of rows, all of one height but the last: what is larger than
    /// a buffer of the device may be is split.
    Rows(Vec<Tensor<2>>),
}

impl Matrix {
    /// Of `[out, in]`.
    pub fn new(rows: Tensor<2>) -> Self {
        cpu::Panels::new(rows).map_or_else(|rows| Matrix::Rows(vec![rows]), Matrix::Panels)
    }

    /// Loads `[out, in]`, where the file may divide `in` into several dimensions.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load<const D: usize>(w: &Weights<'_>, key: &str, shape: [usize; D]) -> Result<Self, WeightError> {
        let mut blocks = w.blocks(key, shape)?;
        let one = if blocks.len() == 1 { blocks.pop() } else { None };
        Ok(one.map_or_else(|| Matrix::Rows(blocks), Matrix::new))
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Matrix::Panels(panels) => panels.dims(),
            Matrix::Rows(blocks) => {
                let [_, width] = of_block(blocks);
                [blocks.iter().map(|block| block.dims()[0]).sum(), width]
            }
        }
    }

    /// Its format.
    pub fn dtype(&self) -> DType {
        match self {
            Matrix::Panels(panels) => panels.dtype(),
            Matrix::Rows(blocks) => blocks.first().map_or(DType::F32, Tensor::dtype),
        }
    }

    /// `[n, in]`, float32: some of its rows, one at least.
    ///
    /// # Panics
    /// If a row is not there.
    pub fn rows(&self, places: &[usize]) -> Tensor<2> {
        match self {
            Matrix::Panels(panels) => panels.rows(places),
            Matrix::Rows(blocks) => picked(blocks, places),
        }
    }

    /// `x W^T`, float32: `[rows, in]` to `[rows, out]`.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        match cpu::linear(&x, [(self.panels(), None)]) {
            Some([y]) => y,
            None => self.plain(x),
        }
    }

    /// By burn's own operators, in the matrix's format.
    fn plain(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Matrix::Panels(panels) => panels.product(x),
            Matrix::Rows(blocks) => match blocks.as_slice() {
                [rows] => times(x, rows),
                _ => Tensor::cat(blocks.iter().map(|rows| times(x.clone(), rows)).collect(), 1),
            },
        }
    }

    fn panels(&self) -> Option<&cpu::Panels> {
        match self {
            Matrix::Panels(panels) => Some(panels),
            Matrix::Rows(_) => None,
        }
    }
}

/// Shape of the first block, which is that of all but the last.
fn of_block(blocks: &[Tensor<2>]) -> [usize; 2] {
    blocks.first().map_or([1, 0], Tensor::dims)
}

/// `x W^T` of a block, float32. Few devices have a product of bfloat16, and burn's on the CPU is slow.
fn times(x: Tensor<2>, rows: &Tensor<2>) -> Tensor<2> {
    match rows.dtype() {
        DType::BF16 => x.matmul(rows.clone().cast(DType::F32).transpose()),
        dtype => x.cast(dtype).matmul(rows.clone().transpose()).cast(DType::F32),
    }
}

/// `[n, in]`, float32: rows of a matrix in blocks.
fn picked(blocks: &[Tensor<2>], places: &[usize]) -> Tensor<2> {
    let [height, _] = of_block(blocks);
    let (mut parts, mut order, mut n) = (Vec::new(), vec![usize::MAX; places.len()], 0);
    for (number, block) in blocks.iter().enumerate() {
        let (mut here, first) = (Vec::new(), number * height);
        for (place, order) in places.iter().zip(&mut order) {
            if (first..first + block.dims()[0]).contains(place) {
                here.push(place - first);
                (*order, n) = (n, n + 1);
            }
        }
        if !here.is_empty() {
            parts.push(block.clone().select(0, index(&here, &block.device())).cast(DType::F32));
        }
    }
    assert!(n == places.len(), "rows of the matrix");
    // All in one block are in order.
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let parts = Tensor::cat(parts, 0);
    let order = index(&order, &parts.device());
    parts.select(0, order)
}

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Matrix,
    /// `[out]`, float32.
    pub bias: Option<Tensor<1>>,
}

impl Linear {
    /// Loads `KEY.weight`, and `KEY.bias` if asked to.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(
        w: &Weights<'_>,
        key: &str,
        [out, input]: [usize; 2],
        bias: bool,
    ) -> Result<Self, WeightError> {
        Ok(Linear {
            weight: Matrix::load(w, &format!("{key}.weight"), [out, input])?,
            bias: if bias { Some(w.vector(&format!("{key}.bias"), out)?) } else { None },
        })
    }

    /// Loads several layers over the same input, which a file may keep as one: of each, the rows that are then its own,
    /// in order. All of them together are the whole.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load_parts<const N: usize>(
        w: &Weights<'_>,
        prefix: &str,
        parts: Parts<N>,
        input: usize,
        rows: &[Vec<Range<usize>>; N],
        bias: bool,
    ) -> Result<[Self; N], WeightError> {
        let sizes = rows.each_ref().map(|rows| rows.iter().map(Range::len).sum::<usize>());
        let name = match parts {
            Parts::Joined(name) => name,
            Parts::Apart(names) => {
                let mut loaded = Vec::with_capacity(N);
                for (name, size) in names.iter().zip(sizes) {
                    loaded.push(Self::load(w, &format!("{prefix}{name}"), [size, input], bias)?);
                }
                return Ok(loaded.try_into().expect("one a name"));
            }
        };
        let out = sizes.iter().sum();
        let weight = w.matrix(&format!("{prefix}{name}.weight"), [out, input])?;
        let bias = if bias { Some(w.vector(&format!("{prefix}{name}.bias"), out)?) } else { None };
        Ok(rows.each_ref().map(|rows| Linear {
            weight: Matrix::new(taken(&weight, rows)),
            bias: bias.as_ref().map(|bias| taken(bias, rows)),
        }))
    }

    /// `[rows, in]` to `[rows, out]`, float32 in and out.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let [y] = Self::forward_all([self], x);
        y
    }

    /// Several layers over the same rows.
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: Tensor<2>) -> [Tensor<2>; N] {
        cpu::linear(&x, layers.map(Self::parts)).unwrap_or_else(|| layers.map(|l| l.plain(x.clone())))
    }

    /// `act(forward(x))`.
    pub fn forward_activated(&self, x: Tensor<2>, act: Activation) -> Tensor<2> {
        cpu::linear_activated(&x, self.parts(), act).unwrap_or_else(|| activate(act, self.forward(x)))
    }

    /// `base + forward(x)`.
    pub fn forward_onto(&self, base: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        cpu::linear_onto(base, &x, self.parts()).unwrap_or_else(|base| base + self.plain(x))
    }

    fn plain(&self, x: Tensor<2>) -> Tensor<2> {
        let y = self.weight.plain(x);
        match &self.bias {
            Some(b) => y + b.clone().unsqueeze(),
            None => y,
        }
    }

    fn parts(&self) -> cpu::Layer<'_> {
        (self.weight.panels(), self.bias.as_ref())
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        let [out, input] = self.weight.dims();
        out * input + if self.bias.is_some() { out } else { 0 }
    }
}

/// Some rows of a tensor, one range behind the other.
fn taken<const D: usize>(whole: &Tensor<D>, rows: &[Range<usize>]) -> Tensor<D> {
    Tensor::cat(rows.iter().map(|rows| whole.clone().narrow(0, rows.start, rows.len())).collect(), 0)
}

/// LayerNorm over the last dimension (PyTorch's: biased variance, weight and bias).
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    eps: f64,
}

impl LayerNorm {
    /// Loads `KEY.weight` and `KEY.bias`.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights<'_>, key: &str, width: usize, eps: f64) -> Result<Self, WeightError> {
        let weight = w.vector(&format!("{key}.weight"), width)?;
        Ok(Self::new(weight, w.vector(&format!("{key}.bias"), width)?, eps))
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        2 * self.weight.dims()[0]
    }

    /// Of `[width]` weights and biases.
    pub fn new(weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Self {
        LayerNorm { weight, bias, eps }
    }

    /// `[rows, width]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        if let Some(y) = cpu::layer_norm(&x, &self.weight, &self.bias, self.eps as f32) {
            return y;
        }
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let normed = centred / (variance + self.eps).sqrt();
        normed * self.weight.clone().unsqueeze() + self.bias.clone().unsqueeze()
    }
}

/// Llama's RMS norm.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor<1>,
    eps: f64,
}

impl RmsNorm {
    /// Loads `KEY.weight`.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights<'_>, key: &str, width: usize, eps: f64) -> Result<Self, WeightError> {
        Ok(Self::new(w.vector(&format!("{key}.weight"), width)?, eps))
    }

    /// Of `[width]` weights.
    pub fn new(weight: Tensor<1>, eps: f64) -> Self {
        RmsNorm { weight, eps }
    }

    /// `[rows, width]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        if let Some(y) = cpu::rms_norm(&x, &self.weight, self.eps as f32) {
            return y;
        }
        let scale = (x.clone().square().mean_dim(1) + self.eps).sqrt();
        x / scale * self.weight.clone().unsqueeze()
    }
}

/// The norm of a tower that has one kind or the other.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are two a layer")]
pub enum Norm {
    /// LayerNorm.
    Layer(LayerNorm),
    /// RMS norm.
    Rms(RmsNorm),
}

/// Which norm a tower has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm, with a bias.
    Layer,
    /// RMS norm.
    Rms,
}

impl Norm {
    /// Loads `KEY.weight`, and `KEY.bias` where this kind has one.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(
        w: &Weights<'_>,
        key: &str,
        kind: NormKind,
        width: usize,
        eps: f64,
    ) -> Result<Self, WeightError> {
        Ok(match kind {
            NormKind::Layer => Norm::Layer(LayerNorm::load(w, key, width, eps)?),
            NormKind::Rms => Norm::Rms(RmsNorm::load(w, key, width, eps)?),
        })
    }

    /// `[rows, width]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Norm::Layer(norm) => norm.forward(x),
            Norm::Rms(norm) => norm.forward(x),
        }
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        match self {
            Norm::Layer(norm) => norm.parameters(),
            Norm::Rms(norm) => norm.weight.dims()[0],
        }
    }
}

fn activate(act: Activation, x: Tensor<2>) -> Tensor<2> {
    match act {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu => activation::relu(x),
    }
}

/// `act(gate) * up`.
pub fn gated(act: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    cpu::gated(act, gate, &up).unwrap_or_else(|gate| activate(act, gate) * up)
}
