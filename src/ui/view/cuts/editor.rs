//! The parts of the active line: its sets as chips, layers, heads, and what ablated tokens become.
//!
//! Keeps what is being typed; knows the list and the spans of the prompt on show.

use egui::{Button, DragValue, Key, Label, RichText, TextEdit, TextStyle, Ui};

use crate::{
    spec::{
        ablation::{Ablation, Fill},
        knockout::Knockout,
        parse::parse_numbers,
        sets::{Name, Numbers, PatchSet, Range},
        span::Span,
    },
    ui::{
        frame::Frame,
        store::{command::Command, cut_list::Change, store::Store},
        theme,
        typed_path::typed_path,
        view::cuts::line::changed,
        widgets::span_pick::SpanPick,
    },
};

/// Names that stand as chips, where the prompt has something of them.
const CHIPS: [Name; 9] = [
    Name::Span(Span::Visual),
    Name::Span(Span::Question),
    Name::Span(Span::Last),
    Name::Span(Span::Answer),
    Name::Decode,
    Name::Span(Span::System),
    Name::Span(Span::Markers),
    Name::Span(Span::Bos),
    Name::All,
];

/// Most heads that have a chip each.
const HEAD_CHIPS: usize = 16;

/// See the module.
#[derive(Default)]
pub struct CutEditor {
    /// Heads being typed, and what they were taken from.
    heads: Option<(String, String)>,
    /// What is wrong with them.
    problem: Option<String>,
    /// The folder or file of a fill, and the fill that it was taken from.
    path: String,
    fill: Option<Fill>,
}

impl CutEditor {
    /// Draws the parts of the active line, if there is one.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let line = store.cut.active;
        let Some(item) = store.cut.items.get(line) else { return };
        let change = match &item.change {
            Change::Knockout(knockout) => self.knockout(ui, store, knockout).map(Change::Knockout),
            Change::Ablation(ablation) => self.ablation(ui, store, ablation).map(Change::Ablation),
        };
        if let Some(change) = change.filter(|change| *change != item.change) {
            frame.ask(Command::Cut(changed(&store.cut, line, change)));
        }
    }

    fn knockout(&mut self, ui: &mut Ui, store: &Store, knockout: &Knockout) -> Option<Knockout> {
        let offered = offered(store);
        let patches = PatchSet::ALL.map(Name::Patches);
        let mut new = knockout.clone();
        for (name, words, tooltip, set) in [
            ("query", "rows of", "These positions lose sight", &mut new.query),
            ("key", "cannot see", "Of these positions", &mut new.key),
        ] {
            ui.horizontal_wrapped(|ui| {
                caption(ui, words, tooltip);
                let pick = SpanPick { name, set: &*set, offered: &offered, more: &patches };
                let picked = pick.show(ui);
                if let Some(picked) = picked {
                    *set = picked;
                }
            });
        }
        ui.horizontal_wrapped(|ui| {
            if let Some(layers) = layers(ui, store.n_layers(), &knockout.layers) {
                new.layers = layers;
            }
            ui.add_space(10.0);
            if let Some(heads) = self.heads(ui, store.n_heads(), &knockout.heads) {
                new.heads = heads;
            }
        });
        if let Some(problem) = &self.problem {
            let problem = RichText::new(problem).small().color(theme::cut_color(ui.visuals()));
            ui.add(Label::new(problem).wrap());
        }
        (new != *knockout).then_some(new)
    }

    fn heads(&mut self, ui: &mut Ui, n_heads: usize, heads: &Numbers) -> Option<Numbers> {
        caption(ui, "heads", "Query heads in which it is cut");
        if n_heads > HEAD_CHIPS {
            return self.typed_heads(ui, n_heads, heads);
        }
        let members: Vec<bool> = (0..n_heads).map(|head| heads.contains(head)).collect();
        let mut chosen = None;
        for (head, &member) in members.iter().enumerate() {
            let chip = ui.selectable_label(member, RichText::new(head.to_string()).small());
            let chip = chip.accessible_name(format!("cut head {head}"));
            if chip.on_hover_text("A click cuts this head, or lets it be; one at least is cut").clicked() {
                let flipped = members.iter().enumerate().map(|(at, member)| *member != (at == head));
                chosen = numbers(&flipped.collect::<Vec<bool>>());
            }
        }
        chosen
    }

    /// Heads as text, where there are too many for chips.
    fn typed_heads(&mut self, ui: &mut Ui, n_heads: usize, heads: &Numbers) -> Option<Numbers> {
        let now = heads.to_string();
        if self.heads.as_ref().is_none_or(|(_, from)| *from != now) {
            (self.heads, self.problem) = (Some((now.clone(), now.clone())), None);
        }
        let (text, _) = self.heads.as_mut()?;
        let edit = TextEdit::singleline(&mut *text).font(TextStyle::Monospace).desired_width(90.0);
        let edit = ui.add(edit).accessible_name("cut heads").on_hover_text(format!(
            "0,2-4, !3 for all but one, or all: of 0 to {}. Enter applies, Esc takes back",
            n_heads - 1
        ));
        let left_by = |key: Key| edit.lost_focus() && ui.input(|i| i.key_pressed(key));
        if left_by(Key::Escape) {
            (*text, self.problem) = (now, None);
        } else if left_by(Key::Enter) && *text != now {
            let sound = parse_numbers(&text.to_lowercase()).and_then(|numbers| {
                numbers.resolve("head", n_heads).map(|_| numbers).map_err(|error| error.to_string())
            });
            match sound {
                Ok(numbers) => return Some(numbers),
                Err(problem) => self.problem = Some(format!("heads: {problem}")),
            }
        }
        None
    }

    fn ablation(&mut self, ui: &mut Ui, store: &Store, ablation: &Ablation) -> Option<Ablation> {
        let offered =
            [Name::Span(Span::Visual), Name::Patches(PatchSet::Object), Name::Patches(PatchSet::Sink)];
        let patches = PatchSet::ALL.map(Name::Patches);
        let mut new = ablation.clone();
        ui.horizontal_wrapped(|ui| {
            caption(ui, "patches", "Visual tokens that are overwritten before the first layer");
            let pick = SpanPick { name: "ablated", set: &ablation.tokens, offered: &offered, more: &patches };
            if let Some(picked) = pick.show(ui) {
                new.tokens = picked;
            }
        });
        ui.horizontal_wrapped(|ui| {
            caption(ui, "become", "What stands in their place");
            if let Some(fill) = self.fill(ui, &ablation.fill) {
                new.fill = fill;
            }
        });
        // Offered where the model has such features; what is written stays open to be taken back.
        if ablation.deepstack || store.model_info().is_some_and(|model| model.deepstack > 0) {
            let tooltip = "This model adds further features of the image at its tokens after its first layers. An \
                           ablation leaves them; ticked, they are removed from these tokens too";
            ui.checkbox(&mut new.deepstack, RichText::new("deepstack features too").small())
                .on_hover_text(tooltip);
        }
        (new != *ablation).then_some(new)
    }

    fn fill(&mut self, ui: &mut Ui, fill: &Fill) -> Option<Fill> {
        if self.fill.as_ref() != Some(fill) {
            if let Fill::MeanOf(path) | Fill::Image(path) = fill {
                self.path = path.display().to_string();
            }
            self.fill = Some(fill.clone());
        }
        let mut chosen = None;
        for (choice, name, tooltip) in [
            (Fill::Mean, "mean", "The mean visual embedding of this prompt"),
            (Fill::Zero, "zero", "Zeros"),
            (
                Fill::Noise,
                "noise",
                "Gaussian noise with the mean and the standard deviation of this prompt's visual embeddings in every \
                 dimension, drawn by the seed",
            ),
        ] {
            let label = ui.selectable_label(*fill == choice, RichText::new(name).small());
            if label.accessible_name(format!("fill: {name}")).on_hover_text(tooltip).clicked() {
                chosen = Some(choice);
            }
        }
        let edit =
            TextEdit::singleline(&mut self.path).hint_text("folder or image file").desired_width(150.0);
        ui.add(edit).accessible_name("path of a fill");
        let named = !self.path.trim().is_empty();
        let path = typed_path(&self.path);
        for (choice, name, tooltip) in [
            (
                Fill::MeanOf(path.clone()),
                "mean of folder",
                "The mean visual embedding of all images of that folder",
            ),
            (Fill::Image(path), "other image", "The embedding at the same place of that image"),
        ] {
            let button = Button::selectable(*fill == choice, RichText::new(name).small());
            let button = ui.add_enabled(named, button).accessible_name(format!("fill: {name}"));
            let button =
                button.on_hover_text(tooltip).on_disabled_hover_text("Name a folder or an image first");
            if button.clicked() {
                chosen = Some(choice);
            }
        }
        chosen
    }
}

fn caption(ui: &mut Ui, words: &str, tooltip: &str) {
    ui.label(RichText::new(words).small().weak()).on_hover_text(tooltip);
}

/// The chips of which the prompt on show has something; all of them before there is one.
fn offered(store: &Store) -> Vec<Name> {
    let prompt = store.runs.baseline().view().map(|run| &run.prompt[..]).unwrap_or_default();
    let there = |name: &Name| match name {
        Name::Span(Span::Answer) => true,
        Name::Span(span) => prompt.is_empty() || prompt.iter().any(|token| token.span == *span),
        _ => true,
    };
    CHIPS.into_iter().filter(there).collect()
}

/// First and last layer as numbers that can be dragged.
fn layers(ui: &mut Ui, n_layers: usize, layers: &Numbers) -> Option<Numbers> {
    caption(ui, "layers", "Decoder layers in which it is cut: the layer strip moves them too");
    let members: Vec<bool> = (0..n_layers).map(|layer| layers.contains(layer)).collect();
    let all = members.iter().all(|member| *member);
    let mut chosen = None;
    let button = ui.selectable_label(all, RichText::new("all").small());
    if button.accessible_name("cut all layers").clicked() {
        chosen = Some(Numbers::All);
    }
    match runs(&members)[..] {
        [(first, last)] => {
            let (mut from, mut to) = (first, last);
            let low = ui.add(DragValue::new(&mut from).range(0..=last).speed(0.1));
            let low = low.accessible_name("first layer of the cut").on_hover_text("First layer that is cut");
            ui.label(RichText::new("to").small().weak());
            let high = ui.add(DragValue::new(&mut to).range(from..=n_layers.saturating_sub(1)).speed(0.1));
            let high = high.accessible_name("last layer of the cut").on_hover_text("Last layer that is cut");
            if low.changed() || high.changed() {
                chosen = Some(Numbers::range(from, to));
            }
        }
        _ => {
            ui.label(RichText::new(layers.to_string()).small().monospace())
                .on_hover_text("Several runs of layers, or none of this model's: its text above says which");
        }
    }
    chosen
}

/// First and last of every run of members.
fn runs(members: &[bool]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, _) in members.iter().enumerate().filter(|(_, member)| **member) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == at => *last = at,
            _ => runs.push((at, at)),
        }
    }
    runs
}

/// Members as numbers; `None` where there are none.
fn numbers(members: &[bool]) -> Option<Numbers> {
    let runs = runs(members);
    match runs.is_empty() {
        true => None,
        false if members.iter().all(|member| *member) => Some(Numbers::All),
        false => Some(Numbers::Of(runs.into_iter().map(|(a, b)| Range::Between(a, b)).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_become_numbers_as_people_write_them() {
        let of = |members: &[bool]| numbers(members).map(|numbers| numbers.to_string());
        assert_eq!(of(&[true, true, false, true]).unwrap(), "0-1,3");
        assert_eq!(of(&[true; 4]).unwrap(), "all");
        assert_eq!(of(&[false, false, true]).unwrap(), "2");
        assert_eq!(of(&[false; 3]), None);
        assert_eq!(runs(&[false, true, true, false, true]), [(1, 2), (4, 4)]);
    }
}
