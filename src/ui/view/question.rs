//! The question, and what the prompt became: how many positions each span has.
//!
//! Keeps what is being typed; knows the prompt of the uncut run on show.

use egui::{Button, DragValue, Key, Label, RichText, TextEdit, Ui, vec2};

use crate::{
    spec::span::Span,
    ui::{
        frame::Frame,
        store::{command::Command, run::Run, store::Store},
        theme,
        view::pane::View,
        widgets::{
            section::{scrolling, section},
            swatch,
        },
    },
};

/// The view.
#[derive(Default)]
pub struct QuestionView {
    /// The question being edited.
    text: String,
    /// Longest answer.
    max_new: usize,
    /// What the two were taken from.
    from: Option<(String, usize)>,
}

impl View for QuestionView {
    fn title(&self, _store: &Store) -> String {
        "Question".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        self.follow(store);
        scrolling(ui, "question", |ui, _| {
            section(ui, "Question", frame, |ui, frame| self.options(ui, store, frame));
            ui.horizontal(|ui| self.edit(ui, store, frame));
            if let Some(run) = store.runs.baseline().view() {
                prompt(ui, run);
            }
        });
    }
}

impl QuestionView {
    /// Takes over a question that was asked elsewhere.
    fn follow(&mut self, store: &Store) {
        let same = |(text, max_new): &(String, usize)| *text == store.prompt && *max_new == store.max_new;
        if !self.from.as_ref().is_some_and(same) {
            (self.text, self.max_new) = (store.prompt.clone(), store.max_new);
            self.from = Some((store.prompt.clone(), store.max_new));
        }
    }

    /// Whether what stands here is not what was asked.
    fn pending(&self, store: &Store) -> bool {
        let asked = store.runs.baseline().view().map(|run| run.experiment.question());
        // Asked and cancelled: the answer on show is still to another.
        let other = !store.busy() && asked.is_some_and(|asked| asked.trim() != self.text.trim());
        other || self.text.trim() != store.prompt.trim() || self.max_new != store.max_new
    }

    fn options(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.add(DragValue::new(&mut self.max_new).range(1..=2048).speed(0.2))
            .accessible_name("longest answer")
            .on_hover_text("Longest answer, in tokens");
        ui.label(RichText::new("at most").small());
        if !store.questions.is_empty() {
            ui.menu_button("Examples", |ui| {
                for question in &store.questions {
                    if ui.button(question).clicked() {
                        frame.ask(Command::Ask(question.clone(), self.max_new));
                        ui.close();
                    }
                }
            });
        }
        if self.pending(store) {
            let text = RichText::new("not asked: in the box, Enter asks and Esc takes it back").small();
            ui.add(Label::new(text.color(theme::stale_color(ui.visuals()))).truncate());
        }
    }

    fn edit(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let ready = store.model.is_some() && store.image().is_some();
        let width = ui.available_width() - 60.0;
        let edit = TextEdit::singleline(&mut self.text)
            .id_salt("prompt")
            .hint_text("ask about the image")
            .desired_width(width);
        let edit = ui.add(edit);
        frame.place("question", edit.rect);
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        if edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Escape)) {
            self.from = None;
            ui.ctx().request_repaint();
        }
        let ask = ui.add_enabled(ready, Button::new("Ask").min_size(vec2(44.0, 0.0)));
        frame.place("ask", ask.rect);
        if ready && (entered || ask.clicked()) {
            frame.ask(Command::Ask(self.text.clone(), self.max_new));
        }
    }
}

fn prompt(ui: &mut Ui, run: &Run) {
    if !run.unknown_words.is_empty() {
        let words = run.unknown_words.join(", ");
        let text = format!("Not in this model's vocabulary, so it cannot read them: {words}");
        ui.add(Label::new(RichText::new(text).color(theme::stale_color(ui.visuals()))).wrap());
    }
    let mut counts = [0usize; Span::COUNT];
    run.prompt.iter().for_each(|token| counts[token.span.index()] += 1);
    spans(ui, &counts);
}

/// One small block a span that the prompt has, with its number of positions.
fn spans(ui: &mut Ui, counts: &[usize; Span::COUNT]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        ui.label(RichText::new(format!("{} positions:", counts.iter().sum::<usize>())).small());
        for span in Span::ALL {
            let n = counts[span.index()];
            if n > 0 {
                swatch::entry(ui, span, format!("{} {n}", span.name())).on_hover_text(meaning(span));
            }
        }
    });
}

/// What a span is, in a sentence.
fn meaning(span: Span) -> &'static str {
    match span {
        Span::Bos => "The beginning-of-sequence token, where idle attention gathers",
        Span::System => "Text of the chat template",
        Span::Markers => "Tokens around tiles, rows and images",
        Span::Visual => "Image patches",
        Span::Question => "Your words",
        Span::Last => "The last prompt position: it predicts the first word of the answer",
        Span::Answer => "Words already said",
    }
}
