//! The palette: a search box over the list of commands. Enter runs the chosen one, Escape closes.
//!
//! Keeps what is being searched for; knows commands by their words.

use egui::{Align2, Context, Key, Modifiers, RichText, ScrollArea, Sides, TextEdit, Ui, Window};

use crate::ui::{
    frame::Frame,
    store::command::{Command, Listed, listed},
};

/// The palette.
#[derive(Debug, Default)]
pub struct Palette {
    open: bool,
    text: String,
    /// Which of the commands found is chosen.
    at: usize,
}

impl Palette {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens it empty, or closes it.
    pub fn toggle(&mut self) {
        *self = Palette { open: !self.open, ..Default::default() };
    }

    /// Closes it.
    pub fn close(&mut self) {
        *self = Palette::default();
    }

    /// Draws it while it is open.
    pub fn show(&mut self, ctx: &Context, frame: &mut Frame) {
        if !self.open {
            return;
        }
        // Taken before the search box can have them.
        let count = |key| ctx.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
        let (up, down) = (count(Key::ArrowUp), count(Key::ArrowDown));
        let entered = count(Key::Enter) > 0;
        let window = Window::new("Commands").title_bar(false).collapsible(false).resizable(false);
        window.anchor(Align2::CENTER_TOP, [0.0, 90.0]).fixed_size([420.0, 380.0]).show(ctx, |ui| {
            let edit = TextEdit::singleline(&mut self.text)
                .id_salt("palette")
                .hint_text("search commands")
                .desired_width(f32::INFINITY);
            let edit = ui.add(edit).accessible_name("search commands");
            edit.request_focus();
            if edit.changed() {
                self.at = 0;
            }
            let found = found(&self.text);
            self.at = (self.at + down).saturating_sub(up).min(found.len().saturating_sub(1));
            let clicked = list(ui, &found, self.at, up + down > 0);
            let chosen = found.get(self.at).filter(|_| entered).map(|listed| listed.command.clone());
            if let Some(command) = clicked.or(chosen) {
                self.close();
                frame.ask(command);
            }
        });
    }
}

/// The commands found. Returns the one that was clicked.
fn list(ui: &mut Ui, found: &[&Listed], at: usize, moved: bool) -> Option<Command> {
    let mut clicked = None;
    ScrollArea::vertical().auto_shrink([false, true]).show(ui, |ui| {
        for (i, listed) in found.iter().enumerate() {
            let keys = RichText::new(listed.keys()).small().weak();
            let label = |ui: &mut Ui| ui.selectable_label(i == at, listed.text);
            let (label, _) = Sides::new().show(ui, label, |ui| ui.label(keys));
            if i == at && moved {
                label.scroll_to_me(None);
            }
            if label.on_hover_text(listed.tooltip).clicked() {
                clicked = Some(listed.command.clone());
            }
        }
        if found.is_empty() {
            ui.label(RichText::new("no command has these words").weak());
        }
    });
    clicked
}

/// Commands that have every word of `text` in their name or tooltip; those with them in the name first.
fn found(text: &str) -> Vec<&'static Listed> {
    let text = text.to_lowercase();
    let has = |within: &str| {
        let within = within.to_lowercase();
        text.split_whitespace().all(|word| within.contains(word))
    };
    let all = listed().iter().filter(|listed| listed.command != Command::OpenPalette);
    let (mut by_name, others): (Vec<_>, Vec<_>) = all.partition(|listed| has(listed.text));
    by_name.extend(others.into_iter().filter(|l| has(&format!("{} {}", l.text, l.tooltip))));
    by_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_before_tooltips() {
        assert_eq!(found("layout")[0].command, Command::ResetLayout);
        assert_eq!(found("LAYER up")[0].command, Command::LayerUp);
        assert!(found("whole answer").iter().any(|l| l.command == Command::Unpin));
        assert!(found("no such thing").is_empty());
        assert_eq!(found("").len(), listed().len() - 1);
    }
}
