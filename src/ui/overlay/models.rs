//! Models to choose from: a field for a folder or a name of the hub, the one that is being fetched, and the table of
//! those that are known.
//!
//! Keeps what is typed. Escape, or a click elsewhere, closes it; what is being fetched goes on.

use std::path::{Path, PathBuf};

use egui::{
    Align2, Button, Context, Grid, Key, ProgressBar, RichText, ScrollArea, TextEdit, Ui, Window, vec2,
};

use crate::{
    hub::download::{FileState, State},
    spec::record::gigabytes,
    ui::{
        frame::Frame,
        store::{
            command::Command,
            models::{Fetch, Models, Row, Stage},
            store::Store,
        },
        typed_path::typed_path,
    },
};

/// Room that is left around it, at the sides and above and below.
const AROUND: (f32, f32) = (60.0, 120.0);

/// Widest and highest it gets.
const SIZE: (f32, f32) = (1000.0, 640.0);

/// Files of a download that are shown at a time: the one that comes, and its neighbours.
const FILES: usize = 5;

/// The menu of models.
#[derive(Debug, Default)]
pub struct ModelMenu {
    open: bool,
    text: String,
    /// The model that was asked for while it was open: it closes once that is there.
    awaited: Option<PathBuf>,
}

impl ModelMenu {
    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Opens it, or closes it.
    pub fn toggle(&mut self) {
        (self.open, self.awaited) = (!self.open, None);
    }

    /// Closes it.
    pub fn close(&mut self) {
        (self.open, self.awaited) = (false, None);
    }

    /// A model is asked for.
    pub fn awaits(&mut self, folder: &Path) {
        self.awaited = self.open.then(|| folder.to_path_buf());
    }

    /// Closes it where the model is there that was asked for; one that failed leaves it open.
    fn follow(&mut self, store: &Store) {
        if store.awaits_model() {
            return;
        }
        let is_there = |folder: PathBuf| store.model.as_ref().is_some_and(|model| model.folder == folder);
        if self.awaited.take().is_some_and(is_there) && store.error.is_none() {
            self.close();
        }
    }

    /// Draws it while it is open.
    pub fn show(&mut self, ctx: &Context, store: &Store, frame: &mut Frame) {
        self.follow(store);
        if !self.open {
            return;
        }
        let room = ctx.content_rect().size() - vec2(AROUND.0, AROUND.1);
        let size = room.min(SIZE.into());
        let mut open = true;
        let window = Window::new("Models").open(&mut open).collapsible(false).resizable(false);
        let window = window.anchor(Align2::CENTER_CENTER, [0.0, 0.0]).fixed_size(size).show(ctx, |ui| {
            self.field(ui, frame);
            if let Some(fetch) = &store.models.fetch {
                ui.separator();
                coming(ui, fetch, frame);
            }
            ui.separator();
            let height = (ui.available_height() - 36.0).max(60.0);
            let table = ScrollArea::both().auto_shrink(false).max_height(height);
            table.show(ui, |ui| rows(ui, &store.models, frame));
            let text = "Memory is that of the weights; a run takes more. ~: an estimate. Any other model of a \
                        supported type opens by its name or folder.";
            ui.label(RichText::new(text).small().weak());
        });
        let elsewhere = window.is_some_and(|window| window.response.clicked_elsewhere());
        if !open || elsewhere {
            self.close();
        }
    }

    /// The field for a folder or a name.
    fn field(&mut self, ui: &mut Ui, frame: &mut Frame) {
        ui.horizontal(|ui| {
            let edit = TextEdit::singleline(&mut self.text)
                .id_salt("model")
                .hint_text("a folder, or org/name of the hub, or org/name@revision")
                .desired_width((ui.available_width() - 140.0).max(80.0));
            let edit = ui.add(edit).accessible_name("folder or name of a model");
            let entered = edit.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter));
            let button = ui.add_enabled(!self.text.trim().is_empty(), Button::new("Open"));
            if (entered || button.clicked()) && !self.text.trim().is_empty() {
                frame.ask(Command::OpenModel(typed_path(&self.text)));
            }
            if ui.button("Folder…").on_hover_text("Shows the system's dialog").clicked() {
                frame.ask(Command::PickModel);
            }
        });
    }
}

/// The model that is being fetched.
fn coming(ui: &mut Ui, fetch: &Fetch, frame: &mut Frame) {
    ui.label(RichText::new(&fetch.name).strong());
    match &fetch.stage {
        Stage::Asked(note) => _ = ui.label(note.as_deref().unwrap_or("asking the hub…")),
        Stage::Planned(plan) => plan.lines().into_iter().for_each(|line| _ = ui.label(line)),
        Stage::Comes { state, .. } => progress(ui, state),
    }
    ui.horizontal(|ui| {
        match &fetch.stage {
            Stage::Planned(_) => button(ui, "Download", Command::Fetch, frame),
            Stage::Comes { paused: false, .. } => button(ui, "Pause", Command::PauseFetch(true), frame),
            Stage::Comes { paused: true, .. } => button(ui, "Continue", Command::PauseFetch(false), frame),
            Stage::Asked(_) => {}
        }
        let comes = matches!(fetch.stage, Stage::Comes { .. });
        button(ui, if comes { "Cancel download" } else { "Cancel" }, Command::StopFetch, frame);
        if comes {
            ui.label(RichText::new("What came stays, and is gone on with the next time.").small().weak());
        }
    });
}

fn button(ui: &mut Ui, text: &str, command: Command, frame: &mut Frame) {
    if ui.button(text).clicked() {
        frame.ask(command);
    }
}

/// A bar for all of it, and one for each file around the one that comes.
fn progress(ui: &mut Ui, state: &State) {
    let (done, size) = state.total();
    bar(ui, "in all", done, size);
    let current = state.files.iter().position(|file| file.done < file.size);
    let last = state.files.len().saturating_sub(FILES);
    let first = current.unwrap_or(last).saturating_sub(1).min(last);
    for FileState { name, size, done } in state.files.iter().skip(first).take(FILES) {
        bar(ui, name, *done, *size);
    }
    if let Some(note) = &state.note {
        ui.label(RichText::new(note).weak());
    }
}

fn bar(ui: &mut Ui, name: &str, done: u64, size: u64) {
    let share = done as f32 / size.max(1) as f32;
    let text = format!("{name}: {} of {}", gigabytes(done), gigabytes(size));
    ui.add(ProgressBar::new(share).text(text));
}

/// The table.
fn rows(ui: &mut Ui, models: &Models, frame: &mut Frame) {
    if models.rows.is_empty() {
        ui.label(RichText::new("looking into the cache…").weak());
    }
    Grid::new("models").striped(true).spacing([16.0, 6.0]).show(ui, |ui| {
        for title in ["", "model", "to fetch", "in f32", "in f16", "licence", "cached", "fits"] {
            ui.label(RichText::new(title).small().weak());
        }
        ui.end_row();
        models.rows.iter().for_each(|row| one(ui, row, models.free, frame));
    });
}

fn one(ui: &mut Ui, row: &Row, free: Option<u64>, frame: &mut Frame) {
    let known = &row.known;
    let open = ui.button("Open").on_hover_text(format!("{}\nchecked: {}", known.id, known.checked));
    if open.clicked()
        && let Some(id) = known.hub_id()
    {
        frame.ask(Command::OpenModel(id.to_string().into()));
    }
    ui.label(&known.name).on_hover_text(&known.id);
    ui.label(format!("{}{}", if known.bytes_exact { "" } else { "~" }, gigabytes(known.bytes)));
    ui.label(gigabytes(known.memory(4)));
    ui.label(gigabytes(known.memory(2)));
    ui.label(&known.licence);
    ui.label(row.held.word());
    let fits = ui.label(known.fits(free));
    if let Some(free) = free {
        fits.on_hover_text(format!("{} of memory are free", gigabytes(free)));
    }
    ui.end_row();
}
