//! Row by row and number by number: norms, activations, rotary embedding.
//!
//! Activations are `[rows, width]`, row-major in float32, as are the vectors that go with a row; heads come
//! out as `[heads, rows, width]`. Knows rows; does not know which layer they pass.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]
#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use burn::{backend::Flex, tensor::Tensor};
use rayon::prelude::*;

use super::{
    flex::{in_runs, owned, plain, tensor, values},
    kernel::{Kernel, widest},
    lanes::{Vector, fma},
    math::{exp, sum},
};
use crate::checkpoint::config::Activation;

/// Numbers below which one thread does an elementwise step.
const ALONE: usize = 1 << 15;

/// Numbers, of whole rows, that a task of an elementwise step takes.
fn run(numbers: usize, width: usize) -> usize {
    if numbers <= ALONE { numbers.max(1) } else { (ALONE / 4 / width).max(1) * width }
}

/// RMS norm of every row.
pub fn rms_norm(x: &Tensor<2>, weight: &Tensor<1>, eps: f32) -> Option<Tensor<2>> {
    normed(x, weight, None, eps)
}

/// LayerNorm of every row.
pub fn layer_norm(x: &Tensor<2>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f32) -> Option<Tensor<2>> {
    normed(x, weight, Some(bias), eps)
}

fn normed(x: &Tensor<2>, weight: &Tensor<1>, bias: Option<&Tensor<1>>, eps: f32) -> Option<Tensor<2>> {
    let shape = x.dims();
    let (x, weight, bias) = (plain(x)?, plain(weight)?, bias.map(plain));
    let bias = match &bias {
        Some(bias) => Some(values(bias.as_ref()?)?),
        None => None,
    };
    let (x, weight) = (values(&x)?, values(&weight)?);
    let run = run(x.len(), shape[1]);
    let out = in_runs(x.len(), run, |n, out| {
        let x = &x[n * run..][..out.len()];
        widest(Norm { out, x, weight, bias, eps });
    });
    Some(tensor(out, shape))
}

/// LayerNorm where there is a bias, RMS norm where there is none.
struct Norm<'a> {
    out: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    eps: f32,
}

impl Kernel for Norm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Norm { out, x, weight, bias, eps } = self;
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let mean = if bias.is_some() { sum(x, |v| v) / width as f32 } else { 0.0 };
            let variance = sum(x, |v| (v - mean) * (v - mean)) / width as f32;
            let scale = 1.0 / (variance + eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = (x - mean) * scale * weight;
            }
            if let Some(bias) = bias {
                out.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
            }
        }
    }
}

/// Whether the kernels have this activation: one that stands on the exponential.
pub(super) fn has(act: Activation) -> bool {
    !matches!(act, Activation::Gelu | Activation::Relu)
}

/// `act(gate) * up`, in the memory of `gate`.
///
/// # Errors
/// Gives `gate` back.
pub fn gated(act: Activation, gate: Tensor<2>, up: &Tensor<2>) -> Result<Tensor<2>, Tensor<2>> {
    let Some(up) = plain(up).filter(|_| has(act)) else { return Err(gate) };
    let mut gate = owned(gate)?;
    let Some(up) = values(&up) else { return Err(Tensor::from_primitive::<Flex>(gate)) };
    let out = gate.storage_mut::<f32>();
    let run = run(out.len(), 1);
    let runs = out.par_chunks_mut(run).zip(up.par_chunks(run));
    runs.for_each(|(gate, up)| widest(Gated { act, gate, up }));
    Ok(Tensor::from_primitive::<Flex>(gate))
}

struct Gated<'a> {
    act: Activation,
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Gated<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Gated { act, gate, up } = self;
        activate::<V>(act, gate);
        gate.iter_mut().zip(up).for_each(|(v, f)| *v *= f);
    }
}

/// An activation that the kernels [have](has), in place.
#[inline(always)]
pub(super) fn activate<V: Vector>(act: Activation, numbers: &mut [f32]) {
    // `0.5 (1 + tanh u)` is `sigmoid(2 u)`.
    let sigmoid = |u: f32| 1.0 / (1.0 + exp::<V>(-u));
    match act {
        Activation::Silu => numbers.iter_mut().for_each(|v| *v *= sigmoid(*v)),
        Activation::QuickGelu => numbers.iter_mut().for_each(|v| *v *= sigmoid(1.702 * *v)),
        Activation::GeluTanh => numbers.iter_mut().for_each(|v| {
            let cubic = fma::<V>(0.044_715 * *v * *v, *v, *v);
            *v *= sigmoid(2.0 * 0.797_884_6 * cubic);
        }),
        Activation::Gelu | Activation::Relu => unreachable!("declined"),
    }
}

/// `[rows, heads * width]` to `[heads, rows, width]`, each head turned by halves: `cos` and `sin` are
/// `[1, rows, width / 2]`.
pub fn rotate(x: &Tensor<2>, heads: usize, [cos, sin]: [&Tensor<3>; 2]) -> Option<Tensor<3>> {
    let [rows, all] = x.dims();
    let width = all / heads;
    let (x, cos, sin) = (plain(x)?, plain(cos)?, plain(sin)?);
    let (x, cos, sin) = (values::<f32>(&x)?, values::<f32>(&cos)?, values::<f32>(&sin)?);
    let turn = |n: usize, out: &mut [f32]| {
        let (head, row) = (n / rows, n % rows);
        let (a, b) = x[row * all + head * width..][..width].split_at(width / 2);
        let (cos, sin) = (&cos[row * a.len()..][..a.len()], &sin[row * a.len()..][..a.len()]);
        let (out_a, out_b) = out.split_at_mut(a.len());
        for i in 0..a.len() {
            out_a[i] = a[i] * cos[i] - b[i] * sin[i];
            out_b[i] = b[i] * cos[i] + a[i] * sin[i];
        }
    };
    let run = run(x.len(), width);
    let out = in_runs(x.len(), run, |n, out| {
        out.chunks_exact_mut(width).enumerate().for_each(|(i, out)| turn(n * (run / width) + i, out));
    });
    Some(tensor(out, [heads, rows, width]))
}
