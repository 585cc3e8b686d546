//! Every kernel against plain loops in float64, across shapes that fill registers and that do not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16};

#[cfg(target_arch = "x86_64")]
use super::x86::Avx2;
use super::{
    attention::{Attend, Attended, attention},
    cache::{Lie, append},
    flex::{flex, is_plain},
    kernel::{Kernel, widest},
    lanes::{LANES, MOST, Number, PANEL, Vector},
    math::exp,
    panels::Panels,
    product::{linear, linear_activated, linear_onto},
    strides::Rows,
    tiles::{Few, tile_onto},
};
use crate::{
    checkpoint::config::Activation,
    model::{
        hooks::{Blocked, Groups},
        nn::{self, Matrix},
    },
};

/// Numbers between -1 and 1, always the same.
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn on<const D: usize>(device: &Device, values: &[f32], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn made<const D: usize>(values: &[f32], shape: [usize; D]) -> Tensor<D> {
    on(&Device::flex(), values, shape)
}

fn read<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as().unwrap()
}

fn close(found: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() <= tolerance, "{what}: {f} at {i}, expected {e}");
    }
}

/// The values that a format holds for these.
fn rounded(values: &[f32], dtype: DType) -> Vec<f32> {
    let held = |v: &f32| match dtype {
        DType::F16 => f16::from_f32(*v).to_f32(),
        DType::BF16 => bf16::from_f32(*v).to_f32(),
        _ => *v,
    };
    values.iter().map(held).collect()
}

/// The formats of matrices.
const FORMATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

#[test]
fn products_of_few_and_many_rows() {
    for dtype in FORMATS {
        for rows in [1, 2, 3, 6, 11, 12, 13, 25] {
            for (k, n) in [(1, 1), (7, 3), (31, 4), (32, 5), (33, 67), (64, 130), (100, 9), (40, 1100)] {
                let (x, w, b) = (noise(rows * k, 1), noise(n * k, 2), noise(n, 3));
                let base = noise(rows * n, 4);
                let held = rounded(&w, dtype);
                let dot = |r: usize, o: usize| -> f64 {
                    (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(held[o * k + i])).sum()
                };
                let all = || (0..rows).flat_map(|r| (0..n).map(move |o| (r, o)));
                let expected: Vec<f64> = all().map(|(r, o)| dot(r, o) + f64::from(b[o])).collect();
                let what = format!("{rows} rows, {k} to {n}, {dtype:?}");
                let (x, bias) = (made(&x, [rows, k]), made(&b, [n]));
                let weight = Panels::new(made(&w, [n, k]).cast(dtype)).unwrap();
                let layer = |bias| (Some(&weight), bias);
                let [y, z] = linear(&x, [layer(Some(&bias)), layer(None)]).unwrap();
                close(&read(y), &expected, 1e-5, &what);
                let plain: Vec<f64> = all().map(|(r, o)| dot(r, o)).collect();
                close(&read(z), &plain, 1e-5, &what);
                let tolerance = if dtype == DType::F16 { 2e-3 * k as f64 } else { 1e-5 };
                close(&read(weight.product(x.clone())), &plain, tolerance, &format!("{what}, by burn"));
                let onto: Vec<f64> = expected.iter().zip(&base).map(|(e, b)| e + f64::from(*b)).collect();
                let shared = made(&base, [rows, n]);
                let y = linear_onto(shared.clone(), &x, layer(Some(&bias))).unwrap();
                close(&read(y), &onto, 1e-5, &what);
                assert_eq!(read(shared), base, "a base that someone else holds is left alone");
            }
        }
    }
}

#[test]
fn parts_of_tensors_and_turned_ones_are_read_rightly() {
    let (x, w) = (noise(8 * 12, 1), Matrix::new(made(&noise(5 * 12, 2), [5, 12])));
    let whole = read(w.product(made(&x, [8, 12])));
    assert_eq!(read(w.product(made(&x, [8, 12]).narrow(0, 3, 2))), whole[15..25], "rows 3 and 4");
    let turned: Vec<f32> =
        (0..12).flat_map(|k| (0..8).map(move |r| (r, k))).map(|(r, k)| x[r * 12 + k]).collect();
    assert_eq!(read(w.product(made(&turned, [12, 8]).transpose())), whole, "transposed");
}

#[test]
fn rows_of_a_matrix_are_found_again() {
    for dtype in FORMATS {
        let w = noise(70 * 5, 1);
        let matrix = Panels::new(made(&w, [70, 5]).cast(dtype)).unwrap();
        let rows = [69, 0, 31, 32, 33, 0];
        let expected: Vec<f32> = rows.iter().flat_map(|r| rounded(&w[r * 5..][..5], dtype)).collect();
        assert_eq!(read(matrix.rows(&rows)), expected);
    }
}

/// What a resumed run stands on: how many rows go through together changes no bit.
#[test]
fn rows_come_out_the_same_alone_and_among_others() {
    // The last in several blocks of rows and pieces of the inner dimension.
    let shapes = [(25, 7, 3), (25, 576, 200), (210, 300, 70)];
    for (dtype, (rows, k, n)) in FORMATS.into_iter().flat_map(|d| shapes.map(|shape| (d, shape))) {
        let (x, w) = (made(&noise(rows * k, 1), [rows, k]), made(&noise(n * k, 2), [n, k]));
        let w = Matrix::new(w.cast(dtype));
        let together = read(w.product(x.clone()));
        for (row, expected) in together.chunks_exact(n).enumerate() {
            assert_eq!(read(w.product(x.clone().narrow(0, row, 1))), expected, "row {row}");
        }
    }
    for dtype in [DType::F32, DType::F16] {
        for (rows, keys, width) in [(5, 5, 10), (70, 70, 64), (40, 130, 24)] {
            let q = made(&noise(6 * rows * width, 1), [6, rows, width]);
            let (mut k, mut v) = (None, None);
            let mut alone = Vec::new();
            let (new_k, new_v) = (noise(2 * keys * width, 2), noise(2 * keys * width, 3));
            let (new_k, new_v) = (made(&new_k, [2, keys, width]), made(&new_v, [2, keys, width]));
            let thirds = thirds(keys);
            let groups = Some(&thirds);
            let attend = |rows| Attend {
                scale: 0.3,
                causal: true,
                blocked: &[],
                fill: f32::MIN,
                rows,
                heads: None,
                groups,
            };
            // The keys before the rows at once, then one at a time.
            let mut known = 0;
            for key in keys - rows + 1..=keys {
                let new = |x: &Tensor<3>| x.clone().narrow(1, known, key - known);
                k = Some(append(k.take(), &new(&new_k), dtype, Lie::Columns).unwrap());
                v = Some(append(v.take(), &new(&new_v), dtype, Lie::Rows).unwrap());
                known = key;
                let q = q.clone().narrow(1, key - (keys - rows + 1), 1);
                alone.push(attended(&q, [k.as_ref().unwrap(), v.as_ref().unwrap()], &attend(&[0])));
            }
            let cast = |x: Tensor<3>| x.cast(dtype);
            let every: Vec<usize> = (0..rows).collect();
            let (together, all) = attended(&q, [&cast(new_k), &cast(new_v)], &attend(&every));
            let all = made(&all, [6, rows, keys]);
            for (row, (alone, pattern)) in alone.into_iter().enumerate() {
                let expected = read(together.mixed.clone().narrow(0, row, 1));
                assert_eq!(read(alone.mixed), expected, "row {row} of {rows}");
                assert_eq!(alone.groups, together.groups[row * 3..][..3], "row {row} of {rows}");
                let among = all.clone().narrow(1, row, 1).narrow(2, 0, keys - rows + 1 + row);
                assert_eq!(pattern, read(among), "row {row} of {rows}");
            }
        }
    }
}

/// bfloat16 loses nothing on its way into a product: the same numbers give the same bits as float32.
#[test]
fn bfloat16_gives_what_its_numbers_give_as_float32() {
    for (rows, k, n) in [(1, 70, 40), (13, 100, 67)] {
        let (x, w) = (made(&noise(rows * k, 1), [rows, k]), rounded(&noise(n * k, 2), DType::BF16));
        let wide = Panels::new(made(&w, [n, k])).unwrap();
        let narrow = Panels::new(made(&w, [n, k]).cast(DType::BF16)).unwrap();
        assert_eq!(narrow.dtype(), DType::BF16);
        let [a, b] = linear(&x, [(Some(&wide), None), (Some(&wide), None)]).unwrap();
        let [c] = linear(&x, [(Some(&narrow), None)]).unwrap();
        assert_eq!(read(a.clone()), read(c));
        assert_eq!(read(a), read(b));
    }
}

#[test]
fn neighbours_in_several_formats_go_together() {
    let (k, n, rows) = (33, 40, 3);
    let x = made(&noise(rows * k, 1), [rows, k]);
    let panels = FORMATS.map(|dtype| Panels::new(made(&noise(n * k, 2), [n, k]).cast(dtype)).unwrap());
    let bias = made(&noise(n, 3), [n]);
    let layers = [0, 1, 2].map(|i| (Some(&panels[i]), Some(&bias)));
    for (together, layer) in linear(&x, layers).unwrap().into_iter().zip(layers) {
        let [alone] = linear(&x, [layer]).unwrap();
        assert_eq!(read(together), read(alone));
    }
}

/// As it lies on a device that cannot hold it in one piece.
#[test]
fn a_matrix_in_blocks_is_the_matrix() {
    for dtype in FORMATS {
        let (k, n, rows) = (12, 50, 4);
        let (x, w) = (made(&noise(rows * k, 1), [rows, k]), made(&noise(n * k, 2), [n, k]).cast(dtype));
        let whole = Matrix::new(w.clone());
        let part = |from: usize| w.clone().narrow(0, from, 16.min(n - from));
        let blocks = Matrix::Rows((0..n).step_by(16).map(part).collect());
        assert_eq!((blocks.dims(), blocks.dtype()), (whole.dims(), dtype));
        for places in [&[3][..], &[49, 0, 15, 16, 17, 0, 48, 47], &[20, 18]] {
            assert_eq!(read(blocks.rows(places)), read(whole.rows(places)), "{places:?}");
        }
        let expected: Vec<f64> = read(whole.product(x.clone())).into_iter().map(f64::from).collect();
        // burn's product of float16 rounds what enters it.
        let tolerance = if dtype == DType::F16 { 2e-3 * k as f64 } else { 1e-5 };
        close(&read(blocks.product(x)), &expected, tolerance, &format!("{dtype:?}"));
    }
}

/// Three groups of keys, each in several runs, but for those at the end that belong to none.
fn thirds(keys: usize) -> Groups {
    Groups { keys: (0..keys - keys / 10).map(|key| (key / 7 % 3) as u8).collect(), count: 3 }
}

/// Attention, and what is kept of it: `[kept heads, kept rows, keys]`.
fn attended(q: &Tensor<3>, [k, v]: [&Tensor<3>; 2], attend: &Attend<'_>) -> (Attended, Vec<f32>) {
    let heads = attend.heads.map_or(q.dims()[0], <[usize]>::len);
    let mut pattern = vec![0.0; heads * attend.rows.len() * k.dims()[1]];
    let done = attention(q, [k, v], attend, &mut pattern).unwrap();
    let mut longer = vec![0.0; pattern.len() + 1];
    assert!(attention(q, [k, v], attend, &mut longer).is_none(), "a place of another size");
    (done, pattern)
}

struct Case {
    heads: usize,
    kv_heads: usize,
    rows: usize,
    keys: usize,
    width: usize,
    causal: bool,
    dtype: DType,
}

impl Case {
    /// Plain loops: what is mixed, `[rows, heads * width]`, and the pattern, `[heads, rows, keys]`.
    fn expected(&self, cuts: &[Arc<Blocked>], [q, held_k, held_v]: [&[f32]; 3]) -> (Vec<f64>, Vec<f64>) {
        let &Case { heads, kv_heads, rows, keys, width, causal, .. } = self;
        let scale = (width as f32).powf(-0.5);
        let mut expected = vec![0.0; rows * heads * width];
        let mut pattern = vec![0.0; heads * rows * keys];
        for (h, r) in (0..heads).flat_map(|h| (0..rows).map(move |r| (h, r))) {
            let kv = h / (heads / kv_heads);
            let cut = |key| cuts.iter().any(|c| c.heads[h] && c.rows[r] && c.keys[key]);
            let seen = if causal { keys - rows + r + 1 } else { keys };
            let score = |key: usize| -> f64 {
                let at = |i| {
                    f64::from(q[(h * rows + r) * width + i])
                        * f64::from(held_k[(kv * keys + key) * width + i])
                };
                f64::from(scale) * (0..width).map(at).sum::<f64>()
            };
            let open: Vec<usize> = (0..seen).filter(|&key| !cut(key)).collect();
            let max = open.iter().map(|&key| score(key)).fold(f64::MIN, f64::max);
            let total: f64 = open.iter().map(|&key| (score(key) - max).exp()).sum();
            for &key in &open {
                let p = (score(key) - max).exp() / total;
                pattern[(h * rows + r) * keys + key] = p;
                for i in 0..width {
                    expected[(r * heads + h) * width + i] +=
                        p * f64::from(held_v[(kv * keys + key) * width + i]);
                }
            }
        }
        (expected, pattern)
    }

    fn check(&self, cuts: &[Arc<Blocked>], kept_rows: &[usize], kept_heads: Option<&[usize]>) {
        let &Case { heads, kv_heads, rows, keys, width, causal, dtype } = self;
        let what = format!("{heads}/{kv_heads} heads, {rows} rows, {keys} keys, {width} wide, {dtype:?}");
        let (q, k, v) = (
            noise(heads * rows * width, 1).iter().map(|v| v * 3.0).collect::<Vec<_>>(),
            noise(kv_heads * keys * width, 2),
            noise(kv_heads * keys * width, 3),
        );
        let (held_k, held_v) = (rounded(&k, dtype), rounded(&v, dtype));
        let scale = (width as f32).powf(-0.5);
        let (expected, pattern) = self.expected(cuts, [&q, &held_k, &held_v]);
        // As the projections give them: a row's heads side by side.
        let q: Vec<f32> = (0..rows)
            .flat_map(|r| (0..heads).map(move |h| (h, r)))
            .flat_map(|(h, r)| q[(h * rows + r) * width..][..width].to_vec())
            .collect();
        let q = made(&q, [rows, heads, width]).swap_dims(0, 1);
        let cached = |x: &[f32]| made(x, [kv_heads, keys, width]).cast(dtype);
        let thirds = thirds(keys);
        let groups = Some(&thirds);
        let attend = Attend {
            scale,
            causal,
            blocked: cuts,
            fill: f32::MIN,
            rows: kept_rows,
            heads: kept_heads,
            groups,
        };
        let (done, found) = attended(&q, [&cached(&k), &cached(&v)], &attend);
        let mut sums = vec![0.0; rows * 3];
        for (i, mass) in pattern.iter().enumerate() {
            let (row, key) = (i / keys % rows, i % keys);
            if let Some(&group) = thirds.keys.get(key) {
                sums[row * 3 + usize::from(group)] += mass / heads as f64;
            }
        }
        close(&done.groups, &sums, 1e-5, &format!("{what}: by groups"));
        let attend = Attend { groups: None, ..attend };
        let lying = |x: &[f32], lie| append(None, &made(x, [kv_heads, keys, width]), dtype, lie).unwrap();
        let again = [&lying(&k, Lie::Columns), &lying(&v, Lie::Rows)];
        let (again, _) = attended(&q, again, &attend);
        assert_eq!(read(again.mixed), read(done.mixed.clone()), "{what}: as a cache lies, not summed");
        assert!(again.groups.is_empty());
        close(&read(done.mixed), &expected, 2e-6, &what);
        assert!(done.left.iter().all(|&left| left == 0.0), "{what}: {:?}", done.left);
        let kept: Vec<f64> = (0..heads)
            .filter(|h| kept_heads.is_none_or(|kept| kept.contains(h)))
            .flat_map(|h| kept_rows.iter().map(move |r| (h, r)))
            .flat_map(|(h, r)| pattern[(h * rows + r) * keys..][..keys].to_vec())
            .collect();
        close(&found, &kept, 1e-6, &what);
        assert!(found.iter().zip(&kept).all(|(f, k)| *k != 0.0 || *f == 0.0), "{what}: what is cut is 0");
    }
}

#[test]
fn attention_of_every_shape() {
    for (heads, kv_heads) in [(1, 1), (4, 4), (9, 3), (4, 1), (6, 2)] {
        for (rows, keys) in [(1, 1), (1, 3), (1, 70), (2, 9), (3, 3), (5, 40), (70, 70), (200, 230)] {
            for width in [4, 16, 24, 64] {
                for dtype in [DType::F32, DType::F16] {
                    let case = Case { heads, kv_heads, rows, keys, width, causal: true, dtype };
                    case.check(&[], &[rows - 1], None);
                    Case { causal: false, ..case }.check(&[], &[], None);
                }
            }
        }
    }
}

#[test]
fn cut_pairs_get_exactly_nothing_and_are_measured() {
    for (rows, keys) in [(1, 50), (4, 9), (60, 90), (120, 120)] {
        let marked =
            |n: usize, every: usize, from: usize| (0..n).map(|i| i >= from && i % every == 0).collect();
        let cut = |tag, heads: Vec<bool>, keys_from| {
            Arc::new(Blocked { tag, rows: marked(rows, 2, 0), keys: marked(keys, 3, keys_from), heads })
        };
        let cuts = [cut(0, vec![true; 6], 1), cut(1, vec![false, true, false, true, true, false], 2)];
        for dtype in [DType::F32, DType::F16] {
            let case = Case { heads: 6, kv_heads: 2, rows, keys, width: 16, causal: true, dtype };
            case.check(&cuts, &(0..rows).collect::<Vec<_>>(), None);
            case.check(&cuts, &[0, rows - 1][usize::from(rows == 1)..], Some(&[1, 5]));
        }
        // The measure is of what is there: with a fill that leaves something, it is seen.
        let (q, k) =
            (made(&noise(6 * rows * 16, 1), [6, rows, 16]), made(&noise(2 * keys * 16, 2), [2, keys, 16]));
        let leaky = Attend {
            scale: 1.0,
            causal: true,
            blocked: &cuts,
            fill: 0.0,
            rows: &[],
            heads: None,
            groups: None,
        };
        assert!(attended(&q, [&k, &k], &leaky).0.left.iter().all(|&left| left > 0.0));
    }
}

#[test]
fn the_cache_grows_in_place_and_forks_apart() {
    for (dtype, lie) in [DType::F32, DType::F16].into_iter().flat_map(|d| [(d, Lie::Columns), (d, Lie::Rows)])
    {
        let row = |seed| noise(2 * 3, seed);
        let mut whole: Vec<Vec<f32>> = Vec::new();
        let mut held: Option<Tensor<3>> = None;
        let mut places = Vec::new();
        for n in 0..300 {
            whole.push(row(n));
            held = Some(append(held.take(), &made(&row(n), [2, 1, 3]), dtype, lie).unwrap());
            places.push(flex(held.as_ref().unwrap()).unwrap().bytes().as_ptr());
        }
        places.dedup();
        assert!(places.len() < 6, "moved {} times", places.len());
        let expected = |rows: &[Vec<f32>]| -> Vec<f32> {
            let of = |head: usize| rows.iter().flat_map(move |r| rounded(&r[head * 3..][..3], dtype));
            of(0).chain(of(1)).collect()
        };
        let held = held.unwrap();
        assert_eq!(read(held.clone()), expected(&whole));
        // A fork, shortened and continued, leaves the other alone.
        let fork =
            append(Some(held.clone().narrow(1, 0, 10)), &made(&row(1000), [2, 1, 3]), dtype, lie).unwrap();
        assert_eq!(read(held), expected(&whole));
        whole.truncate(10);
        whole.push(row(1000));
        assert_eq!(read(fork.clone()), expected(&whole));
        // Rows that lie otherwise, as after a selection, are taken over.
        let other = fork.slice([0..2, 2..9]).to_device(&Device::flex()) * 1.0;
        let on = append(Some(other.cast(dtype)), &made(&row(2000), [2, 1, 3]), dtype, lie).unwrap();
        let mut whole = whole[2..9].to_vec();
        whole.push(row(2000));
        assert_eq!(read(on), expected(&whole));
    }
}

#[test]
fn rows_one_by_one_as_burn_has_them() {
    let graph = Device::flex().autodiff();
    for (rows, width) in [(1, 5), (3, 64), (100, 576)] {
        let (x, w, b) = (noise(rows * width, 1), noise(width, 2), noise(width, 3));
        let identity: Vec<f32> = (0..width * width).map(|i| f32::from(i % (width + 1) == 0)).collect();
        let both = |f: &dyn Fn(&Device) -> Tensor<2>, what: &str| {
            let plain: Vec<f64> = read(f(&graph)).into_iter().map(f64::from).collect();
            close(&read(f(&Device::flex())), &plain, 1e-5, what);
        };
        let rms = |d: &Device| nn::RmsNorm::new(on(d, &w, [width]), 1e-5).forward(on(d, &x, [rows, width]));
        both(&rms, "RMS norm");
        let layer = |d: &Device| {
            nn::LayerNorm::new(on(d, &w, [width]), on(d, &b, [width]), 1e-5).forward(on(d, &x, [rows, width]))
        };
        both(&layer, "layer norm");
        for act in [
            Activation::Silu,
            Activation::QuickGelu,
            Activation::GeluTanh,
            Activation::Gelu,
            Activation::Relu,
        ] {
            let wide: Vec<f32> = x.iter().map(|v| v * 20.0).collect();
            let of = |d: &Device| {
                let linear = nn::Linear {
                    weight: Matrix::new(on(d, &identity, [width, width])),
                    bias: Some(on(d, &b, [width])),
                };
                linear.forward_activated(on(d, &wide, [rows, width]), act)
            };
            both(&of, &format!("{act:?}"));
            let of = |d: &Device| nn::gated(act, on(d, &x, [rows, width]), on(d, &wide, [rows, width]));
            both(&of, &format!("{act:?}, gated"));
        }
    }
}

#[test]
fn tensors_that_carry_gradients_are_declined() {
    let graph = Device::flex().autodiff();
    let (x, w) = (on(&graph, &noise(6, 1), [2, 3]), on(&graph, &noise(9, 2), [3, 3]));
    assert!(!is_plain(&x));
    assert!(Panels::new(w).is_err());
    let w = Panels::new(made(&noise(9, 2), [3, 3])).unwrap();
    assert!(linear(&x, [(Some(&w), None)]).is_none());
    assert!(linear_onto(x.clone(), &x, (Some(&w), None)).is_err());
    assert!(linear_activated(&x, (Some(&w), None), Activation::Silu).is_none());
}

#[test]
fn the_exponential_is_exact_enough_and_ends_at_zero() {
    for i in 0..100_000 {
        let x = -87.3 + i as f32 * 0.001_75;
        let expected = f64::from(x).exp();
        let found = exp::<[f32; LANES]>(x);
        assert!((f64::from(found) / expected - 1.0).abs() < 4e-7, "exp({x}) = {found}");
    }
    assert_eq!(exp::<[f32; LANES]>(f32::MIN), 0.0);
    assert_eq!(exp::<[f32; LANES]>(f32::MIN - 1e30), 0.0);
    assert_eq!(exp::<[f32; LANES]>(0.0), 1.0);
    assert!(exp::<[f32; LANES]>(f32::NAN).is_nan());
}

#[test]
fn half_precision_is_widened_exactly() {
    for bits in 0..=u16::MAX {
        let half = f16::from_bits(bits);
        let found = Number::widen(half);
        assert!(found == half.to_f32() || half.is_nan() && found.is_nan(), "{bits:#x}: {found}");
    }
}

#[test]
fn bfloat16_is_widened_exactly_by_all_compilations() {
    struct Widened<'a>(&'a [bf16; LANES]);
    impl Kernel for Widened<'_> {
        type Out = [u32; LANES];

        #[inline(always)]
        fn run<V: Vector>(self) -> [u32; LANES] {
            bytemuck::cast(V::shifted(self.0).numbers())
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn avx2(kernel: Widened<'_>) -> [u32; LANES] {
        kernel.run::<Avx2>()
    }
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    for numbers in all.as_chunks::<LANES>().0 {
        // The bits say more than the values: NaN keeps its own.
        let expected = numbers.map(|number| u32::from(number.to_bits()) << 16);
        assert_eq!(widest(Widened(numbers)), expected);
        assert_eq!(Widened(numbers).run::<[f32; LANES]>(), expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            // SAFETY: the features were just detected.
            #[allow(unsafe_code)]
            let narrower = unsafe { avx2(Widened(numbers)) };
            assert_eq!(narrower, expected);
        }
        for number in numbers {
            let found = Number::widen(*number);
            assert!(found == number.to_f32() || number.is_nan() && found.is_nan());
        }
    }
}

#[test]
fn all_compilations_agree() {
    const K: usize = 70;
    let (x, b) = (noise(K * MOST, 1), noise(K * PANEL, 2));
    let b = Rows { data: &b, stride: PANEL, rows: K, width: PANEL };
    struct Both<'a>(&'a [f32], Rows<'a, f32>);
    impl Kernel for Both<'_> {
        type Out = Vec<f32>;

        #[inline(always)]
        fn run<V: Vector>(self) -> Vec<f32> {
            let one = |row: usize| {
                let mut sums = [[0.0; PANEL]];
                let one = Rows { data: &self.0[row * K..], stride: K, rows: 1, width: K };
                tile_onto::<V, f32>(Few::Apart(one), self.1, &[], &mut sums);
                sums[0]
            };
            let two = Rows { data: self.0, stride: K, rows: 2, width: K };
            let mut together = [[0.0; PANEL]; 2];
            tile_onto::<V, f32>(Few::Apart(two), self.1, &[], &mut together);
            assert_eq!(together, [one(0), one(1)]);
            together.as_flattened().to_vec()
        }
    }
    let (wide, plain) = (widest(Both(&x, b)), Both(&x, b).run::<[f32; LANES]>());
    let plain: Vec<f64> = plain.into_iter().map(f64::from).collect();
    close(&wide, &plain, 1e-5, "the machine's own and the plain one");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2(kernel: Both<'_>) -> Vec<f32> {
            kernel.run::<Avx2>()
        }
        // SAFETY: the features were just detected.
        #[allow(unsafe_code)]
        let narrower = unsafe { avx2(Both(&x, b)) };
        assert_eq!(narrower, wide, "AVX2 and what this machine has");
    }
}
