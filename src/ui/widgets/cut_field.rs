//! A knockout or an ablation as text, edited in place: what is typed counts once Enter applies it.
//!
//! Keeps the text, what it was taken from and what is wrong with it. Knows the grammar; nothing of lists or runs.

use egui::{
    Color32, CompletionPopup, CompletionQuery, Id, Key, Label, RectAlign, Response, RichText, Suggestion,
    TextEdit, TextStyle, Ui,
};

use crate::ui::{store::cut_list::Change, theme};

/// What a text that is not applied says of itself.
const PENDING: &str = "not applied: in the box, Enter applies and Esc takes it back";

const GRAMMAR: &str = "QUERY -> KEY @ LAYERS [# HEADS] cuts attention; SET = mean overwrites visual tokens.\n\
     Sets: bos, system, markers, visual, question, last, answer, decode, all, pos[3-5], joined by + or -;\n\
     patches: visual[3:4] (row:column), object, lastrow, sink, register, random[0-9], and ~1 for one ring more.\n\
     Fills: mean, zero, noise, mean:FOLDER, image:FILE. Tab completes a word, Enter applies, Esc takes back.";

/// The words of the grammar, and what they mean.
const WORDS: [(&str, &str); 20] = [
    ("visual", "image patches"),
    ("question", "the user's text of all turns"),
    ("answer", "words of the answer; as rows, those that predict them"),
    ("last", "the last prompt position"),
    ("decode", "rows of the answer without the last prompt position"),
    ("system", "template text, system text, earlier answers"),
    ("markers", "tokens around tiles and images"),
    ("bos", "the first token"),
    ("all", "every position, layer or head"),
    ("pos", "positions by number: pos[3-5]"),
    ("whole", "the view of the whole image"),
    ("lastrow", "the last row of the image"),
    ("object", "what the object's mask covers"),
    ("register", "unusually long embeddings"),
    ("sink", "patches that every word looks at"),
    ("gradient", "patches by gradient, highest first"),
    ("random", "patches in random order: random[0-9]"),
    ("mean", "fill: the mean visual embedding"),
    ("zero", "fill: zeros"),
    ("noise", "fill: noise as spread as the visual embeddings"),
];

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct CutField {
    /// What stands in the box.
    text: String,
    /// What was applied.
    applied: String,
    /// What is wrong with the text, once Enter was pressed on it.
    problem: Option<String>,
}

/// How a field looks.
#[derive(Clone, Copy, Debug)]
pub struct CutFieldLook {
    /// Names it, and keeps its cursor.
    pub id: Id,
    /// What stands in it while it is empty.
    pub hint: &'static str,
    /// Its width.
    pub width: f32,
    /// Colour of its text, where that is not the usual one.
    pub color: Option<Color32>,
}

impl CutField {
    /// A field with a text that is applied.
    pub fn of(text: &str) -> Self {
        CutField { text: text.to_string(), applied: text.to_string(), problem: None }
    }

    /// What was applied.
    pub fn applied(&self) -> &str {
        &self.applied
    }

    /// Whether what stands in the box is not what was applied.
    pub fn is_pending(&self) -> bool {
        self.text.trim() != self.applied.trim()
    }

    /// What is applied became another text elsewhere; what is being typed is kept.
    pub fn follow(&mut self, applied: &str) {
        if !self.is_pending() {
            self.text = applied.to_string();
        }
        self.applied = applied.to_string();
    }

    /// Draws it. `name` is for screen readers. Returns what Enter applied, if it can be read.
    pub fn show(&mut self, ui: &mut Ui, look: CutFieldLook, name: &str) -> (Response, Option<Change>) {
        let before = self.text.clone();
        let edit = TextEdit::singleline(&mut self.text)
            .font(TextStyle::Monospace)
            .hint_text(look.hint)
            .text_color_opt(look.color)
            .desired_width(look.width);
        // Enter applies whatever stands there: only Tab takes a suggestion.
        let shown = CompletionPopup::new(look.id)
            .accept_keys([Key::Tab])
            .align(RectAlign::BOTTOM_START)
            .word_boundary(|c| !c.is_alphabetic())
            .show(ui, edit, suggestions);
        let response = shown.text_edit.response.response.clone();
        let response = response.accessible_name(name).on_hover_text(GRAMMAR);
        if self.text != before {
            self.problem = None;
        }
        let left_by = |key: Key| response.lost_focus() && ui.input(|i| i.key_pressed(key));
        if left_by(Key::Escape) {
            self.text.clone_from(&self.applied);
            self.problem = None;
            ui.ctx().request_repaint();
        }
        let change = if left_by(Key::Enter) && self.is_pending() { self.apply() } else { None };
        if self.problem.is_some() && left_by(Key::Enter) {
            // Typing goes on.
            response.request_focus();
        }
        (response, change)
    }

    /// Reads the text; where it can be read it is the applied one.
    fn apply(&mut self) -> Option<Change> {
        match Change::parse(self.text.trim()) {
            Ok(change) => {
                *self = CutField::of(&change.to_string());
                Some(change)
            }
            Err(problem) => {
                self.problem = Some(problem);
                None
            }
        }
    }

    /// Says below it whether its text counts, and why not.
    pub fn state(&self, ui: &mut Ui) {
        let visuals = ui.visuals();
        let (text, color) = match &self.problem {
            Some(problem) => (problem.as_str(), theme::cut_color(visuals)),
            None if self.is_pending() => (PENDING, theme::stale_color(visuals)),
            None => return,
        };
        ui.add(Label::new(RichText::new(text).small().color(color)).wrap());
    }
}

/// Words that go on as the one at the cursor begins; none within a path.
fn suggestions(query: &CompletionQuery<'_>) -> Vec<Suggestion> {
    let in_path = query.text.rsplit_once('=').is_some_and(|(_, fill)| fill.contains(':'));
    let begun = query.word.to_lowercase();
    if begun.is_empty() || in_path {
        return Vec::new();
    }
    let goes_on = |word: &&(&str, &str)| word.0.starts_with(&begun) && word.0 != begun;
    let suggestion = |(word, meaning): &(&str, &str)| Suggestion::new(*word).description(*meaning);
    WORDS.iter().filter(goes_on).map(suggestion).collect()
}

#[cfg(test)]
mod tests {
    use egui::text::CharIndex;

    use super::*;
    use crate::spec::{ablation::Ablation, parse::parse_set, sets::Name};

    fn suggested(text: &str, word: &str) -> Vec<String> {
        let query = CompletionQuery { text, word, word_range: CharIndex(0)..CharIndex(0) };
        suggestions(&query).into_iter().map(|suggestion| suggestion.insert).collect()
    }

    #[test]
    fn every_word_is_of_the_grammar_and_none_is_missing() {
        let (fills, sets): (Vec<_>, Vec<_>) =
            WORDS.iter().map(|(word, _)| *word).partition(|word| ["mean", "zero", "noise"].contains(word));
        for word in &sets {
            let text = if *word == "pos" { "pos[3]" } else { *word };
            parse_set(text).unwrap();
        }
        assert_eq!(sets.len(), Name::WORDS.split(',').count());
        assert!(fills.iter().all(|fill| format!("visual = {fill}").parse::<Ablation>().is_ok()));
    }

    #[test]
    fn words_are_completed_but_not_what_is_whole_or_a_path() {
        assert_eq!(suggested("an", "an"), ["answer"]);
        assert_eq!(suggested("answer -> Re", "Re"), ["register"]);
        assert!(suggested("answer", "answer").is_empty() && suggested("", "").is_empty());
        assert!(suggested("object = image:/tmp/al", "al").is_empty());
        assert_eq!(suggested("visual[3:4] = m", "m"), ["markers", "mean"]);
    }

    #[test]
    fn what_is_typed_outlives_a_change_from_elsewhere() {
        let mut field = CutField::of("answer -> visual @ 2-5");
        field.follow("answer -> visual @ 2-6");
        assert!(!field.is_pending());
        field.text.push_str(" # 9x");
        field.follow("answer -> visual @ 2-7");
        assert!(field.is_pending() && field.text.ends_with("# 9x"));
        assert!(field.apply().is_none() && field.problem.is_some(), "it cannot be read, and is kept");
        field.text = "last->visual@1".to_string();
        assert_eq!(field.apply().unwrap().to_string(), "last -> visual @ 1");
        assert!(!field.is_pending());
    }
}
