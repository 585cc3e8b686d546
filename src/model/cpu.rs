//! Kernels of our own for the CPU, where burn's operators on flex are the limit: products with few
//! rows or half-precision weights, attention, activations, norms, rotary embedding.
//!
//! Every public function takes tensors and declines (`None`, or the argument given back) unless all
//! of them are plain flex tensors in a format that it knows: those on a GPU and those that carry
//! gradients take burn's own path, which the callers keep beside it. Knows shapes and numbers; does
//! not know models, spans or files.
//!
//! Layouts as in the callers: activations `[rows, width]`, matrices `[out, in]`, heads
//! `[heads, rows, width]`, all row-major in float32, matrices and cached keys and values in float32
//! or float16. Sums are float32, whatever the matrices are.
//!
//! Products with many rows go to the `gemm` crate. The rest is plain Rust over arrays as wide as a
//! vector register, compiled twice: as the target has it, and for AVX2 with FMA and F16C, chosen when
//! the program runs ([`widest`]). Few rows run along the rows of both matrices ([`dot`]) and touch a
//! weight once, as it lies: the memory's speed is the limit. Tasks go to rayon's pool, on which
//! burn-flex runs too.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]
#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use std::{ops::Range, sync::Arc};

use burn::{
    backend::{
        Flex,
        flex::{FlexTensor, Layout},
    },
    tensor::{Bytes, DType, Element, Shape, Tensor},
};
use bytemuck::Pod;
use half::{f16, slice::HalfFloatSliceExt as _};
use rayon::prelude::*;

use super::{config::Activation, hooks::Blocked};

/// Numbers in a vector register.
const LANES: usize = 8;
/// Columns of values that [`mix`] takes at a time.
const COLUMNS: usize = 2 * LANES;
/// Up to so many rows, matrices are read as they lie; from there on packing them pays.
const FEW: usize = 4;

/// Calls a function over an array with the items of a slice of at most [`FEW`].
macro_rules! by_count {
    ($items:expr, $x:ident => $call:expr) => {
        match **$items {
            [a] => {
                let $x = [a];
                $call
            }
            [a, b] => {
                let $x = [a, b];
                $call
            }
            [a, b, c] => {
                let $x = [a, b, c];
                $call
            }
            [a, b, c, d] => {
                let $x = [a, b, c, d];
                $call
            }
            _ => unreachable!("none, or more than a few"),
        }
    };
}
const _: () = assert!(FEW == 4);

// ---------------------------------------------------------------------------------------------
// Tensors in and out
// ---------------------------------------------------------------------------------------------

/// Whether these kernels can work on `x` and on what is computed from it.
pub fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    flex(x).is_some()
}

/// Runs `work` on a thread of the pool, so that each of its many small parallel steps only has to
/// wake the others; where `x` does not lie on the CPU, runs it here.
pub fn on_pool<const D: usize, T: Send>(x: &Tensor<D>, work: impl FnOnce() -> T + Send) -> T {
    if is_plain(x) { rayon::scope(|_| work()) } else { work() }
}

fn flex<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok()
}

/// As [`flex`], in row-major order, float32.
fn plain<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    let x = flex(x).filter(|x| x.dtype() == DType::F32)?;
    Some(if x.is_contiguous() { x } else { x.to_contiguous() })
}

fn values<T: Element + Pod>(x: &FlexTensor) -> Option<&[T]> {
    x.as_slice()
}

fn tensor<const D: usize, T: Element + Pod + Send + Sync>(values: Vec<T>, shape: [usize; D]) -> Tensor<D> {
    let layout = Layout::contiguous(Shape::from(shape));
    Tensor::from_primitive::<Flex>(FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()))
}

/// The storage of a row-major float32 tensor, to be changed in place; copied first if it is shared.
fn owned<const D: usize>(x: Tensor<D>) -> Result<FlexTensor, Tensor<D>> {
    match plain(&x) {
        // The clone inside must be gone for the storage to be unique.
        Some(view)
            if view.layout().start_offset() == 0 && view.bytes().len() == 4 * x.shape().num_elements() =>
        {
            drop(x);
            Ok(view)
        }
        _ => Err(x),
    }
}

// ---------------------------------------------------------------------------------------------
// Products with weights
// ---------------------------------------------------------------------------------------------

/// A weight `[out, in]` and its bias `[out]`.
pub type Layer<'a> = (&'a Tensor<2>, Option<&'a Tensor<1>>);

/// `x W^T + b` of several layers over the same rows, in one go.
pub fn linear<const N: usize>(x: &Tensor<2>, layers: [Layer<'_>; N]) -> Option<[Tensor<2>; N]> {
    let rows = x.dims()[0];
    let mut outs = Vec::with_capacity(N);
    for (weight, bias) in layers {
        outs.push(match bias {
            Some(bias) => values(&plain(bias)?)?.repeat(rows),
            None => vec![0.0; rows * weight.dims()[0]],
        });
    }
    accumulate(x, layers.map(|(weight, _)| weight), outs.iter_mut().map(Vec::as_mut_slice).collect())?;
    let mut outs = layers.iter().zip(outs).map(|((w, _), out)| tensor(out, [rows, w.dims()[0]]));
    Some(std::array::from_fn(|_| outs.next().expect("one a layer")))
}

/// `base + x W^T + b`, in the memory of `base` where nobody else holds it.
///
/// # Errors
/// Gives `base` back.
pub fn linear_onto(
    base: Tensor<2>,
    x: &Tensor<2>,
    (weight, bias): Layer<'_>,
) -> Result<Tensor<2>, Tensor<2>> {
    let bias = match bias.map(plain) {
        Some(None) => return Err(base),
        Some(bias) => bias,
        None => None,
    };
    if !matches!(weight.dtype(), DType::F32 | DType::F16) || !is_plain(weight) || plain(x).is_none() {
        return Err(base);
    }
    let mut base = owned(base)?;
    let out = base.storage_mut::<f32>();
    if let Some(bias) = bias.as_ref().and_then(values::<f32>) {
        for row in out.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(o, b)| *o += b);
        }
    }
    accumulate(x, [weight], vec![out]).expect("checked above");
    Ok(Tensor::from_primitive::<Flex>(base))
}

/// Adds `x W^T` to every layer's rows.
fn accumulate<const N: usize>(x: &Tensor<2>, weights: [&Tensor<2>; N], outs: Vec<&mut [f32]>) -> Option<()> {
    let x = plain(x)?;
    let k = x.layout().shape()[1];
    let x: &[f32] = values(&x)?;
    let weights: Vec<FlexTensor> = weights.into_iter().map(flex).collect::<Option<_>>()?;
    match weights.first()?.dtype() {
        DType::F32 => multiply(x, k, jobs::<f32>(&weights, outs)?),
        DType::F16 => multiply(x, k, jobs::<f16>(&weights, outs)?),
        _ => return None,
    }
    Some(())
}

/// One matrix `[n, k]` and the rows `[rows, n]` that it adds to.
struct Job<'w, 'o, T> {
    w: &'w [T],
    out: &'o mut [f32],
}

fn jobs<'w, 'o, T: Number>(
    weights: &'w [FlexTensor],
    outs: Vec<&'o mut [f32]>,
) -> Option<Vec<Job<'w, 'o, T>>> {
    weights.iter().zip(outs).map(|(w, out)| Some(Job { w: values(w)?, out })).collect()
}

fn multiply<T: Number>(x: &[f32], k: usize, jobs: Vec<Job<'_, '_, T>>) {
    let rows: Vec<&[f32]> = x.chunks_exact(k).collect();
    match rows.len() {
        0 => {}
        1..=FEW => by_count!(&rows, rows => multiply_few(rows, jobs)),
        _ => jobs.into_iter().for_each(|job| multiply_many(x, k, job)),
    }
}

/// Every weight is read once: the memory's speed is the limit.
fn multiply_few<T: Number, const R: usize>(x: [&[f32]; R], jobs: Vec<Job<'_, '_, T>>) {
    /// Weight rows a task.
    const ROWS: usize = 64;
    let k = x[0].len();
    let mut sums: Vec<Vec<[f32; R]>> = jobs.iter().map(|job| vec![[0.0; R]; job.w.len() / k]).collect();
    let tasks: Vec<_> = (sums.iter_mut().zip(&jobs))
        .flat_map(|(sums, job)| sums.chunks_mut(ROWS).zip(job.w.chunks(ROWS * k)))
        .collect();
    tasks.into_par_iter().for_each(|(sums, w)| widest(Few { x, w, sums }));
    for (sums, job) in sums.iter().zip(jobs) {
        for (r, out) in job.out.chunks_exact_mut(sums.len()).enumerate() {
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum[r]);
        }
    }
}

/// Weights in half precision are widened a block at a time.
fn multiply_many<T: Number>(x: &[f32], k: usize, Job { w, out }: Job<'_, '_, T>) {
    let (rows, n) = (x.len() / k, w.len() / k);
    let x = Rows { data: x, stride: k, rows, width: k };
    let mut wide = Vec::new();
    for first in (0..n).step_by(T::BLOCK.min(n)) {
        let block = Rows { data: &w[first * k..], stride: k, rows: T::BLOCK.min(n - first), width: k };
        let block = T::widened(block, &mut wide);
        gemm(&mut out[first..], n, Start::Add, x, Second::Transposed(block), gemm::Parallelism::Rayon(0));
    }
}

/// `sums[o][r] = x[r] . w[o]`.
struct Few<'a, T, const R: usize> {
    x: [&'a [f32]; R],
    w: &'a [T],
    sums: &'a mut [[f32; R]],
}

impl<T: Number, const R: usize> Kernel for Few<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (sums, w) in self.sums.iter_mut().zip(self.w.chunks_exact(self.x[0].len())) {
            *sums = dot::<V, T, R>(self.x, w);
        }
    }
}

/// What a product does with what is there.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// Adds to it.
    Add,
    /// Replaces it by so many times the product.
    Set(f32),
}

/// The second factor, `[k, n]`.
enum Second<'a> {
    /// As it lies.
    Straight(Rows<'a, f32>),
    /// Lies as `[n, k]`.
    Transposed(Rows<'a, f32>),
}

/// `out = a b`, where `out` has rows at `stride`.
fn gemm(
    out: &mut [f32],
    stride: usize,
    start: Start,
    a: Rows<'_, f32>,
    b: Second<'_>,
    parallelism: gemm::Parallelism,
) {
    let (b, k, n, along, across) = match b {
        Second::Straight(b) => (b, b.rows, b.width, b.stride, 1),
        Second::Transposed(b) => (b, b.width, b.rows, 1, b.stride),
    };
    let reach =
        |rows: usize, stride: usize, width: usize| if rows == 0 { 0 } else { (rows - 1) * stride + width };
    assert_eq!(a.width, k, "inner sizes");
    assert!(n <= stride && reach(a.rows, stride, n) <= out.len(), "the product fits");
    assert!(reach(a.rows, a.stride, a.width) <= a.data.len(), "the first factor is there");
    assert!(reach(b.rows, b.stride, b.width) <= b.data.len(), "the second factor is there");
    let (read, factor) = match start {
        Start::Add => (true, 1.0),
        Start::Set(factor) => (false, factor),
    };
    // SAFETY: every element that these sizes and strides reach lies in its slice, as asserted; `out`
    // is borrowed mutably and its rows do not overlap.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            a.rows,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            read,
            a.data.as_ptr(),
            1,
            a.stride as isize,
            b.data.as_ptr(),
            across as isize,
            along as isize,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

// ---------------------------------------------------------------------------------------------
// Attention
// ---------------------------------------------------------------------------------------------

/// What attention is to do beside mixing values.
pub struct Attend<'a> {
    /// Factor of the scores.
    pub scale: f32,
    /// Whether row `i` sees only keys up to `keys - rows + i`.
    pub causal: bool,
    /// Pairs to block.
    pub blocked: &'a [Arc<Blocked>],
    /// Score of a blocked pair.
    pub fill: f32,
    /// Rows whose pattern is kept, ascending.
    pub rows: &'a [usize],
    /// Heads whose pattern is kept, ascending; `None` means every head.
    pub heads: Option<&'a [usize]>,
}

impl Attend<'_> {
    fn keeps_head(&self, head: usize) -> bool {
        self.heads.is_none_or(|heads| heads.contains(&head))
    }
}

/// What it gives.
pub struct Attended {
    /// `[rows, heads * width]`.
    pub mixed: Tensor<2>,
    /// `[kept heads, kept rows, keys]`; `None` when there are none.
    pub pattern: Option<Tensor<3>>,
    /// Per [`Blocked`]: the largest value after the softmax on any of its pairs.
    pub left: Vec<f32>,
}

/// Softmax attention of `q` `[heads, rows, width]` over `k` and `v` `[kv heads, keys, width]`, a chunk
/// of rows at a time: no square of rows and keys is ever made.
pub fn attention(q: &Tensor<3>, [k, v]: [&Tensor<3>; 2], attend: &Attend<'_>) -> Option<Attended> {
    let (q, k, v) = (flex(q)?, flex(k)?, flex(v)?);
    let q = Heads::<f32>::new(&q)?;
    match k.dtype() {
        DType::F32 => attention_over::<f32>(q, Heads::new(&k)?, Heads::new(&v)?, attend),
        DType::F16 => attention_over::<f16>(q, Heads::new(&k)?, Heads::new(&v)?, attend),
        _ => None,
    }
}

/// `old` `[heads, keys, width]` with the rows of `new` appended, in the format `dtype`. Written behind
/// the old rows where their memory has room and nobody else holds it; else moved to a larger place.
///
/// # Errors
/// Gives `old` back.
pub fn append(old: Option<Tensor<3>>, new: &Tensor<3>, dtype: DType) -> Result<Tensor<3>, Option<Tensor<3>>> {
    let Some(view) = flex(new) else { return Err(old) };
    let Some(new) = Heads::<f32>::new(&view) else { return Err(old) };
    if old.as_ref().is_some_and(|old| old.dtype() != dtype || !is_plain(old)) {
        return Err(old);
    }
    let taken = old.map(|old| old.try_into_primitive::<Flex>().expect("just seen to be one"));
    match dtype {
        DType::F32 => Ok(append_as::<f32>(taken, new, |from, to| to.copy_from_slice(from))),
        DType::F16 => Ok(append_as::<f16>(taken, new, |from, to| to.convert_from_f32_slice(from))),
        _ => Err(taken.map(Tensor::from_primitive::<Flex>)),
    }
}

fn append_as<T: Number + Element>(
    old: Option<FlexTensor>,
    new: Heads<'_, f32>,
    write: impl Fn(&[f32], &mut [T]),
) -> Tensor<3> {
    let (heads, width) = (new.heads, new.first.width);
    let len = old.as_ref().map_or(0, |old| old.layout().shape()[1]);
    let all = len + new.first.rows;
    // Rows that a head has room for, where they lie as this function laid them.
    let room = |old: &FlexTensor| {
        let layout = old.layout();
        let ours = layout.start_offset() == 0 && layout.strides()[1..] == [width as isize, 1];
        let room = layout.strides()[0] as usize / width;
        (ours && old.is_unique() && old.bytes().len() >= heads * room * width * size_of::<T>())
            .then_some(room)
    };
    let (mut buffer, room) = match old.map(|old| (room(&old), old)) {
        Some((Some(room), old)) if room >= all => (old, room),
        old => {
            let room = all + all / 2 + 64;
            let mut values = vec![T::zeroed(); heads * room * width];
            if let Some((_, old)) = old
                && let Some(old) = Heads::<T>::new(&old)
            {
                for (head, values) in values.chunks_exact_mut(room * width).enumerate() {
                    let old = old.head(head);
                    (values.chunks_exact_mut(width).take(len).enumerate())
                        .for_each(|(row, to)| to.copy_from_slice(old.row(row)));
                }
            }
            let layout = Layout::contiguous(Shape::from([heads, room, width]));
            (FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()), room)
        }
    };
    for (head, values) in buffer.storage_mut::<T>().chunks_exact_mut(room * width).take(heads).enumerate() {
        let new = new.head(head);
        (values.chunks_exact_mut(width).skip(len).take(new.rows).enumerate())
            .for_each(|(row, to)| write(new.row(row), to));
    }
    let strides = vec![(room * width) as isize, width as isize, 1];
    Tensor::from_primitive::<Flex>(buffer.with_layout(Layout::new(
        Shape::from([heads, all, width]),
        strides,
        0,
    )))
}

/// Rows of numbers at a stride, the numbers of a row side by side.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    data: &'a [T],
    stride: usize,
    rows: usize,
    width: usize,
}

impl<'a, T> Rows<'a, T> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [T] {
        &self.data[row * self.stride..][..self.width]
    }

    fn part(&self, rows: Range<usize>) -> Self {
        Rows { data: &self.data[rows.start * self.stride..], rows: rows.len(), ..*self }
    }
}

/// `[heads, rows, width]` in any strides whose last is 1.
#[derive(Clone, Copy)]
struct Heads<'a, T> {
    first: Rows<'a, T>,
    heads: usize,
    stride: usize,
}

impl<'a, T: Number> Heads<'a, T> {
    fn new(x: &'a FlexTensor) -> Option<Self> {
        let (layout, [heads, rows, width]) = (x.layout(), *x.layout().shape().as_slice().as_array()?);
        let strides = layout.strides();
        if x.dtype() != T::dtype() || (strides[2] != 1 && width != 1) || strides.iter().any(|&s| s < 0) {
            return None;
        }
        let data = x.storage::<T>().get(layout.start_offset()..)?;
        let first = Rows { data, stride: strides[1] as usize, rows, width };
        Some(Heads { first, heads, stride: strides[0] as usize })
    }

    fn head(&self, head: usize) -> Rows<'a, T> {
        Rows { data: &self.first.data[head * self.stride..], ..self.first }
    }
}

fn attention_over<T: Number>(
    q: Heads<'_, f32>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    attend: &Attend<'_>,
) -> Option<Attended> {
    /// Rows whose scores exist at one time, on each thread.
    const ROWS: usize = 128;
    /// Pairs of numbers below which waking another thread costs more than it saves.
    const WORTH: usize = 1 << 17;
    let (heads, rows, width) = (q.heads, q.first.rows, q.first.width);
    let (kv_heads, keys) = (k.heads, k.first.rows);
    let group = heads / kv_heads;
    // Few rows read the keys as they lie, once for all heads that share them.
    let few = group * rows <= FEW;
    let (chunk, together) = if few { (rows, group) } else { (rows.div_ceil(rows.div_ceil(ROWS)), 1) };
    let mut wide = vec![[Vec::new(), Vec::new()]; if few { 0 } else { kv_heads }];
    let mut many: Vec<[Rows<'_, f32>; 2]> = Vec::new();
    for (head, [wide_k, wide_v]) in wide.iter_mut().enumerate() {
        many.push([T::widened(k.head(head), wide_k), T::widened(v.head(head), wide_v)]);
    }
    let task = |n: usize| {
        let groups = heads / together;
        let (first, head) = (n / groups * chunk, n % groups * together);
        widest(Chunk {
            attend,
            q,
            heads: head..head + together,
            k: k.head(head / group),
            v: v.head(head / group),
            many: many.get(head / group).copied(),
            rows: first..rows.min(first + chunk),
        })
    };
    let tasks = rows.div_ceil(chunk) * heads / together;
    let done: Vec<Chunked> = if heads * rows * keys * width < WORTH {
        (0..tasks).map(task).collect()
    } else {
        (0..tasks).into_par_iter().map(task).collect()
    };

    let mut mixed = vec![0.0; rows * heads * width];
    let by_chunk = mixed.par_chunks_mut(chunk * heads * width).zip(done.par_chunks(heads / together));
    by_chunk.for_each(|(mixed, done)| {
        let rows = mixed.len() / (heads * width);
        for (head, from) in done.iter().flat_map(|d| d.mixed.chunks_exact(rows * width)).enumerate() {
            for (row, from) in from.chunks_exact(width).enumerate() {
                mixed[(row * heads + head) * width..][..width].copy_from_slice(from);
            }
        }
    });
    let kept: Vec<usize> = (0..heads).filter(|&h| attend.keeps_head(h)).collect();
    let shape = [kept.len(), attend.rows.len(), keys];
    let mut pattern = Vec::with_capacity(shape.iter().product());
    for head in kept {
        let parts = done.iter().flat_map(|done| &done.pattern);
        parts.filter(|(of, _)| *of == head).for_each(|(_, part)| pattern.extend_from_slice(part));
    }
    let left = |b: usize| done.iter().map(|d| d.left[b]).fold(0.0, f32::max);
    Some(Attended {
        mixed: tensor(mixed, [rows, heads * width]),
        pattern: (!pattern.is_empty()).then(|| tensor(pattern, shape)),
        left: (0..attend.blocked.len()).map(left).collect(),
    })
}

/// Attention of some rows in some heads, which share a key head.
struct Chunk<'a, T> {
    attend: &'a Attend<'a>,
    q: Heads<'a, f32>,
    heads: Range<usize>,
    k: Rows<'a, T>,
    v: Rows<'a, T>,
    /// Keys and values in float32, unless there are few rows.
    many: Option<[Rows<'a, f32>; 2]>,
    rows: Range<usize>,
}

/// What a [`Chunk`] gives.
struct Chunked {
    /// `[query heads, rows, width]`.
    mixed: Vec<f32>,
    /// Per kept head: its number, and `[kept rows, keys]`.
    pattern: Vec<(usize, Vec<f32>)>,
    left: Vec<f32>,
}

impl<T: Number> Kernel for Chunk<'_, T> {
    type Out = Chunked;

    #[inline(always)]
    fn run<V: Vector>(self) -> Chunked {
        let Chunk { attend, q, heads, k, v, many, rows } = self;
        let (width, keys) = (k.width, k.rows);
        // Keys that row `r` sees, and the last row.
        let seen = |r: usize| if attend.causal { keys - q.first.rows + r + 1 } else { keys };
        let most = seen(rows.end - 1);
        let (count, alone) = (heads.len() * rows.len(), gemm::Parallelism::None);
        let mut scores = vec![0.0; count * most];
        match many {
            Some([k, _]) => {
                let queries = q.head(heads.start).part(rows.clone());
                let keys = Second::Transposed(k.part(0..most));
                gemm(&mut scores, most, Start::Set(attend.scale), queries, keys, alone);
            }
            None => {
                let queries: Vec<&[f32]> =
                    heads.clone().flat_map(|h| rows.clone().map(move |r| q.head(h).row(r))).collect();
                by_count!(&queries, x => few_scores::<V, T, _>(x, k.part(0..most), attend.scale, &mut scores));
            }
        }

        let mut left = vec![0.0f32; attend.blocked.len()];
        let head_rows = || heads.clone().flat_map(|h| rows.clone().map(move |r| (h, r)));
        for ((head, r), scores) in head_rows().zip(scores.chunks_exact_mut(most)) {
            let (scores, later) = scores.split_at_mut(seen(r));
            let cuts = || attend.blocked.iter().enumerate().filter(|(_, b)| b.heads[head] && b.rows[r]);
            for (_, cut) in cuts() {
                scores.iter_mut().zip(&cut.keys).filter(|(_, cut)| **cut).for_each(|(s, _)| *s = attend.fill);
            }
            softmax::<V>(scores);
            later.fill(0.0);
            for (n, cut) in cuts() {
                let mass = scores.iter().zip(&cut.keys).filter(|(_, cut)| **cut);
                left[n] = mass.fold(left[n], |left, (s, _)| left.max(*s));
            }
        }

        let keep = |(head, scores): (usize, &[f32])| {
            let kept = || attend.rows.iter().filter(|r| rows.contains(r));
            let mut part = Vec::with_capacity(kept().count() * keys);
            for r in kept() {
                part.extend_from_slice(&scores[(r - rows.start) * most..][..most]);
                part.resize(part.len() + keys - most, 0.0);
            }
            (head, part)
        };
        let by_head = heads.clone().zip(scores.chunks_exact(rows.len() * most));
        let pattern = by_head.filter(|(h, _)| attend.keeps_head(*h)).map(keep).collect();

        let mut mixed = vec![0.0; count * width];
        match many {
            Some([_, v]) => {
                let weights = Rows { data: &scores, stride: most, rows: count, width: most };
                gemm(&mut mixed, width, Start::Set(1.0), weights, Second::Straight(v.part(0..most)), alone);
            }
            None => {
                let weights: Vec<&[f32]> = scores.chunks_exact(most).collect();
                by_count!(&weights, x => few_values::<V, T, _>(x, v, &mut mixed));
            }
        }
        Chunked { mixed, pattern, left }
    }
}

/// `[R, keys]`: scores of a few queries.
#[inline(always)]
fn few_scores<V: Vector, T: Number, const R: usize>(
    queries: [&[f32]; R],
    k: Rows<'_, T>,
    scale: f32,
    scores: &mut [f32],
) {
    for key in 0..k.rows {
        let products = dot::<V, T, R>(queries, k.row(key));
        for r in 0..R {
            scores[r * k.rows + key] = products[r] * scale;
        }
    }
}

/// `[R, width]`: values mixed by a few rows of weights.
#[inline(always)]
fn few_values<V: Vector, T: Number, const R: usize>(weights: [&[f32]; R], v: Rows<'_, T>, mixed: &mut [f32]) {
    for at in (0..v.width).step_by(COLUMNS) {
        let mut sums = [[V::new([0.0; LANES]); 2]; R];
        for key in 0..weights[0].len() {
            let columns = columns::<V, T>(v.row(key), at);
            for r in 0..R {
                let weight = V::new([weights[r][key]; LANES]);
                sums[r][0] = weight.times_plus(columns[0], sums[r][0]);
                sums[r][1] = weight.times_plus(columns[1], sums[r][1]);
            }
        }
        let n = COLUMNS.min(v.width - at);
        for (r, sums) in sums.iter().enumerate() {
            let sums = sums.map(V::numbers);
            mixed[r * v.width + at..][..n].copy_from_slice(&sums.as_flattened()[..n]);
        }
    }
}

/// [`COLUMNS`] of a row from `at`, zeros past its end.
#[inline(always)]
fn columns<V: Vector, T: Number>(row: &[T], at: usize) -> [V; 2] {
    let mut padded = [[T::zeroed(); LANES]; 2];
    match row.get(at..at + COLUMNS) {
        Some(part) => padded.as_flattened_mut().copy_from_slice(part),
        None => padded.as_flattened_mut()[..row.len() - at].copy_from_slice(&row[at..]),
    }
    [T::vector(&padded[0]), T::vector(&padded[1])]
}

// ---------------------------------------------------------------------------------------------
// Row by row: norms, activations, rotary embedding
// ---------------------------------------------------------------------------------------------

/// Numbers below which one thread does an elementwise step.
const ALONE: usize = 1 << 15;

/// Runs `step` over runs of whole rows of `out`, and the same rows of `x`.
fn by_rows(out: &mut [f32], x: &[f32], width: usize, step: impl Fn(&mut [f32], &[f32]) + Sync) {
    let run = if out.len() <= ALONE { out.len() } else { (ALONE / 4 / width).max(1) * width };
    if run == out.len() {
        step(out, x);
    } else {
        out.par_chunks_mut(run).zip(x.par_chunks(run)).for_each(|(out, x)| step(out, x));
    }
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
    let mut out = vec![0.0; x.len()];
    by_rows(&mut out, x, shape[1], |out, x| widest(Norm { out, x, weight, bias, eps }));
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

/// Activation in place, where it is one of those that stand on the exponential.
///
/// # Errors
/// Gives `x` back.
pub fn activate(act: Activation, x: Tensor<2>) -> Result<Tensor<2>, Tensor<2>> {
    if matches!(act, Activation::Gelu | Activation::Relu) {
        return Err(x);
    }
    let mut x = owned(x)?;
    let out = x.storage_mut::<f32>();
    let run = if out.len() <= ALONE { ALONE } else { ALONE / 4 };
    out.par_chunks_mut(run).for_each(|out| widest(Activate { act, out, factor: None }));
    Ok(Tensor::from_primitive::<Flex>(x))
}

/// `act(gate) * up`, in the memory of `gate`.
///
/// # Errors
/// Gives `gate` back.
pub fn gated(act: Activation, gate: Tensor<2>, up: &Tensor<2>) -> Result<Tensor<2>, Tensor<2>> {
    let Some(up) = plain(up).filter(|_| !matches!(act, Activation::Gelu | Activation::Relu)) else {
        return Err(gate);
    };
    let mut gate = owned(gate)?;
    let Some(up) = values(&up) else { return Err(Tensor::from_primitive::<Flex>(gate)) };
    by_rows(gate.storage_mut(), up, 1, |out, up| widest(Activate { act, out, factor: Some(up) }));
    Ok(Tensor::from_primitive::<Flex>(gate))
}

struct Activate<'a> {
    act: Activation,
    out: &'a mut [f32],
    factor: Option<&'a [f32]>,
}

impl Kernel for Activate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Activate { act, out, factor } = self;
        // `0.5 (1 + tanh u)` is `sigmoid(2 u)`.
        let sigmoid = |u: f32| 1.0 / (1.0 + exp::<V>(-u));
        match act {
            Activation::Silu => out.iter_mut().for_each(|v| *v *= sigmoid(*v)),
            Activation::QuickGelu => out.iter_mut().for_each(|v| *v *= sigmoid(1.702 * *v)),
            Activation::GeluTanh => out.iter_mut().for_each(|v| {
                let cubic = fma::<V>(0.044_715 * *v * *v, *v, *v);
                *v *= sigmoid(2.0 * 0.797_884_6 * cubic);
            }),
            Activation::Gelu | Activation::Relu => unreachable!("declined"),
        }
        if let Some(factor) = factor {
            out.iter_mut().zip(factor).for_each(|(v, f)| *v *= f);
        }
    }
}

/// `[rows, heads * width]` to `[heads, rows, width]`, each head turned by halves: `cos` and `sin` are
/// `[1, rows, width / 2]`.
pub fn rotate(x: &Tensor<2>, heads: usize, [cos, sin]: [&Tensor<3>; 2]) -> Option<Tensor<3>> {
    let [rows, all] = x.dims();
    let width = all / heads;
    let (x, cos, sin) = (plain(x)?, plain(cos)?, plain(sin)?);
    let (x, cos, sin) = (values::<f32>(&x)?, values::<f32>(&cos)?, values::<f32>(&sin)?);
    let mut out = vec![0.0; x.len()];
    let turn = |(n, out): (usize, &mut [f32])| {
        let (head, row) = (n / rows, n % rows);
        let (a, b) = x[row * all + head * width..][..width].split_at(width / 2);
        let (cos, sin) = (&cos[row * a.len()..][..a.len()], &sin[row * a.len()..][..a.len()]);
        let (out_a, out_b) = out.split_at_mut(a.len());
        for i in 0..a.len() {
            out_a[i] = a[i] * cos[i] - b[i] * sin[i];
            out_b[i] = b[i] * cos[i] + a[i] * sin[i];
        }
    };
    if x.len() <= ALONE {
        out.chunks_exact_mut(width).enumerate().for_each(turn);
    } else {
        out.par_chunks_exact_mut(width).enumerate().with_min_len(64).for_each(turn);
    }
    Some(tensor(out, [heads, rows, width]))
}

// ---------------------------------------------------------------------------------------------
// Vectors
// ---------------------------------------------------------------------------------------------

/// Work compiled for more than one instruction set.
trait Kernel {
    type Out;
    /// Must be inlined into [`widest`], with all it calls that names `V`.
    fn run<V: Vector>(self) -> Self::Out;
}

/// Runs a kernel with the widest instructions that this machine has.
fn widest<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn wide<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<avx2::Wide>()
        }
        // SAFETY: the three features were just detected.
        #[allow(unsafe_code)]
        return unsafe { wide(kernel) };
    }
    kernel.run::<[f32; LANES]>()
}

/// [`LANES`] numbers.
trait Vector: Copy {
    /// Whether a product and a sum are one instruction.
    const FUSED: bool;
    fn new(numbers: [f32; LANES]) -> Self;
    fn widened(numbers: &[f16; LANES]) -> Self;
    /// `self * factor + sum`.
    fn times_plus(self, factor: Self, sum: Self) -> Self;
    fn numbers(self) -> [f32; LANES];
}

/// What the compiler makes of it.
impl Vector for [f32; LANES] {
    const FUSED: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn new(numbers: [f32; LANES]) -> Self {
        numbers
    }

    #[inline(always)]
    fn widened(numbers: &[f16; LANES]) -> Self {
        numbers.map(Number::widen)
    }

    #[inline(always)]
    fn times_plus(self, factor: Self, sum: Self) -> Self {
        std::array::from_fn(|i| fma::<Self>(self[i], factor[i], sum[i]))
    }

    #[inline(always)]
    fn numbers(self) -> [f32; LANES] {
        self
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m128i, __m256, _mm256_cvtph_ps, _mm256_fmadd_ps};

    use super::{LANES, Vector, f16};

    /// One register. Only [`super::widest`] names it, after it has seen that the machine has AVX2, FMA
    /// and F16C.
    #[derive(Clone, Copy)]
    pub(super) struct Wide(__m256);

    impl Vector for Wide {
        const FUSED: bool = true;

        #[inline(always)]
        fn new(numbers: [f32; LANES]) -> Self {
            Wide(bytemuck::cast(numbers))
        }

        #[inline(always)]
        fn widened(numbers: &[f16; LANES]) -> Self {
            let halves: __m128i = bytemuck::cast(*numbers);
            // SAFETY: a `Wide` means that F16C is there.
            #[allow(unsafe_code)]
            Wide(unsafe { _mm256_cvtph_ps(halves) })
        }

        #[inline(always)]
        fn times_plus(self, factor: Self, sum: Self) -> Self {
            // SAFETY: a `Wide` means that FMA is there.
            #[allow(unsafe_code)]
            Wide(unsafe { _mm256_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn numbers(self) -> [f32; LANES] {
            bytemuck::cast(self.0)
        }
    }
}

/// A format of matrices.
trait Number: Element + Pod + Send + Sync {
    /// Rows to widen at a time: all, where there is nothing to do.
    const BLOCK: usize;
    fn widen(self) -> f32;
    fn vector<V: Vector>(numbers: &[Self; LANES]) -> V;
    /// As float32, in `memory` where it is not yet.
    fn widened<'a>(rows: Rows<'a, Self>, memory: &'a mut Vec<f32>) -> Rows<'a, f32>;
}

impl Number for f32 {
    const BLOCK: usize = usize::MAX;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f32; LANES]) -> V {
        V::new(*numbers)
    }

    fn widened<'a>(rows: Rows<'a, f32>, _: &'a mut Vec<f32>) -> Rows<'a, f32> {
        rows
    }
}

impl Number for f16 {
    /// A few megabytes: what was widened is still in the cache when it is used.
    const BLOCK: usize = 512;

    /// By moving the exponent with a product, which is right for subnormals too.
    #[inline(always)]
    fn widen(self) -> f32 {
        let bits = u32::from(self.to_bits());
        if bits & 0x7c00 == 0x7c00 {
            return self.to_f32();
        }
        let size = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
        f32::from_bits(size.to_bits() | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f16; LANES]) -> V {
        V::widened(numbers)
    }

    fn widened<'a>(rows: Rows<'a, f16>, memory: &'a mut Vec<f32>) -> Rows<'a, f32> {
        memory.resize(rows.rows * rows.width, 0.0);
        let into = memory.par_chunks_exact_mut(rows.width).enumerate().with_min_len(32);
        into.for_each(|(r, out)| widest(Widen { row: rows.row(r), out }));
        Rows { data: memory, stride: rows.width, rows: rows.rows, width: rows.width }
    }
}

struct Widen<'a> {
    row: &'a [f16],
    out: &'a mut [f32],
}

impl Kernel for Widen<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let ((eights, rest), (out, out_rest)) = (self.row.as_chunks(), self.out.as_chunks_mut());
        for (half, out) in eights.iter().zip(out) {
            *out = V::widened(half).numbers();
        }
        for (half, out) in rest.iter().zip(out_rest) {
            *out = half.widen();
        }
    }
}

/// `a * b + c`, fused where the machine can.
#[inline(always)]
fn fma<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn total([a, b, c, d]: [[f32; LANES]; STEP]) -> f32 {
    let mut v = [0.0; LANES];
    for i in 0..LANES {
        v[i] = (a[i] + b[i]) + (c[i] + d[i]);
    }
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

/// Registers that a row is taken up by at a time, so that no step waits for the one before.
const STEP: usize = 4;

/// The sum of `f` over a row.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (steps, rest) = x.as_chunks::<{ STEP * LANES }>();
    let mut sums = [0.0; STEP * LANES];
    for v in steps {
        for i in 0..STEP * LANES {
            sums[i] += f(v[i]);
        }
    }
    let sums: [[f32; LANES]; STEP] = bytemuck::cast(sums);
    rest.iter().fold(total(sums), |sum, &v| sum + f(v))
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (steps, rest) = x.as_chunks::<{ STEP * LANES }>();
    let mut max = [f32::MIN; STEP * LANES];
    for v in steps {
        for i in 0..STEP * LANES {
            max[i] = if v[i] > max[i] { v[i] } else { max[i] };
        }
    }
    max.iter().chain(rest).copied().fold(f32::MIN, f32::max)
}

/// Some rows times one row of a matrix, which streams through: one long run of memory after another
/// is what the machine fetches fastest.
#[inline(always)]
fn dot<V: Vector, T: Number, const R: usize>(x: [&[f32]; R], w: &[T]) -> [f32; R] {
    let w_steps = w.as_chunks::<LANES>().0.as_chunks::<STEP>().0;
    let done = w_steps.len() * STEP * LANES;
    let x_steps: [&[[[f32; LANES]; STEP]]; R] = x.map(|x| x[..done].as_chunks().0.as_chunks().0);
    let mut sums = [[V::new([0.0; LANES]); STEP]; R];
    // Plain loops: what is in a closure may end up outside the function that has the instructions.
    for i in 0..w_steps.len() {
        for s in 0..STEP {
            let w = T::vector::<V>(&w_steps[i][s]);
            for r in 0..R {
                sums[r][s] = V::new(x_steps[r][i][s]).times_plus(w, sums[r][s]);
            }
        }
    }
    let mut products = [0.0; R];
    for r in 0..R {
        products[r] = total(sums[r].map(V::numbers));
        for i in done..w.len() {
            products[r] += x[r][i] * w[i].widen();
        }
    }
    products
}

/// The exponential, to a few units in the last place; exactly 0 where it would be below the smallest
/// normal number.
#[inline(always)]
fn exp<V: Vector>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Written so that a NaN passes through.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > 88.0 { 88.0 } else { bounded };
    let rounded = fma::<V>(bounded, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    // ln 2 in two parts, so that the product is exact.
    let rest = fma::<V>(whole, -0.693_359_4, bounded);
    let rest = fma::<V>(whole, 2.121_944_4e-4, rest);
    let p = fma::<V>(1.987_569_2e-4, rest, 1.398_2e-3);
    let p = fma::<V>(p, rest, 8.333_452e-3);
    let p = fma::<V>(p, rest, 4.166_579_6e-2);
    let p = fma::<V>(p, rest, 1.666_666_6e-1);
    let p = fma::<V>(p, rest, 0.5);
    let p = fma::<V>(p, rest * rest, rest + 1.0);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < LOWEST { 0.0 } else { p * power }
}

#[inline(always)]
fn softmax<V: Vector>(row: &mut [f32]) {
    let max = largest(row);
    row.iter_mut().for_each(|v| *v = exp::<V>(*v - max));
    let scale = 1.0 / sum(row, |v| v);
    row.iter_mut().for_each(|v| *v *= scale);
}

#[cfg(test)]
mod tests;
