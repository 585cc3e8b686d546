//! The mean of an answer's rows, which grows with the answer.

use sightline::ui::store::command::Command;

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
