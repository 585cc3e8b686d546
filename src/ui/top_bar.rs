//! Opening things: image, sample scene, model, typed path. Theme and help at the right.

use std::path::PathBuf;

use egui::{Key, TextEdit, Ui};

use crate::{ui::{layout::Draft, store::state::{Action, State}}, worker::thread::ImageSource};

/// Draws the bar.
pub fn show(ui: &mut Ui, state: &State, draft: &mut Draft, actions: &mut Vec<Action>) {
    ui.add_space(3.0);
    ui.horizontal(|ui| {
        if ui.button("Open image…").on_hover_text("Or drop a file onto the window, or paste one").clicked()
        {
            actions.push(Action::PickImage);
        }
        ui.add_enabled_ui(!state.scenes.is_empty(), |ui| {
            ui.menu_button("Scenes", |ui| {
                egui::ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
                    for scene in &state.scenes {
                        let name = scene.file_stem().map(|n| n.to_string_lossy().into_owned());
                        if ui.button(name.unwrap_or_default()).clicked() {
                            actions.push(Action::OpenImage(ImageSource::Path(scene.clone())));
                            ui.close();
                        }
                    }
                });
            });
        });
        if ui
            .button("Open model…")
            .on_hover_text("A Hugging Face folder: LLaVA-1.5, Idefics3, SmolVLM")
            .clicked()
        {
            actions.push(Action::PickModel);
        }
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            theme_button(ui);
            if ui.button("Keys").clicked() {
                draft.help = !draft.help;
            }
            let edit = TextEdit::singleline(&mut draft.path)
                .id_salt("path")
                .hint_text("path of an image or a model folder")
                .desired_width(ui.available_width());
            let edit = ui.add(edit);
            let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
            if entered && !draft.path.trim().is_empty() {
                actions.push(Action::OpenPath(PathBuf::from(draft.path.trim())));
            }
        });
    });
    ui.add_space(3.0);
}

/// From dark to light and back.
fn theme_button(ui: &mut Ui) {
    let (name, other) = match ui.visuals().dark_mode {
        true => ("Light", egui::Theme::Light),
        false => ("Dark", egui::Theme::Dark),
    };
    if ui.button(name).on_hover_text("Change the colours of the window").clicked() {
        ui.ctx().set_theme(other);
    }
}
