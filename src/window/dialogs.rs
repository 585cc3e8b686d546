//! What comes from outside the window: file dialogs, dropped files, pasted images.
//!
//! Each dialog runs on a thread of its own, since it blocks its caller. Knows paths and pixels; not what
//! becomes of them.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use egui::{ColorImage, Context, Event};

use crate::{spec::picture::ImageSource, ui::store::command::Command};

/// Nobody closes a dialog that fast: it was never shown.
const NO_DIALOG: Duration = Duration::from_millis(400);

/// Files that the dialog for images shows.
const IMAGES: [&str; 10] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"];

/// What came of a file dialog or a paste.
pub enum Pick {
    /// Something to do.
    Do(Command),
    /// The dialog closed without a choice, so fast that it cannot have been shown.
    NoDialog,
    /// Why it cannot be had.
    Failed(String),
}

/// The window's ear.
pub struct Dialogs {
    picks: (Sender<Pick>, Receiver<Pick>),
}

impl Default for Dialogs {
    fn default() -> Self {
        Dialogs { picks: channel() }
    }
}

impl Dialogs {
    /// What came since this was last asked.
    pub fn poll(&self) -> Option<Pick> {
        self.picks.1.try_recv().ok()
    }

    /// Shows the system's dialog for an image.
    pub fn pick_image(&self, ctx: &Context) {
        self.ask(ctx, || {
            let dialog = rfd::FileDialog::new().set_title("Image").add_filter("Images", &IMAGES);
            dialog.pick_file().map(|path| Command::OpenImage(ImageSource::File(path)))
        });
    }

    /// Shows the system's dialog for a model folder.
    pub fn pick_model(&self, ctx: &Context) {
        self.ask(ctx, || {
            rfd::FileDialog::new().set_title("Model folder").pick_folder().map(Command::LoadModel)
        });
    }

    fn ask(&self, ctx: &Context, dialog: impl FnOnce() -> Option<Command> + Send + 'static) {
        self.spawn(ctx, move || {
            let asked = Instant::now();
            match dialog() {
                Some(command) => Some(Pick::Do(command)),
                None if asked.elapsed() < NO_DIALOG => Some(Pick::NoDialog),
                None => None,
            }
        });
    }

    fn spawn(&self, ctx: &Context, pick: impl FnOnce() -> Option<Pick> + Send + 'static) {
        let (picks, ctx) = (self.picks.0.clone(), ctx.clone());
        thread::spawn(move || {
            if let Some(pick) = pick() {
                // The window may have closed meanwhile.
                let _ = picks.send(pick);
                ctx.request_repaint();
            }
        });
    }

    /// Takes dropped files and pasted images. Returns what to do about them.
    pub fn incoming(&self, ctx: &Context) -> Option<Command> {
        let (dropped, pasted) = ctx.input(|i| {
            let pasted = i.events.iter().find_map(|event| match event {
                Event::PasteImage(image) => Some(image.clone()),
                _ => None,
            });
            (i.raw.dropped_files.first().map(|file| file.path().to_path_buf()), pasted)
        });
        if let Some(image) = pasted {
            self.spawn(ctx, move || Some(encoded(&image)));
        }
        dropped.map(Command::OpenPath)
    }
}

/// A path as what it is: a folder is a model, a file an image.
pub fn opening(path: PathBuf) -> Command {
    match path.is_dir() {
        true => Command::LoadModel(path),
        false => Command::OpenImage(ImageSource::File(path)),
    }
}

/// A pasted image as a file that the worker can open like any other.
fn encoded(pasted: &ColorImage) -> Pick {
    let [w, h] = pasted.size.map(|n| n as u32);
    let bytes: Vec<u8> = pasted.pixels.iter().flat_map(|p| p.to_srgba_unmultiplied()).collect();
    let Some(image) = image::RgbaImage::from_raw(w, h, bytes) else {
        return Pick::Failed("the pasted image is incomplete".to_string());
    };
    let mut png = std::io::Cursor::new(Vec::new());
    match image.write_to(&mut png, image::ImageFormat::Png) {
        Ok(()) => {
            let source = ImageSource::Bytes(png.into_inner().into(), "pasted image".to_string());
            Pick::Do(Command::OpenImage(source))
        }
        Err(error) => Pick::Failed(format!("the pasted image cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pasted_image_becomes_a_png() {
        let pasted = ColorImage::new([2, 1], vec![egui::Color32::RED, egui::Color32::BLUE]);
        let Pick::Do(Command::OpenImage(ImageSource::Bytes(bytes, _))) = encoded(&pasted) else {
            panic!("no image")
        };
        let read = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(read.get_pixel(1, 0).0, [0, 0, 255]);
    }
}
