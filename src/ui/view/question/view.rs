//! The question: what is asked, how the answer is chosen, and what the prompt became.
//!
//! Keeps what is being typed; knows the uncut run on show.

use egui::{
    Align, Button, DragValue, Key, Label, Layout, PopupCloseBehavior, RichText, ScrollArea, TextEdit,
    TextStyle, Ui, WidgetText,
    containers::menu::{MenuButton, MenuConfig},
    scroll_area::ScrollBarVisibility,
    vec2,
};

use crate::{
    spec::experiment::Sampling,
    ui::{
        frame::Frame,
        store::{command::Command, run::Run, settings::Asking, store::Store, talk::Talk},
        theme,
        view::{
            pane::View,
            question::{talk, tokens::PromptTokens},
        },
        widgets::section::{still, title_label},
    },
};

/// Below this width the options have a line of their own.
const NARROW: f32 = 460.0;

/// The view.
#[derive(Default)]
pub struct QuestionView {
    /// The question being edited.
    text: String,
    /// What it was taken from.
    from: Option<String>,
    /// The box is to have the focus.
    focus: bool,
    tokens: PromptTokens,
}

impl View for QuestionView {
    fn title(&self, _store: &Store) -> String {
        "Question".to_string()
    }

    fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        self.follow(store);
        still(ui, |ui| {
            self.head(ui, store, frame);
            // The box stands still above what scrolls, however much there is.
            let scroll = ScrollArea::vertical().id_salt("question").auto_shrink([false, false]);
            let scroll = scroll.scroll_bar_visibility(ScrollBarVisibility::AlwaysVisible);
            scroll.min_scrolled_height(0.0).show(ui, |ui| self.prompt(ui, store, frame));
        });
    }
}

impl QuestionView {
    /// Takes over a question that was asked elsewhere.
    fn follow(&mut self, store: &Store) {
        if self.from.as_ref() != Some(&store.prompt) {
            self.text.clone_from(&store.prompt);
            self.from = Some(store.prompt.clone());
        }
    }

    /// Whether what stands here is not what was asked.
    fn pending(&self, store: &Store) -> bool {
        let run = store.runs.baseline().view();
        // Asked and cancelled: the answer on show is still to another.
        let other = |run: &Run| {
            run.experiment.question().trim() != self.text.trim()
                || run.setup.asking != store.asking
                || run.setup.talk != store.talk
        };
        !store.busy() && run.is_some_and(other) || self.text.trim() != store.prompt.trim()
    }

    /// The box with what stands beside it.
    fn head(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let width = ui.available_width() - ui.spacing().scroll.allocated_width();
        let wide = width > NARROW;
        let line = vec2(width, ui.spacing().interact_size.y);
        ui.allocate_ui_with_layout(line, Layout::left_to_right(Align::Center), |ui| {
            title_label(ui, "Question", frame);
            let room = if wide { 300.0 + longer(ui, store) } else { 60.0 };
            self.edit(ui, store, frame, room);
            if wide {
                self.options(ui, store, frame);
            }
        });
        if !wide {
            ui.horizontal(|ui| self.options(ui, store, frame));
        }
    }

    /// What was said before, and what the prompt became.
    fn prompt(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let run = store.runs.baseline().view();
        // One line has both: nothing moves while something is typed.
        if self.pending(store) {
            ui.horizontal(|ui| {
                talk::earlier(ui, store);
                let text = RichText::new("not asked: in the box, Enter asks and Esc takes it back").small();
                ui.add(Label::new(text.color(theme::stale_color(ui.visuals()))).truncate());
            });
        } else if let Some(run) = run {
            self.tokens.spans(ui, store, run, |ui| talk::earlier(ui, store));
        }
        match run {
            Some(run) => {
                unknown(ui, run);
                self.tokens.show(ui, store, frame, run);
            }
            None => {
                let text = "Ask about the image: what the prompt becomes, token by token, stands here.";
                ui.add(Label::new(RichText::new(text).small().weak()).truncate());
            }
        }
    }

    /// The box and its button. `room`: what is left for the button and what follows it.
    fn edit(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame, room: f32) {
        let first = store.talk.earlier.is_empty();
        let edit = TextEdit::singleline(&mut self.text)
            .id_salt("prompt")
            .hint_text(if first { "ask about the image" } else { "ask further" })
            .desired_width((ui.available_width() - room).max(60.0));
        let edit = ui.add(edit);
        if std::mem::take(&mut self.focus) {
            edit.request_focus();
        }
        let empty = !first && self.text.trim().is_empty();
        let ready = store.model.is_some() && store.image().is_some() && !empty;
        frame.place("question", edit.rect);
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        if edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Escape)) {
            self.from = None;
            if let Some(asked) = store.runs.baseline().view().map(|run| &run.setup) {
                if asked.asking != store.asking {
                    frame.ask(Command::Asking(asked.asking));
                }
                if asked.talk != store.talk {
                    frame.ask(Command::Talk(asked.talk.clone()));
                }
            }
            ui.ctx().request_repaint();
        }
        let ask = ui.add_enabled(ready, Button::new("Ask").min_size(vec2(44.0, 0.0)));
        frame.place("ask", ask.rect);
        let further = entered && ui.input(|i| i.modifiers.shift);
        if further && !self.text.trim().is_empty() && store.answered().is_some() {
            frame.ask(Command::GoOn(self.text.clone()));
        } else if ready && !further && (entered || ask.clicked()) {
            frame.ask(Command::Ask(self.text.clone()));
        }
    }

    /// How answers are chosen, what stands around the question, and questions to try.
    fn options(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        chosen(ui, store, frame);
        if talk::menu(ui, store, frame) {
            self.text.clear();
            self.focus = true;
            ui.ctx().request_repaint();
        }
        if let Some(question) = examples(ui, store) {
            self.text.clone_from(question);
            frame.ask(Command::Ask(question.clone()));
        }
    }
}

/// Width of what the options say of a conversation, over that of one which says nothing.
fn longer(ui: &Ui, store: &Store) -> f32 {
    let width = |text: String| {
        let text = WidgetText::from(RichText::new(text).small());
        text.into_galley(ui, None, f32::INFINITY, TextStyle::Small).size().x
    };
    width(talk::told(&store.talk)) - width(talk::told(&Talk::default()))
}

/// How answers are chosen.
fn chosen(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    let mut asking = store.asking;
    // Numbers are dragged in it: a click within does not close it.
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let text = RichText::new(told(&asking)).small();
    let (button, _) = MenuButton::new(text).config(config).ui(ui, |ui| choose(ui, &mut asking));
    button.accessible_name("how answers are chosen").on_hover_text(
        "Length of the answer, and whether its tokens are the likeliest or drawn; the next question is answered so",
    );
    if asking != store.asking {
        frame.ask(Command::Asking(asking));
    }
}

/// Questions to try. Returns the one that was chosen.
fn examples<'a>(ui: &mut Ui, store: &'a Store) -> Option<&'a String> {
    let mut chosen = None;
    if !store.questions.is_empty() {
        ui.menu_button("Examples", |ui| {
            for question in &store.questions {
                if ui.button(question).clicked() {
                    chosen = Some(question);
                    ui.close();
                }
            }
        });
    }
    chosen
}

/// How answers are chosen, in short.
fn told(asking: &Asking) -> String {
    match asking.sampling {
        None => format!("at most {}", asking.max_new),
        Some(Sampling { temperature, top_p }) => {
            format!("at most {}, T {temperature:.2}, top-p {top_p:.2}", asking.max_new)
        }
    }
}

fn choose(ui: &mut Ui, asking: &mut Asking) {
    let length = DragValue::new(&mut asking.max_new).range(1..=2048).speed(0.2);
    line(ui, length, "longest answer", "Longest answer, in tokens");
    let listed = DragValue::new(&mut asking.top).range(1..=50).speed(0.1);
    line(ui, listed, "candidates", "Likeliest tokens that are listed for every word");
    let mut drawn = asking.sampling.is_some();
    let text = "Off: the likeliest token is taken, and the same question has the same answer";
    ui.checkbox(&mut drawn, "draw tokens").on_hover_text(text);
    asking.sampling = drawn.then(|| asking.sampling.unwrap_or(Sampling { temperature: 1.0, top_p: 1.0 }));
    if let Some(Sampling { temperature, top_p }) = &mut asking.sampling {
        let heat = DragValue::new(temperature).range(0.05..=5.0).speed(0.01).max_decimals(2);
        line(ui, heat, "temperature", "Divides the logits: above 1 unlikely tokens come more often");
        let share = DragValue::new(top_p).range(0.01..=1.0).speed(0.005).max_decimals(2);
        line(ui, share, "top-p", "Draws from the likeliest tokens that together reach this probability");
    }
    let seed = DragValue::new(&mut asking.seed).speed(0.1);
    line(ui, seed, "seed", "Decides which tokens are drawn, which random patches, and noise");
}

/// A number with its name beside it.
fn line(ui: &mut Ui, value: DragValue<'_>, name: &str, tooltip: &str) {
    ui.horizontal(|ui| {
        ui.add(value).accessible_name(name).on_hover_text(tooltip);
        ui.label(RichText::new(name).small());
    });
}

/// Words that the model cannot read.
fn unknown(ui: &mut Ui, run: &Run) {
    if !run.unknown_words.is_empty() {
        let words = run.unknown_words.join(", ");
        let text = format!("Not in this model's vocabulary, so it cannot read them: {words}");
        ui.add(Label::new(RichText::new(text).color(theme::stale_color(ui.visuals()))).wrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_answers_are_chosen_is_told_in_short() {
        let mut asking = Asking { max_new: 32, ..Asking::default() };
        assert_eq!(told(&asking), "at most 32");
        asking.sampling = Some(Sampling { temperature: 0.7, top_p: 0.9 });
        assert_eq!(told(&asking), "at most 32, T 0.70, top-p 0.90");
    }

    #[test]
    fn a_text_that_was_not_asked_is_pending() {
        let store = Store::new("what ?".to_string(), 8);
        let mut view = QuestionView::default();
        view.follow(&store);
        assert!(!view.pending(&store));
        view.text.push_str(" now");
        view.follow(&store);
        assert!(view.pending(&store), "the text stays, and says so");
    }
}
