//! The window around the views: bars, banner, tiles, overlays, keys.
//!
//! Does what concerns the look of the window, and hands on every other command. Knows views by name; not
//! what they show.

use std::{collections::BTreeMap, path::PathBuf};

use egui::{CentralPanel, Context, Id, Key, Modifiers, Panel, Popup, Rect, TextureHandle, Theme, Ui};
use egui_tiles::Tree;

use crate::ui::{
    banner::banner,
    frame::Frame,
    overlay::{drop::drop_hint, keys::keys, palette::Palette},
    shortcuts,
    status_bar::status_bar,
    store::{command::Command, store::Store, view_id::ViewId},
    tiles::{self, Panes},
    top_bar::TopBar,
    view::pane::View,
};

/// See the module.
pub struct Layout {
    tree: Tree<ViewId>,
    views: BTreeMap<ViewId, Box<dyn View>>,
    top_bar: TopBar,
    palette: Palette,
    keys_open: bool,
    frame: Frame,
    /// What had the focus in the last frame.
    focused: Option<Id>,
}

impl Layout {
    /// Every view where it is at first. `gpu_maps`: whether maps can be drawn by the shader; `dear`: whether
    /// painting takes the model's cores.
    pub fn new(gpu_maps: bool, dear: bool) -> Self {
        Layout {
            tree: tiles::default_tree(),
            views: tiles::open_views(),
            top_bar: TopBar::default(),
            palette: Palette::default(),
            keys_open: false,
            frame: Frame::new(gpu_maps, dear),
            focused: None,
        }
    }

    /// Puts views where a saved layout has them, if it is whole.
    pub fn restore(&mut self, text: &str) {
        if let Some(tree) = tiles::from_text(text) {
            self.tree = tree;
        }
    }

    /// The layout, to be saved.
    pub fn text(&self) -> Option<String> {
        tiles::to_text(&self.tree)
    }

    /// A small picture of a sample scene is ready.
    pub fn add_thumbnail(&mut self, scene: PathBuf, picture: TextureHandle) {
        self.top_bar.thumbnails.insert(scene, picture);
    }

    /// Where things were drawn in the last frame, by name.
    pub fn places(&self) -> &[(String, Rect)] {
        self.frame.places()
    }

    /// Whether the palette of commands is open.
    pub fn palette_is_open(&self) -> bool {
        self.palette.is_open()
    }

    /// Draws the whole window. Returns what was asked for.
    pub fn show(&mut self, ui: &mut Ui, store: &Store) -> Vec<Command> {
        let ctx = ui.ctx().clone();
        let frame = &mut self.frame;
        frame.clear();
        Self::read_keys(&ctx, &mut self.palette, &mut self.keys_open, self.focused.take(), frame);
        Panel::top("top").show(ui, |ui| self.top_bar.show(ui, store, frame));
        Panel::bottom("status").show(ui, |ui| status_bar(ui, store, frame));
        let ground = egui::Frame::NONE.fill(ui.visuals().panel_fill);
        CentralPanel::no_frame().frame(ground).show(ui, |ui| {
            self.tree.ui(&mut Panes { views: &mut self.views, store, frame }, ui);
        });
        banner(&ctx, store, frame);
        keys(&ctx, &mut self.keys_open);
        self.palette.show(&ctx, frame);
        drop_hint(&ctx);
        self.focused = ctx.memory(|memory| memory.focused());
        let commands = frame.take_commands();
        commands.into_iter().filter(|command| !self.apply(&ctx, command)).collect()
    }

    /// Escape closes what lies over the window before it does anything else; an open palette has all keys.
    fn read_keys(
        ctx: &Context,
        palette: &mut Palette,
        keys_open: &mut bool,
        focused: Option<Id>,
        frame: &mut Frame,
    ) {
        let over = palette.is_open() || *keys_open;
        if over && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape)) {
            if palette.is_open() { palette.close() } else { *keys_open = false }
        }
        if Popup::is_any_open(ctx) && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape)) {
            Popup::close_all(ctx);
        }
        for command in shortcuts::pressed(ctx, focused) {
            if !palette.is_open() || command == Command::OpenPalette {
                frame.ask(command);
            }
        }
    }

    /// Whether the command concerns the look of the window; then it is done.
    fn apply(&mut self, ctx: &Context, command: &Command) -> bool {
        match command {
            Command::OpenPalette => self.palette.toggle(),
            Command::ShowKeys => self.keys_open = !self.keys_open,
            Command::ResetLayout => self.tree = tiles::default_tree(),
            Command::ToggleTheme => {
                let dark = ctx.global_style().visuals.dark_mode;
                ctx.set_theme(if dark { Theme::Light } else { Theme::Dark });
            }
            _ => return false,
        }
        ctx.request_repaint();
        true
    }
}
