//! The window's panels.
//!
//! Panels are functions of [`State`] that return [`Action`]s; none of them changes
//! what another shows. Text being edited, textures and the like are kept in [`Draft`]. Nothing here
//! names burn, threads or files.
//!
//! Which file draws what: `top_bar` (open, scenes, theme), `image_panel` (image, map, colour bar),
//! `map_controls` (layer, head, colours), `prompt_panel` (question, spans of the prompt),
//! `answer_panel` (both answers, word by word), `flow_chart` (attention by span, layer by layer, and
//! the layer range under it), `knockout_panel` (what is cut and its proof), `status_bar`.
//! `heatmap` mirrors the shader of the same name.


use egui::{CentralPanel, Frame, Margin, Panel, Rect, RichText, ScrollArea, Ui};

pub use state::{Action, State};

/// What panels keep for themselves between frames.
#[derive(Default)]
pub struct Draft {
    /// The question being edited.
    pub prompt: String,
    /// Longest answer.
    pub max_new: usize,
    /// The path being typed.
    pub path: String,
    /// The knockouts being typed.
    pub typed_cut: String,
    /// The image on the graphics device, and the mean row.
    pub kept: image_panel::Kept,
    /// Whether maps are drawn by the shader.
    pub gpu_maps: bool,
    /// Whether the list of keys is open.
    pub help: bool,
    /// Where things were drawn this frame, by name: lets a script find them without guessing.
    pub places: Vec<(String, Rect)>,
}

impl Draft {
    /// Drafts that start from what `state` holds.
    pub fn new(state: &State, gpu_maps: bool) -> Self {
        Draft { prompt: state.prompt.clone(), max_new: state.max_new, gpu_maps, ..Default::default() }
    }

    fn place(&mut self, name: impl Into<String>, rect: Rect) {
        self.places.push((name.into(), rect));
    }
}

/// Lays out the whole window.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft) -> Vec<Action> {
    let mut actions = Vec::new();
    draft.places.clear();
    Panel::top("top").show(ui, |ui| top_bar::show(ui, state, draft, &mut actions));
    Panel::bottom("status").show(ui, |ui| status_bar::show(ui, state, &mut actions));
    banner(ui, state, &mut actions);
    let room = ui.available_width();
    // However narrow the window becomes, the image keeps its share.
    let widest = (room * 0.6).max(320.0);
    let side =
        Panel::right("side").default_size((room * 0.46).clamp(320.0, 760.0)).size_range(320.0..=widest);
    side.show(ui, |ui| {
        ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| {
            ui.add_space(4.0);
            prompt_panel::show(ui, state, draft, &mut actions);
            ui.add_space(6.0);
            answer_panel::show(ui, state, draft, &mut actions);
            ui.add_space(6.0);
            flow_chart::show(ui, state, draft, &mut actions);
            ui.add_space(2.0);
            knockout_panel::show(ui, state, draft, &mut actions);
        });
    });
    CentralPanel::default().show(ui, |ui| {
        Panel::bottom("map")
            .show_separator_line(false)
            .frame(Frame::new().inner_margin(Margin::symmetric(0, 6)))
            .show(ui, |ui| map_controls::show(ui, state, draft, &mut actions));
        image_panel::show(ui, state, draft, &mut actions);
    });
    help(ui, draft);
    actions
}

/// Errors and notices, above everything else.
fn banner(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let color = theme::cut_color(ui.visuals());
    let calm = theme::accent(ui.visuals());
    for (text, color, label, dismiss) in [
        (&state.error, color, "Error", Action::DismissError),
        (&state.notice, calm, "Note", Action::DismissNotice),
    ] {
        let Some(text) = text else { continue };
        Panel::top(label).show(ui, |ui| {
            egui::Sides::new().shrink_left().show(
                ui,
                |ui| {
                    ui.label(RichText::new(label).strong().color(color));
                    ui.add(egui::Label::new(text).wrap());
                },
                |ui| {
                    if ui.button("Dismiss").clicked() {
                        actions.push(dismiss);
                    }
                },
            );
        });
    }
}

const KEYS: [(&str, &str); 9] = [
    ("hover a word", "preview what it looked at"),
    ("click a word", "pin it; click again or Esc to unpin"),
    ("Left, Right", "the word before, the word after"),
    ("Up, Down", "one layer up, one layer down"),
    ("click a bar of the chart", "go to that layer"),
    ("drag the layer range", "cut answer -> visual in those layers, live"),
    ("Tab, then arrows", "move a handle of the range by keyboard"),
    ("Enter in the question", "ask"),
    ("drop or paste an image", "ask about it"),
];

fn help(ui: &mut Ui, draft: &mut Draft) {
    let mut open = draft.help;
    let window = egui::Window::new("Keys").open(&mut open).collapsible(false).resizable(false);
    window.anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0]).show(ui.ctx(), |ui| {
        egui::Grid::new("keys").num_columns(2).spacing([24.0, 6.0]).show(ui, |ui| {
            for (key, what) in KEYS {
                ui.label(RichText::new(key).strong());
                ui.label(what);
                ui.end_row();
            }
        });
    });
    draft.help = open;
}

/// A panel's title, small and quiet, with room for more on its line.
fn section<R>(ui: &mut Ui, title: &str, more: impl FnOnce(&mut Ui) -> R) -> R {
    ui.horizontal(|ui| {
        ui.label(RichText::new(title).heading());
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), more).inner
    })
    .inner
}
