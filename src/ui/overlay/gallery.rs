//! The sample scenes to choose from, by picture and by name. Arrows walk, Enter opens, Escape closes.
//!
//! Keeps their pictures, which others make; knows scenes by their paths.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use egui::{
    Align2, Button, Context, Grid, Image, Key, Label, Modifiers, RichText, ScrollArea, TextureHandle, Ui,
    Window, vec2,
};

use crate::{
    spec::picture::ImageSource,
    ui::{
        frame::Frame,
        store::{command::Command, store::Store},
    },
};

/// Side of a scene's picture.
const SIDE: f32 = 96.0;

/// A picture, what is around it, and the gap to the next.
const STEP: f32 = SIDE + 28.0;

/// Room that is left around the window of scenes.
const AROUND: f32 = 100.0;

/// The gallery.
#[derive(Default)]
pub struct Gallery {
    open: bool,
    /// Which scene is chosen.
    at: usize,
    /// Scenes side by side when it was last drawn.
    columns: usize,
    /// The choice was moved by a key, and may be out of sight.
    moved: bool,
    /// Small pictures of the scenes, as far as they are ready.
    pictures: BTreeMap<PathBuf, TextureHandle>,
}

impl Gallery {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens it, or closes it.
    pub fn toggle(&mut self) {
        self.open = !self.open;
    }

    /// Closes it.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// A small picture of a scene is ready.
    pub fn add(&mut self, scene: PathBuf, picture: TextureHandle) {
        self.pictures.insert(scene, picture);
    }

    /// Takes the keys that walk it: while it is open nothing else has them.
    pub fn take_keys(&mut self, ctx: &Context, store: &Store, frame: &mut Frame) {
        let count = |key| ctx.input_mut(|i| i.count_and_consume_key(Modifiers::NONE, key));
        let (left, right) = (count(Key::ArrowLeft), count(Key::ArrowRight));
        let (up, down) = (count(Key::ArrowUp), count(Key::ArrowDown));
        let entered = count(Key::Enter) > 0;
        let columns = self.columns.max(1);
        let last = store.scenes.len().saturating_sub(1);
        let forth = self.at + right + down * columns;
        self.at = forth.saturating_sub(left + up * columns).min(last);
        self.moved = left + right + up + down > 0;
        if let Some(scene) = store.scenes.get(self.at).filter(|_| entered) {
            self.choose(scene, frame);
        }
    }

    fn choose(&mut self, scene: &Path, frame: &mut Frame) {
        self.open = false;
        frame.ask(Command::OpenImage(ImageSource::File(scene.to_path_buf())));
    }

    /// Draws it while it is open; a click elsewhere closes it.
    pub fn show(&mut self, ctx: &Context, store: &Store, frame: &mut Frame) {
        if !self.open {
            return;
        }
        let room = ctx.content_rect().size() - vec2(AROUND, AROUND);
        let fit = (room.x / STEP).floor().clamp(1.0, 8.0) as usize;
        self.columns = fit.min(store.scenes.len().max(1));
        let mut open = true;
        let mut chosen = None;
        let window = Window::new("Sample scenes").open(&mut open).collapsible(false).resizable(false);
        let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).show(ctx, |ui| {
            if store.scenes.is_empty() {
                ui.label("The folder of sample scenes is not there: open an image of your own.");
            }
            ScrollArea::vertical().max_height(room.y).show(ui, |ui| {
                Grid::new("scenes").spacing([8.0, 8.0]).show(ui, |ui| {
                    for (at, scene) in store.scenes.iter().enumerate() {
                        if self.scene(ui, at, scene) {
                            chosen = Some(scene.clone());
                        }
                        if at % self.columns == self.columns - 1 {
                            ui.end_row();
                        }
                    }
                });
            });
            ui.label(RichText::new("arrows walk, Enter opens, Esc closes").small().weak());
        });
        let elsewhere = window.is_some_and(|window| window.response.clicked_elsewhere());
        self.open = open && !elsewhere;
        if let Some(scene) = chosen {
            self.choose(&scene, frame);
        }
    }

    /// One scene: its picture, if that is there, over its name. Returns whether it was clicked.
    fn scene(&self, ui: &mut Ui, at: usize, scene: &Path) -> bool {
        let name = scene.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let column = ui.vertical(|ui| {
            let button = match self.pictures.get(scene) {
                Some(picture) => Button::image(Image::new(picture).fit_to_exact_size(vec2(SIDE, SIDE))),
                None => Button::new("").min_size(vec2(SIDE, SIDE)),
            };
            let button = ui.add(button.selected(at == self.at)).accessible_name(format!("scene {name}"));
            if at == self.at && self.moved {
                button.scroll_to_me(None);
            }
            ui.add(Label::new(RichText::new(&name).small()).selectable(false));
            button.clicked()
        });
        column.inner
    }
}
