//! What is cut, in the text form, and the proof that it is.
//!
//! Keeps what is being typed; knows the cut's run by what its end tells.

use egui::{Checkbox, Key, Label, RichText, TextEdit, TextStyle, Ui};

use crate::{
    trace::run::KnockoutReport,
    ui::{
        frame::Frame,
        store::{command::Command, settings::CutSettings, store::Store},
        theme,
        view::pane::View,
        widgets::section::{scrolling, section},
    },
};

const GRAMMAR: &str = "QUERY -> KEY @ LAYERS [# HEADS], several with ; between them. Enter applies.\n\
     Sets: bos, system, markers, visual, question, last, answer, decode, all, pos[3-5], joined by + or -;\n\
     patches: visual[3:4] (row:column), lastrow, register, random[0-9], and ~1 for one ring more";

/// The view.
#[derive(Default)]
pub struct CutView {
    /// The knockouts being typed.
    text: String,
    /// What they were taken from.
    from: String,
    /// Enter was pressed: should they be refused, typing goes on.
    entered: bool,
}

impl View for CutView {
    fn title(&self, _store: &Store) -> String {
        "Cut".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        if self.from != store.cut.typed {
            // Applied just now, or taken back.
            self.text.clone_from(&store.cut.typed);
            self.from.clone_from(&store.cut.typed);
        }
        let mut cut = store.cut.clone();
        scrolling(ui, "cut", |ui, _| {
            section(ui, "Cut", frame, |ui, _| ranges(ui, store.n_layers(), &mut cut));
            ui.horizontal(|ui| {
                let text = RichText::new(cut.range_knockout().to_string()).monospace();
                let toggle = Checkbox::new(&mut cut.enabled, text);
                let toggle = ui.add_enabled(store.n_layers() > 0, toggle);
                frame.place("cut", toggle.rect);
                toggle.on_hover_text("Blocks the answer's attention to the image in these layers");
            });
            ui.horizontal(|ui| self.typed(ui, store, &mut cut, frame));
            self.state(ui, store);
            proof(ui, store);
        });
        if cut != store.cut {
            frame.ask(Command::Cut(cut));
        }
    }
}

impl CutView {
    /// Whether what is typed is in force, and why not. A refusal is of what was applied: it goes as that does.
    fn state(&self, ui: &mut Ui, store: &Store) {
        let visuals = ui.visuals();
        let (text, color) = if self.text.trim() != store.cut.typed.trim() {
            ("not applied: in the box, Enter applies and Esc takes it back", theme::stale_color(visuals))
        } else if let Some(problem) = store.cut_error() {
            (problem, theme::cut_color(visuals))
        } else {
            return;
        };
        ui.add(Label::new(RichText::new(text).color(color)).wrap());
    }

    fn typed(&mut self, ui: &mut Ui, store: &Store, cut: &mut CutSettings, frame: &mut Frame) {
        ui.label("and");
        let edit = TextEdit::singleline(&mut self.text)
            .id_salt("typed cut")
            .font(TextStyle::Monospace)
            .hint_text("last -> visual[12,30-34] @ all # 0,2")
            .desired_width(f32::INFINITY);
        let edit = ui.add(edit).accessible_name("knockouts").on_hover_text(GRAMMAR);
        frame.place("typed cut", edit.rect);
        if std::mem::take(&mut self.entered) && store.cut_error().is_some() {
            edit.request_focus();
        }
        if edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Escape)) {
            self.text.clone_from(&store.cut.typed);
            ui.ctx().request_repaint();
        }
        if edit.lost_focus() && (ui.input(|i| i.key_pressed(Key::Enter)) || self.text.trim().is_empty()) {
            self.entered = true;
            ui.ctx().request_repaint();
            cut.typed.clone_from(&self.text);
        }
    }
}

fn ranges(ui: &mut Ui, n_layers: usize, cut: &mut CutSettings) {
    ui.add_enabled_ui(n_layers > 0, |ui| {
        // Right to left.
        for (name, range) in presets(n_layers).into_iter().rev() {
            let chosen = cut.enabled && cut.range == range;
            let label = ui.selectable_label(chosen, name);
            if label.on_hover_text(format!("layers {}-{}", range.0, range.1)).clicked() {
                (cut.range, cut.enabled) = (range, true);
            }
        }
    });
}

fn proof(ui: &mut Ui, store: &Store) {
    let lane = store.runs.cut();
    let Some(end) = lane.done().and_then(|run| run.end.as_ref()) else { return };
    let look = |text: RichText| if lane.busy() { text.small().weak() } else { text.small() };
    for report in &end.knockouts {
        ui.add(Label::new(look(RichText::new(&report.text)).monospace()).wrap());
        ui.add(Label::new(look(RichText::new(sentence(report)))).wrap());
    }
}

/// A report in words.
pub fn sentence(report: &KnockoutReport) -> String {
    let layers = report.pairs.iter().filter(|n| **n > 0).count();
    match report.total_pairs() {
        0 => "0 pairs: nothing to block there (a position never sees what comes after it)".to_string(),
        pairs => format!(
            "{} pairs blocked in {layers} layer{}; largest attention left on any of them: {}",
            thousands(pairs),
            if layers == 1 { "" } else { "s" },
            match report.blocked_mass {
                0.0 => "exactly 0".to_string(),
                mass => format!("{mass:e}"),
            },
        ),
    }
}

/// `12 345`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Named ranges: thirds of the model, and all of it.
fn presets(n: usize) -> [(&'static str, (usize, usize)); 4] {
    let last = n.saturating_sub(1);
    let third = |i: usize| (n * i / 3).min(last);
    let end = |i: usize| third(i).saturating_sub(1).max(third(i - 1));
    [("early", (0, end(1))), ("middle", (third(1), end(2))), ("late", (third(2), last)), ("all", (0, last))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_cover_every_layer_once() {
        assert_eq!(presets(8), [("early", (0, 1)), ("middle", (2, 4)), ("late", (5, 7)), ("all", (0, 7))]);
        assert_eq!(presets(30)[..3], [("early", (0, 9)), ("middle", (10, 19)), ("late", (20, 29))]);
        for n in 0..4 {
            assert!(presets(n).iter().all(|(_, (a, b))| a <= b && *b <= n.saturating_sub(1)));
        }
    }

    #[test]
    fn proof_reads_well() {
        let report =
            |pairs: Vec<u64>, blocked_mass| KnockoutReport { text: String::new(), pairs, blocked_mass };
        assert!(sentence(&report(vec![0, 0], 0.0)).starts_with("0 pairs"));
        let text = sentence(&report(vec![0, 1008, 1008], 0.0));
        assert_eq!(text, "2 016 pairs blocked in 2 layers; largest attention left on any of them: exactly 0");
        assert!(sentence(&report(vec![5], 0.25)).contains("2.5e-1"));
    }
}
