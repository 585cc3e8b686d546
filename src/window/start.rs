//! Starts the window: its size and its graphics device, the worker beside it, and why there is none.
//!
//! Knows eframe's options and the device; not what the window does.

use eframe::egui_wgpu::{RenderState, WgpuConfiguration};
use egui::{Context, ViewportBuilder};

use crate::{
    device::shared,
    window::{
        app::{App, Lost, Options},
        icon,
        pace::Pace,
    },
    worker::thread::Worker,
};

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
    /// The driver gave the graphics device up while the window was open.
    #[error(
        "the graphics device was lost ({0}): start again; the session that was open is offered at the next start"
    )]
    DeviceLost(String),
    /// Anything else.
    #[error("the window failed: {0}")]
    Window(String),
}

/// The name under which the desktop knows the window, and its folder.
const APP: &str = "sightline";

/// Hears when the driver gives the graphics device up: nothing can be drawn from then on.
fn watch(render: &RenderState, ctx: &Context, lost: &Lost) {
    let (told, ctx) = (lost.clone(), ctx.clone());
    render.device.set_device_lost_callback(move |reason, why| {
        // It is destroyed when the window closes.
        if reason != wgpu::DeviceLostReason::Destroyed {
            _ = told.set(why);
            ctx.request_repaint();
        }
    });
}

/// Opens the window and returns when it is closed.
///
/// # Errors
/// [`AppError::NoDisplay`] at once when there is no display.
pub fn run(options: Options) -> Result<(), AppError> {
    if let Some(why) = missing_display(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())) {
        return Err(AppError::NoDisplay(why));
    }
    let state_dir = options.state_dir.clone().or_else(|| eframe::storage_dir(APP));
    let native = eframe::NativeOptions {
        // Beside the session, where a folder was named.
        persistence_path: options.state_dir.as_ref().map(|folder| folder.join("app.ron")),
        ..native_options()
    };
    let lost = Lost::default();
    let seen = lost.clone();
    let result = eframe::run_native(
        "Sightline",
        native,
        Box::new(move |cc| {
            let render = cc.wgpu_render_state.as_ref();
            let compute = shared::burn_device(render, options.device.clone())?;
            if let Some(render) = render {
                watch(render, &cc.egui_ctx, &lost);
            }
            let (ctx, pace) = (cc.egui_ctx.clone(), Pace::of(render));
            let worker = Worker::spawn(compute, options.dtype, move |streams| pace.wake(&ctx, streams));
            let options = Options { state_dir, ..options };
            let mut app = App::new(&cc.egui_ctx, render, cc.storage, options, Box::new(worker));
            app.lost = lost;
            Ok(Box::new(app))
        }),
    );
    if let Some(why) = seen.get() {
        return Err(AppError::DeviceLost(why.clone()));
    }
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
            .with_app_id(APP)
            .with_icon(icon::icon())
            .with_inner_size([1440.0, 900.0])
            .with_min_inner_size([700.0, 500.0]),
        renderer: eframe::Renderer::Wgpu,
        // Colours are numbers here; and it is dear on a software adapter.
        dithering: false,
        wgpu_options: WgpuConfiguration { wgpu_setup: shared::wgpu_setup(), ..Default::default() },
        ..Default::default()
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
