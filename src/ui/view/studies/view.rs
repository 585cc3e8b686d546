//! The papers' figures, over the image on show or a folder of images: chosen, begun, watched, stopped, gone on with.
//!
//! Keeps the choices; knows studies by what they say of themselves.

use std::collections::BTreeMap;

use egui::{Button, Checkbox, DragValue, Label, ProgressBar, RichText, Ui};

use crate::{
    studies::survey::{kind::Kind, kinds},
    trace::offer::{Format, Offer},
    ui::{
        frame::Frame,
        store::{
            command::Command,
            store::Store,
            studies::State,
            surveys::{SurveyChoice, SurveyRun},
            view_id::ViewId,
        },
        theme,
        view::{
            pane::View,
            studies::{drawn::Drawn, offers::offers},
        },
        widgets::{
            busy::busy,
            export_menu::export_menu,
            section::{scrolling, section},
            time_left::TimeLeft,
        },
    },
};

/// The study that is chosen at first.
const FIRST: &str = "windows";
/// Reasons for what was left out that are listed; the others are counted.
const REASONS: usize = 6;

/// The view.
pub struct StudiesView {
    kind: &'static Kind,
    /// Of a folder, at most so many images.
    limit: Option<usize>,
    asks: bool,
    left: TimeLeft,
    drawn: Drawn,
}

impl Default for StudiesView {
    fn default() -> Self {
        let kind = kinds::of(FIRST).unwrap_or(&kinds::ALL[0]);
        StudiesView { kind, limit: None, asks: false, left: TimeLeft::default(), drawn: Drawn::default() }
    }
}

impl View for StudiesView {
    fn title(&self, _store: &Store) -> String {
        "Studies".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        scrolling(ui, "studies", |ui, _| {
            section(ui, "Studies", frame, |ui, frame| {
                let formats = [Format::Svg, Format::Png, Format::Csv, Format::Json];
                export_menu(ui, frame, ViewId::Studies, &formats);
            });
            self.choose(ui);
            self.over(ui, store, frame);
            self.cost(ui, store);
            self.start(ui, store, frame);
            if let Some(run) = store.surveys.get() {
                self.state(ui, store, run, frame);
                if !run.measured.is_empty() {
                    self.drawn.show(ui, store, run, frame);
                    left_out(ui, run);
                }
            }
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        store.surveys.get().map(offers).unwrap_or_default()
    }
}

impl StudiesView {
    /// Which study, and what it is.
    fn choose(&mut self, ui: &mut Ui) {
        ui.horizontal_wrapped(|ui| {
            for kind in &kinds::ALL {
                let chosen = ui.selectable_label(kind.name == self.kind.name, kind.name);
                let chosen = chosen.accessible_name(format!("study {}", kind.name));
                if chosen.on_hover_text(kind.about).clicked() {
                    self.kind = kind;
                }
            }
        });
        ui.add(Label::new(RichText::new(self.kind.about).small()).wrap());
        ui.add(Label::new(RichText::new(self.kind.source).small().weak()).wrap());
    }

    /// What it goes through.
    fn over(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("over").small().weak());
            let folder = store.surveys.folder.as_ref();
            let this = ui.selectable_label(folder.is_none(), "this image");
            if this.on_hover_text("The image on show, and the question in force").clicked() {
                frame.ask(Command::SurveyOver(None));
            }
            let name = folder.and_then(|folder| folder.dir.file_name());
            let name = name.map_or("a folder…".to_string(), |name| name.to_string_lossy().into_owned());
            let pick = ui.selectable_label(folder.is_some(), name).accessible_name("a folder of images");
            let hover =
                "Choose a folder of images, of scenes, or with COCO annotations; one can be dropped, too";
            if pick.on_hover_text(hover).clicked() {
                frame.ask(Command::PickImages);
            }
            if let Some(folder) = folder {
                let mut limit = self.images(store);
                ui.label(RichText::new("the first").small().weak());
                let many = ui.add(DragValue::new(&mut limit).range(1..=folder.images.max(1)));
                if many.accessible_name("images to study").changed() {
                    self.limit = Some(limit);
                }
                ui.label(RichText::new(format!("of {} images, by name", folder.images)).small().weak());
                ui.add(Checkbox::new(&mut self.asks, "ask my question")).on_hover_text(
                    "Asks the question in force about every image, instead of what the folder asks",
                );
            }
        });
    }

    /// How many images it would go through.
    fn images(&self, store: &Store) -> usize {
        let all = store.surveys.folder.as_ref().map_or(1, |folder| folder.images);
        self.limit.map_or(all, |limit| limit.min(all))
    }

    fn cost(&self, ui: &mut Ui, store: &Store) {
        let layers = match store.n_layers() {
            0 => String::new(),
            n => format!("; the model has {n} layers"),
        };
        let images = match self.images(store) {
            1 => "1 image".to_string(),
            n => format!("{n} images, each"),
        };
        let text = format!("cost: {images}: {}{layers}", self.kind.cost);
        ui.add(Label::new(RichText::new(text).small().weak()).wrap());
    }

    fn start(&self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let why = store.why_no_survey(self.kind);
        ui.horizontal_wrapped(|ui| {
            let start =
                ui.add_enabled(why.is_none(), Button::new("Start")).accessible_name("start the study");
            frame.place("start study", start.rect);
            if start.on_hover_text("In the place of the study below").clicked() {
                let all = store.surveys.folder.as_ref().map(|folder| folder.images);
                let limit = self.limit.filter(|limit| all.is_some_and(|all| *limit < all));
                let choice = SurveyChoice { kind: self.kind.name, limit, asks: self.asks };
                frame.ask(Command::Survey(choice));
            }
            if store.surveys.running().is_none()
                && let Some(why) = why
            {
                ui.add(Label::new(RichText::new(why).small().weak()).wrap());
            }
        });
    }

    /// How far the study is, and what can be done about it.
    fn state(&mut self, ui: &mut Ui, store: &Store, run: &SurveyRun, frame: &mut Frame) {
        let (done, all) = run.steps();
        let name = run.kind.name;
        ui.separator();
        ui.horizontal_wrapped(|ui| match &run.state {
            State::Running => {
                let stop = ui.button("Stop").accessible_name("stop the study");
                if stop.on_hover_text("What was measured stays, and it can go on from there").clicked() {
                    frame.ask(Command::StopSurvey);
                }
                match all {
                    0 => busy(ui, frame.dear),
                    _ => {
                        let share = done as f32 / all as f32;
                        _ = ui.add(ProgressBar::new(share).desired_width(90.0).desired_height(8.0));
                    }
                }
                ui.label(RichText::new(format!("{name}: {done} of {all} images")).small());
                if let Some(left) = self.left.text(ui.input(|i| i.time), run.id, (done, all)) {
                    ui.label(RichText::new(left).small().weak());
                }
            }
            State::Whole => _ = ui.label(RichText::new(format!("{name}: all of {all} images")).small()),
            State::Dropped => {
                let stale = theme::stale_color(ui.visuals());
                ui.label(
                    RichText::new(format!("{name}: stopped at {done} of {all} images")).small().color(stale),
                );
                go_on(ui, store, frame);
            }
            State::Failed(why) => {
                let why = RichText::new(format!("{name}: failed at {done} of {all} images: {why}")).small();
                ui.add(Label::new(why.color(theme::cut_color(ui.visuals()))).wrap());
                go_on(ui, store, frame);
            }
        });
    }
}

fn go_on(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let why = store.why_not_on();
    let button = ui.add_enabled(why.is_none(), Button::new("Go on")).accessible_name("go on with the study");
    if button.on_hover_text("Measures what is not measured yet").clicked() {
        frame.ask(Command::GoOnWithSurvey);
    }
    if let Some(why) = why {
        ui.add(Label::new(RichText::new(why).small().weak()).wrap());
    }
}

/// What was not measured: every reason, how often, and where first.
fn left_out(ui: &mut Ui, run: &SurveyRun) {
    let mut reasons: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for (one, left_out) in run.measured.iter().flat_map(|one| one.left_out.iter().map(move |l| (one, l))) {
        let first = match left_out.what.as_str() {
            "" => one.image.clone(),
            what => format!("{}, {what}", one.image),
        };
        reasons.entry(&left_out.why).or_insert((0, first)).0 += 1;
    }
    let mut reasons: Vec<(&str, (usize, String))> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, (n, _))| std::cmp::Reverse(*n));
    if !reasons.is_empty() {
        ui.label(RichText::new("left out:").small().weak());
    }
    for (why, (n, first)) in reasons.iter().take(REASONS) {
        let times = if *n == 1 { String::new() } else { format!("{n} times, first ") };
        ui.add(Label::new(RichText::new(format!("{why} ({times}{first})")).small().weak()).wrap());
    }
    if reasons.len() > REASONS {
        let text = format!("and {} other reasons", reasons.len() - REASONS);
        ui.label(RichText::new(text).small().weak());
    }
}
