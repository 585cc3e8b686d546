//! A conversation in the window: the box stays where it is, and nothing is asked before the user asks.

use egui::{Event, Key, OutputCommand, accesskit::Role};
use egui_kittest::{Node, kittest::Queryable as _};
use sightline::ui::store::{command::Command, selection::BASELINE, store::Store, talk::Talk};

use crate::{
    bench::{QUESTION, answered, opened, serve, tell},
    made_up::whole,
    runs::{Shown, click, place, shows, window_of},
};

const MENU: &str = "the conversation around the question";

/// As large as the window is at first.
fn window(store: Store) -> Shown {
    window_of(store, [1440.0, 900.0])
}

/// The box.
fn question(harness: &Shown) -> Node<'_> {
    let at = place(harness, "question").center();
    harness.get_all_by_role(Role::TextInput).find(|node| node.rect().contains(at)).expect("the question")
}

#[test]
fn to_ask_after_an_answer_empties_the_box_and_asks_nothing() {
    let mut harness = window(answered());
    click(&mut harness, MENU);
    click(&mut harness, "Ask after this answer");
    harness.run_ok();
    let store = &harness.state().store;
    assert!(!store.busy() && store.runs.kept().is_empty(), "nothing runs");
    assert_eq!((store.talk.earlier.len(), store.prompt.as_str()), (2, QUESTION));
    assert_eq!(question(&harness).value().unwrap_or_default(), "");
    assert!(question(&harness).is_focused());
    assert!(shows(&harness, "not asked") && shows(&harness, "1 earlier turn"));
    harness.key_press(Key::Enter);
    harness.run_ok();
    assert_eq!(harness.state().store.prompt, QUESTION, "an empty box asks nothing");
    question(&harness).focus();
    harness.run_ok();
    question(&harness).type_text("where ?");
    harness.run_ok();
    harness.key_press(Key::Enter);
    harness.run_ok();
    let store = &harness.state().store;
    let turns = &store.runs.baseline().complete().unwrap().experiment.turns;
    assert_eq!((turns.len(), store.prompt.as_str()), (3, "where ?"));
}

#[test]
fn the_box_and_its_button_stay_where_they_are() {
    let mut harness = window(answered());
    let places = |harness: &Shown| ["question", "ask", "prompt[0]"].map(|name| place(harness, name).top());
    let moved = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).any(|(a, b)| (a - b).abs() > 4.0);
    let before = places(&harness);
    for question in ["where ?", "why ?"] {
        harness.state_mut().apply(Command::GoOn(question.to_string()));
        harness.run_ok();
    }
    assert!(!moved(places(&harness), before), "after two answers");
    click(&mut harness, "2 earlier turns");
    assert!(shows(&harness, &format!("You: {QUESTION}")) && shows(&harness, "You: where ?"));
    harness.key_press(Key::Escape);
    harness.run_ok();
    click(&mut harness, MENU);
    harness.get_by_role_and_label(Role::TextInput, "system text").focus();
    harness.run_ok();
    harness.get_by_role_and_label(Role::TextInput, "system text").type_text("Be brief.");
    harness.run_steps(8);
    assert_eq!(harness.state().store.talk.system, "Be brief.");
    assert!(!moved(places(&harness), before), "while a field over it is typed into");
}

#[test]
fn an_answer_is_copied_whole_unless_a_text_is_edited() {
    let mut harness = window(answered());
    let said = harness.state().store.runs.baseline().answer_text();
    let copied = |harness: &Shown| {
        let commands = &harness.output().platform_output.commands;
        commands.iter().any(|command| *command == OutputCommand::CopyText(said.clone()))
    };
    harness.event(Event::Copy);
    harness.step();
    assert!(copied(&harness));
    harness.run_ok();
    assert!(shows(&harness, "Copied: the answer of run A"));
    question(&harness).focus();
    harness.run_ok();
    harness.event(Event::Copy);
    harness.step();
    assert!(!copied(&harness), "the field's own");
    let pins = harness.state().store.selection.tokens.clone();
    harness.run_steps(4);
    harness.get_by_role_and_label(Role::Button, "red").click_secondary();
    harness.run_ok();
    assert_eq!(harness.state().store.selection.tokens, pins, "nothing is pinned");
    harness.get_by_label("Copy answer").click();
    harness.step();
    assert!(copied(&harness));
}

#[test]
fn what_an_answer_began_with_is_part_of_what_is_copied() {
    let (mut store, id, experiment) = opened();
    tell(&mut store, whole(id, &experiment));
    store.apply(Command::Talk(Talk { prefix: "It is".to_string(), ..Talk::default() }));
    let requests = store.apply(Command::AskAgain);
    serve(&mut store, requests);
    let said = store.said_by(BASELINE).unwrap();
    assert!(said.starts_with("It is") && said.ends_with(&store.runs.baseline().answer_text()), "{said}");
}

#[test]
fn runs_of_a_conversation_say_their_turn() {
    let mut store = answered();
    for question in [QUESTION, "where ?"] {
        let requests = store.apply(Command::GoOn(question.to_string()));
        serve(&mut store, requests);
    }
    let harness = window(store);
    assert!(shows(&harness, "turn 3, to “where ?”"), "the one on show");
    assert!(shows(&harness, &format!("turn 2 · “{QUESTION}” · uncut")));
    let first = format!("“{QUESTION}” · uncut");
    assert!(harness.query_all_by_label(&first).next().is_some(), "the first one");
}

#[test]
fn a_store_goes_on_with_what_was_kept() {
    let mut store = answered();
    store.apply(Command::FollowUp);
    let requests = store.apply(Command::Ask("where ?".to_string()));
    serve(&mut store, requests);
    assert!(store.answered().is_some_and(|talk| talk.earlier.len() == 4));
}
