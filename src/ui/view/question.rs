//! The question, and what the prompt became: how many positions each span has.

use egui::{Color32, Key, RichText, Sense, TextEdit, Ui, vec2};

use crate::{spec::span::Span, ui::{layout::{Draft, section}, store::state::{Action, State}, theme}};

/// Draws the panel.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
    section(ui, "Question", |ui| {
        let mut max_new = draft.max_new;
        ui.add(egui::DragValue::new(&mut max_new).range(1..=2048).speed(0.2))
            .accessible_name("longest answer")
            .on_hover_text("Longest answer, in tokens");
        ui.label(RichText::new("at most").small());
        draft.max_new = max_new;
        if !state.questions.is_empty() {
            ui.menu_button("Examples", |ui| {
                for question in &state.questions {
                    if ui.button(question).clicked() {
                        draft.prompt = question.clone();
                        actions.push(Action::Ask(question.clone(), draft.max_new));
                        ui.close();
                    }
                }
            });
        }
    });
    ui.horizontal(|ui| {
        let ready = state.model.is_some() && state.image.is_some();
        let width = ui.available_width() - 60.0;
        let edit = TextEdit::singleline(&mut draft.prompt)
            .id_salt("prompt")
            .hint_text("ask about the image")
            .desired_width(width);
        let edit = ui.add(edit);
        draft.place("question", edit.rect);
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        let ask = ui.add_enabled(ready, egui::Button::new("Ask").min_size(vec2(44.0, 0.0)));
        draft.place("ask", ask.rect);
        if ready && (entered || ask.clicked()) {
            actions.push(Action::Ask(draft.prompt.clone(), draft.max_new));
        }
    });
    let Some(view) = state.runs.baseline.view() else { return };
    if !view.unknown_words.is_empty() {
        let words = view.unknown_words.join(", ");
        let text = format!("Not in this model's vocabulary, so it cannot read them: {words}");
        ui.add(egui::Label::new(RichText::new(text).color(theme::stale_color(ui.visuals()))).wrap());
    }
    let mut counts = [0usize; 7];
    view.prompt.iter().for_each(|token| counts[token.span.index()] += 1);
    spans(ui, &counts);
}

/// One small block a span that the prompt has, with its number of positions.
fn spans(ui: &mut Ui, counts: &[usize; 7]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        ui.label(RichText::new(format!("{} positions:", counts.iter().sum::<usize>())).small());
        for span in Span::ALL {
            let n = counts[span.index()];
            if n > 0 {
                swatch(ui, theme::span_color(span));
                let text = RichText::new(format!("{} {n}", span.name())).small();
                ui.label(text).on_hover_text(meaning(span));
                ui.add_space(4.0);
            }
        }
    });
}

fn swatch(ui: &mut Ui, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(vec2(9.0, 9.0), Sense::hover());
    ui.painter().rect_filled(rect, 2.0, color);
}

/// What a span is, in a sentence.
pub fn meaning(span: Span) -> &'static str {
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
