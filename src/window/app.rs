//! The window: starts it, and leads every command to where it is done.
//!
//! Nothing here waits: long work runs on the worker or on a thread of its own, and a wake-up repaints.

use std::path::PathBuf;

use eframe::{
    Storage,
    egui_wgpu::{RenderState, WgpuConfiguration},
};
use egui::{Context, RawInput, Theme, ViewportBuilder};

use crate::{
    bundled,
    checkpoint::weights::WeightDtype,
    device::{open::DeviceChoice, shared},
    spec::picture::ImageSource,
    ui::{
        layout::Layout,
        store::{command::Command, store::Store},
        theme,
        widgets::heatmap,
    },
    window::{
        dialogs::{Dialogs, Pick, opening},
        log::FrameLog,
        pace::Pace,
        pump::{Link, Pump},
        saved::{self, Last},
        thumbnails::Thumbnails,
        unhurried::Unhurried,
    },
    worker::thread::Worker,
};

/// What the window opens with. What is not said is as the last window left it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model folder.
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
}

/// Why there is no window.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No display server answers: work without a window.
    #[error("there is no display to open a window on: {0}")]
    NoDisplay(String),
    /// There is a display, and nothing that can draw on it.
    #[error(
        "no graphics adapter can draw the window ({0}): install a Vulkan or OpenGL driver, for example Mesa's"
    )]
    NoAdapter(String),
    /// Anything else.
    #[error("the window failed: {0}")]
    Window(String),
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// [`AppError::NoDisplay`] at once when there is no display.
pub fn run(options: Options) -> Result<(), AppError> {
    if let Some(why) = missing_display(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())) {
        return Err(AppError::NoDisplay(why));
    }
    let result = eframe::run_native(
        "Sightline",
        native_options(),
        Box::new(|cc| {
            let compute = shared::burn_device(cc.wgpu_render_state.as_ref(), options.device)?;
            let render = cc.wgpu_render_state.as_ref();
            let (ctx, pace) = (cc.egui_ctx.clone(), Pace::of(render));
            let worker = Worker::spawn(compute, options.dtype, move |streams| pace.wake(&ctx, streams));
            Ok(Box::new(App::new(&cc.egui_ctx, render, cc.storage, options, Box::new(worker))))
        }),
    );
    result.map_err(|error| match error {
        eframe::Error::Winit(e) => AppError::NoDisplay(e.to_string()),
        eframe::Error::WinitEventLoop(e) => AppError::NoDisplay(e.to_string()),
        eframe::Error::Wgpu(e) => AppError::NoAdapter(e.to_string()),
        other => AppError::Window(other.to_string()),
    })
}

/// On systems whose windows come from a display server: why none can be reached.
fn missing_display(is_set: impl Fn(&str) -> bool) -> Option<String> {
    let names = ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"];
    let served = cfg!(all(unix, not(target_os = "macos")));
    (served && !names.into_iter().any(is_set))
        .then(|| "neither DISPLAY nor WAYLAND_DISPLAY is set".to_string())
}

/// Size, title and graphics device of the window.
pub fn native_options() -> eframe::NativeOptions {
    eframe::NativeOptions {
        viewport: ViewportBuilder::default()
            .with_title("Sightline")
            .with_app_id("sightline")
            .with_inner_size([1440.0, 900.0])
            .with_min_inner_size([900.0, 600.0]),
        renderer: eframe::Renderer::Wgpu,
        // Colours are numbers here; and it is dear on a software adapter.
        dithering: false,
        wgpu_options: WgpuConfiguration { wgpu_setup: shared::wgpu_setup(), ..Default::default() },
        ..Default::default()
    }
}

/// The window's own state.
pub struct App {
    store: Store,
    layout: Layout,
    pump: Pump,
    dialogs: Dialogs,
    thumbnails: Thumbnails,
    unhurried: Unhurried,
    log: FrameLog,
    /// The theme, where the user chose one over the desktop's.
    theme: Option<Theme>,
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
        let mut app = App {
            store: first_store(&options, last.as_ref()),
            layout,
            pump: Pump::new(link),
            dialogs: Dialogs::default(),
            thumbnails: Thumbnails::begin(ctx, options.scenes),
            unhurried: Unhurried::default(),
            log: FrameLog::default(),
            theme: None,
        };
        let model = options.model.or_else(|| app.last_model(last));
        app.apply(ctx, Command::LoadModel(model.unwrap_or_else(bundled::model)));
        app.apply(ctx, Command::OpenImage(options.image));
        app
    }

    /// The model of the last window, if it is still there; if not, says so.
    fn last_model(&mut self, last: Option<Last>) -> Option<PathBuf> {
        let model = last?.model?;
        if model.is_dir() {
            return Some(model);
        }
        self.store.notice =
            Some(format!("The model of last time is gone: {}. This is the bundled one.", model.display()));
        None
    }

    /// What the window knows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Leads a command to where it is done.
    pub fn apply(&mut self, ctx: &Context, command: Command) {
        match command {
            Command::PickImage => self.dialogs.pick_image(ctx),
            Command::PickModel => self.dialogs.pick_model(ctx),
            Command::OpenPath(path) => self.apply(ctx, opening(path)),
            command => {
                let requests = self.store.apply(command);
                self.pump.send(requests);
            }
        }
    }

    /// Takes in what dialogs and pastes gave.
    fn take_picks(&mut self, ctx: &Context) {
        while let Some(pick) = self.dialogs.poll() {
            match pick {
                Pick::Do(command) => self.apply(ctx, command),
                Pick::NoDialog => {
                    let notice = "This desktop offers no file dialog. Drop a file onto the window, paste an \
                                  image, or type a path above.";
                    self.store.notice = Some(notice.to_string());
                }
                Pick::Failed(why) => self.store.error = Some(why),
            }
        }
    }
}

/// What the window knows before anything has come.
fn first_store(options: &Options, last: Option<&Last>) -> Store {
    let question = options.prompt.clone().or_else(|| last.map(|last| last.question.clone()));
    let max_new = options.max_new.or_else(|| last.map(|last| last.max_new));
    let question = question.unwrap_or_else(|| bundled::PROMPT.to_string());
    let mut store = Store::new(question, max_new.unwrap_or(bundled::MAX_NEW));
    (store.scenes, store.questions) = (options.scenes.clone(), options.questions.clone());
    store.map = last.map(|last| last.map).unwrap_or_default();
    store
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.pump.drain(&mut self.store);
        self.take_picks(ctx);
        while let Some((scene, picture)) = self.thumbnails.poll() {
            self.layout.add_thumbnail(scene, picture);
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
        for command in commands {
            self.apply(&ctx, command);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_is_one_of_three_variables() {
        if cfg!(all(unix, not(target_os = "macos"))) {
            assert!(missing_display(|_| false).is_some());
            assert!(missing_display(|name| name == "WAYLAND_DISPLAY").is_none());
            assert!(missing_display(|name| name == "DISPLAY").is_none());
        }
    }
}
