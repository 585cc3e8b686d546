//! What is there, how fast it was, and what is going on.
//!
//! Keeps when the present stage began, for its rate, and what was taught already. Knows facts of the store; changes
//! none.

use egui::{Button, ProgressBar, RichText, Sides, Ui};

use crate::{
    progress::{Progress, Stage},
    trace::report::End,
    ui::{
        frame::Frame,
        store::{
            command::Command,
            store::Store,
            studies::{State, StudyRun},
            surveys::SurveyRun,
        },
        widgets::{busy::busy, listed, time_left::TimeLeft},
    },
    worker::protocol::RunId,
};

/// The bar.
#[derive(Debug, Default)]
pub struct StatusBar {
    /// The stage that goes on, when it began and what was done by then.
    began: Option<(Stage, f64, u64)>,
    /// How many runs are held, the last of them, and the bytes of their attention.
    held: Option<((usize, Option<RunId>), usize)>,
    /// Of a study over images.
    left: TimeLeft,
    /// What a first look is taught, as long as it is not done: words, layers, patches.
    lessons: Vec<Lesson>,
}

/// Something that is worth doing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lesson {
    Word,
    Layers,
    Paint,
}

impl Lesson {
    const ALL: [Lesson; 3] = [Lesson::Word, Lesson::Layers, Lesson::Paint];

    fn text(self) -> &'static str {
        match self {
            Lesson::Word => "hover a word",
            Lesson::Layers => "drag over layers",
            Lesson::Paint => "paint over an object",
        }
    }

    fn is_done(self, store: &Store) -> bool {
        match self {
            Lesson::Word => store.selection.hovered.is_some(),
            Lesson::Layers => store.cut.items.iter().any(|item| item.change.knockout().is_some()),
            Lesson::Paint => store.cut.painted().is_some(),
        }
    }
}

impl StatusBar {
    /// Teaches the first three things to do, each until it is done.
    pub fn teach(&mut self) {
        self.lessons = Lesson::ALL.to_vec();
    }

    /// Draws the bar: facts at the left, cut short where they do not fit; what goes on at the right, whole.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        self.lessons.retain(|lesson| !lesson.is_done(store));
        let now = ui.input(|i| i.time);
        let rate = self.rate(now, store.progress.as_ref());
        let survey = store.surveys.running();
        let left = survey.and_then(|run| self.left.text(now, run.id, run.steps()).map(str::to_string));
        ui.add_space(2.0);
        Sides::new().shrink_left().truncate().show(
            ui,
            |ui| {
                ui.spacing_mut().item_spacing.x = 6.0;
                self.lessons(ui, store);
                self.facts(ui, store);
            },
            |ui| {
                if let Some(run) = survey {
                    over_images(ui, run, left.as_deref(), frame);
                }
                what_goes_on(ui, store, rate.as_deref(), frame);
            },
        );
        ui.add_space(2.0);
    }

    fn lessons(&self, ui: &mut Ui, store: &Store) {
        if self.lessons.is_empty() || store.runs.baseline().done().is_none() {
            return;
        }
        let texts: Vec<&str> = self.lessons.iter().map(|lesson| lesson.text()).collect();
        ui.label(RichText::new(format!("Try: {}", texts.join(" · "))).small().strong());
        ui.separator();
    }

    fn facts(&mut self, ui: &mut Ui, store: &Store) {
        let Some(info) = store.model_info() else {
            fact(ui, "no model yet", "A model is being loaded, or none could be");
            return;
        };
        let saved = if store.model.is_some() { "" } else { " (of a saved run: open it to ask)" };
        fact(ui, &format!("{}{saved}", info.name), "The model: its menu at the top right says more");
        if let Some(image) = store.image() {
            fact(ui, &image.description, "What was done to the image");
        }
        if let Some(end) = store.runs.baseline().done().and_then(|run| run.end.as_ref()) {
            speed(ui, end);
        }
        if let Some(end) = store.runs.cut().done().and_then(|run| run.end.as_ref()) {
            let text = format!("scored in {}", duration(end.timing.prefill.as_secs_f64() * 1e3));
            fact(ui, &text, "From the start of the run under the cut to the scores of the uncut answer");
        }
        if !store.runs.is_empty() {
            let text = format!("keeps {:.0} MB", self.bytes(store) as f64 / 1e6);
            fact(ui, &text, "Attention of all runs that are held, in the window's memory");
        }
    }

    /// Bytes of all runs, counted anew when another one is complete.
    fn bytes(&mut self, store: &Store) -> usize {
        let newest = [store.runs.baseline(), store.runs.cut()];
        let newest = newest.into_iter().filter_map(|lane| lane.done().map(|run| run.id)).max();
        let key = (store.runs.len(), newest);
        match self.held {
            Some((held, bytes)) if held == key => bytes,
            _ => {
                let bytes = store.runs.bytes();
                self.held = Some((key, bytes));
                bytes
            }
        }
    }

    /// How fast the present stage goes, in words; of one whose steps are not counted there is none.
    fn rate(&mut self, now: f64, progress: Option<&Progress>) -> Option<String> {
        let Some(progress) = progress else {
            self.began = None;
            return None;
        };
        match self.began {
            Some((stage, _, done)) if stage == progress.stage && done <= progress.done => {}
            _ => self.began = Some((progress.stage, now, progress.done)),
        }
        let (stage, since, before) = self.began?;
        let (took, done) = (now - since, progress.done.saturating_sub(before));
        let per_second = Some(done as f64 / took).filter(|_| took > 0.3 && done > 0)?;
        Some(match stage {
            Stage::Load => format!("{:.0} MB/s", per_second / 1e6),
            Stage::Encode => format!("{per_second:.1} views/s"),
            Stage::Decode => format!("{per_second:.1} tokens/s"),
            Stage::Open | Stage::Prefill | Stage::Gradients => format!("{per_second:.1} steps/s"),
        })
    }
}

/// Right to left: what can be taken back, then what goes on, each with its own end.
fn what_goes_on(ui: &mut Ui, store: &Store, rate: Option<&str>, frame: &mut Frame) {
    let studies: Vec<&StudyRun> = store.studies.running().collect();
    if store.busy() {
        listed::named(ui, frame, &Command::Cancel, if studies.is_empty() { "Cancel" } else { "Cancel all" });
    }
    match &store.progress {
        Some(progress) => stage(ui, progress, rate, frame),
        None if store.busy() && (studies.is_empty() || store.runs.busy()) => {
            busy(ui, frame.dear);
            ui.label(if store.runs.answering() { "answering" } else { "waiting for the model" });
        }
        None if store.cancelled() => _ = ui.label("cancelled"),
        None => {}
    }
    for run in studies {
        study(ui, run, frame);
    }
    if !store.busy()
        && let Some(last) = store.last_change()
    {
        let text = RichText::new(format!("undo: {last}")).small().weak();
        let button = ui.add(Button::new(text).frame(false));
        if button.on_hover_text("Takes the last change of cut, selection or settings back (Ctrl+Z)").clicked()
        {
            frame.ask(Command::Undo);
        }
    }
}

/// What goes on, how far it is and how fast it goes.
fn stage(ui: &mut Ui, progress: &Progress, rate: Option<&str>, frame: &Frame) {
    match progress.share() {
        Some(share) => bar(ui, share),
        None => busy(ui, frame.dear),
    }
    if let Some(rate) = rate {
        ui.label(RichText::new(rate).small());
    }
    let share = progress.share().filter(|_| matches!(progress.stage, Stage::Load | Stage::Decode));
    match share {
        Some(share) => ui.label(format!("{progress} {:.0} %", 100.0 * share)),
        None => ui.label(progress.to_string()),
    };
}

/// One study under way.
fn study(ui: &mut Ui, run: &StudyRun, frame: &mut Frame) {
    if run.state != State::Running {
        return;
    }
    let name = run.study.kind().name();
    let stop = ui.small_button("Stop").accessible_name(format!("stop {name}"));
    if stop.on_hover_text("Gives this study up; what it found stays").clicked() {
        frame.ask(Command::DropStudy(run.study.kind()));
    }
    let (done, all) = run.steps;
    if all > 0 {
        bar(ui, done as f32 / all as f32);
        ui.label(format!("{name} of {}: {done} of {all}", run.base_name));
    } else {
        busy(ui, frame.dear);
        ui.label(format!("{name} of {}", run.base_name));
    }
}

/// The study over images under way.
fn over_images(ui: &mut Ui, run: &SurveyRun, left: Option<&str>, frame: &mut Frame) {
    let name = run.kind.name;
    let stop = ui.small_button("Stop").accessible_name(format!("stop {name} over images"));
    if stop.on_hover_text("Stops this study; what it measured stays, and it can go on").clicked() {
        frame.ask(Command::StopSurvey);
    }
    if let Some(left) = left {
        ui.label(RichText::new(left).small());
    }
    let (done, all) = run.steps();
    if all > 0 {
        bar(ui, done as f32 / all as f32);
        ui.label(format!("{name}: {done} of {all} images"));
    } else {
        busy(ui, frame.dear);
        ui.label(format!("{name} over images"));
    }
}

fn bar(ui: &mut Ui, share: f32) {
    ui.add(ProgressBar::new(share).desired_width(80.0).desired_height(10.0));
}

fn speed(ui: &mut Ui, end: &End) {
    let t = &end.timing;
    let speed = t.tokens_per_second().map_or_else(|| "-".to_string(), |s| format!("{s:.1}"));
    let hover = format!(
        "load {:.2} s, encode {:.2} s, prefill {:.2} s, decode {:.2} s\n{}",
        t.load.as_secs_f64(),
        t.encode.as_secs_f64(),
        t.prefill.as_secs_f64(),
        t.decode.as_secs_f64(),
        end.dtype,
    );
    fact(ui, &format!("{speed} tokens/s"), &hover);
}

fn fact(ui: &mut Ui, text: &str, hover: &str) {
    ui.label(RichText::new(text).small()).on_hover_text(hover);
    ui.separator();
}

/// `4.2 ms`, `132 ms`, `2.1 s`.
fn duration(millis: f64) -> String {
    match millis {
        0.0..10.0 => format!("{millis:.1} ms"),
        10.0..1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let all = [4.21, 132.4, 2140.0].map(duration);
        assert_eq!(all, ["4.2 ms", "132 ms", "2.1 s"]);
    }

    #[test]
    fn a_stage_has_a_rate_once_it_has_gone_on() {
        let mut bar = StatusBar::default();
        let load = |done: u64| Progress { stage: Stage::Load, done, total: Some(9_000_000_000) };
        assert_eq!(bar.rate(1.0, Some(&load(0))), None);
        assert_eq!(bar.rate(3.0, Some(&load(500_000_000))).as_deref(), Some("250 MB/s"));
        assert_eq!(bar.rate(3.1, Some(&Progress::of(Stage::Encode, 0, 4))), None, "another stage");
        assert_eq!(bar.rate(5.1, Some(&Progress::of(Stage::Encode, 3, 4))).as_deref(), Some("1.5 views/s"));
        assert_eq!(bar.rate(6.0, None), None);
        assert_eq!(bar.rate(9.0, Some(&Progress::of(Stage::Encode, 3, 4))), None, "begun anew");
    }

    #[test]
    fn lessons_vanish_once_they_are_done() {
        let mut store = Store::default();
        let left = |store: &Store| Lesson::ALL.into_iter().filter(|l| !l.is_done(store)).count();
        assert_eq!(left(&store), 3);
        store.selection.hovered = Some((0, 1));
        store.cut.cut_layers((0, 1));
        assert_eq!(left(&store), 1);
        store.cut.paint(&[3], true);
        assert_eq!(left(&store), 0);
    }
}
