//! Where an answer is looked at first.

use std::sync::Arc;

use sightline::{
    ui::store::{command::Command, selection::BASELINE, store::Store},
    worker::protocol::{Event, ImageView, ObjectView},
};

use crate::{
    bench::{QUESTION, only_run, tell},
    made_up,
};

/// Patches around row `row`, column `col` of the grid.
fn around(row: usize, col: usize) -> Vec<usize> {
    let near = |at: usize| at.saturating_sub(1)..=(at + 1).min(made_up::GRID - 1);
    near(row).flat_map(|row| near(col).map(move |col| row * made_up::GRID + col)).collect()
}

/// A store that opened the image with these objects on it, and has its first answer.
fn answered_about(objects: Option<Vec<ObjectView>>, before: impl FnOnce(&mut Store)) -> Store {
    let mut store = Store::new(QUESTION.to_string(), 32);
    store.apply(Command::LoadModel("model".into()));
    store.apply(Command::OpenImage(made_up::source()));
    store.event(Event::Model(made_up::model()));
    let image = ImageView { objects, ..made_up::image(made_up::source()) };
    let (id, experiment) = only_run(store.event(Event::Image(image)));
    before(&mut store);
    tell(&mut store, made_up::whole(id, &experiment));
    store
}

/// The made-up answer names "ball" at tokens 2 and 10, and looks at row 3, column 3 first, then elsewhere.
fn ball() -> Option<Vec<ObjectView>> {
    let object = |name: &str, patches| ObjectView { name: name.to_string(), patches, outline: Arc::from([]) };
    Some(vec![object("ball", around(3, 3)), object("cow", around(8, 8))])
}

#[test]
fn the_first_look_is_at_a_naming_word_in_a_layer_that_looks_at_objects() {
    let store = answered_about(ball(), |_| {});
    let selection = &store.selection;
    assert_eq!((selection.slot, selection.tokens.as_slice()), (BASELINE, &[2][..]));
    let row = store.runs.baseline().row(2).unwrap().0.pattern.head_mean(selection.layer);
    let keys = store.runs.baseline().view().unwrap().visual_keys();
    let peak = (0..keys.len()).max_by(|&a, &b| row[keys[a]].total_cmp(&row[keys[b]])).unwrap();
    assert!(around(3, 3).contains(&peak), "layer {} peaks at {peak}", selection.layer);
}

#[test]
fn where_nothing_is_known_nothing_is_pinned() {
    assert!(answered_about(None, |_| {}).selection.tokens.is_empty());
    let elsewhere = vec![ObjectView { name: "ball".to_string(), patches: vec![0], outline: Arc::from([]) }];
    assert!(answered_about(Some(elsewhere), |_| {}).selection.tokens.is_empty(), "no peak is on it");
}

#[test]
fn what_the_user_chose_stays() {
    let store = answered_about(ball(), |store| _ = store.apply(Command::Layer(6)));
    assert_eq!((store.selection.layer, store.selection.pinned()), (6, Some(2)));
    let store = answered_about(ball(), |store| _ = store.apply(Command::Unpin));
    assert_eq!(store.selection.pinned(), None);
    let mut store = answered_about(ball(), |_| {});
    store.apply(Command::Unpin);
    let (id, experiment) = only_run(store.apply(Command::AskAgain));
    tell(&mut store, made_up::whole(id, &experiment));
    assert_eq!(store.selection.pinned(), None, "only at first sight");
}
