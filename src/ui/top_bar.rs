//! Opening things: image, sample scene, model, typed path. Commands, keys and theme at the right.
//!
//! Keeps the path being typed; knows the list of commands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use egui::{Align, Button, Image, Key, Layout, ScrollArea, TextEdit, TextureHandle, Ui, vec2};

use crate::{
    spec::picture::ImageSource,
    ui::{
        frame::Frame,
        store::{command::Command, store::Store},
        typed_path::typed_path,
        widgets::listed,
    },
};

/// Side of a scene's picture.
const SIDE: f32 = 88.0;

/// Scenes side by side.
const PER_ROW: usize = 4;

/// The bar.
#[derive(Default)]
pub struct TopBar {
    /// Small pictures of the sample scenes, as far as they are ready.
    pub thumbnails: BTreeMap<PathBuf, TextureHandle>,
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
            ui.add_enabled_ui(!store.scenes.is_empty(), |ui| self.scenes(ui, store, frame));
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
            frame.ask(Command::OpenPath(typed_path(&self.path)));
        }
    }

    fn scenes(&self, ui: &mut Ui, store: &Store, frame: &mut Frame) {
        ui.menu_button("Scenes", |ui| {
            ScrollArea::vertical().max_height(440.0).show(ui, |ui| {
                egui::Grid::new("scenes").spacing([4.0, 4.0]).show(ui, |ui| {
                    for (at, scene) in store.scenes.iter().enumerate() {
                        if self.scene(ui, scene) {
                            frame.ask(Command::OpenImage(ImageSource::File(scene.clone())));
                            ui.close();
                        }
                        if at % PER_ROW == PER_ROW - 1 {
                            ui.end_row();
                        }
                    }
                });
            });
        });
    }

    /// One scene to choose: its picture, or its name while there is none. Returns whether it was chosen.
    fn scene(&self, ui: &mut Ui, scene: &Path) -> bool {
        let name = scene.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let button = match self.thumbnails.get(scene) {
            Some(picture) => Button::image(Image::new(picture).fit_to_exact_size(vec2(SIDE, SIDE))),
            None => Button::new(&name).min_size(vec2(SIDE, SIDE)),
        };
        let button = ui.add(button).accessible_name(format!("scene {name}"));
        button.on_hover_text(name).clicked()
    }
}
