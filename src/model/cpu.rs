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
//! The kernels are plain Rust over arrays as wide as a vector register, compiled twice: as the
//! target has it, and for AVX2 with FMA and F16C, chosen when the program runs ([`widest`]). Two
//! forms of product do all the work: [`dot`] runs along the rows of both matrices and touches a
//! weight once, for few rows; [`tile`] takes weights packed into panels of [`PANEL`] columns, for
//! many. Tasks go to rayon's pool, on which burn-flex runs too.

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
/// Columns of a packed panel.
const PANEL: usize = 2 * LANES;
/// Rows that [`tile`] takes at a time: with a panel's width they fill the registers.
const TILE: usize = 6;
/// Up to so many rows, weights are read as they lie; from there on packing them pays.
const FEW: usize = 4;

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
        Some(view) if view.layout().start_offset() == 0 && view.bytes().len() == 4 * x.shape().num_elements() => {
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
    accumulate(x, layers.map(|(weight, _)| weight), outs.iter_mut().map(Vec::as_mut_slice))?;
    let mut outs = layers.iter().zip(outs).map(|((w, _), out)| tensor(out, [rows, w.dims()[0]]));
    Some(std::array::from_fn(|_| outs.next().expect("one a layer")))
}

/// `base + x W^T + b`, in the memory of `base` where nobody else holds it.
///
/// # Errors
/// Gives `base` back.
pub fn linear_onto(base: Tensor<2>, x: &Tensor<2>, (weight, bias): Layer<'_>) -> Result<Tensor<2>, Tensor<2>> {
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
    accumulate(x, [weight], [out].into_iter()).expect("checked above");
    Ok(Tensor::from_primitive::<Flex>(base))
}

/// Adds `x W^T` to every layer's rows.
fn accumulate<'a, const N: usize>(
    x: &Tensor<2>,
    weights: [&Tensor<2>; N],
    outs: impl Iterator<Item = &'a mut [f32]>,
) -> Option<()> {
    let x = plain(x)?;
    let k = x.layout().shape()[1];
    let x: &[f32] = values(&x)?;
    let weights: Vec<FlexTensor> = weights.into_iter().map(flex).collect::<Option<_>>()?;
    fn typed<'a, T: Number>(
        weights: &'a [FlexTensor],
        outs: impl Iterator<Item = &'a mut [f32]>,
    ) -> Option<Vec<Job<'a, T>>> {
        weights.iter().zip(outs).map(|(w, out)| Some(Job { w: values(w)?, out })).collect()
    }
    match weights.first()?.dtype() {
        DType::F32 => multiply::<f32>(x, k, typed(&weights, outs)?),
        DType::F16 => multiply::<f16>(x, k, typed(&weights, outs)?),
        _ => return None,
    }
    Some(())
}

/// One matrix `[n, k]` and the rows `[rows, n]` that it adds to.
struct Job<'a, T> {
    w: &'a [T],
    out: &'a mut [f32],
}

fn multiply<T: Number>(x: &[f32], k: usize, jobs: Vec<Job<'_, T>>) {
    let rows: Vec<&[f32]> = x.chunks_exact(k).collect();
    match rows[..] {
        [] => {}
        [a] => multiply_few([a], jobs),
        [a, b] => multiply_few([a, b], jobs),
        [a, b, c] => multiply_few([a, b, c], jobs),
        [a, b, c, d] => multiply_few([a, b, c, d], jobs),
        _ => jobs.into_iter().for_each(|job| multiply_many(x, k, job)),
    }
    const { assert!(FEW == 4) };
}

/// Every weight is read once: the memory's speed is the limit.
fn multiply_few<T: Number, const R: usize>(x: [&[f32]; R], jobs: Vec<Job<'_, T>>) {
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

/// Blocks of weights are packed once, then every task runs some rows over the whole block.
fn multiply_many<T: Number>(x: &[f32], k: usize, job: Job<'_, T>) {
    /// Weight rows packed at a time: with the rows of a task they fit the second-level cache.
    const BLOCK: usize = 512;
    let Job { w, out } = job;
    let n = w.len() / k;
    let rows = (x.len() / k / (4 * rayon::current_num_threads())).clamp(TILE, 8 * TILE) / TILE * TILE;
    let mut packed = vec![[0.0; PANEL]; BLOCK.min(n).div_ceil(PANEL) * k];
    for first in (0..n).step_by(BLOCK) {
        let columns = first..n.min(first + BLOCK);
        let panels = &mut packed[..columns.len().div_ceil(PANEL) * k];
        panels.par_chunks_exact_mut(k).enumerate().for_each(|(p, panel)| {
            let from = first + p * PANEL;
            let rows = Rows { data: &w[from * k..], stride: k, rows: PANEL.min(n - from), width: k };
            widest(Pack { rows, panel });
        });
        let panels = &*panels;
        out.par_chunks_mut(rows * n).zip(x.par_chunks(rows * k)).for_each(|(out, x)| {
            widest(Block { x, k, panels, out, n, columns: columns.clone() });
        });
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
    fn run<const WIDE: bool>(self) {
        let k = self.x[0].len();
        let (fours, rest) = self.sums.as_chunks_mut::<4>();
        let (w, w_rest) = self.w.split_at(fours.len() * 4 * k);
        for (sums, w) in fours.iter_mut().zip(w.chunks_exact(4 * k)) {
            let products = dot::<WIDE, T, R, 4>(self.x, std::array::from_fn(|c| &w[c * k..(c + 1) * k]));
            *sums = std::array::from_fn(|c| std::array::from_fn(|r| products[r][c]));
        }
        for (sums, w) in rest.iter_mut().zip(w_rest.chunks_exact(k)) {
            let products = dot::<WIDE, T, R, 1>(self.x, [w]);
            *sums = std::array::from_fn(|r| products[r][0]);
        }
    }
}

/// Some rows over a block of packed weights, which becomes `columns` of their outputs.
struct Block<'a> {
    /// `[rows, k]`.
    x: &'a [f32],
    k: usize,
    /// `[panels, k]`.
    panels: &'a [[f32; PANEL]],
    /// `[rows, n]`.
    out: &'a mut [f32],
    n: usize,
    columns: Range<usize>,
}

impl Kernel for Block<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        /// Part of a panel that stays in the first-level cache while all rows pass.
        const DEPTH: usize = 256;
        let Block { x, k, panels, out, n, columns } = self;
        let rows: Vec<&[f32]> = x.chunks_exact(k).collect();
        for from in (0..k).step_by(DEPTH) {
            let depth = from..k.min(from + DEPTH);
            for (panel, column) in panels.chunks_exact(k).zip(columns.clone().step_by(PANEL)) {
                let width = PANEL.min(columns.end - column);
                tiles::<WIDE>(&rows, depth.clone(), &panel[depth.clone()], |row, sums| {
                    let at = row * n + column;
                    add(&mut out[at..at + width], sums);
                });
            }
        }
    }
}

/// `out += sums`, fewer than a panel's width at the edge.
#[inline(always)]
fn add(out: &mut [f32], sums: &[f32; PANEL]) {
    match <&mut [f32; PANEL]>::try_from(&mut *out) {
        Ok(out) => (0..PANEL).for_each(|i| out[i] += sums[i]),
        Err(_) => out.iter_mut().zip(sums).for_each(|(o, s)| *o += s),
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
        (ours && old.is_unique() && old.bytes().len() >= heads * room * width * size_of::<T>()).then_some(room)
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
    Tensor::from_primitive::<Flex>(buffer.with_layout(Layout::new(Shape::from([heads, all, width]), strides, 0)))
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
}

/// `[heads, rows, width]` in any strides whose last is 1.
#[derive(Clone, Copy)]
struct Heads<'a, T> {
    first: Rows<'a, T>,
    heads: usize,
    stride: usize,
}

impl<'a, T: Element + Pod> Heads<'a, T> {
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

fn attention_over<T: Number + Element>(
    q: Heads<'_, f32>,
    k: Heads<'_, T>,
    v: Heads<'_, T>,
    attend: &Attend<'_>,
) -> Option<Attended> {
    /// Query rows, counted over the heads that share a key head, whose scores stay in the cache.
    const ROWS: usize = 8 * TILE;
    /// Pairs below which waking another thread costs more than it saves.
    const WORTH: usize = 1 << 12;
    let (heads, rows, width) = (q.heads, q.first.rows, q.first.width);
    let (kv_heads, keys) = (k.heads, k.first.rows);
    let group = heads / kv_heads;
    let chunk = (ROWS / group).clamp(1, rows);
    let packed: Option<Vec<[Vec<[f32; PANEL]>; 2]>> = (group * rows > FEW).then(|| {
        let pack = |h| [widest(Upright(k.head(h))), widest(Flat(v.head(h)))];
        (0..kv_heads).into_par_iter().map(pack).collect()
    });
    let task = |n: usize| {
        let (first, kv) = (n / kv_heads * chunk, n % kv_heads);
        widest(Chunk {
            attend,
            q: (kv * group..(kv + 1) * group).map(|h| q.head(h)).collect(),
            heads: kv * group..(kv + 1) * group,
            k: k.head(kv),
            v: v.head(kv),
            packed: packed.as_ref().map(|p| [&*p[kv][0], &*p[kv][1]]),
            rows: first..rows.min(first + chunk),
            of: rows,
        })
    };
    let tasks = rows.div_ceil(chunk) * kv_heads;
    let done: Vec<Chunked> = if heads * rows * keys < WORTH {
        (0..tasks).map(task).collect()
    } else {
        (0..tasks).into_par_iter().map(task).collect()
    };

    let mut mixed = vec![0.0; rows * heads * width];
    let by_chunk = mixed.par_chunks_mut(chunk * heads * width).zip(done.par_chunks(kv_heads));
    by_chunk.for_each(|(mixed, done)| {
        let rows = mixed.len() / (heads * width);
        for (head, from) in done.iter().flat_map(|d| d.mixed.chunks_exact(rows * width)).enumerate() {
            for (row, from) in from.chunks_exact(width).enumerate() {
                mixed[(row * heads + head) * width..][..width].copy_from_slice(from);
            }
        }
    });
    let kept: Vec<usize> = (0..heads).filter(|&h| attend.keeps_head(h)).collect();
    let kept_shape = [kept.len(), attend.rows.len(), keys];
    let mut pattern = Vec::with_capacity(kept_shape.iter().product());
    for head in kept {
        for (_, part) in done[head / group..].iter().step_by(kv_heads).flat_map(|d| &d.pattern).filter(|p| p.0 == head) {
            pattern.extend_from_slice(part);
        }
    }
    let left = |b| done.iter().map(|d| d.left[b]).fold(0.0, f32::max);
    Some(Attended {
        mixed: tensor(mixed, [rows, heads * width]),
        pattern: (!pattern.is_empty()).then(|| tensor(pattern, kept_shape)),
        left: (0..attend.blocked.len()).map(left).collect(),
    })
}

/// Keys `[keys, width]` turned into panels of keys: `[panels, width]`.
struct Upright<'a, T>(Rows<'a, T>);

impl<T: Number> Kernel for Upright<'_, T> {
    type Out = Vec<[f32; PANEL]>;

    #[inline(always)]
    fn run<const WIDE: bool>(self) -> Self::Out {
        let Rows { data, stride, rows, width } = self.0;
        let mut panels = vec![[0.0; PANEL]; rows.div_ceil(PANEL) * width];
        for (p, panel) in panels.chunks_exact_mut(width).enumerate() {
            let first = p * PANEL;
            let rows = Rows { data: &data[first * stride..], stride, rows: PANEL.min(rows - first), width };
            Pack { rows, panel }.run::<WIDE>();
        }
        panels
    }
}

/// Values `[keys, width]` cut into panels of columns: `[panels, keys]`.
struct Flat<'a, T>(Rows<'a, T>);

impl<T: Number> Kernel for Flat<'_, T> {
    type Out = Vec<[f32; PANEL]>;

    #[inline(always)]
    fn run<const WIDE: bool>(self) -> Self::Out {
        let rows = self.0;
        let panels = (0..rows.width).step_by(PANEL);
        panels.flat_map(|at| (0..rows.rows).map(move |r| columns::<WIDE, T>(rows.row(r), at))).collect()
    }
}

/// A panel's width of a row from column `at`, with zeros past its end.
#[inline(always)]
fn columns<const WIDE: bool, T: Number>(row: &[T], at: usize) -> [f32; PANEL] {
    let mut padded = [T::zeroed(); PANEL];
    match row.get(at..at + PANEL) {
        Some(part) => padded.copy_from_slice(part),
        None => padded[..row.len() - at].copy_from_slice(&row[at..]),
    }
    let [a, b]: [[T; LANES]; 2] = bytemuck::cast(padded);
    bytemuck::cast([T::widen8::<WIDE>(&a), T::widen8::<WIDE>(&b)])
}

/// Attention of some rows of the query heads that share a key head.
struct Chunk<'a, T> {
    attend: &'a Attend<'a>,
    /// Per query head, all rows.
    q: Vec<Rows<'a, f32>>,
    /// Their numbers.
    heads: Range<usize>,
    k: Rows<'a, T>,
    v: Rows<'a, T>,
    /// Keys and values in panels, where there are enough rows to pay for it.
    packed: Option<[&'a [[f32; PANEL]]; 2]>,
    /// The rows of this chunk.
    rows: Range<usize>,
    /// All rows.
    of: usize,
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
    fn run<const WIDE: bool>(self) -> Chunked {
        let Chunk { attend, q, heads, k, v, packed, rows, of } = self;
        let (width, keys) = (k.width, k.rows);
        // Keys that row `r` sees.
        let seen = |r: usize| if attend.causal { keys - of + r + 1 } else { keys };
        let most = seen(rows.end - 1);
        let stride = most.next_multiple_of(PANEL);
        let queries: Vec<&[f32]> = q.iter().flat_map(|q| rows.clone().map(move |r| q.row(r))).collect();
        let mut scores = vec![0.0; queries.len() * stride];
        match packed {
            Some([k, _]) => {
                for (p, panel) in k[..stride / PANEL * width].chunks_exact(width).enumerate() {
                    tiles::<WIDE>(&queries, 0..width, panel, |row, sums| {
                        let out = &mut scores[row * stride + p * PANEL..][..PANEL];
                        (0..PANEL).for_each(|i| out[i] = sums[i] * attend.scale);
                    });
                }
            }
            None => few_scores::<WIDE, T>(&queries, &k, most, attend.scale, &mut scores, stride),
        }

        let mut left = vec![0.0f32; attend.blocked.len()];
        let head_rows = || heads.clone().flat_map(|h| rows.clone().map(move |r| (h, r)));
        for ((head, r), scores) in head_rows().zip(scores.chunks_exact_mut(stride)) {
            let (scores, hidden) = scores.split_at_mut(seen(r));
            let cuts = || attend.blocked.iter().enumerate().filter(|(_, b)| b.heads[head] && b.rows[r]);
            for (_, cut) in cuts() {
                scores.iter_mut().zip(&cut.keys).filter(|(_, cut)| **cut).for_each(|(s, _)| *s = attend.fill);
            }
            softmax::<WIDE>(scores);
            hidden.fill(0.0);
            for (n, cut) in cuts() {
                let mass = scores.iter().zip(&cut.keys).filter(|(_, cut)| **cut);
                left[n] = mass.fold(left[n], |left, (s, _)| left.max(*s));
            }
        }

        let keep = |(head, scores): (usize, &[f32])| {
            let mut part = Vec::new();
            for r in attend.rows.iter().filter(|r| rows.contains(r)) {
                part.extend_from_slice(&scores[(r - rows.start) * stride..][..most]);
                part.resize(part.len() + keys - most, 0.0);
            }
            (head, part)
        };
        let by_head = heads.clone().zip(scores.chunks_exact(rows.len() * stride));
        let pattern = by_head.filter(|(h, _)| attend.keeps_head(*h)).map(keep).collect();

        let weights: Vec<&[f32]> = scores.chunks_exact(stride).map(|s| &s[..most]).collect();
        let mut mixed = vec![0.0; weights.len() * width];
        for at in (0..width).step_by(PANEL) {
            let columns = at..width.min(at + PANEL);
            let mut put = |row: usize, sums: &[f32; PANEL]| {
                mixed[row * width..][columns.clone()].copy_from_slice(&sums[..columns.len()]);
            };
            match packed {
                Some([_, v]) => {
                    let panel = &v[at / PANEL * keys..][..most];
                    tiles::<WIDE>(&weights, 0..most, panel, &mut put);
                }
                None => few_values::<WIDE, T>(&weights, &v, at, &mut put),
            }
        }
        Chunked { mixed, pattern, left }
    }
}

/// Scores of at most [`FEW`] queries, keys read as they lie.
#[inline(always)]
fn few_scores<const WIDE: bool, T: Number>(
    queries: &[&[f32]],
    k: &Rows<'_, T>,
    seen: usize,
    scale: f32,
    scores: &mut [f32],
    stride: usize,
) {
    macro_rules! over_keys {
        ($($query:ident),*) => {{
            const QUERIES: usize = [$(stringify!($query)),*].len();
            for key in (0..seen).step_by(4) {
                // The last few keys may be taken twice.
                let key = key.min(seen.saturating_sub(4));
                let keys: [&[T]; 4] = std::array::from_fn(|i| k.row(seen.min(key + i + 1) - 1));
                let sums = dot::<WIDE, T, QUERIES, 4>([$($query),*], keys);
                for (r, sums) in sums.iter().enumerate() {
                    let sums = sums.map(|s| s * scale);
                    let n = seen.min(4);
                    scores[r * stride + key..][..n].copy_from_slice(&sums[..n]);
                }
            }
        }};
    }
    match *queries {
        [a] => over_keys!(a),
        [a, b] => over_keys!(a, b),
        [a, b, c] => over_keys!(a, b, c),
        [a, b, c, d] => over_keys!(a, b, c, d),
        _ => unreachable!("more than FEW queries"),
    }
}

/// Columns of values, mixed by at most [`FEW`] rows of weights, read as they lie.
#[inline(always)]
fn few_values<const WIDE: bool, T: Number>(
    weights: &[&[f32]],
    v: &Rows<'_, T>,
    at: usize,
    put: &mut impl FnMut(usize, &[f32; PANEL]),
) {
    let seen = weights[0].len();
    let values = (0..seen).map(|key| columns::<WIDE, T>(v.row(key), at));
    macro_rules! over_values {
        ($($row:ident),*) => {
            tile::<WIDE, { [$(stringify!($row)),*].len() }>([$($row),*], values).iter().enumerate().for_each(|(r, s)| put(r, s))
        };
    }
    match *weights {
        [a] => over_values!(a),
        [a, b] => over_values!(a, b),
        [a, b, c] => over_values!(a, b, c),
        [a, b, c, d] => over_values!(a, b, c, d),
        _ => unreachable!("more than FEW rows"),
    }
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
    fn run<const WIDE: bool>(self) {
        let Norm { out, x, weight, bias, eps } = self;
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let mean = if bias.is_some() { sum::<WIDE>(x, |v| v) / width as f32 } else { 0.0 };
            let variance = sum::<WIDE>(x, |v| (v - mean) * (v - mean)) / width as f32;
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
    fn run<const WIDE: bool>(self) {
        let Activate { act, out, factor } = self;
        // `0.5 (1 + tanh u)` is `sigmoid(2 u)`.
        let sigmoid = |u: f32| 1.0 / (1.0 + exp::<WIDE>(-u));
        match act {
            Activation::Silu => out.iter_mut().for_each(|v| *v *= sigmoid(*v)),
            Activation::QuickGelu => out.iter_mut().for_each(|v| *v *= sigmoid(1.702 * *v)),
            Activation::GeluTanh => out.iter_mut().for_each(|v| {
                let cubic = fma::<WIDE>(0.044_715 * *v * *v, *v, *v);
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
    /// With `WIDE`, compiled for AVX2, FMA and F16C. Must be inlined into [`widest`].
    fn run<const WIDE: bool>(self) -> Self::Out;
}

/// Runs a kernel with the widest instructions that this machine has.
fn widest<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn wide<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<true>()
        }
        // SAFETY: the three features were just detected.
        #[allow(unsafe_code)]
        return unsafe { wide(kernel) };
    }
    kernel.run::<false>()
}

/// A format of matrices.
trait Number: Pod + Send + Sync {
    fn widen(self) -> f32;
    fn widen8<const WIDE: bool>(values: &[Self; LANES]) -> [f32; LANES];
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widen8<const WIDE: bool>(values: &[f32; LANES]) -> [f32; LANES] {
        *values
    }
}

impl Number for f16 {
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
    fn widen8<const WIDE: bool>(values: &[f16; LANES]) -> [f32; LANES] {
        #[cfg(target_arch = "x86_64")]
        if WIDE {
            use std::arch::x86_64::{__m128i, _mm256_cvtph_ps};
            let halves: __m128i = bytemuck::cast(*values);
            // SAFETY: WIDE means that F16C is there.
            #[allow(unsafe_code)]
            return bytemuck::cast(unsafe { _mm256_cvtph_ps(halves) });
        }
        values.map(Number::widen)
    }
}

/// `a * b + c`, fused where the machine can.
#[inline(always)]
fn fma<const WIDE: bool>(a: f32, b: f32, c: f32) -> f32 {
    if WIDE || cfg!(target_arch = "aarch64") { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn fma8<const WIDE: bool>(a: [f32; LANES], b: [f32; LANES], c: &mut [f32; LANES]) {
    for i in 0..LANES {
        c[i] = fma::<WIDE>(a[i], b[i], c[i]);
    }
}

#[inline(always)]
fn across(v: [f32; LANES]) -> f32 {
    ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
}

/// The sum of `f` over a row.
#[inline(always)]
fn sum<const WIDE: bool>(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (eights, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for v in eights {
        for i in 0..LANES {
            sums[i] += f(v[i]);
        }
    }
    rest.iter().fold(across(sums), |sum, &v| sum + f(v))
}

/// `[r][c]`: row `r` of `x` times row `c` of `w`.
#[inline(always)]
fn dot<const WIDE: bool, T: Number, const R: usize, const C: usize>(
    x: [&[f32]; R],
    w: [&[T]; C],
) -> [[f32; C]; R] {
    let k = x[0].len();
    let eights = k / LANES;
    let x8: [&[[f32; LANES]]; R] = x.map(|x| &x[..k].as_chunks().0[..eights]);
    let w8: [&[[T; LANES]]; C] = w.map(|w| &w[..k].as_chunks().0[..eights]);
    let mut sums = [[[0.0; LANES]; C]; R];
    for i in 0..eights {
        let w = w8.map(|w| T::widen8::<WIDE>(&w[i]));
        for r in 0..R {
            for c in 0..C {
                fma8::<WIDE>(x8[r][i], w[c], &mut sums[r][c]);
            }
        }
    }
    std::array::from_fn(|r| {
        std::array::from_fn(|c| {
            (eights * LANES..k).fold(across(sums[r][c]), |sum, i| sum + x[r][i] * w[c][i].widen())
        })
    })
}

/// `[r]`: row `r` of `x` times a panel, whose rows come one by one.
#[inline(always)]
fn tile<const WIDE: bool, const R: usize>(
    x: [&[f32]; R],
    panel: impl Iterator<Item = [f32; PANEL]>,
) -> [[f32; PANEL]; R] {
    let mut sums = [[[0.0; LANES]; 2]; R];
    for (i, columns) in panel.enumerate() {
        let columns: [[f32; LANES]; 2] = bytemuck::cast(columns);
        for r in 0..R {
            let x = [x[r][i]; LANES];
            fma8::<WIDE>(x, columns[0], &mut sums[r][0]);
            fma8::<WIDE>(x, columns[1], &mut sums[r][1]);
        }
    }
    sums.map(|s| bytemuck::cast(s))
}

/// [`tile`] over any number of rows, of which `part` meets the panel.
#[inline(always)]
fn tiles<const WIDE: bool>(
    rows: &[&[f32]],
    part: Range<usize>,
    panel: &[[f32; PANEL]],
    mut put: impl FnMut(usize, &[f32; PANEL]),
) {
    let mut first = 0;
    macro_rules! tile {
        ($n:literal) => {{
            let x: [&[f32]; $n] = std::array::from_fn(|i| &rows[first + i][part.clone()][..panel.len()]);
            tile::<WIDE, $n>(x, panel.iter().copied()).iter().enumerate().for_each(|(i, s)| put(first + i, s));
            first += $n;
        }};
    }
    while first < rows.len() {
        match rows.len() - first {
            1 => tile!(1),
            2 => tile!(2),
            3 => tile!(3),
            4 => tile!(4),
            5 => tile!(5),
            _ => tile!(6),
        }
    }
    const { assert!(TILE == 6) };
}

/// At most [`PANEL`] rows packed into a panel `[width]`, zeros for those that are not there.
struct Pack<'a, T> {
    rows: Rows<'a, T>,
    panel: &'a mut [[f32; PANEL]],
}

impl<T: Number> Kernel for Pack<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        let Pack { rows, panel } = self;
        let (eights, rest) = panel.as_chunks_mut::<LANES>();
        let done = eights.len() * LANES;
        for (at, eight) in (0..).step_by(LANES).zip(eights) {
            for half in [0, LANES] {
                let block: [[f32; LANES]; LANES] = std::array::from_fn(|r| {
                    let mut values = [T::zeroed(); LANES];
                    if half + r < rows.rows {
                        values.copy_from_slice(&rows.row(half + r)[at..at + LANES]);
                    }
                    T::widen8::<WIDE>(&values)
                });
                for (columns, turned) in eight.iter_mut().zip(transpose(block)) {
                    columns[half..half + LANES].copy_from_slice(&turned);
                }
            }
        }
        for (at, columns) in (done..).zip(rest) {
            *columns = std::array::from_fn(|r| if r < rows.rows { rows.row(r)[at].widen() } else { 0.0 });
        }
    }
}

/// In three rounds of exchanges, each of which is one shuffle of two registers.
#[inline(always)]
fn transpose(v: [[f32; LANES]; LANES]) -> [[f32; LANES]; LANES] {
    type V = [f32; LANES];
    let low = |a: V, b: V| [a[0], b[0], a[1], b[1], a[4], b[4], a[5], b[5]];
    let high = |a: V, b: V| [a[2], b[2], a[3], b[3], a[6], b[6], a[7], b[7]];
    let v = [
        low(v[0], v[1]),
        high(v[0], v[1]),
        low(v[2], v[3]),
        high(v[2], v[3]),
        low(v[4], v[5]),
        high(v[4], v[5]),
        low(v[6], v[7]),
        high(v[6], v[7]),
    ];
    let low = |a: V, b: V| [a[0], a[1], b[0], b[1], a[4], a[5], b[4], b[5]];
    let high = |a: V, b: V| [a[2], a[3], b[2], b[3], a[6], a[7], b[6], b[7]];
    let v = [
        low(v[0], v[2]),
        high(v[0], v[2]),
        low(v[1], v[3]),
        high(v[1], v[3]),
        low(v[4], v[6]),
        high(v[4], v[6]),
        low(v[5], v[7]),
        high(v[5], v[7]),
    ];
    let low = |a: V, b: V| [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]];
    let high = |a: V, b: V| [a[4], a[5], a[6], a[7], b[4], b[5], b[6], b[7]];
    [
        low(v[0], v[4]),
        low(v[1], v[5]),
        low(v[2], v[6]),
        low(v[3], v[7]),
        high(v[0], v[4]),
        high(v[1], v[5]),
        high(v[2], v[6]),
        high(v[3], v[7]),
    ]
}

/// The exponential, to a few units in the last place; exactly 0 where it would be below the smallest
/// normal number.
#[inline(always)]
fn exp<const WIDE: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Written so that a NaN passes through.
    let bounded = if x < LOWEST { LOWEST } else { x };
    let bounded = if bounded > 88.0 { 88.0 } else { bounded };
    let rounded = fma::<WIDE>(bounded, std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    // ln 2 in two parts, so that the product is exact.
    let rest = fma::<WIDE>(whole, -0.693_359_4, bounded);
    let rest = fma::<WIDE>(whole, 2.121_944_4e-4, rest);
    let p = fma::<WIDE>(1.987_569_2e-4, rest, 1.398_2e-3);
    let p = fma::<WIDE>(p, rest, 8.333_452e-3);
    let p = fma::<WIDE>(p, rest, 4.166_579_6e-2);
    let p = fma::<WIDE>(p, rest, 1.666_666_6e-1);
    let p = fma::<WIDE>(p, rest, 0.5);
    let p = fma::<WIDE>(p, rest * rest, rest + 1.0);
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if x < LOWEST { 0.0 } else { p * power }
}

#[inline(always)]
fn softmax<const WIDE: bool>(row: &mut [f32]) {
    let (eights, rest) = row.as_chunks::<LANES>();
    let mut max = [f32::MIN; LANES];
    for v in eights {
        for i in 0..LANES {
            max[i] = if v[i] > max[i] { v[i] } else { max[i] };
        }
    }
    let max = max.iter().chain(rest).copied().fold(f32::MIN, f32::max);
    row.iter_mut().for_each(|v| *v = exp::<WIDE>(*v - max));
    let scale = 1.0 / sum::<WIDE>(row, |v| v);
    row.iter_mut().for_each(|v| *v *= scale);
}
