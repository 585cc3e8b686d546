//! Kernels of our own for the CPU, where burn's operators on flex are the limit: products with
//! weights, attention, activations, norms, rotary embedding.
//!
//! Every public function takes tensors and declines (`None`, or the argument given back) unless all
//! of them are plain flex tensors in a format that it knows: those on a GPU and those that carry
//! gradients take burn's own path, which the callers keep beside it. Knows shapes and numbers; does
//! not know models, spans or files.
//!
//! Layouts as in the callers: activations `[rows, width]`, heads `[heads, rows, width]`, row-major in
//! float32; matrices as [`Panels`], cached keys and values as [`append`] lays them, in float32 or
//! float16. Sums are float32, whatever the matrices are.
//!
//! All products are made by one function, [`tile`]: every number is a single chain of fused products
//! in the order of the inner dimension, however many rows go through together. **A row comes out the
//! same to the last bit, alone or among others**: a resumed run can equal one from scratch.
//!
//! Plain Rust over arrays as wide as a vector register, compiled for several instruction sets, chosen
//! when the program runs ([`widest`]). Tasks go to rayon's pool, on which burn-flex runs too.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]
#![allow(clippy::needless_range_loop, reason = "loops over registers read alike, and compile to them")]

use std::{borrow::Cow, mem::MaybeUninit, ops::Range, sync::Arc};

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

use crate::{checkpoint::config::Activation, model::hooks::Blocked};

/// Numbers in a [`Vector`].
const LANES: usize = 16;
/// Columns that [`tile`] makes at a time.
const PANEL: usize = 2 * LANES;
/// Most rows that it makes at a time.
const MOST: usize = 12;
/// Multiplications below which waking another thread costs more than it saves.
const WORTH: usize = 1 << 17;

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

/// A tensor on the CPU, in the memory of `values`.
pub(super) fn tensor<const D: usize, T: Element + Pod + Send + Sync>(
    values: Vec<T>,
    shape: [usize; D],
) -> Tensor<D> {
    let layout = Layout::contiguous(Shape::from(shape));
    Tensor::from_primitive::<Flex>(FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()))
}

/// `n` numbers that `write` makes run by run, on all cores where there is more than one run. It gets a
/// run's number and zeros, fresh in the cache of the core that is to write over them.
fn in_runs(n: usize, run: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut all = Vec::with_capacity(n);
    let make = |(number, place): (usize, &mut [MaybeUninit<f32>])| {
        place.fill(MaybeUninit::new(0.0));
        // SAFETY: filled just now.
        #[allow(unsafe_code)]
        write(number, unsafe { place.assume_init_mut() });
    };
    let place = &mut all.spare_capacity_mut()[..n];
    if n <= run {
        make((0, place));
    } else {
        place.par_chunks_mut(run).enumerate().for_each(make);
    }
    // SAFETY: every run has been filled.
    #[allow(unsafe_code)]
    unsafe {
        all.set_len(n);
    }
    all
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

/// A matrix `[out, in]` that lies as products read it, one long run of memory: `[panels, in, PANEL]`,
/// where a panel is so many neighbouring outputs, the last filled up with zeros.
#[derive(Clone, Debug)]
pub struct Panels {
    data: Tensor<3>,
    out: usize,
}

impl Panels {
    /// Of a matrix `[out, in]`, float32 or float16.
    ///
    /// # Errors
    /// Gives it back.
    pub fn new(matrix: Tensor<2>) -> Result<Self, Tensor<2>> {
        let [out, k] = matrix.dims();
        let Some(lies) = flex(&matrix).filter(|_| out * k > 0) else { return Err(matrix) };
        let lies = if lies.is_contiguous() { lies } else { lies.to_contiguous() };
        let data = match (values::<f32>(&lies), values::<f16>(&lies)) {
            (Some(matrix), _) => Self::laid(matrix, k),
            (_, Some(matrix)) => Self::laid(matrix, k),
            _ => return Err(matrix),
        };
        Ok(Panels { data, out })
    }

    fn laid<T: Number>(matrix: &[T], k: usize) -> Tensor<3> {
        let panels = (matrix.len() / k).div_ceil(PANEL);
        let mut data = vec![T::zeroed(); panels * k * PANEL];
        data.par_chunks_exact_mut(k * PANEL).zip(matrix.par_chunks(k * PANEL)).for_each(|(panel, rows)| {
            for (column, row) in rows.chunks_exact(k).enumerate() {
                interleave(row, panel, column, PANEL);
            }
        });
        tensor(data, [panels, k, PANEL])
    }

    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.out, self.data.dims()[1]]
    }

    /// How the numbers are held.
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }

    /// `[n, in]`, float32: single rows of the matrix.
    ///
    /// # Panics
    /// If a row is not there.
    pub fn rows(&self, rows: &[usize]) -> Tensor<2> {
        assert!(rows.iter().all(|&row| row < self.out), "rows of the matrix");
        let data = flex(&self.data).expect("made so");
        match self.dtype() {
            DType::F32 => self.rows_of::<f32>(&data, rows),
            _ => self.rows_of::<f16>(&data, rows),
        }
    }

    fn rows_of<T: Number>(&self, data: &FlexTensor, rows: &[usize]) -> Tensor<2> {
        let (k, data) = (self.data.dims()[1], values::<T>(data).expect("of this format"));
        let row = |&row: &usize| {
            let panel = &data[row / PANEL * k * PANEL..][..k * PANEL];
            panel.iter().skip(row % PANEL).step_by(PANEL).map(|v| v.widen())
        };
        tensor(rows.iter().flat_map(row).collect(), [rows.len(), k])
    }

    /// `x W^T` by burn's own operators and in the matrix's format, for rows that the kernels decline. Laid
    /// anew as one matrix: panel by panel, the way back would sum a gradient of all rows for each.
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let [panels, k, _] = self.data.dims();
        let matrix = self.data.clone().swap_dims(0, 1).reshape([k, panels * PANEL]).narrow(1, 0, self.out);
        x.cast(self.dtype()).matmul(matrix).cast(DType::F32)
    }
}

/// A weight `[out, in]`, where it lies in panels, and its bias `[out]`.
pub type Layer<'a> = (Option<&'a Panels>, Option<&'a Tensor<1>>);

/// `x W^T + b` of several layers over the same rows, in one go.
pub fn linear<const N: usize>(x: &Tensor<2>, layers: [Layer<'_>; N]) -> Option<[Tensor<2>; N]> {
    let x = plain(x)?;
    let rows = x.layout().shape()[0];
    let weights: Vec<&Panels> = layers.iter().map(|(weight, _)| *weight).collect::<Option<_>>()?;
    let mut outs: Vec<Vec<f32>> = weights.iter().map(|w| Vec::with_capacity(rows * w.out)).collect();
    let places = outs.iter_mut().zip(&weights).map(|(out, w)| &mut out.spare_capacity_mut()[..rows * w.out]);
    product(&x, &layers, places.collect())?;
    for (out, weight) in outs.iter_mut().zip(&weights) {
        // SAFETY: the product has written every column of every row.
        #[allow(unsafe_code)]
        unsafe {
            out.set_len(rows * weight.out);
        }
    }
    let mut outs = weights.iter().zip(outs).map(|(w, out)| tensor(out, [rows, w.out]));
    Some(std::array::from_fn(|_| outs.next().expect("one a layer")))
}

/// `base + x W^T + b`, in the memory of `base` where nobody else holds it.
///
/// # Errors
/// Gives `base` back.
pub fn linear_onto(base: Tensor<2>, x: &Tensor<2>, layer: Layer<'_>) -> Result<Tensor<2>, Tensor<2>> {
    let Some(x) = plain(x) else { return Err(base) };
    let mut base = owned(base)?;
    match product(&x, &[layer], vec![base.storage_mut::<f32>()]) {
        Some(()) => Ok(Tensor::from_primitive::<Flex>(base)),
        None => Err(Tensor::from_primitive::<Flex>(base)),
    }
}

/// What a product does with its numbers.
trait Place: Send {
    fn take(&mut self, number: f32);
}

impl Place for MaybeUninit<f32> {
    #[inline(always)]
    fn take(&mut self, number: f32) {
        self.write(number);
    }
}

/// Adds them to what is there.
impl Place for f32 {
    #[inline(always)]
    fn take(&mut self, number: f32) {
        *self += number;
    }
}

/// Hands `x W^T + b` to every layer's places, `[rows, out]`; to none of them where it declines.
fn product<O: Place>(x: &FlexTensor, layers: &[Layer<'_>], outs: Vec<&mut [O]>) -> Option<()> {
    let k = x.layout().shape()[1];
    let x: &[f32] = values(x)?;
    let weights: Vec<&Panels> = layers.iter().map(|(weight, _)| *weight).collect::<Option<_>>()?;
    if weights.iter().any(|w| w.dims()[1] != k) {
        return None;
    }
    let data: Vec<FlexTensor> = weights.iter().map(|w| flex(&w.data)).collect::<Option<_>>()?;
    let bias = |(_, bias): &Layer<'_>| bias.map_or(Some(None), |bias| Some(Some(plain(bias)?)));
    let biases: Vec<Option<FlexTensor>> = layers.iter().map(bias).collect::<Option<_>>()?;
    match weights.first()?.dtype() {
        DType::F32 => multiply(x, k, jobs::<f32, O>(&weights, &data, &biases, outs)?),
        _ => multiply(x, k, jobs::<f16, O>(&weights, &data, &biases, outs)?),
    }
    Some(())
}

/// The panels of one matrix and its bias, and the places of their product, `[rows, n]`.
struct Job<'w, 'o, T, O> {
    panels: &'w [T],
    bias: Option<&'w [f32]>,
    n: usize,
    out: &'o mut [O],
}

fn jobs<'w, 'o, T: Number, O>(
    weights: &[&Panels],
    data: &'w [FlexTensor],
    biases: &'w [Option<FlexTensor>],
    outs: Vec<&'o mut [O]>,
) -> Option<Vec<Job<'w, 'o, T, O>>> {
    let all = weights.iter().zip(data).zip(biases).zip(outs);
    let job = |(((w, data), bias), out): (((&&Panels, &'w FlexTensor), &'w Option<FlexTensor>), _)| {
        Some(Job { panels: values(data)?, bias: bias.as_ref().and_then(values), n: w.out, out })
    };
    all.map(job).collect()
}

/// Neighbouring panels, and their bias.
struct Part<'w, T> {
    panels: &'w [T],
    bias: Option<&'w [f32]>,
}

/// A task takes some panels of a matrix, which stay in its core's cache while all rows pass by.
fn multiply<T: Number, O: Place>(x: &[f32], k: usize, jobs: Vec<Job<'_, '_, T, O>>) {
    /// Bytes of panels that a task takes at most.
    const NEAR: usize = 1 << 19;
    /// Tasks a thread: so many that none waits long for the others.
    const TASKS: usize = 16;
    let (rows, panel) = (x.len() / k, k * PANEL);
    if rows == 0 {
        return;
    }
    let tiles = Tiles::new(Rows { data: x, stride: k, rows, width: k });
    let numbers: usize = jobs.iter().map(|job| job.panels.len()).sum();
    let alone = rows * numbers < WORTH;
    let threads = if alone { 1 } else { TASKS * rayon::current_num_threads() };
    let near = (NEAR / (panel * size_of::<T>())).max(1);
    let each = (numbers / panel).div_ceil(threads).min(if alone { usize::MAX } else { near });
    // Parts of rows, those of a task side by side.
    let mut outs: Vec<&mut [O]> = Vec::new();
    let mut parts: Vec<Part<'_, T>> = Vec::new();
    for job in jobs {
        let rows = job.out.chunks_exact_mut(job.n).map(|row| row.chunks_mut(each * PANEL));
        let mut rows: Vec<_> = rows.collect();
        for (n, part) in job.panels.chunks(each * panel).enumerate() {
            parts.push(Part { panels: part, bias: job.bias.map(|bias| &bias[n * each * PANEL..]) });
            outs.extend(rows.iter_mut().filter_map(Iterator::next));
        }
    }
    let task = |(n, outs): (usize, &mut [&mut [O]])| {
        let next = parts.get(n + 1).map_or(&[][..], |next| next.panels);
        widest(Product { tiles: &tiles, part: &parts[n], next, outs });
    };
    if alone {
        outs.chunks_exact_mut(rows).enumerate().for_each(task);
    } else {
        outs.par_chunks_exact_mut(rows).enumerate().for_each(task);
    }
}

/// Writes a row as column `at` of a matrix of `columns` columns.
fn interleave<T: Copy>(row: &[T], to: &mut [T], at: usize, columns: usize) {
    to.iter_mut().skip(at).step_by(columns).zip(row).for_each(|(to, from)| *to = *from);
}

/// Rows as [`tile`] reads them fastest: a few together, interleaved.
struct Tiles<'a> {
    data: Cow<'a, [f32]>,
    /// Rows of every tile but the last, which may have fewer.
    each: usize,
    k: usize,
}

impl<'a> Tiles<'a> {
    fn new(x: Rows<'a, f32>) -> Self {
        let each = x.rows.div_ceil(x.rows.div_ceil(widest(RowsOfATile)));
        if each == 1 {
            return Tiles { data: Cow::Borrowed(x.data), each, k: x.width };
        }
        let data = in_runs(x.rows * x.width, each * x.width, |n, tile| {
            let rows = tile.len() / x.width;
            for r in 0..rows {
                interleave(x.row(n * each + r), tile, r, rows);
            }
        });
        Tiles { data: Cow::Owned(data), each, k: x.width }
    }

    fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks(self.each * self.k)
    }
}

/// Hands the products of all rows with a part of a matrix to these rows' parts of the result.
struct Product<'a, 'o, T, O> {
    tiles: &'a Tiles<'a>,
    part: &'a Part<'a, T>,
    /// The panels of the part that comes next: most likely this core's as well.
    next: &'a [T],
    outs: &'a mut [&'o mut [O]],
}

impl<T: Number, O: Place> Kernel for Product<'_, '_, T, O> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let k = self.tiles.k;
        // As many pieces of what comes next as there are tiles to make; a single row is through before it
        // could help.
        let tiles = self.outs.len().div_ceil(self.tiles.each) * self.part.panels.len() / (k * PANEL);
        let next = if self.outs.len() > 1 { self.next } else { &[] };
        let mut ahead = next.chunks(next.len().div_ceil(tiles).max(1));
        for (x, outs) in self.tiles.iter().zip(self.outs.chunks_mut(self.tiles.each)) {
            for (n, panel) in self.part.panels.chunks_exact(k * PANEL).enumerate() {
                let panel = Rows { data: panel, stride: PANEL, rows: k, width: PANEL };
                let ahead = ahead.next().unwrap_or_default();
                let mut sums = tile_of::<V, T>(Few::Interleaved(x, outs.len()), panel, 0, ahead);
                if let Some(bias) = self.part.bias {
                    let bias = &bias[n * PANEL..];
                    for sums in &mut sums {
                        sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
                    }
                }
                for (out, sums) in outs.iter_mut().zip(&sums) {
                    out[n * PANEL..].iter_mut().zip(sums).for_each(|(out, sum)| out.take(*sum));
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// Products of a few rows
// ---------------------------------------------------------------------------------------------

/// At most [`Vector::ROWS`] rows of the same width.
#[derive(Clone, Copy)]
enum Few<'a> {
    /// `[width, rows]`, and how many rows.
    Interleaved(&'a [f32], usize),
    /// As they lie.
    Apart(Rows<'a, f32>),
}

/// Where [`tile`] finds its rows.
trait Left<const R: usize>: Copy {
    fn number(self, i: usize, row: usize) -> f32;
}

impl<const R: usize> Left<R> for &[[f32; R]] {
    #[inline(always)]
    fn number(self, i: usize, row: usize) -> f32 {
        self[i][row]
    }
}

impl<const R: usize> Left<R> for [&[f32]; R] {
    #[inline(always)]
    fn number(self, i: usize, row: usize) -> f32 {
        self[row][i]
    }
}

/// `x[r] . b[.., at + c]` of `R` rows and `C` vectors of columns. Every number is one chain of fused
/// products in the order of `i`: it does not depend on the other rows and columns of the tile. Meanwhile
/// `ahead`, which comes next, is fetched from memory.
#[inline(always)]
fn tile<V: Vector, T: Number, const R: usize, const C: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    at: usize,
    ahead: &[T],
) -> [[V; C]; R] {
    let mut sums = [[V::splat(0.0); C]; R];
    let stride = ahead.len().div_ceil(b.rows.max(1));
    // Plain loops: what is in a closure may end up outside the function that has the instructions.
    for i in 0..b.rows {
        if let Some(next) = ahead.get(i * stride) {
            fetch(next);
        }
        let columns = b.data[i * b.stride + at..][..C * LANES].as_chunks::<LANES>().0;
        let mut vectors = [V::splat(0.0); C];
        for c in 0..C {
            vectors[c] = T::vector(&columns[c]);
        }
        for r in 0..R {
            let x = V::splat(x.number(i, r));
            for c in 0..C {
                sums[r][c] = x.times_plus(vectors[c], sums[r][c]);
            }
        }
    }
    sums
}

/// [`PANEL`] columns for `R` rows, as many at a time as there are registers for.
#[inline(always)]
fn panel<V: Vector, T: Number, const R: usize>(
    x: impl Left<R>,
    b: Rows<'_, T>,
    at: usize,
    ahead: &[T],
    sums: &mut [[f32; PANEL]; MOST],
) {
    if V::ROWS == MOST || R <= 2 {
        let made = tile::<V, T, R, 2>(x, b, at, ahead);
        for r in 0..R {
            sums[r][..LANES].copy_from_slice(&made[r][0].numbers());
            sums[r][LANES..].copy_from_slice(&made[r][1].numbers());
        }
    } else {
        for from in [0, LANES] {
            let made = tile::<V, T, R, 1>(x, b, at + from, ahead);
            for r in 0..R {
                sums[r][from..from + LANES].copy_from_slice(&made[r][0].numbers());
            }
        }
    }
}

/// Columns `at..at + PANEL` of a product, which `b` must have; rows that `x` lacks are zeros.
#[inline(always)]
fn tile_of<V: Vector, T: Number>(x: Few<'_>, b: Rows<'_, T>, at: usize, ahead: &[T]) -> [[f32; PANEL]; MOST] {
    let mut sums = [[0.0; PANEL]; MOST];
    macro_rules! by_rows {
        ($rows:expr, $($r:literal)*) => {
            match ($rows, x) {
                $(($r, Few::Interleaved(x, _)) if $r <= V::ROWS => {
                    panel::<V, T, $r>(x.as_chunks::<$r>().0, b, at, ahead, &mut sums);
                })*
                $(($r, Few::Apart(x)) if $r <= V::ROWS => {
                    let mut rows: [&[f32]; $r] = [&[]; $r];
                    for r in 0..$r {
                        rows[r] = x.row(r);
                    }
                    panel::<V, T, $r>(rows, b, at, ahead, &mut sums);
                })*
                _ => unreachable!("no row, or more than a tile has"),
            }
        };
    }
    let rows = match x {
        Few::Interleaved(_, rows) => rows,
        Few::Apart(rows) => rows.rows,
    };
    by_rows!(rows, 1 2 3 4 5 6 7 8 9 10 11 12);
    sums
}
const _: () = assert!(MOST == 12);

/// How many rows [`tile`] has registers for on this machine.
struct RowsOfATile;

impl Kernel for RowsOfATile {
    type Out = usize;

    #[inline(always)]
    fn run<V: Vector>(self) -> usize {
        V::ROWS
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
    /// Per [`Blocked`]: the largest value after the softmax on any of its pairs.
    pub left: Vec<f32>,
}

/// Softmax attention of `q` `[heads, rows, width]` over `k` and `v` `[kv heads, keys, width]`, a chunk
/// of rows at a time: no square of rows and keys is ever made. `pattern`, `[kept heads, kept rows, keys]`
/// and all zeros, takes what is kept.
pub fn attention(
    q: &Tensor<3>,
    [k, v]: [&Tensor<3>; 2],
    attend: &Attend<'_>,
    pattern: &mut [f32],
) -> Option<Attended> {
    let (q, k, v) = (flex(q)?, flex(k)?, flex(v)?);
    let q = Cube::<f32>::new(&q).filter(|q| q.strides[2] == 1)?;
    match k.dtype() {
        DType::F32 => attention_over::<f32>(q, Cube::new(&k)?, Cube::new(&v)?, attend, pattern),
        DType::F16 => attention_over::<f16>(q, Cube::new(&k)?, Cube::new(&v)?, attend, pattern),
        _ => None,
    }
}

/// How a cache lies within a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The same number of all rows side by side, as scores read keys.
    Columns,
    /// The numbers of a row side by side, as mixing reads values.
    Rows,
}

/// `old` `[heads, keys, width]` with the rows of `new` appended, in the format `dtype`. Written behind
/// the old rows where their memory has room and nobody else holds it; else moved to a larger place.
///
/// # Errors
/// Gives `old` back.
pub fn append(
    old: Option<Tensor<3>>,
    new: &Tensor<3>,
    dtype: DType,
    lie: Lie,
) -> Result<Tensor<3>, Option<Tensor<3>>> {
    let Some(view) = flex(new) else { return Err(old) };
    let Some(new) = Cube::<f32>::new(&view).filter(|new| new.strides[2] == 1) else { return Err(old) };
    if old.as_ref().is_some_and(|old| old.dtype() != dtype || !is_plain(old)) {
        return Err(old);
    }
    let taken = old.map(|old| old.try_into_primitive::<Flex>().expect("just seen to be one"));
    match dtype {
        DType::F32 => Ok(append_as::<f32>(taken, new, lie)),
        DType::F16 => Ok(append_as::<f16>(taken, new, lie)),
        _ => Err(taken.map(Tensor::from_primitive::<Flex>)),
    }
}

fn append_as<T: Number>(old: Option<FlexTensor>, new: Cube<'_, f32>, lie: Lie) -> Tensor<3> {
    let [heads, added, width] = new.shape;
    let len = old.as_ref().map_or(0, |old| old.layout().shape()[1]);
    let all = len + added;
    // Values are padded so that whole panels can be read; keys have room for that behind the last.
    let wide = match lie {
        Lie::Columns => width,
        Lie::Rows => width.next_multiple_of(PANEL),
    };
    let strides = |room: usize| match lie {
        Lie::Columns => [room * wide, 1, room],
        Lie::Rows => [room * wide, wide, 1],
    };
    // Rows that a head has room for, where they lie as this function laid them.
    let room = |old: &FlexTensor| {
        let layout = old.layout();
        let room = layout.strides()[0] as usize / wide;
        let ours = layout.start_offset() == 0 && layout.strides() == strides(room).map(|s| s as isize);
        (ours && old.is_unique() && old.bytes().len() >= heads * room * wide * size_of::<T>()).then_some(room)
    };
    let (mut buffer, room) = match old.map(|old| (room(&old), old)) {
        Some((Some(room), old)) if room >= all => (old, room),
        old => {
            let room = spread(all + all / 2 + 1);
            let mut values = vec![T::zeroed(); heads * room * wide];
            if let Some(old) = old.as_ref().and_then(|(_, old)| Cube::<T>::new(old)) {
                place(old, &mut values, strides(room), 0);
            }
            let layout = Layout::contiguous(Shape::from([heads, room, wide]));
            (FlexTensor::new(Bytes::from_elems(values), layout, T::dtype()), room)
        }
    };
    let mut rows = vec![T::zeroed(); heads * added * width];
    for (n, row) in rows.chunks_exact_mut(width).enumerate() {
        T::narrow(new.row(n / added, n % added), row);
    }
    let rows = Cube { data: &rows, shape: new.shape, strides: [added * width, width, 1] };
    place(rows, buffer.storage_mut(), strides(room), len);
    let strides = strides(room).map(|s| s as isize).to_vec();
    let layout = Layout::new(Shape::from([heads, all, width]), strides, 0);
    Tensor::from_primitive::<Flex>(buffer.with_layout(layout))
}

/// The next whole number of panels, an odd one: rows at such a stride spread over all of a cache.
fn spread(n: usize) -> usize {
    (n.div_ceil(PANEL) | 1) * PANEL
}

/// Writes rows behind the first `len` of every head, along whichever side is written in one piece.
fn place<T: Number>(from: Cube<'_, T>, to: &mut [T], strides: [usize; 3], len: usize) {
    let [heads, rows, width] = from.shape;
    let (long, across) = if strides[1] == 1 { ([1, 2], width) } else { ([2, 1], rows) };
    let [along, step] = long;
    for (head, i) in (0..heads).flat_map(|head| (0..across).map(move |i| (head, i))) {
        let to = &mut to[head * strides[0] + i * strides[step] + len * strides[1]..][..from.shape[along]];
        let from_here = &from.data[head * from.strides[0] + i * from.strides[step]..];
        match from.strides[along] {
            1 => to.copy_from_slice(&from_here[..to.len()]),
            stride => to.iter_mut().zip(from_here.iter().step_by(stride)).for_each(|(to, from)| *to = *from),
        }
    }
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

/// `[heads, rows, width]` in any strides.
#[derive(Clone, Copy)]
struct Cube<'a, T> {
    data: &'a [T],
    shape: [usize; 3],
    strides: [usize; 3],
}

impl<'a, T: Number> Cube<'a, T> {
    fn new(x: &'a FlexTensor) -> Option<Self> {
        let (layout, shape) = (x.layout(), *x.layout().shape().as_slice().as_array()?);
        let strides: [isize; 3] = *layout.strides().as_array()?;
        if x.dtype() != T::dtype() || strides.iter().any(|&s| s < 0) {
            return None;
        }
        let data = x.storage::<T>().get(layout.start_offset()..)?;
        Some(Cube { data, shape, strides: strides.map(|s| s as usize) })
    }

    /// A row whose numbers lie side by side.
    #[inline(always)]
    fn row(&self, head: usize, row: usize) -> &'a [T] {
        &self.data[head * self.strides[0] + row * self.strides[1]..][..self.shape[2]]
    }
}

/// The second factor of a product, a matrix a head: its rows are whole panels, whatever stands in those
/// behind the last column that counts.
struct Second<'a, T: Number> {
    data: Cow<'a, [T]>,
    head: usize,
    stride: usize,
    rows: usize,
}

impl<'a, T: Number> Second<'a, T> {
    /// With one axis of `x` as rows and another as columns; copied where it does not lie so.
    fn new(x: Cube<'a, T>, rows: usize, columns: usize) -> Self {
        let (n, padded) = (x.shape[rows], x.shape[columns].next_multiple_of(PANEL));
        let stride = x.strides[rows];
        let reach = (x.shape[0] - 1) * x.strides[0] + n.saturating_sub(1) * stride + padded;
        if x.strides[columns] == 1 && (stride >= padded || n <= 1) && x.data.len() >= reach {
            return Second { data: Cow::Borrowed(x.data), head: x.strides[0], stride, rows: n };
        }
        let stride = spread(padded);
        let mut data = vec![T::zeroed(); x.shape[0] * n * stride];
        data.par_chunks_exact_mut(n * stride).enumerate().for_each(|(head, to)| {
            for i in 0..n {
                let from = x.data[head * x.strides[0] + i * x.strides[rows]..].iter();
                let from = from.step_by(x.strides[columns].max(1)).take(x.shape[columns]);
                to[i * stride..].iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            }
        });
        Second { data: Cow::Owned(data), head: n * stride, stride, rows: n }
    }

    fn head(&self, head: usize) -> Rows<'_, T> {
        let data = &self.data[head * self.head..];
        Rows { data, stride: self.stride, rows: self.rows, width: self.stride }
    }
}

fn attention_over<T: Number>(
    q: Cube<'_, f32>,
    k: Cube<'_, T>,
    v: Cube<'_, T>,
    attend: &Attend<'_>,
    pattern: &mut [f32],
) -> Option<Attended> {
    /// Rows, of all heads that share a key head, whose scores exist at one time on each thread.
    const TOGETHER: usize = 96;
    let ([heads, rows, width], [kv_heads, keys, _]) = (q.shape, k.shape);
    if q.shape.contains(&0) || k.shape.contains(&0) || v.shape != k.shape || heads % kv_heads != 0 {
        return None;
    }
    let group = heads / kv_heads;
    let (k, v) = (Second::new(k, 2, 1), Second::new(v, 1, 2));
    let chunk = rows.div_ceil(rows.div_ceil((TOGETHER / group).max(1)));
    let tasks = rows.div_ceil(chunk) * kv_heads;
    // What is kept is written where it stays, by whichever task makes it.
    let kept_heads: Vec<usize> = (0..heads).filter(|&h| attend.keeps_head(h)).collect();
    if pattern.len() != kept_heads.len() * attend.rows.len() * keys {
        return None;
    }
    let mut kept: Vec<Vec<Kept<'_>>> = (0..tasks).map(|_| Vec::new()).collect();
    let places = kept_heads.iter().flat_map(|&head| attend.rows.iter().map(move |&row| (head, row)));
    for ((head, row), pattern) in places.zip(pattern.chunks_exact_mut(keys)) {
        kept[row / chunk * kv_heads + head / group].push(Kept { head, row, pattern });
    }
    let task = |room: &mut Room, (n, kept): (usize, Vec<Kept<'_>>)| {
        let (first, head) = (n / kv_heads * chunk, n % kv_heads);
        widest(Chunk {
            attend,
            q,
            heads: head * group..(head + 1) * group,
            k: k.head(head),
            v: v.head(head),
            rows: first..rows.min(first + chunk),
            keys,
            kept,
            room,
        })
    };
    let done: Vec<Chunked> = if heads * rows * keys * width < WORTH {
        let mut room = Room::default();
        kept.into_iter().enumerate().map(|one| task(&mut room, one)).collect()
    } else {
        kept.into_par_iter().enumerate().map_init(Room::default, task).collect()
    };

    let mixed = in_runs(rows * heads * width, chunk * heads * width, |n, mixed| {
        let (rows, done) = (mixed.len() / (heads * width), &done[n * kv_heads..][..kv_heads]);
        for (head, from) in done.iter().flat_map(|d| d.mixed.chunks_exact(rows * width)).enumerate() {
            for (row, from) in from.chunks_exact(width).enumerate() {
                mixed[(row * heads + head) * width..][..width].copy_from_slice(from);
            }
        }
    });
    let left = |b: usize| done.iter().map(|d| d.left[b]).fold(0.0, f32::max);
    Some(Attended {
        mixed: tensor(mixed, [rows, heads * width]),
        left: (0..attend.blocked.len()).map(left).collect(),
    })
}

/// Attention of some rows in the heads that share a key head.
struct Chunk<'a, T> {
    attend: &'a Attend<'a>,
    q: Cube<'a, f32>,
    heads: Range<usize>,
    /// `[width, keys]`.
    k: Rows<'a, T>,
    /// `[keys, width]`.
    v: Rows<'a, T>,
    rows: Range<usize>,
    keys: usize,
    kept: Vec<Kept<'a>>,
    room: &'a mut Room,
}

/// What a [`Chunk`] works in; whatever the one before left there is written over.
#[derive(Default)]
struct Room {
    scores: Vec<f32>,
    queries: Vec<f32>,
}

/// A row of a head's pattern, and where it is kept: `[keys]`, zeros.
struct Kept<'a> {
    head: usize,
    row: usize,
    pattern: &'a mut [f32],
}

/// What a [`Chunk`] gives.
struct Chunked {
    /// `[query heads, rows, width]`.
    mixed: Vec<f32>,
    left: Vec<f32>,
}

impl<T: Number> Kernel for Chunk<'_, T> {
    type Out = Chunked;

    #[inline(always)]
    fn run<V: Vector>(self) -> Chunked {
        let Chunk { attend, q, heads, k, v, rows, keys, kept, room } = self;
        let [_, all_rows, width] = q.shape;
        // Keys that row `r` sees, and the last row.
        let seen = |r: usize| if attend.causal { keys - all_rows + r + 1 } else { keys };
        let most = seen(rows.end - 1);
        let count = heads.len() * rows.len();
        let each = count.div_ceil(count.div_ceil(V::ROWS));
        room.scores.resize(count * most, 0.0);
        room.queries.resize(each * width, 0.0);
        let (scores, queries) = (&mut room.scores, &mut room.queries);
        for (n, scores) in scores.chunks_mut(each * most).enumerate() {
            let here = scores.len() / most;
            let queries = &mut queries[..here * width];
            for i in 0..here {
                let (head, row) = ((n * each + i) / rows.len(), (n * each + i) % rows.len());
                let row = q.row(heads.start + head, rows.start + row);
                interleave(row, queries, i, here);
            }
            for at in (0..most).step_by(PANEL) {
                let sums = tile_of::<V, T>(Few::Interleaved(queries, here), k, at, &[]);
                for (scores, sums) in scores.chunks_exact_mut(most).zip(&sums) {
                    scores[at..].iter_mut().zip(sums).for_each(|(score, sum)| *score = sum * attend.scale);
                }
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

        for Kept { head, row, pattern } in kept {
            let at = (head - heads.start) * rows.len() + row - rows.start;
            pattern[..most].copy_from_slice(&scores[at * most..][..most]);
        }

        let mut mixed = vec![0.0; count * width];
        let values = Rows { rows: most, ..v };
        for (mixed, scores) in mixed.chunks_mut(each * width).zip(scores.chunks(each * most)) {
            let weights = Rows { data: scores, stride: most, rows: scores.len() / most, width: most };
            for at in (0..width).step_by(PANEL) {
                let sums = tile_of::<V, T>(Few::Apart(weights), values, at, &[]);
                for (mixed, sums) in mixed.chunks_exact_mut(width).zip(&sums) {
                    mixed[at..].iter_mut().zip(sums).for_each(|(mixed, sum)| *mixed = *sum);
                }
            }
        }
        Chunked { mixed, left }
    }
}

// ---------------------------------------------------------------------------------------------
// Row by row: norms, activations, rotary embedding
// ---------------------------------------------------------------------------------------------

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
    out.par_chunks_mut(run(out.len(), 1)).for_each(|out| widest(Activate { act, out, factor: None }));
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
    let out = gate.storage_mut::<f32>();
    let run = run(out.len(), 1);
    let runs = out.par_chunks_mut(run).zip(up.par_chunks(run));
    runs.for_each(|(out, up)| widest(Activate { act, out, factor: Some(up) }));
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
        #[target_feature(enable = "avx512f,avx2,fma,f16c")]
        fn widest<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::Avx512>()
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn wide<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<x86::Avx2>()
        }
        // SAFETY: the features were just detected.
        #[allow(unsafe_code)]
        return unsafe { if is_x86_feature_detected!("avx512f") { widest(kernel) } else { wide(kernel) } };
    }
    kernel.run::<[f32; LANES]>()
}

/// [`LANES`] numbers.
trait Vector: Copy {
    /// Whether a product and a sum are one instruction.
    const FUSED: bool;
    /// Rows that [`tile`] has registers for: [`MOST`] with two vectors of columns, fewer with one.
    const ROWS: usize;
    fn splat(number: f32) -> Self;
    fn new(numbers: [f32; LANES]) -> Self;
    fn widened(numbers: &[f16; LANES]) -> Self;
    /// `self * factor + sum`.
    fn times_plus(self, factor: Self, sum: Self) -> Self;
    fn numbers(self) -> [f32; LANES];
}

/// What the compiler makes of it.
impl Vector for [f32; LANES] {
    const FUSED: bool = cfg!(target_arch = "aarch64");
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

    #[inline(always)]
    fn splat(number: f32) -> Self {
        [number; LANES]
    }

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

/// Only [`widest`] names these, after it has seen that the machine has what they stand for.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m256, __m256i, __m512, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtph_ps,
        _mm512_fmadd_ps, _mm512_set1_ps,
    };

    use super::{LANES, MOST, Vector, f16};

    /// One register of AVX-512.
    #[derive(Clone, Copy)]
    pub(super) struct Avx512(__m512);

    impl Vector for Avx512 {
        const FUSED: bool = true;
        const ROWS: usize = MOST;

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: an `Avx512` means that AVX-512F is there.
            Avx512(unsafe { _mm512_set1_ps(number) })
        }

        #[inline(always)]
        fn new(numbers: [f32; LANES]) -> Self {
            Avx512(bytemuck::cast(numbers))
        }

        #[inline(always)]
        fn widened(numbers: &[f16; LANES]) -> Self {
            let halves: __m256i = bytemuck::cast(*numbers);
            // SAFETY: as above.
            Avx512(unsafe { _mm512_cvtph_ps(halves) })
        }

        #[inline(always)]
        fn times_plus(self, factor: Self, sum: Self) -> Self {
            // SAFETY: as above.
            Avx512(unsafe { _mm512_fmadd_ps(self.0, factor.0, sum.0) })
        }

        #[inline(always)]
        fn numbers(self) -> [f32; LANES] {
            bytemuck::cast(self.0)
        }
    }

    /// Two registers of AVX2.
    #[derive(Clone, Copy)]
    pub(super) struct Avx2([__m256; 2]);

    impl Vector for Avx2 {
        const FUSED: bool = true;
        const ROWS: usize = 6;

        #[inline(always)]
        fn splat(number: f32) -> Self {
            // SAFETY: an `Avx2` means that AVX2, FMA and F16C are there.
            Avx2([unsafe { _mm256_set1_ps(number) }; 2])
        }

        #[inline(always)]
        fn new(numbers: [f32; LANES]) -> Self {
            Avx2(bytemuck::cast(numbers))
        }

        #[inline(always)]
        fn widened(numbers: &[f16; LANES]) -> Self {
            let [low, high]: [__m128i; 2] = bytemuck::cast(*numbers);
            // SAFETY: as above.
            Avx2(unsafe { [_mm256_cvtph_ps(low), _mm256_cvtph_ps(high)] })
        }

        #[inline(always)]
        fn times_plus(self, factor: Self, sum: Self) -> Self {
            let ([a, b], [x, y], [s, t]) = (self.0, factor.0, sum.0);
            // SAFETY: as above.
            Avx2(unsafe { [_mm256_fmadd_ps(a, x, s), _mm256_fmadd_ps(b, y, t)] })
        }

        #[inline(always)]
        fn numbers(self) -> [f32; LANES] {
            bytemuck::cast(self.0)
        }
    }
}

/// Asks for the memory around a number, to be near when it is read.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn fetch<T>(number: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has it, and it is a hint about memory that is there.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(number).cast()) }
    }
}

/// A format of matrices.
trait Number: Element + Pod + Send + Sync {
    fn widen(self) -> f32;
    /// Rounds float32 numbers.
    fn narrow(from: &[f32], to: &mut [Self]);
    fn vector<V: Vector>(numbers: &[Self; LANES]) -> V;
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn narrow(from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f32; LANES]) -> V {
        V::new(*numbers)
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

    fn narrow(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }

    #[inline(always)]
    fn vector<V: Vector>(numbers: &[f16; LANES]) -> V {
        V::widened(numbers)
    }
}

/// `a * b + c`, fused where the machine can.
#[inline(always)]
fn fma<V: Vector>(a: f32, b: f32, c: f32) -> f32 {
    if V::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Registers that a row is taken up by at a time, so that no step waits for the one before.
const STEP: usize = 2;

/// By halves.
#[inline(always)]
fn total(sums: [[f32; LANES]; STEP]) -> f32 {
    let [a, b] = sums;
    let mut v = a;
    for i in 0..LANES {
        v[i] += b[i];
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            v[i] += v[i + half];
        }
        half /= 2;
    }
    v[0]
}

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
