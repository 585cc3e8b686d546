//! What every row gives to each span, summed while a pass has its pattern, against whole squares; the same by our
//! kernels and by burn's operators.
#![allow(clippy::unwrap_used)]

use burn::tensor::Device;
use sightline::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open as device,
    engine::{
        decoding::{Decoding, host},
        event::RunEvent,
        inside::square,
        load::Engine,
        see::Seen,
    },
    model::{
        hooks::{Groups, Hooks},
        vlm::Vlm,
    },
    progress::Cancel,
    spec::{experiment::Experiment, span::Span},
    trace::{
        flow::SpanFlow,
        run::{Stop, Trace},
    },
};

use crate::common::{ask, families::spread, fixture, gpu, load, load_as, models::every_family, tiled_model};

const QUESTION: &str = "what is the background?";

fn see(engine: &Engine) -> Seen {
    engine.look_at(bundled::sample_image(), &Cancel::default()).unwrap()
}

fn run(engine: &Engine, experiment: &Experiment) -> Trace {
    engine.scratch(experiment, &[&see(engine)], &Cancel::default(), &mut |_| {}).unwrap()
}

fn cut() -> Experiment {
    ask(QUESTION, 8).with_knockouts(vec!["answer -> visual @ 1-3".parse().unwrap()])
}

/// The same with three tokens given, of which two are looked from.
fn forced() -> Experiment {
    Experiment { forced_answer: Some(vec![11, 12, 13]), ..cut() }
}

/// The largest difference.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A run's sums against the squares of a few layers, all heads.
fn against_squares(engine: &Engine, experiment: &Experiment) {
    let cancel = Cancel::default();
    let baseline = engine.keep(experiment, &[&see(engine)], &cancel, &mut |_| {}).unwrap();
    let (n, name) = (baseline.n_rows(), &engine.info.family);
    let spans: Vec<Span> = (0..n).map(|position| baseline.trace.span(position)).collect();
    assert_eq!(baseline.flow.spans, spans, "{name}");
    let flow = baseline.trace.flow.as_ref().unwrap();
    assert_eq!(flow, &SpanFlow::of(&baseline.flow), "{name}");
    let (n_layers, n_heads) = (engine.info.n_layers, engine.info.n_heads);
    assert_eq!(flow.data.len(), n_layers * Span::COUNT * Span::COUNT, "{name}");
    for layer in [0, n_layers / 2, n_layers - 1] {
        let mut sums = vec![[0.0f32; Span::COUNT]; n];
        for head in 0..n_heads {
            let square = square(engine, &baseline, layer, head, &cancel).unwrap();
            for (sums, row) in sums.iter_mut().zip(square.chunks(n)) {
                spans.iter().zip(row).for_each(|(span, mass)| sums[span.index()] += mass / n_heads as f32);
            }
        }
        let rows = baseline.flow.layer(layer);
        assert_eq!(rows.len(), n, "{name}");
        for (row, (found, expected)) in rows.iter().zip(&sums).enumerate() {
            let what = format!("{name}, layer {layer}, row {row}: {found:?}, by the squares {expected:?}");
            assert!(apart(found, expected) <= 1e-5, "{what}");
            assert!((found.iter().sum::<f32>() - 1.0).abs() <= 1e-5, "{what}");
        }
        for query in Span::ALL {
            let of: Vec<&[f32; Span::COUNT]> =
                sums.iter().zip(&spans).filter(|(_, span)| **span == query).map(|(sums, _)| sums).collect();
            assert_eq!(flow.rows[query.index()], of.len(), "{name}, {query:?}");
            for key in Span::ALL {
                let mean = of.iter().map(|sums| sums[key.index()]).sum::<f32>() / of.len().max(1) as f32;
                let found = flow.get(layer, query, key);
                assert!((found - mean).abs() <= 1e-5, "{name}, {layer}: {query:?} {key:?} {found} {mean}");
            }
        }
    }
}

#[test]
fn what_spans_read_is_what_the_squares_say() {
    let model = load(&bundled::model());
    against_squares(&model, &ask(bundled::PROMPT, 6));
    against_squares(&model, &cut());
    against_squares(&model, &forced());
    for dir in every_family() {
        against_squares(&load(dir.path()), &ask("what is it?", 4));
    }
    let dir = tiled_model(512);
    against_squares(&spread(load(dir.path()), dir.path()), &ask("what?", 4));
}

#[test]
fn a_span_that_is_cut_gets_exactly_nothing() {
    let flow = run(&load(&bundled::model()), &forced()).flow.unwrap();
    assert_eq!(flow.rows[Span::Answer.index()], 2);
    for layer in 0..flow.n_layers {
        for query in [Span::Last, Span::Answer] {
            let share = flow.get(layer, query, Span::Visual);
            assert_eq!(share == 0.0, (1..=3).contains(&layer), "layer {layer}, {query:?}: {share}");
        }
        assert!(
            flow.get(layer, Span::Question, Span::Visual) > 0.0,
            "layer {layer}: the question still looks"
        );
        for query in Span::ALL.into_iter().filter(|query| flow.rows[query.index()] > 0) {
            let sum: f32 = Span::ALL.iter().map(|&key| flow.get(layer, query, key)).sum();
            assert!((sum - 1.0).abs() <= 1e-5, "layer {layer}, {query:?}: {sum}");
        }
    }
}

#[test]
fn a_run_that_is_stopped_holds_the_rows_that_ran() {
    let engine = load(&bundled::model());
    let seen = see(&engine);
    for at in 0..4 {
        let (cancel, mut told) = (Cancel::default(), 0);
        if at == 0 {
            cancel.cancel();
        }
        let trace = engine.scratch(&ask(bundled::PROMPT, 8), &[&seen], &cancel, &mut |event| {
            if matches!(event, RunEvent::Token { .. }) {
                told += 1;
                if told == at {
                    cancel.cancel();
                }
            }
        });
        let trace = trace.unwrap();
        let rows = trace.flow.as_ref().map(|flow| flow.rows.iter().sum::<usize>());
        let expected = (at > 0).then(|| trace.prompt.len() + at - 1);
        assert_eq!((trace.stop, rows), (Stop::Cancelled, expected));
    }
}

/// `[layers, rows, groups]` of a long prompt and of one more row, and the last output; without groups too.
fn grouped(device: &Device) -> (Vec<f32>, [Vec<f32>; 2]) {
    let vlm = Vlm::load(&fixture("tiny-idefics3"), device, WeightDtype::F32).unwrap();
    let cancel = Cancel::default();
    // More rows than the scores of which exist at one time; two groups in many runs, and a last key in neither.
    let ids: Vec<u32> = (0..140).map(|i| 10 + i % 90).collect();
    let groups = Groups { keys: (0..140).map(|key| (key / 5 % 2) as u8).collect(), count: 2 };
    let mut sums = Vec::new();
    let outputs = [Some(groups), None].map(|groups| {
        let mut decoding = Decoding::new(&vlm, &[], ids.len() + 1, &cancel).unwrap();
        let mut last = Vec::new();
        for ids in [&ids[..], &[7]] {
            let hooks = Hooks { groups: groups.clone(), ..Hooks::default() };
            let forward = decoding.pass(decoding.text(vlm.decoder.embed(ids)), hooks).unwrap();
            assert_eq!(forward.recorded.groups.is_some(), groups.is_some());
            if let Some(found) = forward.recorded.groups {
                assert_eq!(found.dims(), [vlm.config.text.n_layers, ids.len(), 2]);
                sums.extend(host(found).unwrap());
            }
            last = host(forward.resid).unwrap();
        }
        last
    });
    (sums, outputs)
}

#[test]
fn burns_operators_sum_what_the_kernels_sum_and_nothing_else_changes() {
    let plain = device::cpu().device;
    let (expected, outputs) = grouped(&plain);
    assert_eq!(outputs[0], outputs[1]);
    // Of all keys but the last, which the prompt's rows do not see.
    let prompt = &expected[..expected.len() - expected.len() / 141];
    assert!(prompt.chunks(2).all(|row| (row[0] + row[1] - 1.0).abs() <= 1e-5));
    let mut devices = vec![plain.autodiff()];
    devices.extend(gpu().map(|compute| compute.device));
    for device in devices {
        let (found, _) = grouped(&device);
        let far = apart(&found, &expected);
        assert!(far <= 1e-4, "{far}");
    }
}

#[test]
fn a_gpu_gives_the_same_flow() {
    let Some(compute) = gpu() else { return };
    let engine = load(&bundled::model());
    let free = run(&engine, &ask(QUESTION, 5));
    let forced = Experiment { forced_answer: Some(free.ids()), ..cut() };
    let there = load_as(&bundled::model(), &compute, WeightDtype::F32).unwrap();
    let [here, there] = [&engine, &there].map(|engine| run(engine, &forced).flow.unwrap());
    assert_eq!(here.rows, there.rows);
    let far = apart(&here.data, &there.data);
    assert!(far <= 1e-4, "{far}");
    for layer in 1..=3 {
        assert_eq!(there.get(layer, Span::Answer, Span::Visual), 0.0, "layer {layer}");
    }
}
