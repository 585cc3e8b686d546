//! What a shortened context still knows: the visual tokens that the answer looked at least are dropped, and questions
//! asked against what is left.
//!
//! Keeps what is being typed; knows the study's findings.

use egui::{Button, Checkbox, Grid, Label, ProgressBar, RichText, TextEdit, TextStyle, Ui};

use crate::{
    spec::study::{Compress, Study, StudyKind},
    trace::{
        finding::{Asked, Compression},
        offer::{Format, Offer},
        table::{Table, Value},
    },
    ui::{
        frame::Frame,
        store::{
            command::Command,
            store::Store,
            studies::{State, StudyRun},
            view_id::ViewId,
        },
        theme,
        view::pane::View,
        widgets::{
            export_menu::export_menu,
            number,
            section::{scrolling, section},
        },
    },
};

/// Room for a share and for how far an answer agrees.
const SHARE: f32 = 56.0;
const AGREES: f32 = 110.0;

/// The view.
pub struct CompressView {
    percents: String,
    questions: String,
    keep_answer: bool,
}

impl Default for CompressView {
    fn default() -> Self {
        CompressView { percents: "5, 10, 25, 50".to_string(), questions: String::new(), keep_answer: false }
    }
}

impl View for CompressView {
    fn title(&self, _store: &Store) -> String {
        "Compress".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        scrolling(ui, "compress", |ui, _| {
            section(ui, "Compress", frame, |ui, frame| {
                export_menu(ui, frame, ViewId::Compress, &[Format::Csv]);
            });
            self.settings(ui, store);
            self.start(ui, store, frame);
            match store.studies.get(StudyKind::Compress) {
                Some(study) => results(ui, store, study),
                None => {
                    let hint = "The answer is given once; then only the visual tokens that it looked at most \
                                stay in the context of every layer, and each question is asked against that, \
                                without the image.";
                    ui.add(Label::new(RichText::new(hint).small().weak()).wrap());
                }
            }
        });
    }

    fn offers(&mut self, store: &Store) -> Vec<Offer> {
        let study = store.studies.get(StudyKind::Compress).filter(|study| !study.found.compressed.is_empty());
        study.map(|study| Offer::Table(table(study))).into_iter().collect()
    }
}

impl CompressView {
    fn settings(&mut self, ui: &mut Ui, store: &Store) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("keep").small().weak());
            let edit =
                TextEdit::singleline(&mut self.percents).font(TextStyle::Monospace).desired_width(120.0);
            ui.add(edit)
                .accessible_name("percentages of visual tokens kept")
                .on_hover_text("Shares of the visual tokens that stay, in percent, with commas between them");
            ui.label(RichText::new("% of the visual tokens").small().weak());
            ui.add(Checkbox::new(&mut self.keep_answer, "and the answer")).on_hover_text(
                "Whether the first answer stays in the context too: then its words can be read as well",
            );
            if !store.questions.is_empty() {
                let examples =
                    ui.button(RichText::new("Examples").small()).accessible_name("ask the examples");
                if examples.on_hover_text("Puts the sample questions into the box").clicked() {
                    self.questions = store.questions.join("\n");
                }
            }
        });
        let edit = TextEdit::multiline(&mut self.questions)
            .hint_text("questions, one a line")
            .desired_rows(2)
            .desired_width(f32::INFINITY);
        ui.add(edit).accessible_name("questions to the shortened context");
    }

    fn start(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let study = self.study(store);
        ui.horizontal_wrapped(|ui| {
            let going = store.studies.get(StudyKind::Compress).filter(|study| study.state == State::Running);
            if going.is_some() {
                let stop = ui.button("Stop").accessible_name("stop the compression");
                if stop.on_hover_text("What was answered stays").clicked() {
                    frame.ask(Command::DropStudy(StudyKind::Compress));
                }
            }
            let start = ui.add_enabled(study.is_ok(), Button::new("Start"));
            let start = start.accessible_name("start the compression");
            frame.place("compress", start.rect);
            match study {
                Ok(study) if start.clicked() => frame.ask(Command::Study(Box::new(Study::Compress(study)))),
                Ok(_) => {}
                Err(why) => _ = ui.add(Label::new(RichText::new(why).small().weak()).wrap()),
            }
        });
    }

    /// What would be asked, or what is missing.
    fn study(&self, store: &Store) -> Result<Compress, String> {
        let percents = percents(&self.percents)?;
        let questions: Vec<String> = self
            .questions
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_string)
            .collect();
        if questions.is_empty() {
            return Err("Write a question, or take the examples.".to_string());
        }
        if store.model.is_none() {
            return Err("Open a model first.".to_string());
        }
        match store.base_of(store.selection.slot) {
            None => Err("Ask a question first: what its answer looked at decides what stays.".to_string()),
            Some(run) if run.end.is_none() => Err("Wait for the answer to be complete.".to_string()),
            Some(_) => Ok(Compress { percents, questions, keep_answer: self.keep_answer }),
        }
    }
}

/// Reads a list of percentages; each counts once.
fn percents(text: &str) -> Result<Vec<f32>, String> {
    let mut percents: Vec<f32> = Vec::new();
    for part in text.split([',', ';', ' ']).map(|part| part.trim().trim_end_matches('%')) {
        match part.parse::<f32>() {
            _ if part.is_empty() => {}
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                if !percents.contains(&percent) {
                    percents.push(percent);
                }
            }
            _ => return Err(format!("“{part}” is no percentage from 0 to 100.")),
        }
    }
    if percents.is_empty() {
        return Err("Name a percentage of the visual tokens to keep, such as 10, 25.".to_string());
    }
    Ok(percents)
}

fn results(ui: &mut Ui, store: &Store, study: &StudyRun) {
    ui.add_space(4.0);
    let stale = theme::stale_color(ui.visuals());
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(format!("context of run {}", study.base_name)).small());
        let (done, all) = study.steps;
        match &study.state {
            State::Running => {
                let share = done as f32 / all.max(1) as f32;
                ui.add(ProgressBar::new(share).desired_width(90.0).desired_height(8.0));
                ui.label(RichText::new(format!("{done} of {all} shares")).small());
            }
            State::Whole => {}
            State::Dropped => {
                _ = ui.label(RichText::new("stopped before it was complete").small().color(stale))
            }
            State::Failed(why) => {
                let why = RichText::new(format!("it failed: {why}")).small();
                ui.add(Label::new(why.color(theme::cut_color(ui.visuals()))).wrap());
            }
        }
        if store.base_of(store.selection.slot).map(|run| run.id) != Some(study.base) {
            ui.label(RichText::new("not of the run on show").small().color(stale));
        }
    });
    let found = &study.found.compressed;
    if found.is_empty() {
        return;
    }
    summary(ui, found);
    let questions = found.iter().map(|compression| compression.questions.len()).max().unwrap_or(0);
    for at in 0..questions {
        answers(ui, found, at);
    }
}

/// Share by share: what stayed, and how far answers agree.
fn summary(ui: &mut Ui, found: &[Compression]) {
    let small = |text: &str| RichText::new(text).small();
    Grid::new("compressed").num_columns(5).spacing([14.0, 2.0]).striped(true).show(ui, |ui| {
        for title in ["kept", "keys a layer", "visual tokens", "answers alike", "tokens alike"] {
            ui.label(small(title).weak());
        }
        ui.end_row();
        for compression in found {
            let Compression { percent, tokens, visual, full_tokens, same, agreement, .. } = compression;
            ui.label(small(&format!("{percent} %")));
            ui.label(small(&format!("{tokens} of {full_tokens}")));
            ui.label(small(&visual.to_string()));
            ui.label(small(&number::percent(*same)));
            ui.label(small(&number::percent(*agreement)));
            ui.end_row();
        }
    });
}

/// One question: its answer against the whole context, and against every shorter one.
fn answers(ui: &mut Ui, found: &[Compression], at: usize) {
    let Some(first) = found.iter().find_map(|compression| compression.questions.get(at)) else { return };
    ui.add_space(6.0);
    ui.add(Label::new(RichText::new(&first.question).strong()).wrap());
    answer(ui, "whole", &first.full, None);
    for compression in found {
        if let Some(asked) = compression.questions.get(at) {
            answer(ui, &format!("{} %", compression.percent), &asked.compressed, Some(asked));
        }
    }
}

fn answer(ui: &mut Ui, share: &str, text: &str, asked: Option<&Asked>) {
    ui.horizontal_top(|ui| {
        let room = (ui.available_width() - SHARE - AGREES - 2.0 * ui.spacing().item_spacing.x).max(80.0);
        ui.vertical(|ui| {
            ui.set_width(SHARE);
            ui.label(RichText::new(share).small().weak());
        });
        ui.vertical(|ui| {
            ui.set_width(room);
            let differs = asked.is_some_and(|asked| !asked.same);
            let text = RichText::new(if text.trim().is_empty() { "(nothing)" } else { text });
            let text = if differs { text.color(theme::cut_color(ui.visuals())) } else { text };
            ui.add(Label::new(text).wrap());
        });
        if let Some(asked) = asked {
            let words = match asked.same {
                true => "the same".to_string(),
                false => format!("{} alike", number::percent(asked.agreement)),
            };
            ui.label(RichText::new(words).small()).on_hover_text(
                "Tokens of the longest common subsequence of both answers, as a share of the longer one",
            );
        }
    });
}

fn table(study: &StudyRun) -> Table {
    let columns = [
        "visual tokens kept (%)",
        "keys a layer",
        "visual keys a layer",
        "keys a layer of the whole context",
        "question",
        "answer against the whole context",
        "answer against the short context",
        "same",
        "token agreement",
    ];
    let mut rows = Vec::new();
    for Compression { percent, tokens, visual, full_tokens, questions, .. } in &study.found.compressed {
        rows.extend(questions.iter().map(|asked| {
            vec![
                Value::Number(*percent),
                Value::Whole(*tokens as i64),
                Value::Whole(*visual as i64),
                Value::Whole(*full_tokens as i64),
                Value::Text(asked.question.clone()),
                Value::Text(asked.full.clone()),
                Value::Text(asked.compressed.clone()),
                Value::Text(if asked.same { "yes" } else { "no" }.to_string()),
                Value::Number(asked.agreement),
            ]
        }));
    }
    let name = format!("compressed context of run {}", study.base_name);
    Table { name, columns: columns.map(str::to_string).to_vec(), rows }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{trace::finding::Finding, ui::store::studies::Studies};

    #[test]
    fn percentages_are_read_as_people_write_them() {
        assert_eq!(percents("5, 10%,2.5 ;100 10").unwrap(), [5.0, 10.0, 2.5, 100.0]);
        for (text, part) in
            [("", "Name"), ("5, x", "“x”"), ("-1", "“-1”"), ("101", "“101”"), ("nan", "“nan”")]
        {
            let why = percents(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_missing_is_said_in_turn() {
        let store = Store::new(String::new(), 8);
        let mut view = CompressView::default();
        assert!(view.study(&store).unwrap_err().contains("Write a question"));
        view.questions = "\n what is left ?\n\n".to_string();
        assert!(view.study(&store).unwrap_err().contains("Open a model"));
    }

    #[test]
    fn every_answer_is_a_row() {
        let mut studies = Studies::default();
        let compress =
            Compress { percents: vec![10.0], questions: vec!["what ?".to_string()], keep_answer: true };
        studies.begin(3, Study::Compress(compress), 1, "A".to_string());
        let asked = |compressed: &str, same| Asked {
            question: "what ?".to_string(),
            full: "a duck".to_string(),
            compressed: compressed.to_string(),
            same,
            agreement: if same { 1.0 } else { 0.5 },
        };
        let compression = Compression {
            percent: 10.0,
            tokens: 30,
            visual: 14,
            full_tokens: 160,
            questions: vec![asked("a duck", true), asked("a bus", false)],
            same: 0.5,
            agreement: 0.75,
        };
        studies.found(3, Finding::Compressed(compression), (1, 1));
        let table = table(studies.get(StudyKind::Compress).unwrap());
        assert_eq!(table.rows.len(), 2);
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
        assert_eq!(table.rows[1][7], Value::Text("no".to_string()));
    }
}
