//! The list of cuts and ablations, line by line: in force or not, its text, which one the layer strip moves.
//!
//! Keeps what is being typed; knows the list. What a line did is told elsewhere.

use egui::{Id, Label, RadioButton, Response, RichText, Ui};

use crate::ui::{
    frame::Frame,
    store::{
        command::Command,
        cut_list::{Change, CutItem, CutSettings},
        store::Store,
    },
    theme,
    widgets::{
        cut_field::{CutField, CutFieldLook},
        icons::{bin, eye},
    },
};

/// Room behind a line's text: for the bin, and for the mark of what follows the brush.
const BIN: f32 = 38.0;
const MARK: f32 = 56.0;

/// The texts of all lines.
#[derive(Default)]
pub struct Lines {
    fields: Vec<CutField>,
    /// What they are the texts of.
    of: Vec<CutItem>,
}

impl Lines {
    /// Draws them.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        self.follow(&store.cut.items);
        for (line, item) in store.cut.items.iter().enumerate() {
            if let Some(field) = self.fields.get_mut(line) {
                show_line(ui, store, (line, item), field, frame);
            }
        }
    }

    /// Takes over what changed elsewhere. What is being typed stays with its line, wherever that stands now.
    fn follow(&mut self, items: &[CutItem]) {
        if self.of == items && self.fields.len() == items.len() {
            return;
        }
        let mut held: Vec<Option<CutField>> =
            std::mem::take(&mut self.fields).into_iter().map(Some).collect();
        let texts: Vec<String> = items.iter().map(|item| item.change.to_string()).collect();
        let mut found = Vec::with_capacity(texts.len());
        for text in &texts {
            let of_text = |field: &Option<CutField>| field.as_ref().is_some_and(|f| f.applied() == text);
            let at = held.iter().position(of_text);
            found.push(at.and_then(|at| held.get_mut(at)).and_then(Option::take));
        }
        // One whose text changed where it stands.
        let same_length = held.len() == texts.len();
        let mut left = held.into_iter();
        for (place, text) in found.iter_mut().zip(&texts) {
            let own = left.next().flatten().filter(|_| same_length);
            if place.is_none() {
                let mut field = own.unwrap_or_else(|| CutField::of(text));
                field.follow(text);
                *place = Some(field);
            }
        }
        self.fields = found.into_iter().flatten().collect();
        self.of = items.to_vec();
    }
}

fn show_line(
    ui: &mut Ui,
    store: &Store,
    (line, item): (usize, &CutItem),
    field: &mut CutField,
    frame: &mut Frame,
) {
    let text = field.applied().to_string();
    let row = ui.horizontal(|ui| {
        marks(ui, store, (line, item), &text, frame);
        let behind = BIN + if item.painted.is_some() { MARK } else { 0.0 };
        let look = CutFieldLook {
            id: field_id(ui, line),
            hint: "QUERY -> KEY @ LAYERS, or SET = mean",
            width: (ui.available_width() - behind).max(60.0),
            color: (!item.on).then(|| ui.visuals().weak_text_color()),
        };
        let (edit, change) = field.show(ui, look, &format!("cut {line}"));
        frame.place(format!("cut text[{line}]"), edit.rect);
        if let Some(change) = change {
            frame.ask(Command::Cut(changed(&store.cut, line, change)));
        }
        if let Some(painted) = &item.painted {
            let mark = RichText::new("painted").small().color(theme::cut_color(ui.visuals()));
            ui.label(mark)
                .on_hover_text(format!("It follows the brush: {} patches are painted", painted.len()));
        }
        if bin(ui, &format!("take off: {text}")).on_hover_text("Takes this line off the list").clicked() {
            frame.ask(Command::RemoveCut(line));
        }
    });
    frame.place(format!("cut[{line}]"), row.response.rect);
    field.state(ui);
    if let Some(error) = store.line_error(line).filter(|_| !field.is_pending()) {
        let error = RichText::new(error).small().color(theme::cut_color(ui.visuals()));
        ui.add(Label::new(error).wrap());
    }
}

fn field_id(ui: &Ui, line: usize) -> Id {
    ui.make_persistent_id(("cut line", line))
}

/// Whether it is in force, and whether it is the one that the layer strip and the editor below change.
fn marks(ui: &mut Ui, store: &Store, (line, item): (usize, &CutItem), text: &str, frame: &mut Frame) {
    let eye = eye(ui, item.on, &format!("in force: {text}"));
    frame.place(format!("cut in force[{line}]"), eye.rect);
    if eye.on_hover_text("Puts this line out of force, or back in force").clicked() {
        frame.ask(Command::SwitchCut(line));
    }
    let active = store.cut.active == line;
    let tooltip = match item.change {
        Change::Knockout(_) => "The layer strip moves this line, and its parts stand below",
        Change::Ablation(_) => "The parts of this line stand below",
    };
    let radio: Response = ui.add(RadioButton::new(active, ""));
    let radio = radio.accessible_name(format!("active: {text}")).on_hover_text(tooltip);
    if radio.clicked() && !active {
        frame.ask(Command::ActivateCut(line));
    }
}

/// The list with another change in one line, which is in force and the active one. It follows the brush no more where
/// other patches than the painted ones are meant now, or something else is done to them.
pub fn changed(cut: &CutSettings, line: usize, change: Change) -> CutSettings {
    let mut cut = cut.clone();
    if let Some(item) = cut.items.get_mut(line) {
        let follows = match (&item.change, &change) {
            (Change::Knockout(old), Change::Knockout(new)) => {
                (&old.query, &old.key, &old.heads) == (&new.query, &new.key, &new.heads)
            }
            (old, new) => old == new,
        };
        let painted = item.painted.take().filter(|_| follows);
        *item = CutItem { on: true, change, painted };
        cut.active = line;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(texts: &[&str]) -> CutSettings {
        let mut cut = CutSettings::default();
        texts.iter().for_each(|text| cut.add(Change::parse(text).unwrap()));
        cut
    }

    fn texts(lines: &Lines) -> Vec<&str> {
        lines.fields.iter().map(CutField::applied).collect()
    }

    #[test]
    fn texts_stay_with_their_lines() {
        let mut lines = Lines::default();
        let mut list = cut(&["answer -> visual @ 1", "last -> visual @ 2", "sink = mean"]);
        lines.follow(&list.items);
        assert_eq!(texts(&lines), ["answer -> visual @ 1", "last -> visual @ 2", "sink = mean"]);
        list.remove(0);
        lines.follow(&list.items);
        assert_eq!(texts(&lines), ["last -> visual @ 2", "sink = mean"]);
        list.active = 0;
        list.cut_layers((3, 4));
        lines.follow(&list.items);
        assert_eq!(texts(&lines), ["last -> visual @ 3-4", "sink = mean"]);
        assert!(lines.fields.iter().all(|field| !field.is_pending()));
    }

    #[test]
    fn a_line_follows_the_brush_while_it_means_the_painted_patches() {
        let mut list = cut(&[]);
        list.role = crate::ui::store::cut_list::PaintRole::Key;
        list.paint(&[3, 4], true);
        let other_layers = Change::parse("all - visual[3-4] -> visual[3-4] @ 2").unwrap();
        let moved = changed(&list, 0, other_layers);
        assert!(moved.painted().is_some() && moved.items[0].on);
        let other_key = Change::parse("all - visual[3-4] -> visual @ 2").unwrap();
        assert!(changed(&moved, 0, other_key).painted().is_none());
        assert_eq!(changed(&moved, 9, Change::parse("sink = zero").unwrap()).items, moved.items);
    }
}
