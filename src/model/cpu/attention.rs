//! Softmax attention, a chunk of rows at a time.
//!
//! Queries are `[heads, rows, width]`, float32; keys and values `[kv heads, keys, width]`, float32 or
//! float16, read where they lie if whole panels can be read there and copied if not. It gives
//! `[rows, heads * width]`. Knows heads, rows and keys by number, and which pairs are blocked; does not know
//! why, nor what a cache is.

use std::{borrow::Cow, ops::Range, sync::Arc};

use burn::tensor::{DType, Tensor};
use half::f16;
use rayon::prelude::*;

use super::{
    flex::{flex, in_runs, tensor},
    kernel::{Kernel, WORTH, widest},
    lanes::{MOST, Number, PANEL, Vector},
    math::{softmax, sum},
    strides::{Cube, Rows, interleave, spread},
    tiles::{Few, PIECE, pieces, tile_onto},
};
use crate::{
    model::hooks::{Blocked, Groups},
    statistics::finite::{larger, largest},
};

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
    /// By which groups of keys every row is summed; `None` sums nothing.
    pub groups: Option<&'a Groups>,
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
    /// `[rows, groups]`: what every row gives the keys of each group, the mean of all heads; empty where that was not
    /// asked for.
    pub groups: Vec<f32>,
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

/// The second factor of a product, a matrix a head, of which whole panels can be read, whatever stands in them behind
/// the last column that counts.
struct Second<'a, T: Number> {
    data: Cow<'a, [T]>,
    /// From a head, a panel and a row to the next.
    strides: [usize; 3],
}

impl<'a, T: Number> Second<'a, T> {
    /// With one axis of `x` as rows and another as columns. Copied into panels where it does not lie so that they can be
    /// read, or where `many` rows are to be multiplied with it: rows that lie far apart do not share pages and find
    /// little room in a cache.
    fn new(x: Cube<'a, T>, rows: usize, columns: usize, many: bool) -> Self {
        let (n, panels) = (x.shape[rows], x.shape[columns].div_ceil(PANEL));
        let stride = x.strides[rows];
        let reach = (x.shape[0] - 1) * x.strides[0] + n.saturating_sub(1) * stride + panels * PANEL;
        let lies = x.strides[columns] == 1 && (stride >= panels * PANEL || n <= 1);
        if lies && !many && x.data.len() >= reach {
            return Second { data: Cow::Borrowed(x.data), strides: [x.strides[0], PANEL, stride] };
        }
        let mut data = bytemuck::zeroed_vec::<T>(x.shape[0] * panels * n * PANEL);
        data.par_chunks_exact_mut(n * PANEL).enumerate().for_each(|(number, to)| {
            let (head, first) = (number / panels, number % panels * PANEL);
            let columns_here = PANEL.min(x.shape[columns] - first);
            let from = &x.data[head * x.strides[0] + first * x.strides[columns]..];
            if x.strides[rows] == 1 {
                interleave(columns_here, |c| &from[c * x.strides[columns]..][..n], to, PANEL);
                return;
            }
            for (i, to) in to.chunks_exact_mut(PANEL).enumerate() {
                let from = from[i * x.strides[rows]..].iter().step_by(x.strides[columns].max(1));
                to.iter_mut().zip(from).take(columns_here).for_each(|(to, from)| *to = *from);
            }
        });
        Second { data: Cow::Owned(data), strides: [panels * n * PANEL, n * PANEL, PANEL] }
    }

    fn head(&self, head: usize) -> Panelled<'_, T> {
        let [to_head, panel, stride] = self.strides;
        Panelled { data: &self.data[head * to_head..], panel, stride }
    }
}

/// The matrix of one head.
#[derive(Clone, Copy)]
struct Panelled<'a, T> {
    data: &'a [T],
    /// From a panel to the next.
    panel: usize,
    /// From a row to the next.
    stride: usize,
}

impl<'a, T> Panelled<'a, T> {
    /// Some rows of a panel.
    #[inline(always)]
    fn rows(&self, panel: usize, rows: &Range<usize>) -> Rows<'a, T> {
        let data = &self.data[panel * self.panel + rows.start * self.stride..];
        Rows { data, stride: self.stride, rows: rows.len(), width: PANEL }
    }
}

fn attention_over<T: Number>(
    q: Cube<'_, f32>,
    k: Cube<'_, T>,
    v: Cube<'_, T>,
    attend: &Attend<'_>,
    pattern: &mut [f32],
) -> Option<Attended> {
    /// Scores that exist at one time on each thread: they stay in its core's second cache.
    const SCORES: usize = 48 << 10;
    /// Rows, of all heads that share a key head, that they are of at most.
    const TOGETHER: usize = 96;
    /// Rows from which on keys and values are worth copying.
    const MANY: usize = 16;
    let ([heads, rows, width], [kv_heads, keys, _]) = (q.shape, k.shape);
    if q.shape.contains(&0) || k.shape.contains(&0) || v.shape != k.shape || heads % kv_heads != 0 {
        return None;
    }
    let group = heads / kv_heads;
    let many = rows * group >= MANY;
    let (k, v) = (Second::new(k, 2, 1, many), Second::new(v, 1, 2, many));
    let together = (SCORES / keys).clamp(2 * MOST, TOGETHER) / MOST * MOST;
    let chunk = rows.min((together / group).max(1));
    let chunks = rows.div_ceil(chunk);
    // What is kept is written where it stays, by whichever task makes it.
    let kept_heads: Vec<usize> = (0..heads).filter(|&h| attend.keeps_head(h)).collect();
    if pattern.len() != kept_heads.len() * attend.rows.len() * keys {
        return None;
    }
    let mut kept: Vec<Vec<Kept<'_>>> = (0..chunks * kv_heads).map(|_| Vec::new()).collect();
    let places = kept_heads.iter().flat_map(|&head| attend.rows.iter().map(move |&row| (head, row)));
    for ((head, row), pattern) in places.zip(pattern.chunks_exact_mut(keys)) {
        kept[head / group * chunks + row / chunk].push(Kept { head, row, pattern });
    }
    let runs = attend.groups.map_or_else(Vec::new, |groups| groups.runs(keys));
    let task = |room: &mut Room, (n, kept): (usize, Vec<Kept<'_>>)| {
        let (head, first) = (n / chunks, n % chunks * chunk);
        widest(Chunk {
            attend,
            q,
            heads: head * group..(head + 1) * group,
            k: k.head(head),
            v: v.head(head),
            rows: first..rows.min(first + chunk),
            keys,
            runs: &runs,
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

    let mixed = side_by_side(&done, q.shape, chunk);
    let left = |b: usize| largest(done.iter().map(|d| d.left[b]));
    Some(Attended {
        mixed: tensor(mixed, [rows, heads * width]),
        left: (0..attend.blocked.len()).map(left).collect(),
        groups: mean_of(&done, heads, chunks),
    })
}

/// What the tasks gave, the chunks of a key head side by side, as `[rows, heads * width]`.
fn side_by_side(done: &[Chunked], [heads, rows, width]: [usize; 3], chunk: usize) -> Vec<f32> {
    let chunks = rows.div_ceil(chunk);
    in_runs(rows * heads * width, chunk * heads * width, |n, mixed| {
        let rows = mixed.len() / (heads * width);
        let done = done.iter().skip(n).step_by(chunks);
        for (head, from) in done.flat_map(|d| d.mixed.chunks_exact(rows * width)).enumerate() {
            for (row, from) in from.chunks_exact(width).enumerate() {
                mixed[(row * heads + head) * width..][..width].copy_from_slice(from);
            }
        }
    })
}

/// `[rows, groups]`: the sums over heads of the tasks, the chunks of a key head side by side, as means.
fn mean_of(done: &[Chunked], heads: usize, chunks: usize) -> Vec<f32> {
    let of_rows = |chunk: usize| {
        let mut sums = done[chunk].groups.clone();
        for other in done.iter().skip(chunk + chunks).step_by(chunks) {
            sums.iter_mut().zip(&other.groups).for_each(|(sum, more)| *sum += more);
        }
        sums
    };
    (0..chunks).flat_map(of_rows).map(|sum| sum / heads as f32).collect()
}

/// Attention of some rows in the heads that share a key head.
struct Chunk<'a, T> {
    attend: &'a Attend<'a>,
    q: Cube<'a, f32>,
    heads: Range<usize>,
    /// `[width, keys]`.
    k: Panelled<'a, T>,
    /// `[keys, width]`.
    v: Panelled<'a, T>,
    rows: Range<usize>,
    keys: usize,
    /// Of keys of one group.
    runs: &'a [(Range<usize>, usize)],
    kept: Vec<Kept<'a>>,
    room: &'a mut Room,
}

/// What a [`Chunk`] works in; whatever the one before left there is written over.
#[derive(Default)]
struct Room {
    /// `[query heads, rows, stride]`.
    scores: Vec<f32>,
    /// `[tiles, width, rows]`.
    queries: Vec<f32>,
    /// `[query heads, rows, PANEL]`.
    sums: Vec<[f32; PANEL]>,
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
    /// `[rows, groups]`, summed over the heads.
    groups: Vec<f32>,
}

impl<T: Number> Kernel for Chunk<'_, T> {
    type Out = Chunked;

    #[inline(always)]
    fn run<V: Vector>(self) -> Chunked {
        let Chunk { attend, q, heads, k, v, rows, keys, runs, kept, room } = self;
        let [_, all_rows, width] = q.shape;
        // Keys that row `r` sees, and the last row.
        let seen = |r: usize| if attend.causal { keys - all_rows + r + 1 } else { keys };
        let most = seen(rows.end - 1);
        let count = heads.len() * rows.len();
        let each = count.div_ceil(count.div_ceil(V::ROWS));
        let stride = spread(most);
        room.scores.resize(count * stride, 0.0);
        room.queries.resize(count * width, 0.0);
        room.sums.resize(count, [0.0; PANEL]);
        let Room { scores, queries, sums } = room;
        for (n, queries) in queries.chunks_mut(each * width).enumerate() {
            let here = queries.len() / width;
            let row = |i: usize| {
                let (head, row) = ((n * each + i) / rows.len(), (n * each + i) % rows.len());
                q.row(heads.start + head, rows.start + row)
            };
            interleave(here, row, queries, here);
        }
        // A panel of keys stays near while all rows pass.
        for panel in 0..most.div_ceil(PANEL) {
            let k = k.rows(panel, &(0..width));
            let columns = panel * PANEL..stride.min((panel + 1) * PANEL);
            let tiles = queries.chunks(each * width).zip(scores.chunks_mut(each * stride));
            for (queries, scores) in tiles {
                let sums = &mut sums[..scores.len() / stride];
                sums.fill([0.0; PANEL]);
                tile_onto::<V, T>(Few::Interleaved(queries), k, &[], sums);
                for (scores, sums) in scores.chunks_exact_mut(stride).zip(&*sums) {
                    let scores = &mut scores[columns.clone()];
                    scores.iter_mut().zip(sums).for_each(|(score, sum)| *score = sum * attend.scale);
                }
            }
        }

        let mut left = vec![0.0f32; attend.blocked.len()];
        let n_groups = attend.groups.map_or(0, |groups| groups.count);
        let mut groups = vec![0.0f32; rows.len() * n_groups];
        let head_rows = || heads.clone().flat_map(|h| rows.clone().map(move |r| (h, r)));
        for ((head, r), scores) in head_rows().zip(scores.chunks_exact_mut(stride)) {
            let (scores, later) = scores[..most].split_at_mut(seen(r));
            let cuts = || attend.blocked.iter().enumerate().filter(|(_, b)| b.heads[head] && b.rows[r]);
            for (_, cut) in cuts() {
                scores.iter_mut().zip(&cut.keys).filter(|(_, cut)| **cut).for_each(|(s, _)| *s = attend.fill);
            }
            softmax::<V>(scores);
            later.fill(0.0);
            add_up(scores, runs, &mut groups[(r - rows.start) * n_groups..][..n_groups]);
            for (n, cut) in cuts() {
                let mass = scores.iter().zip(&cut.keys).filter(|(_, cut)| **cut);
                left[n] = mass.fold(left[n], |left, (s, _)| larger(left, *s));
            }
        }

        for Kept { head, row, pattern } in kept {
            let at = (head - heads.start) * rows.len() + row - rows.start;
            pattern[..most].copy_from_slice(&scores[at * stride..][..most]);
        }

        let weights = Rows { data: scores, stride, rows: count, width: most };
        Chunked { mixed: mix::<V, T>(weights, v, width, each, sums), left, groups }
    }
}

/// Adds what a row gives each run of the keys that it sees to the run's group. A row sums the same runs in the same
/// order alone and among others.
#[inline(always)]
fn add_up(row: &[f32], runs: &[(Range<usize>, usize)], groups: &mut [f32]) {
    for (keys, group) in runs.iter().take_while(|(keys, _)| keys.start < row.len()) {
        groups[*group] += sum(&row[keys.start..keys.end.min(row.len())], |mass| mass);
    }
}

/// `[rows, width]` of `values` `[keys, width]`, weighed by `weights` `[rows, keys]`, `each` rows at a time.
#[inline(always)]
fn mix<V: Vector, T: Number>(
    weights: Rows<'_, f32>,
    values: Panelled<'_, T>,
    width: usize,
    each: usize,
    sums: &mut [[f32; PANEL]],
) -> Vec<f32> {
    let mut mixed = vec![0.0; weights.rows * width];
    // A piece of a panel stays near while many rows pass.
    let piece = if weights.rows > each { PIECE } else { weights.width };
    for panel in 0..width.div_ceil(PANEL) {
        sums.fill([0.0; PANEL]);
        for keys in pieces(weights.width, piece) {
            let values = values.rows(panel, &keys);
            for (n, sums) in sums.chunks_mut(each).enumerate() {
                let data = &weights.data[n * each * weights.stride + keys.start..];
                let weights = Rows { data, rows: sums.len(), width: keys.len(), ..weights };
                tile_onto::<V, T>(Few::Apart(weights), values, &[], sums);
            }
        }
        for (mixed, sums) in mixed.chunks_exact_mut(width).zip(&*sums) {
            mixed[panel * PANEL..].iter_mut().zip(sums).for_each(|(mixed, sum)| *mixed = *sum);
        }
    }
    mixed
}
