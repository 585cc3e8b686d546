//! The window: starts it, and leads every command to where it is done.
//!
//! Nothing here waits: long work runs on the worker or on a thread of its own, and a wake-up repaints. What
//! is saved between two windows: where views stand, and the theme.

use std::path::PathBuf;

use eframe::{
    Storage,
    egui_wgpu::{RenderState, WgpuConfiguration},
};
use egui::{Context, Theme, ThemePreference, ViewportBuilder};

use crate::{
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
        pump::{Link, Pump},
    },
    worker::thread::Worker,
};

/// The name under which the layout is saved.
const LAYOUT: &str = "layout";

/// The name under which the theme is saved.
const THEME: &str = "theme";

/// What the window opens with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Model folder.
    pub model: PathBuf,
    /// First image.
    pub image: ImageSource,
    /// First question.
    pub prompt: String,
    /// Longest answer.
    pub max_new: usize,
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
            let ctx = cc.egui_ctx.clone();
            let worker = Worker::spawn(compute, options.dtype, move || ctx.request_repaint());
            let render = cc.wgpu_render_state.as_ref();
            let mut app = App::new(&cc.egui_ctx, render, options, Box::new(worker));
            if let Some(storage) = cc.storage {
                app.restore(&cc.egui_ctx, storage);
            }
            Ok(Box::new(app))
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
    log: FrameLog,
    /// The theme, where the user chose one over the desktop's.
    theme: Option<Theme>,
}

impl App {
    /// Sets up the look and asks the worker for the first answer.
    pub fn new(ctx: &Context, render: Option<&RenderState>, options: Options, link: Box<dyn Link>) -> Self {
        theme::install(ctx);
        let gpu_maps = render.is_some_and(heatmap::install);
        let mut store = Store::new(options.prompt, options.max_new);
        (store.scenes, store.questions) = (options.scenes, options.questions);
        let mut app = App {
            store,
            layout: Layout::new(gpu_maps),
            pump: Pump::new(link),
            dialogs: Dialogs::default(),
            log: FrameLog::default(),
            theme: None,
        };
        app.apply(ctx, Command::LoadModel(options.model));
        app.apply(ctx, Command::OpenImage(options.image));
        app
    }

    /// What the window knows.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes over what an earlier window saved, as far as it is sound.
    pub fn restore(&mut self, ctx: &Context, storage: &dyn Storage) {
        if let Some(text) = storage.get_string(LAYOUT) {
            self.layout.restore(&text);
        }
        match storage.get_string(THEME).as_deref() {
            Some("dark") => ctx.set_theme(Theme::Dark),
            Some("light") => ctx.set_theme(Theme::Light),
            _ => {}
        }
    }

    /// Leads a command to where it is done.
    fn apply(&mut self, ctx: &Context, command: Command) {
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

/// The theme, where one was chosen over the desktop's.
fn chosen_theme(ctx: &Context) -> Option<Theme> {
    match ctx.options(|options| options.theme_preference) {
        ThemePreference::Dark => Some(Theme::Dark),
        ThemePreference::Light => Some(Theme::Light),
        ThemePreference::System => None,
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.pump.drain(&mut self.store);
        self.take_picks(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        if let Some(command) = self.dialogs.incoming(&ctx) {
            self.apply(&ctx, command);
        }
        let commands = self.layout.show(ui, &self.store);
        if !commands.is_empty() {
            // Views drawn before the one that asked are to follow.
            ctx.request_repaint();
        }
        for command in commands {
            self.apply(&ctx, command);
        }
        if !ctx.input(|i| i.pointer.any_down()) {
            self.store.release();
        }
        self.theme = chosen_theme(&ctx);
        self.log.tell(&ctx, &self.store, self.layout.places());
    }

    fn save(&mut self, storage: &mut dyn Storage) {
        if let Some(text) = self.layout.text() {
            storage.set_string(LAYOUT, text);
        }
        match self.theme {
            Some(Theme::Dark) => storage.set_string(THEME, "dark".to_string()),
            Some(Theme::Light) => storage.set_string(THEME, "light".to_string()),
            None => {}
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
