//! The image by pointer and keys: reading, locking, painting, zooming.

use std::collections::BTreeSet;

use egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, PointerButton, Pos2, TouchPhase, vec2};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{ui::store::settings::Tool, window::app::App};

use crate::{
    made_up::GRID,
    whole::{answered, until},
};

/// The middle of a patch on the screen, as long as the image is not zoomed.
fn patch(harness: &Harness<'static, App>, row: usize, col: usize) -> Pos2 {
    let image = harness.get_by_label("image").rect();
    let share = |at: usize| (at as f32 + 0.5) / GRID as f32;
    image.min + vec2(share(col), share(row)) * image.size()
}

fn button(harness: &mut Harness<'static, App>, pos: Pos2, pressed: bool) {
    let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
    harness.event(Event::PointerButton { pos, button, pressed, modifiers });
    harness.run_ok();
}

/// Presses at one patch and lets go at another, with nothing in between.
fn drag(harness: &mut Harness<'static, App>, from: (usize, usize), to: (usize, usize)) {
    let (from, to) = (patch(harness, from.0, from.1), patch(harness, to.0, to.1));
    harness.hover_at(from);
    harness.run_ok();
    button(harness, from, true);
    harness.hover_at(to);
    harness.run_ok();
    button(harness, to, false);
}

fn click(harness: &mut Harness<'static, App>, pos: Pos2) {
    harness.hover_at(pos);
    harness.run_ok();
    button(harness, pos, true);
    button(harness, pos, false);
}

fn take(harness: &mut Harness<'static, App>, key: Key, tool: Tool) {
    harness.key_press(key);
    until(harness, "the tool", |store| store.tool == tool);
}

fn number(row: usize, col: usize) -> usize {
    row * GRID + col
}

#[test]
fn a_patch_under_the_pointer_is_everybodys_and_a_click_locks_it() {
    let mut harness = answered();
    let pos = patch(&harness, 3, 4);
    harness.hover_at(pos);
    until(&mut harness, "the patch", |store| store.selection.patch == Some(number(3, 4)));
    click(&mut harness, pos);
    until(&mut harness, "a lock", |store| store.selection.patches == BTreeSet::from([number(3, 4)]));
    let other = patch(&harness, 9, 0);
    click(&mut harness, other);
    until(&mut harness, "two locks", |store| store.selection.patches.len() == 2);
    let outside = harness.get_by_label("image").rect().left_top() - vec2(4.0, 12.0);
    harness.hover_at(outside);
    until(&mut harness, "no patch", |store| store.selection.patch.is_none());
    assert_eq!(harness.state().store().selection.patches.len(), 2, "locks stay");
}

#[test]
fn a_fast_brush_paints_every_patch_on_its_way_and_wiping_takes_them_off() {
    let mut harness = answered();
    take(&mut harness, Key::B, Tool::Brush);
    drag(&mut harness, (2, 1), (2, 10));
    let row: BTreeSet<usize> = (1..=10).map(|col| number(2, col)).collect();
    until(&mut harness, "a row", |store| store.cut.painted() == Some(&row));
    take(&mut harness, Key::W, Tool::Wipe);
    drag(&mut harness, (2, 4), (2, 7));
    let left: BTreeSet<usize> =
        row.into_iter().filter(|n| !(number(2, 4)..=number(2, 7)).contains(n)).collect();
    until(&mut harness, "a gap", |store| store.cut.painted() == Some(&left));
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    until(&mut harness, "the gap is taken back", |store| store.cut.painted().map(BTreeSet::len) == Some(10));
}

#[test]
fn a_box_paints_all_that_it_holds_when_the_pointer_lets_go() {
    let mut harness = answered();
    take(&mut harness, Key::X, Tool::Box);
    let (from, to) = (patch(&harness, 8, 9), patch(&harness, 6, 7));
    harness.hover_at(from);
    harness.run_ok();
    button(&mut harness, from, true);
    harness.hover_at(to);
    harness.run_ok();
    assert_eq!(harness.state().store().cut.painted(), None, "nothing before it lets go");
    button(&mut harness, to, false);
    let all: BTreeSet<usize> = (6..=8).flat_map(|row| (7..=9).map(move |col| number(row, col))).collect();
    until(&mut harness, "a box", |store| store.cut.painted() == Some(&all));
}

#[test]
fn the_wheel_zooms_about_the_pointer_and_a_double_click_fits() {
    let mut harness = answered();
    let (pos, next) = (patch(&harness, 5, 5), patch(&harness, 5, 6));
    harness.hover_at(pos);
    harness.run_ok();
    harness.event(Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, 400.0),
        phase: TouchPhase::Move,
        source: MouseWheelSource::Wheel,
        modifiers: Modifiers::NONE,
    });
    harness.run_ok();
    harness.hover_at(next);
    until(&mut harness, "a larger patch", |store| store.selection.patch == Some(number(5, 5)));
    for pressed in [true, false, true, false] {
        let (pos, button, modifiers) = (next, PointerButton::Primary, Modifiers::NONE);
        harness.input_mut().events.push(Event::PointerButton { pos, button, pressed, modifiers });
    }
    harness.step();
    harness.hover_at(pos);
    harness.run_ok();
    harness.hover_at(next);
    until(&mut harness, "it fits again", |store| store.selection.patch == Some(number(5, 6)));
}

#[test]
fn arrows_walk_the_patches_and_enter_locks() {
    let mut harness = answered();
    harness.get_by_label("image").focus();
    harness.run_ok();
    let layer = harness.state().store().selection.layer;
    for (key, at) in [(Key::ArrowDown, (0, 0)), (Key::ArrowDown, (1, 0)), (Key::ArrowRight, (1, 1))] {
        harness.key_press(key);
        until(&mut harness, "the next patch", |store| store.selection.patch == Some(number(at.0, at.1)));
    }
    harness.key_press(Key::Enter);
    until(&mut harness, "a lock", |store| store.selection.patches == BTreeSet::from([number(1, 1)]));
    assert_eq!(harness.state().store().selection.layer, layer, "the arrows were the image's");
}

#[test]
fn what_is_shown_is_said_in_words() {
    let mut harness = answered();
    harness.key_press(Key::ArrowRight);
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(0));
    let layer = harness.state().store().selection.layer;
    let words = format!("“a”, run A, layer {layer}, mean of heads");
    assert!(harness.query_all_by_label_contains(&words).next().is_some(), "{words}");
}
