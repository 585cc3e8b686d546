//! Cuts and caches: what a knockout must and must not change, and that gradients flow.
#![allow(clippy::unwrap_used)]

use burn::tensor::{Device, Tensor, TensorData};
use sightline::{
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::decoding::{Decoding, DecodingError, argmax, host, place_rows},
    model::{
        decoder::Step,
        hooks::{Hooks, Keep},
        kv_cache::KvCache,
        vlm::Vlm,
    },
    progress::Cancel,
    spec::{
        knockout::{Cut, Knockout},
        sets::{Patches, Scope},
        span::Span,
    },
};

mod common;
use common::{fixture, gpu};

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
    let mut next = vlm.decoder.embed(&[1, 20, 30, 31, 32, 33, 40, 41, 50]);
    let mut out = Answer { tokens: vec![], logits: vec![], patterns: vec![], pairs: vec![], mass: vec![] };
    for _ in 0..NEW {
        let row = decoding.rows(next, 1)?.remove(0);
        let token = argmax(&row.logits);
        next = vlm.decoder.embed(&[token as u32]);
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
    let prompt = vlm.decoder.embed(&[1, 20, 30, 31, 32, 33, 40, 41, 50]);
    let all = Tensor::cat(vec![prompt, vlm.decoder.embed(&ids)], 0);
    let (cuts, cancel) = (cuts(&vlm, &texts), Cancel::default());
    let mut decoding = Decoding::new(&vlm, &cuts, SPANS.len() + NEW - 1, &cancel).unwrap();
    let rows = decoding.rows(all, NEW).unwrap();
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
        let positions: Vec<u32> = (0..4).map(|p| p + shift).collect();
        let embeds = vlm.decoder.embed(&[5, 6, 7, 8]);
        let step = Step { resid: embeds, positions: &positions, layers: vlm.decoder.all_layers(), read: 4 };
        let mut cache = KvCache::default();
        let hooks = Hooks { pattern: Keep::rows(0..4), ..Hooks::default() };
        let out = vlm.decoder.forward(step, &mut cache, &hooks, &Cancel::default()).unwrap();
        assert_eq!((cache.len(), cache.next_position()), (4, shift + 4));
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
            let out = decoding.pass_from(0, 0, embeds, read, hooks).unwrap();
            assert_eq!(out.resid.dims()[0], read);
            let proof: Vec<(Vec<u64>, f32)> = decoding.proof().collect();
            let last = host(out.resid.narrow(0, read - 1, 1)).unwrap();
            // One more row sees the keys and values of all of them.
            let next = decoding.logits(vlm.decoder.embed(&[10])).unwrap();
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
    let outcome = decoding.rows(vlm.decoder.embed(&[1, 2]), 1);
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
    let step =
        Step { resid: embeds.clone(), positions: &[0, 1, 2, 3], layers: vlm.decoder.all_layers(), read: 4 };
    let mut cache = KvCache::default();
    let out = vlm.decoder.forward(step, &mut cache, &Hooks::default(), &Cancel::default()).unwrap();
    let logit = |resid: Tensor<2>| vlm.decoder.unembed(resid).slice([3..4, 7..8]).sum();
    let gradients = logit(out.resid).backward();
    let gradient = host(embeds.grad(&gradients).unwrap()).unwrap();

    // Against a central difference along one coordinate of a visual row.
    let at = |delta: f32| {
        let mut values = host(embeds.clone().inner()).unwrap();
        values[2 * 64 + 5] += delta;
        let embeds = Tensor::from_data(TensorData::new(values, [4, 64]), &vlm.device);
        let step =
            Step { resid: embeds, positions: &[0, 1, 2, 3], layers: vlm.decoder.all_layers(), read: 4 };
        let mut cache = KvCache::default();
        let out = vlm.decoder.forward(step, &mut cache, &Hooks::default(), &Cancel::default()).unwrap();
        host(logit(out.resid).reshape([1, 1])).unwrap()[0]
    };
    let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
    let analytic = gradient[2 * 64 + 5];
    assert!((numeric - analytic).abs() <= 0.02 * analytic.abs().max(0.05), "{numeric} {analytic}");
}
