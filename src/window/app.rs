//! The window: starts it, carries events of the worker into [`State`] and requests back, and owns
//! what touches the outside (file dialogs, drops, pastes, the log).
//!
//! What is on screen is `ui`'s; what a model does is `worker`'s. Nothing here waits: long work runs
//! on the worker or on a thread of its own, and a wake-up repaints.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use eframe::egui_wgpu::{RenderState, WgpuConfiguration};
use egui::{Align2, Color32, Context, FontId, Key, Modifiers, ViewportBuilder};

use crate::{checkpoint::weights::WeightDtype, device::{open::DeviceChoice, shared as gpu}, ui::{self, layout::Draft, store::{selection::Selection, state::{Action, State}}, theme, view::answer::list, widgets::heatmap}, worker::thread::{Event, ImageSource, Request, Worker}};

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

/// What the window needs of a worker. Tests put a made-up one in its place.
pub trait Link {
    /// Asks for something.
    fn send(&self, request: Request);
    /// The next event, if there is one.
    fn poll(&self) -> Option<Event>;
}

impl Link for Worker {
    fn send(&self, request: Request) {
        Worker::send(self, request);
    }

    fn poll(&self) -> Option<Event> {
        Worker::poll(self)
    }
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
            let compute = gpu::burn_device(cc.wgpu_render_state.as_ref(), options.device)?;
            let ctx = cc.egui_ctx.clone();
            let worker = Worker::spawn(compute, options.dtype, move || ctx.request_repaint());
            Ok(Box::new(App::new(&cc.egui_ctx, cc.wgpu_render_state.as_ref(), options, Box::new(worker))))
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
        wgpu_options: WgpuConfiguration { wgpu_setup: gpu::wgpu_setup(), ..Default::default() },
        ..Default::default()
    }
}

/// The window's own state.
pub struct App {
    state: State,
    draft: Draft,
    link: Box<dyn Link>,
    picks: (Sender<Pick>, Receiver<Pick>),
    logged: Logged,
}

/// What came of a file dialog or a paste.
enum Pick {
    Image(ImageSource),
    Model(PathBuf),
    /// The dialog closed without a choice, so fast that it cannot have been shown.
    NoDialog,
    Failed(String),
}

/// What the log has been told.
#[derive(Default)]
struct Logged {
    selection: Option<Selection>,
    places: Vec<(String, egui::Rect)>,
}

impl App {
    /// Sets up the look and asks the worker for the first answer.
    pub fn new(ctx: &Context, render: Option<&RenderState>, options: Options, link: Box<dyn Link>) -> Self {
        theme::install(ctx);
        let gpu_maps = render.is_some_and(heatmap::install);
        let mut state = State::new(options.prompt, options.max_new);
        (state.scenes, state.questions) = (options.scenes, options.questions);
        let draft = Draft::new(&state, gpu_maps);
        let mut app = App { state, draft, link, picks: channel(), logged: Logged::default() };
        app.act(ctx, Action::LoadModel(options.model));
        app.act(ctx, Action::OpenImage(options.image));
        app
    }

    /// What the window knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    fn send(&mut self, requests: Vec<Request>) {
        for request in requests {
            log::debug!("request {request:?}");
            self.link.send(request);
        }
    }

    fn act(&mut self, ctx: &Context, action: Action) {
        match &action {
            Action::PickImage => self.dialog(ctx, false),
            Action::PickModel => self.dialog(ctx, true),
            _ => {}
        }
        let requests = self.state.act(action);
        self.send(requests);
    }

    /// Takes in everything that the worker and the dialogs have sent.
    fn drain(&mut self, ctx: &Context) {
        while let Some(event) = self.link.poll() {
            let done = matches!(event, Event::Done { .. });
            if let Event::Failed { error, .. } = &event {
                log::warn!("failed: {error}");
            }
            let (busy_base, busy_cut) = (self.state.runs.baseline.busy(), self.state.runs.cut.busy());
            let requests = self.state.event(event);
            if done {
                self.log_done(busy_base, busy_cut);
            }
            self.send(requests);
        }
        while let Ok(pick) = self.picks.1.try_recv() {
            match pick {
                Pick::Image(source) => self.act(ctx, Action::OpenImage(source)),
                Pick::Model(path) => self.act(ctx, Action::LoadModel(path)),
                Pick::NoDialog => {
                    self.state.notice = Some(
                        "This desktop offers no file dialog. Drop a file onto the window, paste an image, or type \
                         a path above."
                            .to_string(),
                    );
                }
                Pick::Failed(why) => self.state.error = Some(why),
            }
        }
    }

    /// One line for every answer, for people and scripts.
    fn log_done(&self, busy_base: bool, busy_cut: bool) {
        let runs = &self.state.runs;
        if busy_base && !runs.baseline.busy() {
            log::info!("answer: {}", runs.baseline.answer_text());
        }
        if busy_cut
            && !runs.cut.busy()
            && let Some(view) = runs.cut.done()
        {
            log::info!("cut [{}] answer: {}", list(&view.ask.knockouts), runs.cut.answer_text());
            for report in view.outcome.iter().flat_map(|o| &o.knockouts) {
                log::info!("cut [{}] {}", report.text, ui::knockout_panel::sentence(report));
            }
        }
    }

    /// What is selected and, for scripts that drive the window, where things are in pixels.
    fn log_frame(&mut self, ctx: &Context) {
        if self.logged.selection != Some(self.state.selection) {
            self.logged.selection = Some(self.state.selection);
            let s = self.state.selection;
            let (which, token) = s.shown();
            let text = token
                .and_then(|at| self.state.runs.lane(which).tokens().get(at).map(|(t, _)| t.text.clone()));
            let head = s.head.map_or("mean".to_string(), |h| h.to_string());
            match token {
                Some(at) => {
                    log::info!(
                        "shown: {} token {at} {:?} layer {} head {head}",
                        which.name(),
                        text.unwrap_or_default(),
                        s.layer
                    );
                }
                None => log::info!("shown: {} whole answer layer {} head {head}", which.name(), s.layer),
            }
        }
        if log::log_enabled!(target: "sightline::layout", log::Level::Debug)
            && self.logged.places != self.draft.places
        {
            let scale = ctx.pixels_per_point();
            for (name, r) in &self.draft.places {
                if !self.logged.places.contains(&(name.clone(), *r)) {
                    let [x0, y0, x1, y1] =
                        [r.min.x, r.min.y, r.max.x, r.max.y].map(|v| (v * scale).round() as i32);
                    log::debug!(target: "sightline::layout", "place {name} {x0} {y0} {x1} {y1}");
                }
            }
            self.logged.places = self.draft.places.clone();
        }
    }

    /// Asks for a file or folder on a thread of its own: the dialog blocks its caller.
    fn dialog(&self, ctx: &Context, model: bool) {
        let (picks, ctx) = (self.picks.0.clone(), ctx.clone());
        std::thread::spawn(move || {
            let asked = Instant::now();
            let picked = match model {
                true => rfd::FileDialog::new().set_title("Model folder").pick_folder(),
                false => rfd::FileDialog::new()
                    .set_title("Image")
                    .add_filter(
                        "Images",
                        &["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"],
                    )
                    .pick_file(),
            };
            let pick = match picked {
                Some(path) if model => Some(Pick::Model(path)),
                Some(path) => Some(Pick::Image(ImageSource::Path(path))),
                // Nobody cancels that fast: there is no portal.
                None if asked.elapsed() < Duration::from_millis(400) => Some(Pick::NoDialog),
                None => None,
            };
            if let Some(pick) = pick {
                // The window may have closed meanwhile.
                let _ = picks.send(pick);
                ctx.request_repaint();
            }
        });
    }

    /// Dropped files and pasted images.
    fn incoming(&mut self, ctx: &Context) {
        let (dropped, pasted) = ctx.input(|i| {
            let pasted = i.events.iter().find_map(|event| match event {
                egui::Event::PasteImage(image) => Some(image.clone()),
                _ => None,
            });
            (i.raw.dropped_files.clone(), pasted)
        });
        if let Some(file) = dropped.first() {
            self.act(ctx, Action::OpenPath(file.path().to_path_buf()));
        }
        if let Some(image) = pasted {
            let (picks, ctx) = (self.picks.0.clone(), ctx.clone());
            std::thread::spawn(move || {
                // The window may have closed meanwhile.
                let _ = picks.send(encoded(&image));
                ctx.request_repaint();
            });
        }
    }

    /// Keys that work anywhere but in a text field or on a focused control.
    fn keys(&mut self, ctx: &Context) {
        if ctx.memory(|m| m.focused().is_some()) {
            return;
        }
        let (which, len) =
            (self.state.selection.which, self.state.runs.lane(self.state.selection.which).tokens().len());
        let pressed = |key| ctx.input_mut(|i| i.consume_key(Modifiers::NONE, key));
        for (key, by) in [(Key::ArrowLeft, -1), (Key::ArrowRight, 1)] {
            if pressed(key) {
                let mut next = self.state.selection;
                next.step_token(by, len);
                if let Some(token) = next.pinned.filter(|_| next.pinned != self.state.selection.pinned) {
                    self.act(ctx, Action::Pin(which, token));
                }
            }
        }
        for (key, by) in [(Key::ArrowDown, -1), (Key::ArrowUp, 1)] {
            if pressed(key) {
                let mut next = self.state.selection;
                next.step_layer(by, self.state.n_layers());
                self.act(ctx, Action::Layer(next.layer));
            }
        }
        if pressed(Key::Escape) {
            self.act(ctx, Action::Unpin);
        }
    }
}

/// A pasted image as a file that the worker can open like any other.
fn encoded(pasted: &egui::ColorImage) -> Pick {
    let [w, h] = pasted.size.map(|n| n as u32);
    let bytes: Vec<u8> = pasted.pixels.iter().flat_map(|p| p.to_srgba_unmultiplied()).collect();
    let Some(image) = image::RgbaImage::from_raw(w, h, bytes) else {
        return Pick::Failed("the pasted image is incomplete".to_string());
    };
    let mut png = std::io::Cursor::new(Vec::new());
    match image.write_to(&mut png, image::ImageFormat::Png) {
        Ok(()) => Pick::Image(ImageSource::Bytes(png.into_inner().into(), "pasted image".to_string())),
        Err(error) => Pick::Failed(format!("the pasted image cannot be read: {error}")),
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.drain(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        self.incoming(&ctx);
        self.keys(&ctx);
        let actions = ui::show(ui, &self.state, &mut self.draft);
        if !actions.is_empty() {
            // Panels drawn before the one that acted are to follow.
            ctx.request_repaint();
        }
        for action in actions {
            self.act(&ctx, action);
        }
        if ctx.input(|i| !i.raw.hovered_files.is_empty()) {
            let painter =
                ctx.layer_painter(egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop")));
            let rect = ctx.content_rect();
            painter.rect_filled(rect, 0.0, Color32::from_black_alpha(160));
            let text = "Drop an image or a model folder";
            painter.text(
                rect.center(),
                Align2::CENTER_CENTER,
                text,
                FontId::proportional(24.0),
                Color32::WHITE,
            );
        }
        self.log_frame(&ctx);
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("state", &self.state).finish_non_exhaustive()
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

    #[test]
    fn a_pasted_image_becomes_a_png() {
        let pasted = egui::ColorImage::new([2, 1], vec![Color32::RED, Color32::BLUE]);
        let Pick::Image(ImageSource::Bytes(bytes, _)) = encoded(&pasted) else { panic!("no image") };
        let read = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(read.get_pixel(1, 0).0, [0, 0, 255]);
    }
}
