//! Cuts and caches: what a knockout must and must not change, and that gradients flow. Positions with three
//! axes, and features that are added on the way.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};
use sightline::{
    checkpoint::{
        shards::Watch,
        weights::{WeightDtype, Weights},
    },
    device::open as device,
    engine::{
        decoding::{Decoding, DecodingError, Rows, host, place_rows},
        logits::argmax,
    },
    model::{
        decoder::{Decoder, Step},
        hooks::{Hooks, Keep},
        kv_cache::KvCache,
        rotary::{Position, consecutive},
        vlm::Vlm,
    },
    progress::Cancel,
    spec::{
        knockout::{Cut, Knockout},
        resolve::{Patches, Scope},
        span::Span,
    },
};

use crate::common::{fixture, gpu};

// bos, system, 4 visual, 2 question, last
const SPANS: [Span; 9] = [
    Span::Bos,
    Span::System,
    Span::Visual,
    Span::Visual,
    Span::Visual,
    Span::Visual,
    Span::Question,
    Span::Question,
    Span::Last,
];
/// Ids in their places.
const PROMPT: [u32; 9] = [1, 20, 30, 31, 32, 33, 40, 41, 50];
const NEW: usize = 5;

fn model(device: &Device, dtype: WeightDtype) -> Vlm {
    Vlm::load(&fixture("tiny-idefics3"), device, dtype).unwrap()
}

fn cuts(vlm: &Vlm, texts: &[&str]) -> Vec<Cut> {
    let text = &vlm.config.text;
    let scope = Scope {
        spans: &SPANS,
        patches: &Patches::default(),
        max_new: NEW,
        n_layers: text.n_layers,
        n_heads: text.n_heads,
    };
    texts.iter().map(|t| t.parse::<Knockout>().unwrap().resolve(&scope).unwrap()).collect()
}

struct Answer {
    tokens: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// Per step: `[layers, heads, keys]`.
    patterns: Vec<Vec<f32>>,
    pairs: Vec<Vec<u64>>,
    mass: Vec<f32>,
}

fn answer(vlm: &Vlm, texts: &[&str]) -> Result<Answer, DecodingError> {
    let cuts = cuts(vlm, texts);
    let cancel = Cancel::default();
    let mut decoding = Decoding::new(vlm, &cuts, SPANS.len() + NEW - 1, &cancel)?;
    let mut next = decoding.text(vlm.decoder.embed(&PROMPT));
    let mut out = Answer { tokens: vec![], logits: vec![], patterns: vec![], pairs: vec![], mass: vec![] };
    for _ in 0..NEW {
        let row = decoding.rows(next, 1)?.remove(0);
        let token = argmax(&row.logits);
        next = decoding.text(vlm.decoder.embed(&[token as u32]));
        out.tokens.push(token);
        out.logits.push(row.logits);
        out.patterns.push(host(row.pattern.unwrap())?);
    }
    out.pairs = decoding.proof().map(|(pairs, _)| pairs).collect();
    out.mass = decoding.proof().map(|(_, mass)| mass).collect();
    Ok(out)
}

fn blocked_is_zero_and_rows_sum_to_one(vlm: &Vlm) {
    let cut = answer(vlm, &["answer -> visual @ 1-2", "last -> question @ all # 0,2"]).unwrap();
    let (layers, heads) = (vlm.config.text.n_layers, vlm.config.text.n_heads);
    for (step, pattern) in cut.patterns.iter().enumerate() {
        let keys = SPANS.len() + step;
        for (i, row) in pattern.chunks(keys).enumerate() {
            let (layer, head) = (i / heads, i % heads);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "layer {layer}, head {head}");
            for (key, &value) in row.iter().enumerate().take(SPANS.len()) {
                let blocked = (SPANS[key] == Span::Visual && (1..=2).contains(&layer))
                    || (SPANS[key] == Span::Question && step == 0 && head % 2 == 0);
                assert_eq!(value == 0.0, blocked, "step {step}, layer {layer}, head {head}, key {key}");
            }
        }
    }
    assert_eq!(cut.mass, [0.0, 0.0]);
    assert_eq!(cut.pairs[0], [0, 4 * NEW as u64, 4 * NEW as u64, 0]);
    assert_eq!(cut.pairs[1], vec![2; layers]);
    assert_ne!(cut.logits, answer(vlm, &[]).unwrap().logits);
}

#[test]
fn blocked_pairs_are_exactly_zero_on_the_cpu() {
    blocked_is_zero_and_rows_sum_to_one(&model(&device::cpu().device, WeightDtype::F32));
    blocked_is_zero_and_rows_sum_to_one(&model(&device::cpu().device, WeightDtype::F16));
}

#[test]
fn blocked_pairs_are_exactly_zero_through_wgpu() {
    let Some(compute) = gpu() else { return };
    blocked_is_zero_and_rows_sum_to_one(&model(&compute.device, WeightDtype::F32));
}

#[test]
fn a_cut_that_touches_no_pair_reproduces_the_baseline_bit_for_bit() {
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    let baseline = answer(&vlm, &[]).unwrap();
    let again = answer(&vlm, &[]).unwrap();
    assert_eq!(baseline.logits, again.logits);
    // Acausal: no prompt row before the image sees it.
    let acausal = answer(&vlm, &["system -> visual @ all", "visual -> answer @ all"]).unwrap();
    assert_eq!(acausal.pairs.concat().iter().sum::<u64>(), 0);
    assert_eq!(baseline.logits, acausal.logits);
    assert_eq!(baseline.patterns, acausal.patterns);
}

#[test]
fn the_first_answer_row_is_part_of_answer_and_not_of_decode() {
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    let baseline = answer(&vlm, &[]).unwrap();
    let decode = answer(&vlm, &["decode -> visual @ all"]).unwrap();
    assert_eq!(baseline.logits[0], decode.logits[0]);
    assert_ne!(baseline.logits[1], decode.logits[1]);
    assert_ne!(baseline.logits[0], answer(&vlm, &["answer -> visual @ all"]).unwrap().logits[0]);
}

#[test]
fn a_row_with_nothing_left_is_refused_before_anything_runs() {
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    for (texts, part) in [
        (vec!["last -> all @ 2"], "position 8 nothing to look at in layer 2, head 0"),
        (vec!["bos -> bos @ 0"], "position 0"),
        (vec!["decode -> all @ 3 # 1"], "position 9 nothing to look at in layer 3, head 1"),
        (vec!["system -> bos @ 1", "all -> system @ 1-2"], "position 1"),
    ] {
        let error = answer(&vlm, &texts).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(part), "{texts:?}: {error}");
    }
    assert!(answer(&vlm, &["last -> all @ 2 # 0", "last -> bos @ 3"]).is_err());
    assert!(answer(&vlm, &["answer -> bos + system + visual + question @ all"]).is_ok());
}

#[test]
fn prefill_and_decode_equal_one_forward() {
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    let texts = ["answer -> visual @ 1-2", "question -> visual[1] @ all"];
    let stepwise = answer(&vlm, &texts).unwrap();
    let ids: Vec<u32> = stepwise.tokens[..NEW - 1].iter().map(|&t| t as u32).collect();
    let prompt = vlm.decoder.embed(&PROMPT);
    let all = Tensor::cat(vec![prompt, vlm.decoder.embed(&ids)], 0);
    let (cuts, cancel) = (cuts(&vlm, &texts), Cancel::default());
    let mut decoding = Decoding::new(&vlm, &cuts, SPANS.len() + NEW - 1, &cancel).unwrap();
    let rows = decoding.rows(decoding.text(all), NEW).unwrap();
    for (row, (logits, pattern)) in rows.into_iter().zip(stepwise.logits.iter().zip(&stepwise.patterns)) {
        let largest = logits.iter().map(|l| l.abs()).fold(0.0, f32::max);
        let far = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far(&row.logits, logits) <= 1e-4 * largest);
        assert!(far(&host(row.pattern.unwrap()).unwrap(), pattern) <= 1e-5);
    }
    let proof: Vec<Vec<u64>> = decoding.proof().map(|(pairs, _)| pairs).collect();
    assert_eq!(proof, stepwise.pairs);
}

#[test]
fn positions_are_what_the_caller_says() {
    // Rotary attention only sees differences: shifting every position changes nothing but rounding.
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    let run = |shift: u32| {
        let positions = consecutive(shift as usize, 4);
        let resid = vlm.decoder.embed(&[5, 6, 7, 8]);
        let layers = vlm.decoder.all_layers();
        let step = Step { resid, positions: &positions, added: &[], layers, read: 4 };
        let mut cache = KvCache::default();
        let hooks = Hooks { pattern: Keep::rows(0..4), ..Hooks::default() };
        let out = vlm.decoder.forward(step, &mut cache, &hooks, &Cancel::default()).unwrap();
        assert_eq!((cache.len(), cache.next_positions(1)[0]), (4, [shift + 4; 3]));
        host(vlm.decoder.unembed(out.resid)).unwrap()
    };
    let (here, there) = (run(0), run(100));
    assert!(here.iter().zip(&there).all(|(a, b)| (a - b).abs() < 1e-3));
    assert_ne!(here, there);
}

#[test]
fn rows_that_are_not_read_still_count() {
    // A GPU's kernels for one row differ from those for many.
    let mut devices = vec![(device::cpu().device, 0.0)];
    devices.extend(gpu().map(|compute| (compute.device, 1e-4)));
    for (device, tolerance) in devices {
        let vlm = model(&device, WeightDtype::F32);
        let cuts = cuts(&vlm, &["question -> visual @ all"]);
        let cancel = Cancel::default();
        let pass = |read: usize| {
            let mut decoding = Decoding::new(&vlm, &cuts, SPANS.len(), &cancel).unwrap();
            let embeds = vlm.decoder.embed(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            let hooks = Hooks { pattern: Keep::rows([6, 8]), ..Hooks::default() };
            let out = decoding.pass_from(0, 0, decoding.text(embeds), read, hooks).unwrap();
            assert_eq!(out.resid.dims()[0], read);
            let proof: Vec<(Vec<u64>, f32)> = decoding.proof().collect();
            let last = host(out.resid.narrow(0, read - 1, 1)).unwrap();
            // One more row sees the keys and values of all of them.
            let next = decoding.logits(decoding.text(vlm.decoder.embed(&[10]))).unwrap();
            (last, host(out.recorded.pattern.unwrap()).unwrap(), proof, next)
        };
        let (all, one) = (pass(SPANS.len()), pass(1));
        let close = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len());
            let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= tolerance, "{apart}");
        };
        close(&one.0, &all.0);
        close(&one.1, &all.1);
        close(&one.3, &all.3);
        assert_eq!(one.2, all.2);
    }
}

#[test]
fn a_cancelled_run_stops() {
    let vlm = model(&device::cpu().device, WeightDtype::F32);
    let cancel = Cancel::default();
    let mut decoding = Decoding::new(&vlm, &[], 4, &cancel).unwrap();
    cancel.cancel();
    let outcome = decoding.rows(decoding.text(vlm.decoder.embed(&[1, 2])), 1);
    assert!(matches!(outcome, Err(DecodingError::Cancelled(_))));
}

#[test]
fn embeddings_are_replaced_row_by_row() {
    let device = device::cpu().device;
    let tensor = |v: Vec<f32>, n: usize| Tensor::<2>::from_data(TensorData::new(v, [n, 2]), &device);
    let base = tensor(vec![0., 0., 1., 1., 2., 2.], 3);
    let placed = place_rows(base, &[2, 0], tensor(vec![8., 8., 9., 9.], 2));
    assert_eq!(host(placed).unwrap(), [9., 9., 1., 1., 8., 8.]);
}

#[test]
fn gradients_reach_the_input_embeddings() {
    let vlm = model(&device::cpu().device.autodiff(), WeightDtype::F32);
    let embeds = vlm.decoder.embed(&[1, 20, 30, 31]).detach().require_grad();
    let positions = consecutive(0, 4);
    let step = |resid: Tensor<2>| Step {
        resid,
        positions: &positions,
        added: &[],
        layers: vlm.decoder.all_layers(),
        read: 4,
    };
    let mut cache = KvCache::default();
    let out =
        vlm.decoder.forward(step(embeds.clone()), &mut cache, &Hooks::default(), &Cancel::default()).unwrap();
    let logit = |resid: Tensor<2>| vlm.decoder.unembed(resid).slice([3..4, 7..8]).sum();
    let gradients = logit(out.resid).backward();
    let gradient = host(embeds.grad(&gradients).unwrap()).unwrap();

    // Against a central difference along one coordinate of a visual row.
    let at = |delta: f32| {
        let mut values = host(embeds.clone().inner()).unwrap();
        values[2 * 64 + 5] += delta;
        let embeds = Tensor::from_data(TensorData::new(values, [4, 64]), &vlm.device);
        let mut cache = KvCache::default();
        let out =
            vlm.decoder.forward(step(embeds), &mut cache, &Hooks::default(), &Cancel::default()).unwrap();
        host(logit(out.resid).reshape([1, 1])).unwrap()[0]
    };
    let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
    let analytic = gradient[2 * 64 + 5];
    assert!((numeric - analytic).abs() <= 0.02 * analytic.abs().max(0.05), "{numeric} {analytic}");
}

// --------------------------------------------------------------------------------- three axes

/// The model with the axes of its positions given, pair by pair: `[head width / 2]`.
fn with_axes(vlm: &Vlm, axes: Vec<usize>) -> Vlm {
    let dir = fixture("tiny-idefics3");
    let mut config = vlm.config.clone();
    config.text.rope.axes = axes;
    let cancel = Cancel::default();
    let watch = Watch::new(&dir, &cancel, &|_| {}).unwrap();
    let weights = Weights::open(&dir, &vlm.device, vlm.dtype, &watch).unwrap();
    let keys = vlm.family.decoder_keys(&weights);
    let decoder = Decoder::load(&weights, &keys, &config.text, &vlm.device).unwrap();
    Vlm { config, decoder, ..vlm.clone() }
}

/// Of the eight pairs of a head, which axis turns each.
fn interleaved() -> Vec<usize> {
    vec![0, 1, 2, 0, 1, 2, 0, 1]
}

/// Where an image's four tokens stand as a grid of 2 x 2 between text: time stands still, height and width
/// go on, and the text after it begins past the largest.
fn around_an_image() -> Vec<Position> {
    let text = |p: u32| [p; 3];
    let patch = |row: u32, col: u32| [2, 2 + row, 2 + col];
    let image = [patch(0, 0), patch(0, 1), patch(1, 0), patch(1, 1)];
    [vec![text(0), text(1)], image.to_vec(), vec![text(4), text(5), text(6)]].concat()
}

/// Logits of every row, and the attention of every row, layer and head.
fn at(vlm: &Vlm, positions: Vec<Position>) -> (Vec<f32>, Vec<f32>) {
    let cancel = Cancel::default();
    let mut decoding = Decoding::new(vlm, &[], SPANS.len(), &cancel).unwrap();
    let hooks = Hooks { pattern: Keep::rows(0..SPANS.len()), ..Hooks::default() };
    let rows = Rows::text(vlm.decoder.embed(&PROMPT), positions);
    let out = decoding.pass(rows, hooks).unwrap();
    let logits = host(vlm.decoder.unembed(out.resid)).unwrap();
    (logits, host(out.recorded.pattern.unwrap()).unwrap())
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn equal_axes_are_one_axis() {
    let mut devices = vec![device::cpu().device];
    devices.extend(gpu().map(|compute| compute.device));
    for device in devices {
        let one = model(&device, WeightDtype::F32);
        assert!(one.config.text.rope.axes.is_empty());
        let (first, three) = (with_axes(&one, vec![0; 8]), with_axes(&one, interleaved()));
        for start in [0, 57] {
            let plain = at(&one, consecutive(start, SPANS.len()));
            assert!(at(&first, consecutive(start, SPANS.len())) == plain);
            assert!(at(&three, consecutive(start, SPANS.len())) == plain);
        }
        // Where positions have one axis the other two are not looked at.
        let elsewhere: Vec<Position> = (0..9).map(|p| [p, 9 * p + 3, 400 - p]).collect();
        let plain = at(&one, consecutive(0, SPANS.len()));
        assert!(at(&one, elsewhere.clone()) == plain);
        assert!(at(&first, elsewhere.clone()) == plain);
        assert!(at(&three, elsewhere) != plain);
    }
}

#[test]
fn every_axis_counts_and_only_differences_do() {
    let one = model(&device::cpu().device, WeightDtype::F32);
    let vlm = with_axes(&one, interleaved());
    let plain = at(&vlm, consecutive(0, SPANS.len()));
    for axis in 0..3 {
        // From the sixth row on this axis jumps ahead.
        let mut jump = consecutive(0, SPANS.len());
        jump[5..].iter_mut().for_each(|p| p[axis] += 7);
        let (logits, patterns) = at(&vlm, jump.clone());
        let width = vlm.config.text.vocabulary;
        let before = 5 * width;
        assert_eq!(logits[..before], plain.0[..before], "rows before the jump do not know of it");
        assert!(far(&logits[before..], &plain.0[before..]) > 0.01, "axis {axis}");
        assert!(far(&patterns, &plain.1) > 1e-3, "axis {axis}");
        // One axis only has the first to go by.
        assert_eq!(at(&one, jump) == at(&one, consecutive(0, SPANS.len())), axis > 0, "axis {axis}");
    }
    let image = at(&vlm, around_an_image());
    assert!(far(&image.0, &plain.0) > 0.01);
    // Each axis shifted by its own amount, all rows alike.
    let shifted: Vec<Position> =
        around_an_image().into_iter().map(|[t, h, w]| [t + 100, h + 40, w + 7]).collect();
    let shifted = at(&vlm, shifted);
    assert!(far(&shifted.0, &image.0) < 1e-3 && far(&shifted.1, &image.1) < 1e-4);
    assert_ne!(shifted.0, image.0);
}

#[test]
fn three_axes_turn_alike_on_every_device() {
    let Some(compute) = gpu() else { return };
    let vlm = |device: &Device| with_axes(&model(device, WeightDtype::F32), interleaved());
    let here = at(&vlm(&device::cpu().device), around_an_image());
    let there = at(&vlm(&compute.device), around_an_image());
    let largest = here.0.iter().map(|l| l.abs()).fold(0.0, f32::max);
    assert!(far(&here.0, &there.0) <= 1e-4 * largest && far(&here.1, &there.1) <= 1e-5);
}

#[test]
fn positions_that_jump_are_gone_on_from_as_in_one_pass() {
    let one = model(&device::cpu().device, WeightDtype::F32);
    let vlm = with_axes(&one, interleaved());
    let cancel = Cancel::default();
    let given = [60, 61, 62, 63];
    let prompt = Rows::text(vlm.decoder.embed(&PROMPT), around_an_image());
    let all = prompt.clone().then_text(vlm.decoder.embed(&given));
    let expected: Vec<Position> = [around_an_image(), (7..11).map(|p| [p; 3]).collect()].concat();
    assert_eq!(all.positions, expected, "text goes on past the largest of all axes");
    let n = given.len() + 1;
    let mut decoding = Decoding::new(&vlm, &[], all.len(), &cancel).unwrap();
    let whole = decoding.rows(all, n).unwrap();
    assert_eq!(decoding.cache().positions(), expected);

    // The prompt in two parts, then token by token.
    let mut decoding = Decoding::new(&vlm, &[], expected.len(), &cancel).unwrap();
    decoding.pass(prompt.part(0..4), Hooks::default()).unwrap();
    let mut rows = decoding.rows(prompt.part(4..SPANS.len()), 1).unwrap();
    for id in given {
        rows.extend(decoding.rows(decoding.text(vlm.decoder.embed(&[id])), 1).unwrap());
    }
    assert_eq!(decoding.cache().positions(), expected);
    assert_eq!(decoding.cache().next_positions(2), consecutive(11, 2));
    for (row, whole) in rows.into_iter().zip(whole) {
        assert_eq!(row.logits, whole.logits);
        let pattern = |row: sightline::engine::decoding::Row| host(row.pattern.unwrap()).unwrap();
        assert_eq!(pattern(row), pattern(whole));
    }

    // Forgetting rows forgets where they stood.
    decoding.truncate(6);
    assert_eq!(decoding.cache().next_positions(1), [[4; 3]]);
    let again = decoding.rows(prompt.part(6..SPANS.len()), 1).unwrap().remove(0);
    let mut fresh = Decoding::new(&vlm, &[], expected.len(), &cancel).unwrap();
    assert_eq!(again.logits, fresh.rows(prompt, 1).unwrap()[0].logits);
}

// --------------------------------------------------------------------------------- added features

/// `[rows, width]` of numbers that follow from their places, 0 but at the visual tokens.
fn features(vlm: &Vlm, seed: f32) -> Tensor<2> {
    let width = vlm.config.text.width;
    let value = |i: usize| match SPANS[i / width] {
        Span::Visual => (i as f32 * 0.37 + seed).sin() * 0.5,
        _ => 0.0,
    };
    let values: Vec<f32> = (0..SPANS.len() * width).map(value).collect();
    Tensor::from_data(TensorData::new(values, [SPANS.len(), width]), &vlm.device)
}

#[test]
fn added_features_are_what_adding_them_by_hand_gives() {
    let mut devices = vec![(device::cpu().device, 0.0)];
    devices.extend(gpu().map(|compute| (compute.device, 1e-4)));
    for (device, tolerance) in devices {
        let vlm = model(&device, WeightDtype::F32);
        let cancel = Cancel::default();
        let positions = consecutive(0, SPANS.len());
        let n_layers = vlm.config.text.n_layers;
        let (after_1, after_last) = (features(&vlm, 0.0), features(&vlm, 1.0));
        let added = vec![(1, after_1.clone()), (n_layers - 1, after_last.clone())];
        let rows =
            Rows { resid: vlm.decoder.embed(&PROMPT), positions: positions.clone(), added: added.clone() };

        // By hand, in the same cache.
        let mut cache = KvCache::default();
        let hooks = Hooks { pattern: Keep::rows(0..SPANS.len()), ..Hooks::default() };
        let mut part = |resid: Tensor<2>, layers: std::ops::Range<usize>| {
            let read = SPANS.len();
            let step = Step { resid, positions: &positions, added: &[], layers, read };
            let out = vlm.decoder.forward(step, &mut cache, &hooks, &cancel).unwrap();
            (out.resid, host(out.recorded.pattern.unwrap()).unwrap())
        };
        let (resid, lower) = part(vlm.decoder.embed(&PROMPT), 0..2);
        let (resid, upper) = part(resid + after_1, 2..n_layers);
        let by_hand = host(resid + after_last).unwrap();

        let mut decoding = Decoding::new(&vlm, &[], SPANS.len(), &cancel).unwrap();
        let out = decoding.pass(rows.clone(), hooks.clone()).unwrap();
        let whole = host(out.resid).unwrap();
        assert!(far(&whole, &by_hand) <= tolerance);
        let patterns = host(out.recorded.pattern.unwrap()).unwrap();
        assert!(far(&patterns, &[lower, upper].concat()) <= tolerance);
        // What follows reads keys and values that know of it.
        let next = decoding.logits(decoding.text(vlm.decoder.embed(&[10]))).unwrap();
        let step = Step {
            resid: vlm.decoder.embed(&[10]),
            positions: &consecutive(SPANS.len(), 1),
            added: &[],
            layers: vlm.decoder.all_layers(),
            read: 1,
        };
        let by_hand_next = vlm.decoder.forward(step, &mut cache, &Hooks::default(), &cancel).unwrap();
        assert!(far(&next, &host(vlm.decoder.unembed(by_hand_next.resid)).unwrap()) <= tolerance);

        // They matter, each at its own layer.
        for some in [vec![], added[..1].to_vec(), added[1..].to_vec(), vec![(2, added[0].1.clone())]] {
            let mut other = Decoding::new(&vlm, &[], SPANS.len(), &cancel).unwrap();
            let rows = Rows { added: some, ..rows.clone() };
            let other = host(other.pass(rows, Hooks::default()).unwrap().resid).unwrap();
            assert!(far(&other, &whole) > 0.01);
        }
    }
}

#[test]
fn added_features_go_with_their_rows() {
    let mut devices = vec![(device::cpu().device, 0.0)];
    devices.extend(gpu().map(|compute| (compute.device, 1e-4)));
    for (device, tolerance) in devices {
        let vlm = model(&device, WeightDtype::F32);
        let cancel = Cancel::default();
        let last = vlm.config.text.n_layers - 1;
        let rows = Rows {
            resid: vlm.decoder.embed(&PROMPT),
            positions: consecutive(0, SPANS.len()),
            added: vec![(1, features(&vlm, 0.0)), (last, features(&vlm, 1.0))],
        };
        let mut decoding = Decoding::new(&vlm, &[], SPANS.len() + 1, &cancel).unwrap();
        let whole = host(decoding.pass(rows.clone(), Hooks::default()).unwrap().resid).unwrap();
        let next = decoding.logits(decoding.text(vlm.decoder.embed(&[10]))).unwrap();
        // Read from the last rows alone, two of them visual: the last block adds what is theirs.
        let cut = rows.part(0..6);
        let read = |read: usize| {
            let mut decoding = Decoding::new(&vlm, &[], 6, &cancel).unwrap();
            let out = decoding.pass_from(0, 0, cut.clone(), read, Hooks::default()).unwrap();
            host(out.resid.narrow(0, read - 2, 2)).unwrap()
        };
        assert!(far(&read(2), &read(6)) <= tolerance);
        // In two passes: each part brings its own.
        let mut two = Decoding::new(&vlm, &[], SPANS.len(), &cancel).unwrap();
        two.pass(rows.part(0..4), Hooks::default()).unwrap();
        let rest = host(two.pass(rows.part(4..9), Hooks::default()).unwrap().resid).unwrap();
        let width = vlm.config.text.width;
        assert!(far(&rest, &whole[4 * width..]) <= tolerance);
        // Text behind it brings none.
        let more = rows.clone().then_text(vlm.decoder.embed(&[10]));
        assert!(more.added.iter().all(|(_, t)| t.dims() == [SPANS.len() + 1, width]));
        let mut all = Decoding::new(&vlm, &[], SPANS.len() + 1, &cancel).unwrap();
        assert!(far(&all.logits(more).unwrap(), &next) <= tolerance);
    }
}
