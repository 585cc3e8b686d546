//! What is shown is what is in force, and what is not says so.

use egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    ui::store::{selection::BASELINE, settings::ColorRange},
    window::app::App,
};

use crate::{
    bench::QUESTION,
    whole::{answered, until},
};

const NOT_ASKED: &str = "not asked: in the box, Enter asks and Esc takes it back";
const NOT_APPLIED: &str = "not applied: in the box, Enter applies and Esc takes it back";

fn shows(harness: &Harness<'static, App>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

/// Types into the box with this text, and leaves it by a click elsewhere.
fn type_and_leave(harness: &mut Harness<'static, App>, now: &str, more: &str) {
    let field = harness.get_all_by_role(Role::TextInput).find(|node| node.value().as_deref() == Some(now));
    let field = field.expect("the box");
    field.focus();
    field.type_text(more);
    harness.run_ok();
    harness.get_by_label("words of baseline").focus();
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
fn a_cut_that_is_not_applied_says_so_and_a_refusal_goes_with_its_cause() {
    let mut harness = answered();
    harness.get_by_label("knockouts").focus();
    harness.get_by_label("knockouts").type_text("answer -> visul @ 1");
    harness.run_ok();
    assert!(shows(&harness, NOT_APPLIED));
    harness.key_press(Key::Enter);
    until(&mut harness, "a refusal", |store| store.cut_error().is_some());
    assert!(shows(&harness, "visul") && !shows(&harness, NOT_APPLIED));
    harness.key_press(Key::Backspace);
    harness.run_ok();
    assert!(shows(&harness, NOT_APPLIED), "another text");
    assert!(!shows(&harness, "is none of"), "the refusal was of the text before");
    harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    harness.key_press(Key::Delete);
    harness.key_press(Key::Enter);
    until(&mut harness, "no cut", |store| store.cut_error().is_none() && store.cut.typed.is_empty());
    assert!(!shows(&harness, NOT_APPLIED));
}

#[test]
fn a_locked_range_stays_whatever_is_shown() {
    let mut harness = answered();
    harness.get_by_role_and_label(Role::Button, "red").click();
    until(&mut harness, "a pin", |store| store.selection.pinned() == Some(1));
    harness.get_by_role_and_label(Role::ComboBox, "range").click();
    harness.run_ok();
    harness.get_by_label("locked").click();
    let locked =
        |store: &sightline::ui::store::store::Store| matches!(store.map.range, ColorRange::Locked(_));
    until(&mut harness, "a locked range", locked);
    let range = harness.state().store().map.range;
    let ColorRange::Locked(high) = range else { panic!("{range:?}") };
    // That of all layers of the word that was on show.
    let store = harness.state().store();
    let row = store.runs.baseline().row(1).unwrap().0.pattern.clone();
    let keys = store.runs.lane(BASELINE).view().unwrap().visual_keys();
    let values = (0..row.n_layers).flat_map(|layer| {
        let mean = row.head_mean(layer);
        keys.iter().map(move |&key| mean[key]).collect::<Vec<_>>()
    });
    assert!((values.fold(0.0, f32::max) - high).abs() < 1e-7);
    for key in [Key::ArrowRight, Key::ArrowUp] {
        harness.key_press(key);
        harness.run_ok();
        assert_eq!(harness.state().store().map.range, range);
    }
}

#[test]
fn nothing_moves_when_an_error_comes() {
    let mut harness = answered();
    let place = |harness: &Harness<'static, App>| harness.get_by_label("last cut layer").rect();
    let before = place(&harness);
    harness.get_by_label("knockouts").focus();
    harness.get_by_label("knockouts").type_text("answer -> visual @ 99");
    harness.key_press(Key::Enter);
    until(&mut harness, "a refusal", |store| store.cut_error().is_some());
    assert_eq!(place(&harness), before);
    let ctx = harness.ctx.clone();
    harness.state_mut().apply(&ctx, sightline::ui::store::command::Command::OpenPath("/nowhere.png".into()));
    harness.run_ok();
    assert_eq!(place(&harness), before);
}

#[test]
fn the_range_follows_its_handles_whatever_is_typed() {
    let mut harness = answered();
    harness.get_by_label("knockouts").focus();
    harness.get_by_label("knockouts").type_text("answer -> visul @ 1");
    harness.key_press(Key::Enter);
    until(&mut harness, "a refusal", |store| store.cut_error().is_some());
    harness.get_by_label("all").click();
    until(&mut harness, "the cut of the range", |store| {
        store.runs.cut().done().is_some_and(|run| {
            let knockouts: Vec<String> =
                run.experiment.intervention.knockouts.iter().map(ToString::to_string).collect();
            knockouts == ["answer -> visual @ 0-7"]
        })
    });
    assert!(harness.state().store().cut_error().is_some(), "the text is still refused");
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
