//! Taking changes back and making them again.

use sightline::{
    ui::store::{
        command::{Command, listed},
        selection::{BASELINE, CUT},
        settings::MapSettings,
    },
    worker::protocol::Request,
};

use crate::{
    bench::{answered, cut, only_run, tell},
    made_up::whole,
};

#[test]
fn a_cut_is_taken_back_and_made_again() {
    let mut store = answered();
    let before = store.cut.clone();
    let (id, asked) = only_run(store.apply(cut((2, 6))));
    tell(&mut store, whole(id, &asked));
    store.release();
    assert!(store.apply(Command::Undo).is_empty());
    assert_eq!(store.cut, before);
    assert!(!store.runs.has(CUT));
    let (_, again) = only_run(store.apply(Command::Redo));
    assert_eq!(again, asked);
    assert!(store.cut.wants_a_cut());
    assert!(store.apply(Command::Redo).is_empty(), "nothing more");
    let requests = store.apply(Command::Undo);
    assert!(matches!(requests[..], [Request::Cancel]), "{requests:?}");
}

#[test]
fn pins_layers_and_settings_are_taken_back_one_by_one() {
    let mut store = answered();
    let layer = store.selection.layer;
    store.apply(Command::Pin(BASELINE, 1));
    store.apply(Command::NextWord);
    store.apply(Command::Layer(7));
    store.apply(Command::Map(MapSettings { opacity: 0.2, ..store.map }));
    store.apply(Command::Hover(Some((BASELINE, 5))));
    store.apply(Command::Hover(None));
    store.apply(Command::Undo);
    assert_eq!(store.map, MapSettings::default());
    store.apply(Command::Undo);
    assert_eq!((store.selection.layer, store.selection.pinned()), (layer, Some(2)));
    store.apply(Command::Undo);
    assert_eq!(store.selection.pinned(), Some(1));
    store.apply(Command::Undo);
    assert_eq!(store.selection.pinned(), None);
    store.apply(Command::Redo);
    assert_eq!(store.selection.pinned(), Some(1));
}

#[test]
fn a_pin_of_another_question_stays_taken_back() {
    let mut store = answered();
    let layer = store.selection.layer;
    store.apply(Command::Layer(1));
    store.apply(Command::Pin(BASELINE, 1));
    store.apply(Command::Unpin);
    let (id, asked) = only_run(store.apply(Command::Ask("what else ?".to_string())));
    tell(&mut store, whole(id, &asked));
    store.apply(Command::Undo);
    assert_eq!((store.selection.pinned(), store.selection.layer), (None, layer), "the layer, at once");
    store.apply(Command::Redo);
    assert_eq!((store.selection.pinned(), store.selection.layer), (None, 1));
}

#[test]
fn a_drag_of_the_range_is_one_step() {
    let mut store = answered();
    let before = store.cut.clone();
    for last in 4..8 {
        store.apply(cut((2, last)));
    }
    store.release();
    store.apply(cut((0, 7)));
    assert_eq!(store.last_change().as_deref(), Some("cut answer -> visual @ 0-7"));
    store.apply(Command::Undo);
    assert_eq!(store.cut.range(8), Some((2, 7)));
    store.apply(Command::Undo);
    assert_eq!(store.cut, before);
}

#[test]
fn only_changes_of_cuts_selection_and_settings_are_steps() {
    for listed in listed() {
        let mut store = answered();
        let before = (store.selection.clone(), store.map, store.cut.clone());
        store.apply(listed.command.clone());
        let after = (store.selection.clone(), store.map, store.cut.clone());
        let changed = before != after && listed.command != Command::AskAgain;
        assert!(listed.command.undoable() || !changed, "{}", listed.text);
    }
}
