//! Runs and their words by pointer and by keys, and the prompt as tokens.

use egui::{Key, Modifiers, Rect, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    ui::{
        layout::Layout,
        store::{
            command::Command,
            selection::{BASELINE, CUT},
            settings::Tint,
            store::Store,
        },
        theme,
    },
    worker::protocol::{Event, Request, ToldRow},
};

use crate::{
    bench::{answered, opened, serve},
    made_up,
};

/// The window over a store, with a worker that answers at once.
pub struct Window {
    pub store: Store,
    pub layout: Layout,
}

impl Window {
    fn frame(&mut self, ui: &mut egui::Ui) {
        for command in self.layout.show(ui, &self.store) {
            self.apply(command);
            ui.ctx().request_repaint();
        }
    }

    pub fn apply(&mut self, command: Command) {
        let requests = self.store.apply(command);
        serve(&mut self.store, requests);
    }
}

pub type Shown = Harness<'static, Window>;

fn window(store: Store) -> Shown {
    window_of(store, [1280.0, 1700.0])
}

pub fn window_of(store: Store, size: [f32; 2]) -> Shown {
    let window = Window { store, layout: Layout::new(false, false) };
    let mut harness = Harness::builder()
        .with_size(size)
        .with_context_setup(theme::install)
        .build_ui_state(|ui, window: &mut Window| window.frame(ui), window);
    harness.run_ok();
    harness
}

pub fn shows(harness: &Shown, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

pub fn place(harness: &Shown, name: &str) -> Rect {
    let found = harness.state().layout.places().iter().find(|(held, _)| held == name);
    found.unwrap_or_else(|| panic!("{name} was not drawn")).1
}

/// A click long after the one before: two at once are a double click.
pub fn click(harness: &mut Shown, name: &str) {
    harness.run_steps(4);
    harness.get_by_label(name).click();
    harness.run_ok();
}

/// The same on a word.
fn click_word(harness: &mut Shown, word: &str, modifiers: Modifiers) {
    harness.run_steps(4);
    harness.get_by_role_and_label(Role::Button, word).click_modifiers(modifiers);
    harness.run_ok();
}

/// A cut of layers whose run scores the uncut answer first.
fn scored(store: &mut Store, first: usize, last: usize) {
    for request in store.apply(Command::CutLayers(first, last)) {
        let Request::Run { id, experiment, .. } = request else { continue };
        let scores = made_up::steps(&experiment.uncut()).len();
        let mut events = made_up::whole(id, &experiment);
        let scores = (0..scores).map(|s| made_up::scored(id, &experiment, s));
        drop(events.splice(1..1, scores));
        for event in events {
            assert!(store.event(event).is_empty());
        }
    }
}

#[test]
fn shift_and_drag_take_a_phrase_and_another_click_one_word() {
    let mut harness = window(answered());
    click_word(&mut harness, "red", Modifiers::NONE);
    assert_eq!(harness.state().store.selection.tokens, [1]);
    click_word(&mut harness, "at", Modifiers::SHIFT);
    assert_eq!(harness.state().store.selection.tokens, [1, 2, 3]);

    let (from, to) = (place(&harness, "A[6]").center(), place(&harness, "A[4]").center());
    harness.hover_at(from);
    harness.run_ok();
    harness.drag_at(from);
    harness.run_ok();
    harness.hover_at(to);
    harness.run_ok();
    assert_eq!(harness.state().store.selection.tokens, [4, 5, 6], "while the hand moves");
    assert_eq!(harness.state().store.selection.hovered, None, "maps show the phrase");
    harness.drop_at(to);
    harness.run_ok();
    assert_eq!(harness.state().store.selection.tokens, [4, 5, 6]);
    assert!(shows(&harness, "3 tokens “the top left”"), "in numbers, too");

    click_word(&mut harness, "sand", Modifiers::NONE);
    assert_eq!(harness.state().store.selection.tokens, [12]);
    click_word(&mut harness, "sand", Modifiers::NONE);
    assert!(harness.state().store.selection.tokens.is_empty());
}

#[test]
fn a_word_under_the_pointer_is_previewed_and_let_go() {
    let mut harness = window(answered());
    harness.get_by_role_and_label(Role::Button, "blue").hover();
    harness.run_ok();
    assert_eq!(harness.state().store.selection.hovered, Some((BASELINE, 9)));
    assert!(shows(&harness, "predicts “blue”"));
    harness.remove_cursor();
    harness.run_ok();
    assert_eq!(harness.state().store.selection.hovered, None);
    // What another view previews stays its own.
    harness.state_mut().apply(Command::Hover(Some((BASELINE, 3))));
    harness.run_ok();
    assert_eq!(harness.state().store.selection.hovered, Some((BASELINE, 3)));
}

#[test]
fn a_tooltip_tells_of_the_word_under_a_resting_pointer_and_swaps() {
    let mut harness = window(answered());
    harness.get_by_role_and_label(Role::Button, "blue").hover();
    harness.run_steps(40);
    let position = harness.state().store.runs.baseline().token(9).unwrap().position;
    assert!(shows(&harness, &format!("position {position} · predicted by row {}", position - 1)));
    harness.get_by_role_and_label(Role::Button, "sand").hover();
    harness.run_steps(2);
    assert!(shows(&harness, &format!("position {} · predicted by row", position + 3)), "at once");
}

#[test]
fn a_cut_tells_its_sum_its_proof_and_its_words() {
    let mut store = answered();
    scored(&mut store, 2, 3);
    let mut harness = window(store);
    // Fifteen tokens, each less likely by 0.2.
    assert!(harness.query_all_by_label("−3.0 nats").next().is_some());
    assert!(shows(&harness, "answer -> visual @ 2-3") && shows(&harness, "attention left on them 0"));
    assert!(shows(
        &harness,
        "1 of 15 tokens are new, 1 of 15 are gone; log probability of the uncut answer −3.00"
    ));
    assert!(shows(&harness, "bars: change of log probability under B, full at 4 nats"));
    harness.state_mut().apply(Command::Tint(Tint::Change));
    harness.run_ok();
    assert!(shows(&harness, "tint: change of log probability, full at 4 nats"));
}

#[test]
fn runs_are_kept_compared_shown_and_forgotten() {
    let mut harness = window(answered());
    harness.state_mut().apply(Command::CutLayers(2, 3));
    harness.run_ok();
    click(&mut harness, "show run B");
    assert_eq!(harness.state().store.selection.slot, CUT);
    click(&mut harness, "keep run B");
    let runs = &harness.state().store.runs;
    assert!(runs.is_kept(CUT) && !runs.busy(), "nothing runs anew");
    assert_eq!((runs.kept().len(), runs.name(CUT)), (0, "B".to_string()), "it stays where it is");
    harness.state_mut().apply(Command::CutLayers(0, 7));
    harness.run_ok();
    let kept = harness.state().store.runs.kept();
    assert_eq!((kept.len(), harness.state().store.runs.name(CUT)), (1, "C".to_string()));
    click(&mut harness, "compare with run B");
    assert_eq!(harness.state().store.selection.against, Some(kept[0]));
    assert!(shows(&harness, "words of B"), "words of a run that is compared are shown");
    assert!(shows(&harness, "C beside B: "));
    click(&mut harness, "compare with run B");
    assert_eq!(harness.state().store.selection.against, None);
    assert!(!shows(&harness, "words of B"));
    click(&mut harness, "show run B");
    assert_eq!(harness.state().store.selection.slot, kept[0]);
    click(&mut harness, "restore run B");
    assert_eq!(harness.state().store.runs.name(CUT), "B");
    click(&mut harness, "forget run C");
    assert!(harness.state().store.runs.kept().is_empty());
}

#[test]
fn patches_tint_words_backwards() {
    let mut harness = window(answered());
    assert!(shows(&harness, "stripe: attention to the image"));
    for patch in [39, 40] {
        harness.state_mut().apply(Command::Lock(patch));
    }
    harness.run_ok();
    // The largest share of any word, in the layer and head on show.
    let store = &harness.state().store;
    let lane = store.runs.baseline();
    let keys = lane.view().unwrap().visual_keys();
    let shares = (0..lane.tokens().len()).map(|at| {
        let row = lane.row(at).unwrap().0.pattern.head_mean(store.selection.layer);
        row[keys[39]] + row[keys[40]]
    });
    let high = shares.fold(0.0, f32::max);
    assert!((0.001..0.1).contains(&high), "{high}");
    let told = format!("tint: attention to 2 locked patches, full at {high:.4}");
    assert!(shows(&harness, &told), "{told}");
}

#[test]
fn the_prompt_is_tokens_that_the_lens_can_be_pointed_at() {
    let mut harness = window(answered());
    let visual =
        format!("prompt token 3: visual {0} · {1} x {1}", made_up::GRID * made_up::GRID, made_up::GRID);
    assert!(shows(&harness, &visual));
    let what = made_up::GRID * made_up::GRID + 3;
    click(&mut harness, &format!("prompt token {what}: what"));
    assert!(harness.state().store.selection.positions.contains(&what));
    // One stop of the Tab key, walked by arrows.
    harness.get_by_label("tokens of the prompt").focus();
    harness.run_ok();
    for _ in 0..5 {
        harness.key_press(Key::ArrowRight);
        harness.run_ok();
    }
    harness.key_press(Key::Enter);
    harness.run_ok();
    assert!(harness.state().store.selection.positions.contains(&(what + 1)));
    assert!(harness.state().store.selection.tokens.is_empty(), "these arrows are the prompt's");
}

#[test]
fn sampling_is_set_up_and_the_answer_on_show_is_not_of_it() {
    let mut harness = window(answered());
    click(&mut harness, "how answers are chosen");
    click(&mut harness, "draw tokens");
    assert!(harness.state().store.asking.sampling.is_some());
    assert!(shows(&harness, "not asked"), "the answer was the likeliest");
    assert!(shows(&harness, "temperature"), "a click within does not close it");
}

#[test]
fn of_a_long_answer_only_what_is_seen_is_drawn() {
    const TOKENS: usize = 2000;
    let (mut store, id, experiment) = opened();
    store.event(made_up::started(id, &experiment));
    let Event::Token { token, .. } = made_up::token(id, &experiment, 1) else { panic!("no token") };
    for at in 0..TOKENS {
        let mut token = token.clone();
        (token.position, token.text) = (token.position + at, format!(" word{at}"));
        store.event(Event::Token { id, token, row: ToldRow::Nothing });
    }
    store.event(made_up::done(id, &experiment));
    let mut harness = window(store);
    let drawn = |harness: &Shown| {
        harness.state().layout.places().iter().filter(|(name, _)| name.starts_with("A[")).count()
    };
    assert!((20..400).contains(&drawn(&harness)), "{}", drawn(&harness));
    harness.state_mut().apply(Command::Pin(BASELINE, TOKENS - 10));
    harness.run_steps(60);
    place(&harness, &format!("A[{}]", TOKENS - 10));
    assert!((20..400).contains(&drawn(&harness)), "{}", drawn(&harness));
}
