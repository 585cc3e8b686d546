//! What people choose in the lens: which rows are read, which word is followed, what is drawn of them.
//!
//! Knows choices; nothing of runs or of what was read.

use egui::{Key, RichText, TextEdit, Ui};

use crate::ui::{
    theme,
    view::{lens::lines::Measure, lens::places::Rows, lens::table::Shows},
};

/// See the module.
#[derive(Debug, Default)]
pub struct Choices {
    /// Which rows are read.
    pub rows: Rows,
    /// What stands in the cells.
    pub shows: Shows,
    /// How high lines are.
    pub measure: Measure,
    /// Whether the word is shown over the image rather than row by row.
    pub map: bool,
    /// The word that is followed.
    pub word: Option<String>,
    /// What stands in its box.
    text: String,
}

impl Choices {
    /// Draws them. Returns whether another word is to be followed, or none any more.
    pub fn show(&mut self, ui: &mut Ui) -> bool {
        for rows in Rows::ALL {
            let choice = ui.selectable_label(self.rows == rows, RichText::new(rows.name()).small());
            let choice = choice.accessible_name(format!("rows: {}", rows.name()));
            if choice.on_hover_text(rows.tooltip()).clicked() {
                self.rows = rows;
                ui.ctx().request_repaint();
            }
        }
        ui.separator();
        let entered = self.typed(ui);
        if self.word.is_some() {
            for shows in Shows::ALL {
                ui.selectable_value(&mut self.shows, shows, RichText::new(shows.name()).small())
                    .accessible_name(format!("cells: {}", shows.name()))
                    .on_hover_text("What stands in the cells, and colours them");
            }
            ui.separator();
            for (map, name, tooltip) in [
                (false, "table", "Row by row and layer by layer"),
                (true, "over the image", "The word's probability at every patch, in the layer on show"),
            ] {
                let choice = ui.selectable_value(&mut self.map, map, RichText::new(name).small());
                if choice.on_hover_text(tooltip).changed() {
                    ui.ctx().request_repaint();
                }
            }
        }
        entered
    }

    /// Which height lines have.
    pub fn measures(&mut self, ui: &mut Ui) {
        for measure in Measure::ALL {
            ui.selectable_value(&mut self.measure, measure, RichText::new(measure.name()).small())
                .accessible_name(format!("lines: {}", measure.name()))
                .on_hover_text("Height of the lines; a rank counts the tokens that are likelier");
        }
    }

    /// The box of the word: Enter follows it, Escape takes back what was typed.
    fn typed(&mut self, ui: &mut Ui) -> bool {
        let edit = TextEdit::singleline(&mut self.text)
            .id_salt("lens word")
            .hint_text("follow a word…")
            .desired_width(110.0);
        let edit = ui.add(edit).accessible_name("lens word").on_hover_text(
            "Its probability and rank at every row and layer, in the table and over the image. Of a word of several \
             tokens the first is followed. Enter follows it; an empty box follows none.",
        );
        let applied = self.word.as_deref().unwrap_or_default();
        if edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Escape)) {
            self.text = applied.to_string();
            return false;
        }
        let changed = self.text.trim() != applied;
        if edit.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter)) && changed {
            self.follow();
            return true;
        }
        if changed {
            let hint = RichText::new("Enter follows it").small().color(theme::stale_color(ui.visuals()));
            ui.label(hint);
        }
        false
    }

    fn follow(&mut self) {
        let word = self.text.trim();
        self.word = (!word.is_empty()).then(|| word.to_string());
        match self.word {
            Some(_) if self.shows == Shows::Top => self.shows = Shows::Probability,
            Some(_) => {}
            None => (self.shows, self.map) = (Shows::Top, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_once_it_is_followed_and_no_longer_than_that() {
        let mut choices = Choices { text: " duck ".to_string(), ..Choices::default() };
        choices.follow();
        assert_eq!((choices.word.as_deref(), choices.shows), (Some("duck"), Shows::Probability));
        (choices.map, choices.shows) = (true, Shows::Rank);
        choices.text = "bus".to_string();
        choices.follow();
        assert_eq!((choices.word.as_deref(), choices.shows, choices.map), (Some("bus"), Shows::Rank, true));
        choices.text.clear();
        choices.follow();
        assert_eq!((choices.word, choices.shows, choices.map), (None, Shows::Top, false));
    }
}
