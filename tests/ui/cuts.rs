//! The list of cuts by pointer and by keys: nothing counts before it is applied, and nothing that is typed is lost.

use egui::{Key, Modifiers, accesskit::Role};
use egui_kittest::{Harness, kittest::Queryable as _};
use sightline::{
    spec::study::Study,
    ui::{
        layout::Layout,
        store::{
            command::Command,
            cut_list::{Change, PaintRole},
            store::Store,
        },
        theme,
    },
    worker::protocol::{Event, ObjectView, Request, RunId},
};

use crate::{
    bench::{answered, serve},
    made_up,
};

pub const NOT_APPLIED: &str = "not applied: in the box, Enter applies and Esc takes it back";

/// The window over a store, with a worker that answers at once and notes the studies that it is asked for.
pub struct Window {
    pub store: Store,
    pub layout: Layout,
    pub studies: Vec<(RunId, Study)>,
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
        for request in &requests {
            if let Request::Study { id, study, .. } = request {
                self.studies.push((*id, (**study).clone()));
            }
        }
        serve(&mut self.store, requests);
        // Every deed here is one by itself.
        self.store.release();
    }

    /// The list of cuts as text.
    fn list(&self) -> Vec<String> {
        self.store.cut.items.iter().map(|item| item.change.to_string()).collect()
    }
}

/// A window with room for everything, with the view that Ctrl and a digit bring to the front.
pub fn window(store: Store, digit: Key) -> Harness<'static, Window> {
    let window = Window { store, layout: Layout::new(false, false), studies: Vec::new() };
    let mut harness = Harness::builder()
        .with_size([1280.0, 1700.0])
        .with_context_setup(theme::install)
        .build_ui_state(|ui, window: &mut Window| window.frame(ui), window);
    harness.run_ok();
    harness.key_press_modifiers(Modifiers::COMMAND, digit);
    harness.run_ok();
    harness
}

pub fn shows(harness: &Harness<'static, Window>, text: &str) -> bool {
    harness.query_all_by_label_contains(text).next().is_some()
}

fn cuts(texts: &[&str]) -> Harness<'static, Window> {
    let mut harness = window(answered(), Key::Num7);
    for text in texts {
        harness.state_mut().apply(Command::AddCut(Change::parse(text).unwrap()));
    }
    harness.run_ok();
    harness
}

/// Writes into a box what is to stand there.
fn write(harness: &mut Harness<'static, Window>, name: &str, text: &str) {
    harness.get_by_label(name).focus();
    harness.run_ok();
    harness.key_press_modifiers(Modifiers::COMMAND, Key::A);
    harness.get_by_label(name).type_text(text);
    harness.run_ok();
}

fn press(harness: &mut Harness<'static, Window>, key: Key) {
    harness.key_press(key);
    harness.run_ok();
}

fn click(harness: &mut Harness<'static, Window>, name: &str) {
    harness.get_by_label(name).click();
    harness.run_ok();
}

#[test]
fn a_cut_that_is_not_applied_says_so_and_a_refusal_goes_with_its_cause() {
    let mut harness = cuts(&[]);
    write(&mut harness, "add a cut", "answer -> visul @ 1");
    assert!(shows(&harness, NOT_APPLIED) && harness.state().list().is_empty());
    press(&mut harness, Key::Enter);
    assert!(shows(&harness, "`visul` is none of") && !shows(&harness, NOT_APPLIED));
    press(&mut harness, Key::Backspace);
    assert!(shows(&harness, NOT_APPLIED), "another text");
    assert!(!shows(&harness, "is none of"), "the refusal was of the text before");
    write(&mut harness, "add a cut", "answer->visual@2-3");
    press(&mut harness, Key::Enter);
    assert_eq!(harness.state().list(), ["answer -> visual @ 2-3"]);
    assert!(!shows(&harness, NOT_APPLIED));
    assert!(shows(&harness, "pairs blocked in 2 layers; largest attention left on any of them: exactly 0"));
}

#[test]
fn a_line_is_edited_where_it_stands() {
    let mut harness = cuts(&["answer -> visual @ 2-3", "last -> visual @ 1"]);
    write(&mut harness, "cut 0", "answer -> visual @ 99");
    press(&mut harness, Key::Escape);
    assert_eq!(harness.get_by_label("cut 0").value().as_deref(), Some("answer -> visual @ 2-3"));
    write(&mut harness, "cut 0", "question -> visual @ 5");
    // Another line changes meanwhile: what is typed stays.
    harness.state_mut().apply(Command::RemoveCut(1));
    harness.run_ok();
    assert_eq!(harness.get_by_label("cut 0").value().as_deref(), Some("question -> visual @ 5"));
    harness.get_by_label("cut 0").focus();
    harness.run_ok();
    press(&mut harness, Key::Enter);
    assert_eq!(harness.state().list(), ["question -> visual @ 5"]);
    write(&mut harness, "cut 0", "answer -> visual @ 99");
    press(&mut harness, Key::Enter);
    assert!(
        shows(&harness, "layer 99 does not exist: valid are 0 to 7"),
        "it can be read, and means nothing here"
    );
}

#[test]
fn lines_are_put_out_of_force_and_taken_off_and_that_is_taken_back() {
    let mut harness = cuts(&["answer -> visual @ 2-3", "last -> visual @ 1"]);
    click(&mut harness, "in force: last -> visual @ 1");
    assert!(!harness.state().store.cut.items[1].on && harness.state().store.cut.items[0].on);
    click(&mut harness, "active: answer -> visual @ 2-3");
    assert_eq!(harness.state().store.cut.active, 0);
    click(&mut harness, "take off: answer -> visual @ 2-3");
    assert_eq!(harness.state().list(), ["last -> visual @ 1"]);
    harness.key_press_modifiers(Modifiers::COMMAND, Key::Z);
    harness.run_ok();
    assert_eq!(harness.state().list(), ["answer -> visual @ 2-3", "last -> visual @ 1"]);
}

#[test]
fn the_parts_of_the_active_line_are_chips() {
    let mut harness = cuts(&["answer -> visual @ 2-3"]);
    let line = |harness: &Harness<'static, Window>| harness.state().list()[0].clone();
    click(&mut harness, "query: question");
    assert_eq!(line(&harness), "answer + question -> visual @ 2-3");
    click(&mut harness, "query: question");
    assert_eq!(line(&harness), "answer - question -> visual @ 2-3");
    click(&mut harness, "query: question");
    click(&mut harness, "key: bos");
    assert_eq!(line(&harness), "answer -> visual + bos @ 2-3");
    click(&mut harness, "cut head 0");
    assert_eq!(line(&harness), "answer -> visual + bos @ 2-3 # 1-3");
    click(&mut harness, "cut all layers");
    assert_eq!(line(&harness), "answer -> visual + bos @ all # 1-3");
}

#[test]
fn presets_have_the_papers_names() {
    let mut harness = cuts(&[]);
    click(&mut harness, "Presets");
    harness.get_by_role_and_label(Role::Button, "image -> last").click();
    harness.run_ok();
    assert_eq!(harness.state().list(), ["last -> visual @ all"]);
}

#[test]
fn an_object_is_locked_by_a_click_and_ablated_from_its_menu() {
    let mut store = answered();
    let object =
        ObjectView { name: "ball".to_string(), patches: vec![13, 14, 25], outline: Vec::new().into() };
    let told = store.event(Event::Marked { source: made_up::source(), object });
    assert!(told.is_empty());
    let mut harness = window(store, Key::Num7);
    click(&mut harness, "object: ball");
    let locked: Vec<usize> = harness.state().store.selection.patches.iter().copied().collect();
    assert_eq!(locked, [13, 14, 25]);
    assert!(shows(&harness, "3 locked patches"));
    click(&mut harness, "what to do with ball");
    click(&mut harness, "ablate ball, grown by 1");
    assert_eq!(harness.state().list(), ["visual[13-14,25]~1 = mean"]);
    click(&mut harness, "fill: zero");
    assert_eq!(harness.state().list(), ["visual[13-14,25]~1 = zero"]);
}

#[test]
fn painted_patches_follow_the_brush_until_their_line_is_made_another() {
    let mut harness = cuts(&[]);
    harness.state_mut().apply(Command::Paint { patches: vec![5, 6], add: true });
    harness.run_ok();
    assert_eq!(harness.state().list(), ["visual[5-6] = mean"]);
    click(&mut harness, "paint: cut as queries");
    assert_eq!(harness.state().store.cut.role, PaintRole::Query);
    assert_eq!(harness.state().list(), ["visual[5-6] -> visual - visual[5-6] @ all"]);
    assert!(shows(&harness, "2 painted"));
    click(&mut harness, "cut head 0");
    assert!(harness.state().store.cut.painted().is_none(), "the brush knows no heads");
    assert_eq!(harness.state().list(), ["visual[5-6] -> visual - visual[5-6] @ all # 1-3"]);
}

#[test]
fn a_control_is_asked_for_beside_the_cut() {
    let mut harness = cuts(&["answer -> visual @ 2-3"]);
    assert!(shows(&harness, "No control was asked for."));
    click(&mut harness, "control: 5 draws");
    let store = &harness.state().store;
    let asked = store.runs.cut().done().map(|run| run.experiment.control);
    assert_eq!((store.cut.control, asked), (5, Some(5)));
    assert!(shows(&harness, "The run was stopped before its random draws were done."));
}
