//! Adding to the list of cuts: by text, or by the names that papers have for a cut.
//!
//! Keeps what is being typed; knows the grammar's words through the field that completes them.

use egui::Ui;

use crate::ui::{
    frame::Frame,
    store::{command::Command, cut_list::Preset, store::Store},
    widgets::cut_field::{CutField, CutFieldLook},
};

/// Room behind the field: for the button with presets.
const PRESETS: f32 = 92.0;

/// What stands in the empty field.
const HINT: &str = "add: last -> visual[12,30-34] @ all # 0,2   or   object~1 = mean";

/// The field for another line.
#[derive(Default)]
pub struct AddCut {
    field: CutField,
}

impl AddCut {
    /// Draws it, with the presets behind it.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.horizontal(|ui| {
            let look = CutFieldLook {
                id: ui.make_persistent_id("add a cut"),
                hint: HINT,
                width: (ui.available_width() - PRESETS).max(80.0),
                color: None,
            };
            let (edit, change) = self.field.show(ui, look, "add a cut");
            frame.place("add a cut", edit.rect);
            if let Some(change) = change {
                self.field = CutField::default();
                frame.ask(Command::AddCut(change));
            }
            ui.add_enabled_ui(store.n_layers() > 0, |ui| presets(ui, frame));
        });
        self.field.state(ui);
    }
}

/// Cuts by the papers' names.
fn presets(ui: &mut Ui, frame: &mut Frame) {
    let menu = ui.menu_button("Presets", |ui| {
        for preset in Preset::ALL {
            let button = ui.button(preset.name()).on_hover_text(preset.tooltip());
            if button.clicked() {
                frame.ask(Command::AddPreset(preset));
                ui.close();
            }
        }
    });
    menu.response.on_hover_text("Cuts by the names that papers have for them");
}
