//! Products of activations with weights.
//!
//! `x W^T + b`: `x` is `[rows, in]`, row-major in float32, `W` lies in [`Panels`], `b` is `[out]`, the
//! product `[rows, out]`; an activation may follow. Knows how to share the panels of several matrices among the threads; does not
//! know how a single tile is multiplied, nor what the weights are for.

#![allow(clippy::result_large_err, reason = "what is declined is handed back, and is no error")]

use std::{mem::MaybeUninit, ops::Range, slice::from_ref};

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Tensor},
};
use half::{bf16, f16};
use rayon::prelude::*;

use super::{
    flex::{flex, owned, plain, tensor, values},
    kernel::{Kernel, WORTH, widest},
    lanes::{Number, PANEL, Vector},
    panels::Panels,
    pointwise::{activate, has},
    strides::Rows,
    tiles::{Few, Tiles, tile_onto},
};
use crate::checkpoint::config::Activation;

/// A weight `[out, in]`, where it lies in panels, and its bias `[out]`.
pub type Layer<'a> = (Option<&'a Panels>, Option<&'a Tensor<1>>);

/// `x W^T + b` of several layers over the same rows, in one go.
pub fn linear<const N: usize>(x: &Tensor<2>, layers: [Layer<'_>; N]) -> Option<[Tensor<2>; N]> {
    made(x, layers, None)
}

/// `act(x W^T + b)`, each sum while it is near; declines activations that the kernels do not [have](has).
pub fn linear_activated(x: &Tensor<2>, layer: Layer<'_>, act: Activation) -> Option<Tensor<2>> {
    let [y] = if has(act) { made(x, [layer], Some(act))? } else { return None };
    Some(y)
}

fn made<const N: usize>(
    x: &Tensor<2>,
    layers: [Layer<'_>; N],
    act: Option<Activation>,
) -> Option<[Tensor<2>; N]> {
    let x = plain(x)?;
    let rows = x.layout().shape()[0];
    let weights: Vec<&Panels> = layers.iter().map(|(weight, _)| *weight).collect::<Option<_>>()?;
    let mut outs: Vec<Vec<f32>> = weights.iter().map(|w| Vec::with_capacity(rows * w.out)).collect();
    let places = outs.iter_mut().zip(&weights).map(|(out, w)| &mut out.spare_capacity_mut()[..rows * w.out]);
    product(&x, &layers, act, places.collect())?;
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
    match product(&x, &[layer], None, vec![base.storage_mut::<f32>()]) {
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

/// Hands `x W^T + b`, or an activation of it, to every layer's places, `[rows, out]`. Whatever stands in them means
/// nothing where it declines.
fn product<O: Place>(
    input: &FlexTensor,
    layers: &[Layer<'_>],
    act: Option<Activation>,
    outs: Vec<&mut [O]>,
) -> Option<()> {
    let k = input.layout().shape()[1];
    let x: &[f32] = values(input)?;
    let weights: Vec<&Panels> = layers.iter().map(|(weight, _)| *weight).collect::<Option<_>>()?;
    if weights.iter().any(|w| w.dims()[1] != k) {
        return None;
    }
    let format = weights.first()?.dtype();
    if weights.iter().any(|w| w.dtype() != format) {
        // Files may hold neighbours in several formats.
        return layers
            .iter()
            .zip(outs)
            .try_for_each(|(layer, out)| product(input, from_ref(layer), act, vec![out]));
    }
    let data: Vec<FlexTensor> = weights.iter().map(|w| flex(&w.data)).collect::<Option<_>>()?;
    let bias = |(_, bias): &Layer<'_>| bias.map_or(Some(None), |bias| Some(Some(plain(bias)?)));
    let biases: Vec<Option<FlexTensor>> = layers.iter().map(bias).collect::<Option<_>>()?;
    match format {
        DType::F32 => multiply(x, k, act, jobs::<f32, O>(&weights, &data, &biases, outs)?),
        DType::BF16 => multiply(x, k, act, jobs::<bf16, O>(&weights, &data, &biases, outs)?),
        _ => multiply(x, k, act, jobs::<f16, O>(&weights, &data, &biases, outs)?),
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

/// A task takes a block of rows past some panels of a matrix.
fn multiply<T: Number, O: Place>(x: &[f32], k: usize, act: Option<Activation>, jobs: Vec<Job<'_, '_, T, O>>) {
    /// Bytes of panels that a task takes at most where they are read once: so many stay in its core's cache.
    const NEAR: usize = 1 << 19;
    /// Panels that it takes at most where other rows come after: so many of its sums stay there.
    const SUMS: usize = 8;
    /// Tasks a thread: so many that none waits long for the others.
    const TASKS: usize = 16;
    let (rows, panel) = (x.len() / k, k * PANEL);
    if rows == 0 {
        return;
    }
    let tiles = Tiles::new(Rows { data: x, stride: k, rows, width: k });
    let blocks = rows.div_ceil(tiles.block);
    let numbers: usize = jobs.iter().map(|job| job.panels.len()).sum();
    let alone = rows * numbers < WORTH;
    let tasks = if alone { 1 } else { TASKS * rayon::current_num_threads() };
    let near = match blocks {
        _ if alone => usize::MAX,
        1 => (NEAR / (panel * size_of::<T>())).max(1),
        _ => SUMS,
    };
    let each = (numbers / panel * blocks).div_ceil(tasks).min(near);
    // Parts of rows, those of a part of a matrix side by side.
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
    let task = |sums: &mut Vec<_>, (n, block, outs): (usize, usize, &mut [&mut [O]])| {
        // The first panels of the next part, unless this part's come again with other rows.
        let next = parts.get(n + 1).filter(|_| blocks == 1).map(|next| next.panels);
        widest(Product { tiles: &tiles, block, part: &parts[n], next, act, outs, sums });
    };
    let by_block = |(n, outs)| {
        <[&mut [O]]>::chunks_mut(outs, tiles.block).enumerate().map(move |(block, outs)| (n, block, outs))
    };
    let all: Vec<_> = outs.chunks_exact_mut(rows).enumerate().flat_map(by_block).collect();
    if alone {
        let mut sums = Vec::new();
        all.into_iter().for_each(|one| task(&mut sums, one));
    } else {
        all.into_par_iter().for_each_init(Vec::new, task);
    }
}

/// Hands the products of a block of rows with a part of a matrix to these rows' parts of the result.
struct Product<'a, 'o, T, O> {
    tiles: &'a Tiles<'a>,
    block: usize,
    part: &'a Part<'a, T>,
    /// The panels of the part that comes next: most likely this core's as well.
    next: Option<&'a [T]>,
    /// What becomes of a sum at last.
    act: Option<Activation>,
    outs: &'a mut [&'o mut [O]],
    /// What a task works in; whatever the one before left there is written over.
    sums: &'a mut Vec<[f32; PANEL]>,
}

/// Some steps of the `n`th of panels, `[panels, k, PANEL]`.
#[inline(always)]
fn piece<'a, T>(panels: &'a [T], k: usize, n: usize, steps: &Range<usize>) -> &'a [T] {
    &panels[n * k * PANEL..][steps.start * PANEL..steps.end * PANEL]
}

impl<T: Number, O: Place> Kernel for Product<'_, '_, T, O> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        /// Numbers in a page of half precision.
        const PAGE: usize = 4096 / 2;
        let Product { tiles, block, part, next, act, outs, sums: room } = self;
        let (k, rows) = (tiles.k, outs.len());
        let count = part.panels.len() / (k * PANEL);
        let pieces = || tiles.pieces().flat_map(|steps| (0..count).map(move |n| (n, steps.clone())));
        room.clear();
        room.resize(count * rows, [0.0; PANEL]);
        let passes = rows.div_ceil(tiles.each);
        let mut coming = pieces().skip(1);
        for (n, steps) in pieces() {
            // What comes next is fetched meanwhile, a part of it a tile. A single row is through before that could help:
            // for it, what lies a page further on; of float32, which a core follows by itself, nothing.
            let next = match coming.next() {
                _ if rows == 1 && size_of::<T>() == 2 => {
                    let further = part.panels.get(n * k * PANEL + PAGE..).unwrap_or_default();
                    &further[..further.len().min(k * PANEL)]
                }
                _ if rows == 1 => &[][..],
                Some((n, steps)) => piece(part.panels, k, n, &steps),
                None => {
                    next.zip(tiles.pieces().next()).map_or(&[][..], |(next, steps)| piece(next, k, 0, &steps))
                }
            };
            let mut ahead = next.chunks(next.len().div_ceil(passes).max(1));
            let data = piece(part.panels, k, n, &steps);
            let panel = Rows { data, stride: PANEL, rows: steps.len(), width: PANEL };
            let sums = room[n * rows..][..rows].chunks_mut(tiles.each);
            for (x, sums) in tiles.of(block, rows, &steps).zip(sums) {
                let ahead = ahead.next().unwrap_or_default();
                tile_onto::<V, T>(Few::Interleaved(x), panel, ahead, sums);
            }
        }
        for (n, sums) in room.chunks_exact_mut(rows).enumerate() {
            if let Some(bias) = part.bias {
                let bias = &bias[n * PANEL..];
                sums.iter_mut()
                    .for_each(|sums| sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias));
            }
            if let Some(act) = act {
                activate::<V>(act, sums.as_flattened_mut());
            }
            for (out, sums) in outs.iter_mut().zip(&*sums) {
                out[n * PANEL..].iter_mut().zip(sums).for_each(|(out, sum)| out.take(*sum));
            }
        }
    }
}
