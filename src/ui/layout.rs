//! The window around the views: bars, messages, tiles, overlays, keys.
//!
//! Does what concerns the look of the window and the clipboard, gathers what views give away, and hands on every
//! other command. Knows views by name; not what they show.

use std::{collections::BTreeMap, path::PathBuf};

use egui::{CentralPanel, Context, Id, Key, Modifiers, Panel, Popup, Rect, TextureHandle, Theme, Ui};
use egui_tiles::Tree;

use crate::{
    trace::offer::{Format, Offer},
    ui::{
        banner::Banner,
        frame::Frame,
        overlay::{drop::drop_hint, gallery::Gallery, keys::keys, models::ModelMenu, palette::Palette},
        shortcuts,
        status_bar::StatusBar,
        store::{command::Command, command_line::command_line, store::Store, view_id::ViewId},
        tiles::{self, Front, Panes},
        top_bar::top_bar,
        view::pane::View,
    },
};

/// Something that a view gives away, to be written as a file.
#[derive(Debug)]
pub struct Export {
    /// What it is.
    pub offer: Offer,
    /// As what.
    pub format: Format,
    /// A name for the file.
    pub name: String,
}

/// See the module.
pub struct Layout {
    tree: Tree<ViewId>,
    views: BTreeMap<ViewId, Box<dyn View>>,
    front: Front,
    status_bar: StatusBar,
    banner: Banner,
    palette: Palette,
    gallery: Gallery,
    models: ModelMenu,
    keys_open: bool,
    frame: Frame,
    /// What had the focus in the last frame.
    focused: Option<Id>,
    exports: Vec<Export>,
}

impl Layout {
    /// Every view where it is at first. `gpu_maps`: whether maps can be drawn by the shader; `dear`: whether
    /// painting takes the model's cores.
    pub fn new(gpu_maps: bool, dear: bool) -> Self {
        Layout {
            tree: tiles::default_tree(),
            views: tiles::open_views(),
            front: Front::default(),
            status_bar: StatusBar::default(),
            banner: Banner::default(),
            palette: Palette::default(),
            gallery: Gallery::default(),
            models: ModelMenu::default(),
            keys_open: false,
            frame: Frame::new(gpu_maps, dear),
            focused: None,
            exports: Vec::new(),
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
        self.gallery.add(scene, picture);
    }

    /// Says what is worth doing first, until it is done.
    pub fn teach(&mut self) {
        self.status_bar.teach();
    }

    /// Shows a notice for a while.
    pub fn tell(&mut self, notice: String) {
        self.banner.tell(notice);
    }

    /// Shows a notice with something to do about it.
    pub fn offer(&mut self, notice: String, action: &'static str, command: Command) {
        self.banner.offer(notice, action, command);
    }

    /// What views gave away since this was last asked.
    pub fn take_exports(&mut self) -> Vec<Export> {
        std::mem::take(&mut self.exports)
    }

    /// Where things were drawn in the last frame, by name.
    pub fn places(&self) -> &[(String, Rect)] {
        self.frame.places()
    }

    /// Whether the palette of commands is open.
    pub fn palette_is_open(&self) -> bool {
        self.palette.is_open()
    }

    /// The view that people are at.
    pub fn front(&self) -> ViewId {
        self.front.view
    }

    /// What a view gives away now.
    pub fn offers(&mut self, view: ViewId, store: &Store) -> Vec<Offer> {
        self.views.get_mut(&view).map(|view| view.offers(store)).unwrap_or_default()
    }

    /// Draws the whole window. Returns what was asked for and is not done yet.
    pub fn show(&mut self, ui: &mut Ui, store: &Store) -> Vec<Command> {
        let ctx = ui.ctx().clone();
        self.frame.clear();
        self.read_keys(&ctx, store);
        let frame = &mut self.frame;
        Panel::top("top").show(ui, |ui| top_bar(ui, store, frame));
        let status = Panel::bottom("status").show(ui, |ui| self.status_bar.show(ui, store, frame));
        let bottom = status.response.rect.height();
        let ground = egui::Frame::NONE.fill(ui.visuals().panel_fill);
        CentralPanel::no_frame().frame(ground).show(ui, |ui| {
            let mut panes = Panes { views: &mut self.views, store, frame, front: &mut self.front };
            self.tree.ui(&mut panes, ui);
        });
        self.banner.show(&ctx, bottom, store, &mut self.frame);
        keys(&ctx, &mut self.keys_open);
        self.gallery.show(&ctx, store, &mut self.frame);
        self.models.show(&ctx, store, &mut self.frame);
        self.palette.show(&ctx, store, &mut self.frame);
        drop_hint(&ctx);
        self.focused = ctx.memory(|memory| memory.focused());
        let commands = self.frame.take_commands();
        // The list of models is the window's to open: it has to look what is there.
        let theirs = |command: &Command| *command == Command::ShowModels;
        commands.into_iter().filter(|c| theirs(c) || !self.apply(&ctx, c, store)).collect()
    }

    /// Escape closes what lies over the window before it does anything else; what is open there has all keys but
    /// those that close it.
    fn read_keys(&mut self, ctx: &Context, store: &Store) {
        let own = self.over();
        if (own.is_some() || self.keys_open) && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape))
        {
            match own {
                Some(Command::OpenPalette) => self.palette.close(),
                Some(Command::ShowGallery) => self.gallery.close(),
                Some(_) => self.models.close(),
                None => self.keys_open = false,
            }
        }
        if Popup::is_any_open(ctx) && ctx.input_mut(|i| i.consume_key(Modifiers::NONE, Key::Escape)) {
            Popup::close_all(ctx);
        }
        if self.over() == Some(Command::ShowGallery) {
            self.gallery.take_keys(ctx, store, &mut self.frame);
        }
        let own = self.over();
        for command in shortcuts::pressed(ctx, self.focused.take(), self.front.start) {
            if own.as_ref().is_none_or(|own| *own == command || command == Command::OpenPalette) {
                self.frame.ask(command);
            }
        }
    }

    /// The command that opens and closes what lies over the window and has its keys; the topmost.
    fn over(&self) -> Option<Command> {
        let all = [
            (self.palette.is_open(), Command::OpenPalette),
            (self.models.is_open(), Command::ShowModels),
            (self.gallery.is_open(), Command::ShowGallery),
        ];
        all.into_iter().find(|(open, _)| *open).map(|(_, command)| command)
    }

    /// Whether the command concerns the look of the window, the clipboard or what views give away; then it is done.
    pub fn apply(&mut self, ctx: &Context, command: &Command, store: &Store) -> bool {
        match command {
            Command::OpenPalette => self.palette.toggle(),
            Command::ShowGallery => {
                // A field under it would take its keys.
                ctx.memory_mut(|memory| {
                    memory.focused().into_iter().for_each(|id| memory.surrender_focus(id))
                });
                self.gallery.toggle();
            }
            Command::ShowModels => self.models.toggle(),
            Command::LoadModel(folder) => {
                self.models.awaits(folder);
                return false;
            }
            Command::ShowKeys => self.keys_open = !self.keys_open,
            Command::Focus(view) => {
                tiles::bring_to_front(&mut self.tree, *view);
                self.front.go(*view);
            }
            Command::ResetLayout => self.tree = tiles::default_tree(),
            Command::ToggleTheme => {
                let dark = ctx.global_style().visuals.dark_mode;
                ctx.set_theme(if dark { Theme::Light } else { Theme::Dark });
            }
            Command::Export(view, format) => self.export(*view, *format, store),
            Command::Copy(text) => ctx.copy_text(text.clone()),
            Command::CopyCommand => self.copy_command(ctx, store),
            Command::CopyAnswer => self.copy_answer(ctx, store),
            _ => return false,
        }
        ctx.request_repaint();
        true
    }

    fn export(&mut self, view: ViewId, format: Format, store: &Store) {
        let offers = self.offers(view, store);
        match offers.into_iter().find(|offer| offer.formats().contains(&format)) {
            Some(offer) => self.exports.push(Export { name: offer.file_name(format), offer, format }),
            None => {
                let title = self.views.get(&view).map(|view| view.title(store)).unwrap_or_default();
                self.tell(format!("{title} shows nothing that can be written as {} now.", format.name()));
            }
        }
    }

    fn copy_answer(&mut self, ctx: &Context, store: &Store) {
        let slot = store.selection.slot;
        match store.said_by(slot) {
            Some(said) => {
                self.tell(format!("Copied: the answer of run {}", store.runs.name(slot)));
                ctx.copy_text(said);
            }
            None => self.tell("Nothing was copied: there is no answer yet.".to_string()),
        }
    }

    fn copy_command(&mut self, ctx: &Context, store: &Store) {
        match command_line(store, self.front.view == ViewId::Lens) {
            Ok(line) => {
                let copied = format!("Copied: {line}");
                log::info!("notice: {copied}");
                self.tell(copied);
                ctx.copy_text(line);
            }
            Err(why) => self.tell(format!("Nothing was copied: {why}.")),
        }
    }
}
