//! What is done to the model: the list of cuts and ablations, how to add to it, the proof that it holds, and what
//! chance does instead.
//!
//! Knows the cut's run by what its end tells; its lines, their parts and patches have files of their own.

use egui::{Label, RichText, Ui};

use crate::{
    trace::{
        offer::{Format, Offer},
        report::{Control, End, Start},
        run::KnockoutReport,
    },
    ui::{
        frame::Frame,
        store::{
            command::Command, cut_list::CutSettings, run::Run, selection::CUT, store::Store, view_id::ViewId,
        },
        theme,
        view::{
            cuts::add::AddCut,
            cuts::editor::CutEditor,
            cuts::line::Lines,
            cuts::patches::{locked, objects, paint},
            cuts::table,
            pane::View,
        },
        widgets::{
            export_menu::export_menu,
            listed, number,
            section::{scrolling, section},
        },
    },
};

/// Draws of the control on offer.
const DRAWS: [usize; 4] = [0, 5, 10, 20];

/// The view.
#[derive(Default)]
pub struct CutView {
    lines: Lines,
    editor: CutEditor,
    add: AddCut,
}

impl View for CutView {
    fn title(&self, store: &Store) -> String {
        match store.cut.items.iter().filter(|item| item.on).count() {
            0 => "Cuts".to_string(),
            n => format!("Cuts ({n})"),
        }
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        scrolling(ui, "cut", |ui, _| {
            section(ui, "Cuts", frame, |ui, frame| header(ui, store, frame));
            refusal(ui, store, frame);
            self.lines.show(ui, store, frame);
            self.add.show(ui, store, frame);
            if store.cut.items.is_empty() {
                let hint =
                    "Nothing is cut. Drag over layers, paint over an object, choose a preset, or type a cut.";
                ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
            } else {
                self.editor.show(ui, store, frame);
            }
            proof(ui, store);
            control(ui, store, frame);
            part(ui, "Patches");
            objects(ui, store, frame);
            locked(ui, store, frame);
            paint(ui, store, frame);
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        table::offers(store)
    }
}

/// Right to left.
fn header(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    export_menu(ui, frame, ViewId::Cut, &[Format::Csv]);
    if store.cut.items.is_empty() {
        return;
    }
    listed::named(ui, frame, &Command::ClearCuts, "Clear");
    let on = store.cut.wants_a_cut();
    listed::named(ui, frame, &Command::ToggleCut, if on { "All off" } else { "Back on" });
    if store.runs.cut().done().is_some() {
        let name = format!("Keep {}", store.runs.name(CUT));
        listed::named(ui, frame, &Command::Keep, &name);
    }
}

/// The title of a part.
fn part(ui: &mut Ui, title: &str) {
    ui.add_space(6.0);
    ui.label(RichText::new(title).strong());
}

/// Why the worker did not run what is in force.
fn refusal(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let Some(why) = store.runs.cut().refusal() else { return };
    let cancelled = store.runs.cut().cancelled();
    let visuals = ui.visuals();
    let (text, color) = match cancelled {
        true => ("not run: it was cancelled".to_string(), theme::stale_color(visuals)),
        false => (format!("not run: {why}"), theme::cut_color(visuals)),
    };
    ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
    if store.cut.control > 0 && !cancelled {
        let without =
            ui.button("Without the control").on_hover_text("Runs the cut without random patches beside it");
        if without.clicked() {
            frame.ask(Command::Cut(CutSettings { control: 0, ..store.cut.clone() }));
        }
    }
}

fn proof(ui: &mut Ui, store: &Store) {
    let lane = store.runs.cut();
    let Some((run, end)) = lane.done().and_then(|run| Some((run, run.end.as_ref()?))) else { return };
    part(ui, &format!("Proof of {}", store.runs.name(CUT)));
    if lane.busy() {
        let text = RichText::new("of the cut before: recomputing…").small();
        ui.label(text.color(theme::stale_color(ui.visuals())));
    }
    let look = |text: RichText| if lane.busy() { text.small().weak() } else { text.small() };
    for report in &end.knockouts {
        ui.add(Label::new(look(RichText::new(&report.text)).monospace()).wrap());
        let told = look(RichText::new(sentence(report)));
        let told = if report.blocked_mass == 0.0 { told } else { told.color(theme::cut_color(ui.visuals())) };
        ui.add(Label::new(told).wrap());
    }
    for ablation in &run.experiment.intervention.ablations {
        ui.add(Label::new(look(RichText::new(ablation.to_string())).monospace()).wrap());
        let also = match (ablation.deepstack, store.model_info().is_some_and(|model| model.deepstack > 0)) {
            (true, _) => "overwritten before the first layer, deepstack features removed",
            (false, true) => "overwritten before the first layer; deepstack features stay",
            (false, false) => "overwritten before the first layer",
        };
        ui.label(look(RichText::new(also)));
    }
    if let Some(text) = started(run) {
        ui.add(Label::new(look(RichText::new(text))).wrap());
    }
}

/// Where a run under a cut began.
fn started(run: &Run) -> Option<String> {
    match run.start {
        Some(Start { layer, row, rows }) => Some(format!(
            "started from the uncut run at layer {layer}, row {row}: {rows} row{} in one pass",
            if rows == 1 { "" } else { "s" }
        )),
        None if run.scored.is_empty() => None,
        None => Some("it touches nothing: the uncut run stands".to_string()),
    }
}

fn control(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    if store.cut.items.is_empty() {
        return;
    }
    part(ui, "Control");
    ui.horizontal_wrapped(|ui| {
        let what = "The same is done to as many random patches, so that chance can be told from cause";
        ui.label(RichText::new("on random patches").small().weak()).on_hover_text(what);
        for draws in DRAWS {
            let name = if draws == 0 { "none".to_string() } else { format!("{draws} draws") };
            let chosen = store.cut.control == draws;
            let label = ui.selectable_label(chosen, RichText::new(&name).small());
            if label.accessible_name(format!("control: {name}")).clicked() && !chosen {
                frame.ask(Command::Cut(CutSettings { control: draws, ..store.cut.clone() }));
            }
        }
    });
    let lane = store.runs.cut();
    if let Some((run, end)) = lane.done().and_then(|run| Some((run, run.end.as_ref()?))) {
        let text = RichText::new(controlled(run, end)).small();
        ui.add(Label::new(if lane.busy() { text.weak() } else { text }).wrap());
    }
}

/// What the control of a run told, or why there is none.
fn controlled(run: &Run, end: &End) -> String {
    match (&end.control, run.experiment.control) {
        (Some(control), _) => compared(control),
        (None, 0) => "No control was asked for.".to_string(),
        (None, _) => "The run was stopped before its random draws were done.".to_string(),
    }
}

/// A cut beside as many random patches.
pub fn compared(control: &Control) -> String {
    let delta = &control.delta;
    let n = delta.draws.len();
    format!(
        "this cut {} nats; as many random patches {} ± {} nats ({n} draw{}, mean and standard deviation)",
        number::signed(delta.intervention),
        number::signed(delta.mean),
        number::short(delta.sd),
        if n == 1 { "" } else { "s" },
    )
}

/// A report in words.
pub fn sentence(report: &KnockoutReport) -> String {
    let layers = report.pairs.iter().filter(|n| **n > 0).count();
    match report.total_pairs() {
        0 => "0 pairs: nothing to block there (a position never sees what comes after it)".to_string(),
        pairs => format!(
            "{} pairs blocked in {layers} layer{}; largest attention left on any of them: {}",
            number::thousands(pairs),
            if layers == 1 { "" } else { "s" },
            match report.blocked_mass {
                0.0 => "exactly 0".to_string(),
                mass => format!("{mass:e}"),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        spec::{experiment::Experiment, picture::ImageSource},
        statistics::spread::Spread,
    };

    #[test]
    fn proof_reads_well() {
        let report =
            |pairs: Vec<u64>, blocked_mass| KnockoutReport { text: String::new(), pairs, blocked_mass };
        assert!(sentence(&report(vec![0, 0], 0.0)).starts_with("0 pairs"));
        let text = sentence(&report(vec![0, 1008, 1008], 0.0));
        assert_eq!(text, "2 016 pairs blocked in 2 layers; largest attention left on any of them: exactly 0");
        assert!(sentence(&report(vec![5], 0.25)).contains("2.5e-1"));
    }

    #[test]
    fn control_reads_well() {
        let spread = |cut, draws: Vec<f32>| Spread::new(cut, draws);
        let control = Control { delta: spread(-56.1, vec![-2.5, -3.5]), kl: spread(1.0, vec![0.1, 0.1]) };
        assert!(
            compared(&control).starts_with("this cut -56.10 nats; as many random patches -3.00 ± 0.707 nats")
        );
    }

    #[test]
    fn where_a_run_began_is_told_once_it_is_known() {
        let mut experiment = Experiment::ask(ImageSource::File("a.png".into()), "what?", 4);
        experiment.intervention.knockouts = vec!["answer -> visual @ 1".parse().unwrap()];
        let mut run = Run::new(1, experiment, Some(0));
        assert_eq!(started(&run), None, "nothing is known yet");
        run.start = Some(Start { layer: 1, row: 153, rows: 1 });
        assert!(started(&run).unwrap().ends_with("at layer 1, row 153: 1 row in one pass"));
    }
}
