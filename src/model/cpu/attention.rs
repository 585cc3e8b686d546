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
    lanes::{Number, PANEL, Vector},
    math::{softmax, sum},
    strides::{Cube, Rows, interleave, spread},
    tiles::{Few, tile_of},
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
    let runs = attend.groups.map_or_else(Vec::new, |groups| groups.runs(keys));
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

    let mixed = side_by_side(&done, q.shape, kv_heads, chunk);
    let left = |b: usize| largest(done.iter().map(|d| d.left[b]));
    Some(Attended {
        mixed: tensor(mixed, [rows, heads * width]),
        left: (0..attend.blocked.len()).map(left).collect(),
        groups: mean_of(&done, heads, kv_heads),
    })
}

/// What the tasks gave, `chunk` rows of a key head each, as `[rows, heads * width]`.
fn side_by_side(
    done: &[Chunked],
    [heads, rows, width]: [usize; 3],
    kv_heads: usize,
    chunk: usize,
) -> Vec<f32> {
    in_runs(rows * heads * width, chunk * heads * width, |n, mixed| {
        let (rows, done) = (mixed.len() / (heads * width), &done[n * kv_heads..][..kv_heads]);
        for (head, from) in done.iter().flat_map(|d| d.mixed.chunks_exact(rows * width)).enumerate() {
            for (row, from) in from.chunks_exact(width).enumerate() {
                mixed[(row * heads + head) * width..][..width].copy_from_slice(from);
            }
        }
    })
}

/// `[rows, groups]`: the sums over heads of the tasks, `kv_heads` of them for the same rows, as means.
fn mean_of(done: &[Chunked], heads: usize, kv_heads: usize) -> Vec<f32> {
    let of_rows = |done: &[Chunked]| {
        let mut sums = done.first().map_or_else(Vec::new, |first| first.groups.clone());
        for other in done.iter().skip(1) {
            sums.iter_mut().zip(&other.groups).for_each(|(sum, more)| *sum += more);
        }
        sums
    };
    done.chunks(kv_heads).flat_map(of_rows).map(|sum| sum / heads as f32).collect()
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
    /// Of keys of one group.
    runs: &'a [(Range<usize>, usize)],
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
        let n_groups = attend.groups.map_or(0, |groups| groups.count);
        let mut groups = vec![0.0f32; rows.len() * n_groups];
        let head_rows = || heads.clone().flat_map(|h| rows.clone().map(move |r| (h, r)));
        for ((head, r), scores) in head_rows().zip(scores.chunks_exact_mut(most)) {
            let (scores, later) = scores.split_at_mut(seen(r));
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
            pattern[..most].copy_from_slice(&scores[at * most..][..most]);
        }

        let mut mixed = vec![0.0; count * width];
        mix::<V, T>(&mut mixed, width, scores, Rows { rows: most, ..v }, each);
        Chunked { mixed, left, groups }
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

/// `[rows, width]` of `values` `[keys, width]`, weighed by `scores` `[rows, keys]`, `each` rows at a time.
#[inline(always)]
fn mix<V: Vector, T: Number>(
    mixed: &mut [f32],
    width: usize,
    scores: &[f32],
    values: Rows<'_, T>,
    each: usize,
) {
    let most = values.rows;
    for (mixed, scores) in mixed.chunks_mut(each * width).zip(scores.chunks(each * most)) {
        let weights = Rows { data: scores, stride: most, rows: scores.len() / most, width: most };
        for at in (0..width).step_by(PANEL) {
            let sums = tile_of::<V, T>(Few::Apart(weights), values, at, &[]);
            for (mixed, sums) in mixed.chunks_exact_mut(width).zip(&sums) {
                mixed[at..].iter_mut().zip(sums).for_each(|(mixed, sum)| *mixed = *sum);
            }
        }
    }
}
