//! Opening things: image, sample scene, model, typed path. Commands, keys and theme at the right.
//!
//! Keeps the path being typed; knows the list of commands.

use egui::{Align, Key, Layout, ScrollArea, TextEdit, Ui};

use crate::{
    spec::picture::ImageSource,
    ui::{
        frame::Frame,
        store::{command::Command, store::Store},
        widgets::listed,
    },
};

/// The bar.
#[derive(Default)]
pub struct TopBar {
    path: String,
    /// The image when it was last drawn: a path is of no more use once another image is there.
    image: Option<ImageSource>,
}

impl TopBar {
    /// Draws the bar.
    pub fn show(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.add_space(3.0);
        ui.horizontal(|ui| {
            listed::button(ui, frame, &Command::PickImage);
            ui.add_enabled_ui(!store.scenes.is_empty(), |ui| scenes(ui, store, frame));
            listed::button(ui, frame, &Command::PickModel);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let other = if ui.visuals().dark_mode { "Light" } else { "Dark" };
                listed::named(ui, frame, &Command::ToggleTheme, other);
                listed::button(ui, frame, &Command::ShowKeys);
                listed::button(ui, frame, &Command::OpenPalette);
                self.path(ui, store, frame);
            });
        });
        ui.add_space(3.0);
    }

    fn path(&mut self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        let image = store.image().map(|image| &image.source);
        if self.image.as_ref() != image {
            self.image = image.cloned();
            self.path.clear();
        }
        let edit = TextEdit::singleline(&mut self.path)
            .id_salt("path")
            .hint_text("path of an image or a model folder")
            .desired_width(ui.available_width());
        let edit = ui.add(edit);
        let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
        if entered && !self.path.trim().is_empty() {
            frame.ask(Command::OpenPath(self.path.trim().into()));
        }
    }
}

fn scenes(ui: &mut Ui, store: &Store, frame: &mut Frame) {
    ui.menu_button("Scenes", |ui| {
        ScrollArea::vertical().max_height(420.0).show(ui, |ui| {
            for scene in &store.scenes {
                let name = scene.file_stem().map(|n| n.to_string_lossy().into_owned());
                if ui.button(name.unwrap_or_default()).clicked() {
                    frame.ask(Command::OpenImage(ImageSource::File(scene.clone())));
                    ui.close();
                }
            }
        });
    });
}
