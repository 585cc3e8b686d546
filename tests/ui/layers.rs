//! Layers and heads: looked at, cut and sorted by pointer and by keys.

use egui::{Event, Key, Modifiers, PointerButton, Pos2, Rect, accesskit::Role, pos2};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    ui::store::{selection::BASELINE, store::Store},
    window::app::App,
};

use crate::{
    made_up::{HEADS, LAYERS},
    whole::{answered, until},
};

const STRIP: &str = "Layer";
const BELOW: &str = "heads of the layers";
const MATRIX: &str = "heads by layers";

fn strip(harness: &Harness<'static, App>) -> Rect {
    harness.get_by_role_and_label(Role::Slider, STRIP).rect()
}

/// The middle of a layer's slot.
fn slot(harness: &Harness<'static, App>, layer: usize) -> Pos2 {
    let rect = strip(harness);
    pos2(rect.left() + rect.width() * (layer as f32 + 0.5) / LAYERS as f32, rect.center().y)
}

/// The middle of a cell of a matrix whose heads stand in their order.
fn cell(harness: &Harness<'static, App>, name: &str, layer: usize, head: usize) -> Pos2 {
    let rect = harness.get_by_role_and_label(Role::Grid, name).rect();
    let share = |at: usize, n: usize| (at as f32 + 0.5) / n as f32;
    rect.min + egui::vec2(rect.width() * share(layer, LAYERS), rect.height() * share(head, HEADS))
}

fn press(harness: &mut Harness<'static, App>, pos: Pos2, pressed: bool, modifiers: Modifiers) {
    let button = PointerButton::Primary;
    harness.event_modifiers(Event::PointerButton { pos, button, pressed, modifiers }, modifiers);
    harness.run_ok();
}

fn point(harness: &mut Harness<'static, App>, at: Pos2) {
    harness.hover_at(at);
    harness.run_ok();
}

fn click(harness: &mut Harness<'static, App>, at: Pos2, modifiers: Modifiers) {
    point(harness, at);
    // Frames of a harness are long: one more between the two, and it is no click any more.
    for pressed in [true, false] {
        let button = PointerButton::Primary;
        harness.event_modifiers(Event::PointerButton { pos: at, button, pressed, modifiers }, modifiers);
        harness.step();
    }
    harness.run_ok();
}

fn drag(harness: &mut Harness<'static, App>, from: Pos2, to: Pos2) {
    point(harness, from);
    press(harness, from, true, Modifiers::NONE);
    point(harness, to);
}

/// What is in force, as text.
fn cuts(store: &Store) -> Vec<String> {
    store.cut.items.iter().filter(|item| item.on).map(|item| item.change.to_string()).collect()
}

#[test]
fn passing_over_a_layer_previews_it_and_a_click_looks() {
    let mut harness = answered();
    let layer = harness.state().store().selection.layer;
    let at = slot(&harness, 6);
    point(&mut harness, at);
    until(&mut harness, "a preview", |store| store.selection.looked_at() == (6, None));
    assert_eq!(harness.state().store().selection.layer, layer, "no more than a preview");
    harness.remove_cursor();
    until(&mut harness, "no preview", |store| store.selection.preview.is_none());
    click(&mut harness, at, Modifiers::NONE);
    until(&mut harness, "the layer", |store| store.selection.layer == 6);
    assert!(harness.state().store().cut.items.is_empty(), "a click cuts nothing");
    // The pointer rests there: keys go on all the same.
    harness.key_press(Key::ArrowDown);
    until(&mut harness, "a layer down", |store| store.selection.looked_at() == (5, None));
}

#[test]
fn a_drag_over_layers_cuts_them_while_it_goes_on() {
    let mut harness = answered();
    let [second, fourth, sixth] = [2, 4, 6].map(|layer| slot(&harness, layer));
    drag(&mut harness, second, fourth);
    assert_eq!(cuts(harness.state().store()), ["answer -> visual @ 2-4"]);
    point(&mut harness, sixth);
    assert_eq!(cuts(harness.state().store()), ["answer -> visual @ 2-6"]);
    press(&mut harness, sixth, false, Modifiers::NONE);
    until(&mut harness, "the cut", |store| store.runs.cut().done().is_some() && !store.busy());
    harness.remove_cursor();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "no cut", |store| store.cut.items.is_empty());
}

#[test]
fn the_range_moves_as_a_whole_and_the_switch_puts_it_out_of_force() {
    let mut harness = answered();
    harness.get_by_label("early").click();
    until(&mut harness, "the early layers", |store| store.cut.range(LAYERS) == Some((0, 1)));
    let [first, fifth] = [0, 5].map(|layer| slot(&harness, layer));
    drag(&mut harness, first, fifth);
    assert_eq!(cuts(harness.state().store()), ["answer -> visual @ 5-6"]);
    press(&mut harness, fifth, false, Modifiers::NONE);
    harness.remove_cursor();
    harness.run_ok();
    harness.get_by_role_and_label(Role::CheckBox, "answer -> visual @ 5-6").click();
    until(&mut harness, "nothing in force", |store| !store.cut.wants_a_cut());
    assert_eq!(harness.state().store().cut.range(LAYERS), Some((5, 6)), "it is kept");
}

#[test]
fn ends_of_the_range_follow_keys() {
    let mut harness = answered();
    harness.get_by_label("middle").click();
    until(&mut harness, "the middle layers", |store| store.cut.range(LAYERS) == Some((2, 4)));
    harness.get_by_label("first cut layer").focus();
    harness.run_ok();
    harness.key_press(Key::ArrowLeft);
    until(&mut harness, "one more layer", |store| store.cut.range(LAYERS) == Some((1, 4)));
    harness.get_by_label("last cut layer").focus();
    harness.run_ok();
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "and another", |store| store.cut.range(LAYERS) == Some((1, 5)));
    harness.get_by_role_and_label(Role::Slider, STRIP).focus();
    harness.run_ok();
    let layer = harness.state().store().selection.layer;
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "the next layer", |store| store.selection.layer == layer + 1);
}

#[test]
fn a_head_is_looked_at_and_cut_in_the_matrix_under_the_layers() {
    let mut harness = answered();
    let at = cell(&harness, BELOW, 5, 2);
    point(&mut harness, at);
    until(&mut harness, "a preview", |store| store.selection.looked_at() == (5, Some(2)));
    click(&mut harness, at, Modifiers::NONE);
    until(&mut harness, "the head", |store| {
        (store.selection.layer, store.selection.head) == (5, Some(2)) && store.cut.items.is_empty()
    });
    click(&mut harness, at, Modifiers::SHIFT);
    until(&mut harness, "its cut", |store| cuts(store) == ["answer -> visual @ 5 # 2"]);
    click(&mut harness, at, Modifiers::SHIFT);
    until(&mut harness, "no cut", |store| store.cut.items.is_empty());
}

#[test]
fn the_matrix_of_heads_is_walked_by_keys() {
    let mut harness = answered();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Num4);
    harness.run_ok();
    let (layer, head) = (harness.state().store().selection.layer, harness.state().store().selection.head);
    assert_eq!(head, None);
    harness.get_by_role_and_label(Role::Grid, MATRIX).focus();
    harness.run_ok();
    for key in [Key::ArrowLeft, Key::ArrowDown] {
        harness.key_press(key);
        harness.run_ok();
    }
    let there = (layer - 1, Some(1));
    until(&mut harness, "a preview", |store| store.selection.preview == Some(there));
    harness.key_press(Key::Enter);
    until(&mut harness, "the head", |store| (store.selection.layer, store.selection.head) == there);
    harness.key_press_modifiers(Modifiers::SHIFT, Key::Enter);
    let cut = format!("answer -> visual @ {} # 1", layer - 1);
    until(&mut harness, "its cut", |store| cuts(store) == [cut.as_str()]);
}

#[test]
fn maps_of_all_heads_are_looked_at_by_a_click() {
    let mut harness = answered();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Num4);
    harness.run_ok();
    let layer = harness.state().store().selection.layer;
    harness.get_by_label(&format!("maps of layer {layer}")).click();
    harness.run_ok();
    harness.get_by_role_and_label(Role::Grid, "maps of heads").focus();
    harness.run_ok();
    // The mean stands first.
    for _ in 0..2 {
        harness.key_press(Key::ArrowRight);
        harness.run_ok();
    }
    until(&mut harness, "a preview", |store| store.selection.preview == Some((layer, Some(1))));
    harness.key_press(Key::Enter);
    until(&mut harness, "the head", |store| store.selection.head == Some(1));
}

#[test]
fn the_number_of_a_head_is_that_of_its_row() {
    let mut harness = answered();
    let at = cell(&harness, BELOW, 3, 1);
    point(&mut harness, at);
    until(&mut harness, "a preview", |store| store.selection.preview == Some((3, Some(1))));
    let store = harness.state().store();
    let run = store.runs.lane(BASELINE).done().expect("a run");
    let mean = run.mean.pattern.as_ref().expect("its mean");
    let sum: f32 = run.visual_keys().iter().map(|key| mean.head(3, 1)[*key]).sum();
    let told = format!("layer 3, head 1: {:.1} % on the image", 100.0 * sum);
    assert!(harness.query_all_by_label_contains(&told).next().is_some(), "{told}");
}
