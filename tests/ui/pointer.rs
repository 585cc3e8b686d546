//! Pointer and keys as slow machines deliver them, and the focus that Tab moves.

use eframe::App as _;
use egui::{Event, Key, Modifiers, PointerButton, Pos2, RawInput, Role, vec2};
use egui_kittest::{
    Harness,
    kittest::{NodeT as _, Queryable as _, by},
};
use sightline::{
    ui::store::selection::{BASELINE, CUT},
    window::app::App,
};

use crate::{
    made_up::LAYERS,
    whole::{answered, until},
};

/// Gives events to the window as eframe does: all of them within one frame.
fn within_a_frame(harness: &mut Harness<'static, App>, events: Vec<Event>) {
    let ctx = harness.ctx.clone();
    let mut input = RawInput { events, ..Default::default() };
    harness.state_mut().raw_input_hook(&ctx, &mut input);
    harness.input_mut().events.extend(input.events);
    harness.step();
}

fn flick(harness: &mut Harness<'static, App>, from: Pos2, to: Pos2) {
    let button = |pos, pressed| Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    };
    let all = [Event::PointerMoved(from), button(from, true), Event::PointerMoved(to), button(to, false)];
    within_a_frame(harness, all.to_vec());
    for _ in 0..4 {
        within_a_frame(harness, Vec::new());
    }
}

#[test]
fn a_flick_within_one_frame_moves_a_handle() {
    let mut harness = answered();
    harness.get_by_label("middle").click();
    until(&mut harness, "a cut", |store| store.cut.range(LAYERS) == Some((2, 4)));
    let handle = harness.get_by_label("last cut layer").rect().center();
    flick(&mut harness, handle, handle + vec2(600.0, 0.0));
    assert_eq!(harness.state().store().cut.range(LAYERS), Some((2, 7)));
    let handle = harness.get_by_label("first cut layer").rect().center();
    flick(&mut harness, handle, handle - vec2(600.0, 0.0));
    assert_eq!(harness.state().store().cut.range(LAYERS), Some((0, 7)));
}

#[test]
fn a_flick_over_layers_cuts_them_and_a_click_within_one_frame_looks() {
    let mut harness = answered();
    let strip = harness.get_by_role_and_label(Role::Slider, "Layer").rect();
    let at = |layer: f32| {
        Pos2::new(strip.left() + strip.width() * (layer + 0.5) / LAYERS as f32, strip.center().y)
    };
    flick(&mut harness, at(6.0), at(3.0));
    assert_eq!(harness.state().store().cut.range(LAYERS), Some((3, 6)));
    flick(&mut harness, at(1.0), at(1.0));
    assert_eq!(harness.state().store().selection.layer, 1);
    assert_eq!(harness.state().store().cut.range(LAYERS), Some((3, 6)));
}

#[test]
fn an_answer_is_one_stop_of_the_tab_key_and_arrows_walk_it() {
    let mut harness = answered();
    harness.get_by_label("all").click();
    until(&mut harness, "a cut", |store| store.runs.cut().done().is_some() && !store.busy());
    let mut stops: Vec<String> = Vec::new();
    for _ in 0..120 {
        harness.key_press(Key::Tab);
        harness.run_ok();
        let focused = harness.query_all(by().predicate(|node| node.is_focused())).next();
        let node = focused.expect("a focus");
        let node = node.accesskit_node();
        let name = format!("{:?} {:?} {:?}", node.role(), node.label(), node.id());
        if stops.contains(&name) {
            break;
        }
        stops.push(name);
    }
    let of = |what: &str| stops.iter().filter(|name| name.contains(what)).count();
    assert_eq!((of("words of A"), of("words of B"), of("\"red\""), of("Label ")), (1, 1, 0, 0), "{stops:?}");
    // The dividers between views have no name.
    assert!(of("None") <= 6, "{stops:?}");

    harness.get_by_label("words of B").focus();
    harness.run_ok();
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "a word of the cut", |store| store.selection.pinned() == Some(0));
    assert_eq!(harness.state().store().selection.slot, CUT);
    for event in [true, false].into_iter().cycle().take(4) {
        harness.input_mut().events.push(Event::Key {
            key: Key::ArrowRight,
            physical_key: None,
            pressed: event,
            repeat: false,
            modifiers: Modifiers::NONE,
        });
    }
    harness.step();
    assert_eq!(harness.state().store().selection.pinned(), Some(2), "every press counts");
    harness.get_by_label("words of A").focus();
    harness.run_ok();
    harness.key_press(Key::ArrowLeft);
    until(&mut harness, "a word of the uncut answer", |store| store.selection.slot == BASELINE);
}
