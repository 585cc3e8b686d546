//! The mean of an answer's rows, which grows with the answer.

use sightline::{spec::span::Span, ui::store::command::Command};

use crate::{
    bench::{answered, only_run, opened},
    made_up::{self, started, token},
};

#[test]
fn the_running_mean_is_the_plain_mean() {
    let (mut store, id, experiment) = opened();
    store.event(started(id, &experiment));
    assert!(store.runs.baseline().mean().is_none(), "before the first row");
    let steps = made_up::steps(&experiment);
    let n_keys = made_up::prompt(&experiment.question()).len();
    for s in 0..steps.len() {
        store.event(token(id, &experiment, s));
        let mean = store.runs.baseline().mean().expect("a mean");
        assert_eq!(mean.rows, s + 1);
        let row = mean.pattern.as_ref().expect("its numbers");
        assert_eq!((row.n_layers, row.n_heads, row.n_keys), (made_up::LAYERS, made_up::HEADS, n_keys));
        for layer in 0..row.n_layers {
            for head in 0..row.n_heads {
                for key in 0..n_keys {
                    let all = steps[..=s].iter().map(|(_, row)| f64::from(row.head(layer, head)[key]));
                    let plain = all.sum::<f64>() / (s + 1) as f64;
                    let off = (f64::from(row.head(layer, head)[key]) - plain).abs();
                    assert!(off < 1e-6, "token {s}, layer {layer}, head {head}, key {key}: {off}");
                }
            }
        }
        let sum: f32 = mean.flow.of(None)[3].iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "shares of the spans sum to {sum}");
    }
}

#[test]
fn a_mean_on_screen_does_not_change_underneath() {
    let (mut store, id, experiment) = opened();
    store.event(started(id, &experiment));
    store.event(token(id, &experiment, 0));
    let drawn = store.runs.baseline().mean().unwrap().pattern.clone().unwrap();
    let before = drawn.data.to_vec();
    store.event(token(id, &experiment, 9));
    assert_eq!(*drawn.data, before);
    let now = store.runs.baseline().mean().unwrap().pattern.clone().unwrap();
    assert!(*now.data != before && !std::sync::Arc::ptr_eq(&now.data, &drawn.data));
}

#[test]
fn the_complete_mean_stands_in_until_the_next_is_as_long() {
    let mut store = answered();
    let complete = store.runs.baseline().mean().unwrap().rows;
    let (id, asked) = only_run(store.apply(Command::AskAgain));
    store.event(started(id, &asked));
    store.event(token(id, &asked, 0));
    assert_eq!(store.runs.baseline().mean().unwrap().rows, complete);
    assert!(store.runs.baseline().stale());
    for s in 1..complete {
        store.event(token(id, &asked, s));
    }
    assert!(!store.runs.baseline().stale());
    assert_eq!(store.runs.baseline().mean().unwrap().rows, complete);
}

#[test]
fn shares_follow_the_head() {
    let store = answered();
    let lane = store.runs.baseline();
    let run = lane.view().unwrap();
    let (row, mean) = (lane.row(3).unwrap().0, lane.mean().unwrap());
    for layer in 0..made_up::LAYERS {
        for head in 0..made_up::HEADS {
            let keys = row.pattern.head(layer, head).iter().enumerate();
            let visual: f32 = keys.filter(|(key, _)| run.span(*key) == Span::Visual).map(|(_, p)| p).sum();
            assert_eq!(row.flow.share(layer, Some(head), Span::Visual), visual);
            assert_eq!(row.flow.of(Some(head))[layer][Span::Visual.index()], visual);
        }
        for flow in [&row.flow, &mean.flow] {
            let of = |head| flow.share(layer, head, Span::Visual);
            let heads = (0..made_up::HEADS).map(|head| of(Some(head))).sum::<f32>() / made_up::HEADS as f32;
            assert!((heads - of(None)).abs() < 1e-6, "layer {layer}: {heads}, {}", of(None));
        }
    }
    assert!((0..made_up::HEADS).any(|head| row.flow.of(Some(head)) != row.flow.of(None)));
    assert_eq!(row.pattern.uniform(), 1.0 / row.pattern.n_keys as f32);
}
