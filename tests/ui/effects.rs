//! The effect map and the compression panel: what they ask for, what they show as it comes.

use egui::{Key, Modifiers};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    spec::{
        sets::Numbers,
        study::{Compress, PatchEffect, Study, Taking},
    },
    trace::finding::{Agreement, Asked, Block, Compression, Finding},
    ui::store::{command::Command, cut_list::Change, selection::BASELINE, store::Store},
    worker::protocol::{Event, RunId},
};

use crate::{
    bench::answered,
    cuts::{Window, shows, window},
    made_up::{HEADS, LAYERS},
};

fn pinned() -> Store {
    let mut store = answered();
    store.apply(Command::Pin(BASELINE, 1));
    store
}

fn click(harness: &mut Harness<'static, Window>, name: &str) {
    harness.get_by_label(name).click();
    harness.run_ok();
}

fn tell(harness: &mut Harness<'static, Window>, event: Event) {
    assert!(harness.state_mut().store.event(event).is_empty());
    harness.run_ok();
}

/// A window in which the effects on the second word are being measured, and the study's name.
fn measuring() -> (Harness<'static, Window>, RunId) {
    let mut harness = window(pinned(), Key::Num6);
    click(&mut harness, "measure the effect map");
    let (id, study) = harness.state().studies.last().unwrap().clone();
    let expected = PatchEffect { tokens: vec![1], how: Taking::Cut, layers: Numbers::All, coarsest: 4 };
    assert_eq!(study, Study::Patches(expected));
    (harness, id)
}

fn block(id: RunId, patches: Vec<usize>, side: usize, delta: f32) -> Event {
    Event::Found { id, finding: Finding::Block(Block { patches, side, delta }), steps: (1, 9) }
}

#[test]
fn blocks_come_in_and_what_was_measured_is_said() {
    let (mut harness, id) = measuring();
    assert!(shows(&harness, "“red” of run A, every block cut in all layers"));
    tell(&mut harness, block(id, vec![0, 1, 12, 13], 2, -4.0));
    assert!(shows(&harness, "1 of 9 steps"));
    harness.state_mut().apply(Command::Pin(BASELINE, 2));
    harness.run_ok();
    assert!(shows(&harness, "other words are pinned now"));
    tell(&mut harness, Event::Studied { id, whole: false });
    assert!(shows(&harness, "stopped at 1 of 9 steps"));
}

#[test]
fn a_patch_of_the_effect_map_is_the_patch_under_the_pointer_everywhere() {
    let (mut harness, id) = measuring();
    tell(&mut harness, block(id, (0..144).collect(), 16, -14.4));
    let place = |harness: &Harness<'static, Window>, name: &str| {
        let places = harness.state().layout.places();
        places.iter().find(|(other, _)| other == name).map(|(_, rect)| *rect).unwrap()
    };
    let map = place(&harness, "effect map");
    harness.hover_at(map.center());
    harness.run_ok();
    // A tooltip waits for the pointer to rest.
    harness.run_steps(4);
    let patch = harness.state().store.selection.patch;
    assert!(patch.is_some_and(|patch| patch < 144), "{patch:?}");
    assert!(shows(&harness, "-0.10 nats a patch, measured in a block of 144 patches"));
    harness.hover_at(place(&harness, "measure effects").center());
    harness.run_ok();
    assert_eq!(harness.state().store.selection.patch, None);
}

#[test]
fn the_head_that_agrees_most_is_named_and_looked_at() {
    let (mut harness, id) = measuring();
    let mut heads = vec![0.1; LAYERS * HEADS];
    heads[5 * HEADS + 2] = 0.75;
    let agreement = Agreement { side: 1, heads, mean: vec![0.25; LAYERS] };
    tell(&mut harness, Event::Found { id, finding: Finding::Agreement(agreement), steps: (9, 9) });
    tell(&mut harness, Event::Studied { id, whole: true });
    assert!(shows(&harness, "the attention of layer 5, head 2 (rank correlation +0.75)"));
    click(&mut harness, "look at the best head");
    let selection = &harness.state().store.selection;
    assert_eq!((selection.layer, selection.head), (5, Some(2)));
}

#[test]
fn blocks_are_overwritten_or_cut_where_the_active_cut_is() {
    let mut store = pinned();
    store.cut.add(Change::parse("answer -> visual @ 2-3").unwrap());
    store.cut.items[0].on = false;
    let mut harness = window(store, Key::Num6);
    click(&mut harness, "measure in layers 2-3");
    click(&mut harness, "measure the effect map");
    let study = |harness: &Harness<'static, Window>| match &harness.state().studies.last().unwrap().1 {
        Study::Patches(study) => study.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(study(&harness).layers, Numbers::range(2, 3));
    click(&mut harness, "take away: mean");
    click(&mut harness, "measure the effect map");
    let last = study(&harness);
    assert_eq!(
        (last.how, last.layers),
        (Taking::Mean, Numbers::All),
        "what is overwritten is so in all layers"
    );
}

#[test]
fn questions_go_to_a_shortened_context_and_answers_come_back() {
    let mut harness = window(answered(), Key::Num8);
    assert!(shows(&harness, "Write a question"));
    let name = "questions to the shortened context";
    harness.get_by_label(name).focus();
    harness.run_ok();
    harness.get_by_label(name).type_text("what is left ?");
    harness.run_ok();
    harness.get_by_label("percentages of visual tokens kept").focus();
    harness.run_ok();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    harness.get_by_label("percentages of visual tokens kept").type_text("10, 50");
    harness.run_ok();
    click(&mut harness, "start the compression");
    let (id, study) = harness.state().studies.last().unwrap().clone();
    let questions = vec!["what is left ?".to_string()];
    let expected = Compress { percents: vec![10.0, 50.0], questions, keep_answer: false };
    assert_eq!(study, Study::Compress(expected));
    let asked = Asked {
        question: "what is left ?".to_string(),
        full: "a red ball".to_string(),
        compressed: "a red bus".to_string(),
        same: false,
        agreement: 0.5,
    };
    let compression = Compression {
        percent: 10.0,
        tokens: 25,
        visual: 14,
        full_tokens: 155,
        questions: vec![asked],
        same: 0.0,
        agreement: 0.5,
    };
    tell(&mut harness, Event::Found { id, finding: Finding::Compressed(compression), steps: (1, 2) });
    for text in ["25 of 155", "a red ball", "a red bus", "50.0 % alike", "1 of 2 shares"] {
        assert!(shows(&harness, text), "{text}");
    }
}
