//! The conversation around a question: what was said before it, folded to a button that opens; system text and the
//! beginning of the answer, in a menu beside the box.
//!
//! Keeps nothing: what is set up is the store's.

use egui::{
    Button, Label, PopupCloseBehavior, RichText, ScrollArea, TextEdit, Ui,
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

/// Width and height of what was said, once it is open.
const OPEN: (f32, f32) = (360.0, 240.0);

/// What was said before the question, folded; nothing where it is the first.
pub fn earlier(ui: &mut Ui, store: &Store) {
    let turns = &store.talk.earlier;
    if turns.is_empty() {
        return;
    }
    let button = Button::new(RichText::new(folded(turns)).small()).small();
    // Texts are marked in it: a click within does not close it.
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let (button, _) = MenuButton::from_button(button).config(config).ui(ui, |ui| {
        ui.set_width(OPEN.0);
        ScrollArea::vertical().max_height(OPEN.1).show(ui, |ui| {
            for turn in turns {
                ui.add(Label::new(RichText::new(said(turn)).small()).wrap());
            }
        });
    });
    button.on_hover_text("What was said before this question");
}

/// How many questions were answered before, in words.
fn folded(turns: &[Turn]) -> String {
    match questions(turns) {
        1 => "1 earlier turn".to_string(),
        n => format!("{n} earlier turns"),
    }
}

/// How many of the messages ask.
fn questions(turns: &[Turn]) -> usize {
    turns.iter().filter(|turn| turn.role == Role::User).count()
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

/// The menu. Returns whether the answer on show becomes part of the conversation: then the box is to be emptied.
pub fn menu(ui: &mut Ui, store: &Store, frame: &mut Frame) -> bool {
    let mut talk = store.talk.clone();
    let mut further = false;
    let config = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
    let text = RichText::new(told(&talk)).small();
    let (button, _) = MenuButton::new(text).config(config).ui(ui, |ui| {
        field(ui, &mut talk.system, "system text", "Instructions before the whole conversation, as the model's template places them; another text begins it anew");
        field(ui, &mut talk.prefix, "the answer begins with", "The model goes on from this text; its tokens are given, not said");
        let on = ui.add_enabled(store.answered().is_some(), Button::new("Ask after this answer"));
        let on = on.on_hover_text("Keeps the answer on show as what was said, and empties the box: the next question follows it, in one conversation, and what was said before is not run again. Shift+Enter in the box asks what stands there so at once");
        if on.clicked() {
            further = true;
            ui.close();
        }
        let begun = !talk.earlier.is_empty();
        let over = ui.add_enabled(begun, Button::new("Start over"));
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
    if further {
        frame.ask(Command::FollowUp);
    }
    further
}

/// The conversation, in short.
pub fn told(talk: &Talk) -> String {
    let asked = questions(&talk.earlier);
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
        assert_eq!(folded(&talk.earlier), "1 earlier turn");
        let more = [&talk.earlier[..], &talk.earlier].concat();
        assert_eq!(folded(&more), "2 earlier turns");
    }
}
