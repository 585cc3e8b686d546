//! What is shown is what is in force, and what is not says so.

use egui::{Key, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    ui::store::{
        command::Command,
        cut_list::Change,
        selection::BASELINE,
        settings::{Asking, ColorRange},
    },
    window::app::App,
};

use crate::{
    bench::QUESTION,
    whole::{BROKEN, answered, until},
};

const NOT_ASKED: &str = "not asked: in the box, Enter asks and Esc takes it back";

fn shows(harness: &Harness<'static, App>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

fn apply(harness: &mut Harness<'static, App>, command: Command) {
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, command);
    harness.run_ok();
}

/// Types into the box with this text, and leaves it by a click elsewhere.
fn type_and_leave(harness: &mut Harness<'static, App>, now: &str, more: &str) {
    let field = harness.get_all_by_role(Role::TextInput).find(|node| node.value().as_deref() == Some(now));
    let field = field.expect("the box");
    field.focus();
    field.type_text(more);
    harness.run_ok();
    harness.get_by_label("words of A").focus();
    harness.run_ok();
}

#[test]
fn a_question_that_is_not_asked_says_so_and_the_answer_names_its_own() {
    let mut harness = answered();
    assert!(!shows(&harness, NOT_ASKED) && shows(&harness, &format!("to “{QUESTION}”")));
    type_and_leave(&mut harness, QUESTION, " now");
    assert!(shows(&harness, NOT_ASKED) && shows(&harness, &format!("to “{QUESTION}”")));
    let edited = format!("{QUESTION} now");
    let field = |harness: &Harness<'static, App>| {
        harness.get_all_by_role(Role::TextInput).any(|node| node.value().as_deref() == Some(&edited))
    };
    assert!(field(&harness), "the text stays");
    // Escape takes it back.
    harness.get_by_role_and_label(Role::Button, "red").click();
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(1));
    let all = harness.get_all_by_role(Role::TextInput).find(|node| node.value().as_deref() == Some(&edited));
    all.unwrap().focus();
    harness.run_ok();
    harness.key_press(Key::Escape);
    harness.run_ok();
    assert!(!shows(&harness, NOT_ASKED) && !field(&harness));
    assert_eq!(harness.state().store().selection.pinned(), Some(1), "this Escape was the box's");
    harness.key_press(Key::Escape);
    until(&mut harness, "no pin", |store| store.selection.pinned().is_none());
}

#[test]
fn escape_takes_back_how_the_next_answer_is_chosen() {
    let mut harness = answered();
    let asked = harness.state().store().asking;
    let other = Asking { max_new: asked.max_new + 1, ..asked };
    apply(&mut harness, Command::Asking(other));
    assert!(shows(&harness, NOT_ASKED), "the answer on show is of another length");
    let boxes = harness.get_all_by_role(Role::TextInput);
    boxes.into_iter().find(|node| node.value().as_deref() == Some(QUESTION)).unwrap().focus();
    harness.run_ok();
    harness.key_press(Key::Escape);
    until(&mut harness, "as asked", |store| store.asking == asked);
    assert!(!shows(&harness, NOT_ASKED));
}

#[test]
fn a_locked_range_stays_whatever_is_shown() {
    let mut harness = answered();
    let range = ColorRange::Locked(0.25);
    apply(&mut harness, Command::Range(range));
    for key in [Key::ArrowRight, Key::ArrowUp] {
        harness.key_press(key);
        harness.run_ok();
        assert_eq!(harness.state().store().map.range, range);
    }
}

#[test]
fn nothing_moves_when_an_error_comes() {
    let mut harness = answered();
    let place = |harness: &Harness<'static, App>| harness.get_by_label("words of A").rect();
    let before = place(&harness);
    apply(&mut harness, Command::OpenPath(BROKEN.into()));
    until(&mut harness, "an error", |store| store.error.is_some());
    assert_eq!(place(&harness), before);
}

#[test]
fn a_line_that_cannot_be_in_force_leaves_the_others_in_it() {
    let mut harness = answered();
    apply(&mut harness, Command::CutLayers(0, 7));
    apply(&mut harness, Command::AddCut(Change::parse("answer -> visual @ 99").unwrap()));
    until(&mut harness, "the cut of the layers", |store| {
        store.runs.cut().done().is_some_and(|run| {
            let knockouts: Vec<String> =
                run.experiment.intervention.knockouts.iter().map(ToString::to_string).collect();
            knockouts == ["answer -> visual @ 0-7"]
        })
    });
    assert!(harness.state().store().cut_error().is_some(), "the other line says why not");
}

#[test]
fn keys_move_on_from_the_word_under_a_resting_pointer() {
    let mut harness = answered();
    harness.get_by_role_and_label(Role::Button, "red").hover();
    until(&mut harness, "a preview", |store| store.selection.hovered == Some((BASELINE, 1)));
    harness.get_by_role_and_label(Role::Button, "red").click();
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(1));
    for shown in [2, 3] {
        harness.key_press(Key::ArrowRight);
        until(&mut harness, "the next word", |store| store.selection.shown() == (BASELINE, Some(shown)));
    }
}
