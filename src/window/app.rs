//! The window's own state: leads every command to where it is done, and takes in what comes back.
//!
//! Nothing here waits: long work runs on the worker or on a thread of its own, and a wake-up repaints.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Instant,
};

use eframe::{Storage, egui_wgpu::RenderState};
use egui::{Context, RawInput, Theme, ViewportCommand};

use crate::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::open::DeviceChoice,
    export::offer::encode,
    hub::{cache::Cache, place::Place},
    spec::picture::ImageSource,
    ui::{
        layout::{Export, Layout},
        store::{command::Command, settings::Running, store::Store},
        theme,
        widgets::heatmap,
    },
    window::{
        autosave::{Autosave, LEFT, Told},
        dialogs::{Dialogs, Pick},
        downloads::{Downloads, Outcome},
        hand::Hand,
        log::{self, FrameLog},
        opening::Opened,
        pace::Pace,
        pump::{Link, Pump},
        restoring::Restoring,
        saved::{self, Last},
        session::Gathered,
        thumbnails::Thumbnails,
        unhurried::Unhurried,
    },
};

/// What the window opens with. What is not said is as the last window left it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model folder, or `org/name[@revision]` of the hub.
    pub model: Option<PathBuf>,
    /// First image.
    pub image: ImageSource,
    /// First question.
    pub prompt: Option<String>,
    /// Longest answer.
    pub max_new: Option<usize>,
    /// Where the model runs.
    pub device: DeviceChoice,
    /// Number format of its weights.
    pub dtype: WeightDtype,
    /// Sample scenes on offer.
    pub scenes: Vec<PathBuf>,
    /// Sample questions on offer.
    pub questions: Vec<String>,
    /// Where files are written without asking; `None`: where the user says.
    pub save_dir: Option<PathBuf>,
    /// Where the window keeps what outlives it, and its session while it is open. `None`: nothing is kept.
    pub state_dir: Option<PathBuf>,
}

/// Why the graphics device is gone, once it is.
pub type Lost = Arc<OnceLock<String>>;

/// The window's own state.
pub struct App {
    store: Store,
    layout: Layout,
    pump: Pump,
    dialogs: Dialogs,
    downloads: Downloads,
    thumbnails: Thumbnails,
    unhurried: Unhurried,
    hand: Hand,
    log: FrameLog,
    /// The theme, where the user chose one over the desktop's.
    theme: Option<Theme>,
    /// A session on its way.
    restoring: Option<Restoring>,
    /// What was left by a window that came to no normal end is in use.
    restored: bool,
    autosave: Option<Autosave>,
    /// Told by whoever watches the device.
    pub(super) lost: Lost,
}

impl App {
    /// Sets up the look, takes over what an earlier window left in `storage` as far as it is sound, and asks the
    /// worker for the first answer.
    pub fn new(
        ctx: &Context,
        render: Option<&RenderState>,
        storage: Option<&dyn Storage>,
        options: Options,
        link: Box<dyn Link>,
    ) -> Self {
        theme::install(ctx);
        let pace = Pace::of(render);
        pace.install(ctx);
        let last = storage.and_then(Last::load);
        let mut layout = Layout::new(render.is_some_and(heatmap::install), pace.is_dear());
        if let Some(storage) = storage {
            saved::layout(storage).iter().for_each(|text| layout.restore(text));
            saved::restore_theme(ctx, storage);
        }
        let first_start = last.is_none() && options.model.is_none();
        if first_start && options.image == ImageSource::File(bundled::sample_image()) {
            layout.teach();
        }
        let mut app = App {
            store: first_store(&options, last.as_ref()),
            layout,
            pump: Pump::new(link),
            dialogs: Dialogs::new(options.save_dir),
            downloads: Downloads::default(),
            thumbnails: Thumbnails::begin(ctx, options.scenes),
            unhurried: Unhurried::default(),
            hand: Hand::default(),
            log: FrameLog::default(),
            theme: None,
            restoring: None,
            restored: false,
            autosave: options.state_dir.map(|folder| Autosave::begin(&folder, ctx)),
            lost: Lost::default(),
        };
        if let DeviceChoice::Remote(address) = options.device {
            app.apply(ctx, Command::RunAt(Some(address)));
        }
        let recent = app.store.recent.clone();
        let model = options.model.or_else(|| app.last_model(last));
        app.open_first(ctx, model);
        app.apply(ctx, Command::OpenImage(options.image));
        app.store.opened_by_itself(recent);
        app
    }

    /// Opens the first model: the one that is named, as far as it is on this machine; else the bundled one, until the
    /// one that is named was fetched.
    fn open_first(&mut self, ctx: &Context, named: Option<PathBuf>) {
        let Some(named) = named else { return self.apply(ctx, Command::LoadModel(bundled::model())) };
        match Place::of(&named).here(&Cache::of_user()) {
            Ok(Ok(folder)) => self.apply(ctx, Command::LoadModel(folder)),
            _ => {
                self.apply(ctx, Command::LoadModel(bundled::model()));
                self.apply(ctx, Command::ShowModels);
                self.apply(ctx, Command::OpenModel(named));
            }
        }
    }

    /// The model of the last window, if it is still there; if not, says so.
    fn last_model(&mut self, last: Option<Last>) -> Option<PathBuf> {
        let model = last?.model?;
        if model.is_dir() {
            return Some(model);
        }
        let text = format!("The model of last time is gone: {}. This is the bundled one.", model.display());
        self.store.notices.push(text);
        None
    }

    /// What the window knows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The window around the views.
    pub fn layout(&mut self) -> &mut Layout {
        &mut self.layout
    }

    /// Leads a command to where it is done.
    pub fn apply(&mut self, ctx: &Context, command: Command) {
        if command == Command::ShowModels {
            self.downloads.look(ctx);
        }
        if self.layout.apply(ctx, &command, &self.store) {
            return;
        }
        if matches!(command, Command::OpenModel(_) | Command::OpenPath(_) | Command::OpenSession(_)) {
            // What was wrong is about to be something else.
            self.store.error = None;
        }
        match command {
            Command::OpenModel(name) => self.downloads.open(ctx, name, &mut self.store.models),
            Command::Fetch => self.downloads.agree(),
            Command::PauseFetch(rests) => self.downloads.pause(rests, &mut self.store.models),
            Command::StopFetch => self.downloads.stop(&mut self.store.models),
            Command::PickImage => self.dialogs.pick_image(ctx),
            Command::PickModel => self.dialogs.pick_model(ctx),
            Command::PickMask => self.dialogs.pick_mask(ctx),
            Command::PickImages => self.dialogs.pick_images(ctx),
            Command::PickSession => self.dialogs.pick_session(ctx),
            Command::OpenPath(path) | Command::OpenSession(path) => self.dialogs.open(ctx, path),
            Command::SaveSession => self.save_session(ctx),
            Command::CopyPicture => self.dialogs.picture(ctx),
            command => {
                let rests = self.hand.rests_on(ctx, &command);
                self.pump.send(rests.into_iter().collect());
                let requests = self.store.apply(command);
                self.pump.send(requests);
            }
        }
    }

    fn tell(&mut self, text: String) {
        log::notice(&text);
        self.layout.tell(text);
    }

    fn save_session(&mut self, ctx: &Context) {
        match Gathered::of(&self.store) {
            Some(gathered) => self.dialogs.save(ctx, "session.json".to_string(), move |folder| {
                gathered.text(folder, false).map(String::into_bytes)
            }),
            None => self.tell(NOTHING_TO_SAVE.to_string()),
        }
    }

    /// Takes in what dialogs, paths and pastes gave, and what was written.
    fn take_picks(&mut self, ctx: &Context) {
        while let Some(pick) = self.dialogs.poll() {
            match pick {
                Pick::Opened(Opened::Do(command)) => self.apply(ctx, command),
                Pick::Opened(Opened::Session(session, file)) => {
                    match file.file_name().is_some_and(|name| name == LEFT) {
                        true => self.restored = true,
                        false => self.store.note_path(file),
                    }
                    match Restoring::begin(*session, &self.store) {
                        Ok((restoring, commands)) => {
                            commands.into_iter().for_each(|command| self.apply(ctx, command));
                            self.restoring = Some(restoring);
                        }
                        Err(why) => self.store.error = Some(why),
                    }
                }
                Pick::Opened(Opened::Saved(saved, notice, folder)) => {
                    self.store.note_path(folder);
                    self.store.take_saved(*saved);
                    notice.into_iter().for_each(|notice| self.tell(notice));
                }
                Pick::Picture(picture) => {
                    ctx.copy_image(picture);
                    self.tell("The picture of the window is on the clipboard.".to_string());
                }
                Pick::Written(file) => self.tell(format!("Written: {}", file.display())),
                Pick::NoDialog => {
                    let notice = "This desktop offers no file dialog. Drop a file onto the window, paste an \
                                  image, or type a path into the command field (Ctrl+K).";
                    self.tell(notice.to_string());
                }
                Pick::Failed(why) => self.store.error = Some(why),
            }
        }
    }

    /// Takes in how far a model is that is being fetched, and loads it when it is there.
    fn take_downloads(&mut self, ctx: &Context) {
        match self.downloads.poll(&mut self.store.models) {
            Some(Outcome::Folder(folder)) => {
                self.downloads.look(ctx);
                self.apply(ctx, Command::LoadModel(folder));
            }
            Some(Outcome::Failed(why)) => self.store.error = Some(why),
            None => {}
        }
    }

    /// Goes on with a session that is being opened.
    fn restore(&mut self, ctx: &Context) {
        let Some(mut restoring) = self.restoring.take() else { return };
        for command in restoring.advance(&self.store) {
            self.apply(ctx, command);
        }
        match restoring.outcome() {
            Some(outcome) => self.tell(outcome.to_string()),
            None => self.restoring = Some(restoring),
        }
    }

    /// Keeps the session, and offers one that was left.
    fn keep(&mut self, ctx: &Context, ended: bool) {
        let Some(autosave) = &mut self.autosave else { return };
        while let Some(told) = autosave.poll() {
            match told {
                Told::Found(file) => {
                    log::notice(LEFT_OPEN);
                    self.layout.offer(LEFT_OPEN.to_string(), "Restore", Command::OpenSession(file));
                }
                Told::Failed(why) => self.layout.tell(why),
            }
        }
        if ended {
            autosave.ended();
        }
        let store = &self.store;
        autosave.tick(ctx, Instant::now(), || Gathered::of(store));
    }

    /// Hands what views give away to whoever writes it.
    fn export(&mut self, ctx: &Context) {
        for Export { offer, format, name } in self.layout.take_exports() {
            self.dialogs.save(ctx, name, move |_| encode(&offer, format).map_err(|e| e.to_string()));
        }
    }
}

/// What is said of a session that came to no normal end.
const LEFT_OPEN: &str = "The last session ended unexpectedly.";

/// What is said where there is no session.
const NOTHING_TO_SAVE: &str =
    "There is no session to save: it needs a model and an answer. A saved run lies in its folder already.";

/// Commands that move nothing but the pointer.
fn only_looks(command: &Command) -> bool {
    matches!(command, Command::Hover(_) | Command::HoverPatch(_) | Command::Preview(_))
}

/// What the window knows before anything has come.
fn first_store(options: &Options, last: Option<&Last>) -> Store {
    let question = options.prompt.clone().or_else(|| last.and_then(|last| last.question.clone()));
    let mut store = Store::new(question.unwrap_or_else(|| bundled::PROMPT.to_string()), bundled::MAX_NEW);
    if let Some(last) = last {
        store.asking = last.asking.unwrap_or(store.asking);
        (store.map, store.tint) = (last.map, last.tint);
        store.recent.clone_from(&last.recent);
    }
    store.asking.max_new = options.max_new.unwrap_or(store.asking.max_new);
    (store.scenes, store.questions) = (options.scenes.clone(), options.questions.clone());
    store.running = Running {
        device: match &options.device {
            DeviceChoice::Remote(_) => DeviceChoice::Auto.to_string(),
            here => here.to_string(),
        },
        dtype: named(&WeightDtype::ALL, &options.dtype),
    };
    store
}

/// The name that people type for a value.
fn named<T: PartialEq>(all: &[(&'static str, T)], value: &T) -> &'static str {
    all.iter().find(|(_, known)| known == value).map_or("", |(name, _)| *name)
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        let ended = self.pump.drain(&mut self.store);
        self.take_picks(ctx);
        self.take_downloads(ctx);
        self.restore(ctx);
        for notice in std::mem::take(&mut self.store.notices) {
            self.tell(notice);
        }
        while let Some((scene, picture)) = self.thumbnails.poll() {
            self.layout.add_thumbnail(scene, picture);
        }
        self.keep(ctx, ended);
        if self.lost.get().is_some() {
            ctx.send_viewport_cmd(ViewportCommand::Close);
        }
    }

    fn raw_input_hook(&mut self, ctx: &Context, input: &mut RawInput) {
        self.unhurried.take(ctx, input);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        if let Some(command) = self.dialogs.incoming(&ctx) {
            self.apply(&ctx, command);
        }
        let commands = self.layout.show(ui, &self.store);
        if !commands.is_empty() {
            // What was laid out shows what was before: it is laid out anew, and only that is painted.
            ctx.request_discard("a command");
        }
        if let Some(autosave) = self.autosave.as_mut().filter(|_| !commands.iter().all(only_looks)) {
            autosave.touch();
        }
        for command in commands {
            self.apply(&ctx, command);
        }
        self.export(&ctx);
        let freed = self.hand.lets_go(&ctx);
        self.pump.send(freed.into_iter().collect());
        if !ctx.input(|i| i.pointer.any_down()) {
            self.store.release();
        }
        self.theme = saved::chosen_theme(&ctx);
        self.log.tell(&ctx, &self.store, self.layout.places());
    }

    fn save(&mut self, storage: &mut dyn Storage) {
        saved::save_layout(storage, self.layout.text());
        saved::save_theme(storage, self.theme);
        Last::of(&self.store).save(storage);
    }

    /// A window that lost its device leaves its session.
    fn on_exit(&mut self) {
        if let Some(autosave) = self.autosave.as_mut().filter(|_| self.lost.get().is_none()) {
            autosave.end(self.restored);
        }
    }

    /// Nothing else is kept: where windows and scroll bars stood is not worth a surprise.
    fn persist_egui_memory(&self) -> bool {
        false
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("store", &self.store).finish_non_exhaustive()
    }
}
