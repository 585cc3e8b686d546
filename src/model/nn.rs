//! The layers that vision tower, projector and decoder share.
//!
//! Activations are `[rows, width]`, float32; matrices are kept as stored, `[out, in]`, and
//! transposed as a view when used. On the CPU, `cpu` does the work where it can. Knows nothing of
//! attention or of files' key styles.

use burn::tensor::{DType, Tensor, activation};

use super::{
    config::Activation,
    cpu,
    weights::{WeightError, Weights},
};

/// `y = x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`, in the chosen weight format.
    pub weight: Tensor<2>,
    /// `[out]`, float32.
    pub bias: Option<Tensor<1>>,
}

impl Linear {
    /// Loads `KEY.weight`, and `KEY.bias` if asked to.
    ///
    /// # Errors
    /// [`WeightError`], naming the key.
    pub fn load(w: &Weights, key: &str, [out, input]: [usize; 2], bias: bool) -> Result<Self, WeightError> {
        Ok(Linear {
            weight: w.matrix(&format!("{key}.weight"), [out, input])?,
            bias: if bias { Some(w.vector(&format!("{key}.bias"), out)?) } else { None },
        })
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

    /// `base + forward(x)`.
    pub fn forward_onto(&self, base: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        cpu::linear_onto(base, &x, self.parts()).unwrap_or_else(|base| base + self.plain(x))
    }

    fn plain(&self, x: Tensor<2>) -> Tensor<2> {
        let y = product(x, self.weight.clone());
        match &self.bias {
            Some(b) => y + b.clone().unsqueeze(),
            None => y,
        }
    }

    fn parts(&self) -> cpu::Layer<'_> {
        (&self.weight, self.bias.as_ref())
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        let [out, input] = self.weight.dims();
        out * input + if self.bias.is_some() { out } else { 0 }
    }
}

/// `[rows, in]` times the transpose of `[out, in]`, as float32.
pub fn matmul_t(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    match cpu::linear(&x, [(&weight, None)]) {
        Some([y]) => y,
        None => product(x, weight),
    }
}

/// The product runs in the weight's format.
fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    match weight.dtype() {
        DType::F32 => x.matmul(weight.transpose()),
        dtype => x.cast(dtype).matmul(weight.transpose()).cast(DType::F32),
    }
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
    pub fn load(w: &Weights, key: &str, width: usize, eps: f64) -> Result<Self, WeightError> {
        let weight = w.vector(&format!("{key}.weight"), width)?;
        Ok(Self::new(weight, w.vector(&format!("{key}.bias"), width)?, eps))
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
    pub fn load(w: &Weights, key: &str, width: usize, eps: f64) -> Result<Self, WeightError> {
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

/// Applies an activation.
pub fn activate(act: Activation, x: Tensor<2>) -> Tensor<2> {
    cpu::activate(act, x).unwrap_or_else(|x| match act {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * 1.702),
        Activation::Relu => activation::relu(x),
    })
}

/// `activate(gate) * up`.
pub fn gated(act: Activation, gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    cpu::gated(act, gate, &up).unwrap_or_else(|gate| activate(act, gate) * up)
}
