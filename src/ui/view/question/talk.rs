//! The conversation around a question: what was said before it, above the box; system text and the beginning of the
//! answer, in a menu beside it.
//!
//! Keeps nothing: what is set up is the store's.

use egui::{
    Label, PopupCloseBehavior, RichText, TextEdit, Ui,
    containers::menu::{MenuButton, MenuConfig},
};

use crate::{
    spec::turn::{Role, Turn},
    ui::{
        frame::Frame,
        store::{command::Command, store::Store, talk::Talk},
    },
};

/// Width of the fields in the menu.
const FIELD: f32 = 220.0;

/// What was said before the question, a line a message; nothing where it is the first.
pub fn earlier(ui: &mut Ui, store: &Store) {
    for turn in &store.talk.earlier {
        let text = said(turn);
        let label = Label::new(RichText::new(&text).small().weak()).truncate();
        ui.add(label).on_hover_text(text);
    }
}

/// A message, and whose it is.
fn said(turn: &Turn) -> String {
    let who = match turn.role {
        Role::System => "System",
        Role::User => "You",
        Role::Assistant => "Model",
    };
    format!("{who}: {}", turn.text().trim().replace('\n', " "))
}

/// The menu. `question`: what stands in the box.
pub fn menu(ui: &mut Ui, store: &Store, frame: &mut Frame, question: &str) {
    let mut talk = store.talk.clone();
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let text = RichText::new(told(&talk)).small();
    let (button, _) = MenuButton::new(text).config(config).ui(ui, |ui| {
        field(ui, &mut talk.system, "system text", "Instructions before the conversation, as the model's template places them");
        field(ui, &mut talk.prefix, "the answer begins with", "The model goes on from this text; its tokens are given, not said");
        let ready = !question.trim().is_empty() && store.answered().is_some();
        let on = ui.add_enabled(ready, egui::Button::new("Ask after this answer"));
        let on = on.on_hover_text("Shift+Enter in the box: the question follows the answer on show, in one conversation; what was said before is not run again");
        if on.clicked() {
            frame.ask(Command::GoOn(question.to_string()));
            ui.close();
        }
        let begun = !talk.earlier.is_empty();
        let over = ui.add_enabled(begun, egui::Button::new("Start over"));
        if over.on_hover_text("Forgets what was said: the next question is the first about the image").clicked() {
            talk.earlier.clear();
            ui.close();
        }
    });
    button
        .accessible_name("the conversation around the question")
        .on_hover_text("System text, what the answer begins with, and further questions after an answer");
    if talk != store.talk {
        frame.ask(Command::Talk(talk));
    }
}

/// The conversation, in short.
fn told(talk: &Talk) -> String {
    let asked = talk.earlier.iter().filter(|turn| turn.role == Role::User).count();
    let mut told = if asked == 0 { "Chat".to_string() } else { format!("Chat {}", asked + 1) };
    for (text, what) in [(&talk.system, "system"), (&talk.prefix, "begun")] {
        if !text.trim().is_empty() {
            told += &format!(" · {what}");
        }
    }
    told
}

/// A line of text under its name.
fn field(ui: &mut Ui, text: &mut String, name: &str, tooltip: &str) {
    ui.label(RichText::new(name).small());
    let edit = TextEdit::singleline(text).desired_width(FIELD);
    ui.add(edit).accessible_name(name).on_hover_text(tooltip);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_told_in_short() {
        assert_eq!(told(&Talk::default()), "Chat");
        let mut talk = Talk::after(&[Turn::ask(1, "what ?")], " a dog");
        talk.prefix = "It is".to_string();
        assert_eq!(told(&talk), "Chat 2 · begun");
        assert_eq!(talk.earlier.iter().map(said).collect::<Vec<_>>(), ["You: what ?", "Model: a dog"]);
    }
}
