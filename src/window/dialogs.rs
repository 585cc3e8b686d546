//! What comes from outside the window, and what goes out: file dialogs, dropped files, pasted images, files written.
//!
//! Each dialog runs on a thread of its own, since it blocks its caller, and so does whatever reads or writes files.
//! Knows paths, pixels and bytes; not what becomes of them.

use std::{
    env,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use egui::{ColorImage, Context, Event};

use crate::{
    files::output::write_file,
    spec::picture::ImageSource,
    ui::store::command::Command,
    window::opening::{Opened, image_folder, open_path},
};

/// Nobody closes a dialog that fast: it was never shown.
const NO_DIALOG: Duration = Duration::from_millis(400);

/// Files that the dialog for images shows.
const IMAGES: [&str; 10] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm"];

/// What came of a dialog, a path, a paste, or a file that was written.
pub enum Pick {
    /// Something was opened.
    Opened(Opened),
    /// A picture of the window.
    Picture(ColorImage),
    /// A file was written.
    Written(PathBuf),
    /// The dialog closed without a choice, so fast that it cannot have been shown.
    NoDialog,
    /// Why it cannot be had.
    Failed(String),
}

/// The window's ear, and its hand.
pub struct Dialogs {
    picks: (Sender<Pick>, Receiver<Pick>),
    /// Where files are written without asking.
    save_dir: Option<PathBuf>,
}

impl Dialogs {
    /// `save_dir`: where files are written without asking.
    pub fn new(save_dir: Option<PathBuf>) -> Self {
        Dialogs { picks: channel(), save_dir }
    }

    /// What came since this was last asked.
    pub fn poll(&self) -> Option<Pick> {
        self.picks.1.try_recv().ok()
    }

    /// Shows the system's dialog for an image.
    pub fn pick_image(&self, ctx: &Context) {
        self.ask(ctx, || {
            let dialog = rfd::FileDialog::new().set_title("Image").add_filter("Images", &IMAGES);
            let source = dialog.pick_file().map(ImageSource::File)?;
            Some(Ok(Opened::Do(Command::OpenImage(source))))
        });
    }

    /// Shows the system's dialog for a model folder.
    pub fn pick_model(&self, ctx: &Context) {
        self.ask(ctx, || {
            let folder = rfd::FileDialog::new().set_title("Model folder").pick_folder()?;
            Some(Ok(Opened::Do(Command::LoadModel(folder))))
        });
    }

    /// Shows the system's dialog for a mask.
    pub fn pick_mask(&self, ctx: &Context) {
        self.ask(ctx, || {
            let dialog = rfd::FileDialog::new().set_title("Mask of an object").add_filter("Images", &IMAGES);
            Some(Ok(Opened::Do(Command::OpenMask(dialog.pick_file()?))))
        });
    }

    /// Shows the system's dialog for a folder of images.
    pub fn pick_images(&self, ctx: &Context) {
        self.ask(ctx, || {
            Some(image_folder(&rfd::FileDialog::new().set_title("Folder of images").pick_folder()?))
        });
    }

    /// Shows the system's dialog for a session or a saved run.
    pub fn pick_session(&self, ctx: &Context) {
        self.ask(ctx, || {
            let dialog = rfd::FileDialog::new().set_title("session.json, or trace.json of a saved run");
            let file = dialog.add_filter("Sessions and saved runs", &["json"]).pick_file()?;
            Some(open_path(&file))
        });
    }

    /// Opens what lies at a path.
    pub fn open(&self, ctx: &Context, path: PathBuf) {
        self.spawn(ctx, move || Some(opened(open_path(&path))));
    }

    /// Takes a picture of the window.
    pub fn picture(&self, ctx: &Context) {
        let (picks, wake) = (self.picks.0.clone(), ctx.clone());
        ctx.request_screenshot(move |picture| {
            // The window may have closed meanwhile.
            let _ = picks.send(Pick::Picture(Arc::unwrap_or_clone(picture)));
            wake.request_repaint();
        });
    }

    /// Asks where a file of this name is to be written, and writes what `make` makes, which is told the folder: whole,
    /// or not at all. Where there is no dialog, it is written among the user's files, under a name that is free.
    pub fn save(
        &self,
        ctx: &Context,
        name: String,
        make: impl FnOnce(&Path) -> Result<Vec<u8>, String> + Send + 'static,
    ) {
        let save_dir = self.save_dir.clone();
        self.spawn(ctx, move || {
            let file = match save_dir {
                Some(folder) => free(&folder, &name),
                None => ask_where(&name)?,
            };
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let bytes = make(folder.unwrap_or(Path::new(".")));
            let written = bytes.and_then(|bytes| write_file(&file, &bytes).map_err(|e| e.to_string()));
            Some(written.map_or_else(Pick::Failed, |()| Pick::Written(file)))
        });
    }

    fn ask(&self, ctx: &Context, dialog: impl FnOnce() -> Option<Result<Opened, String>> + Send + 'static) {
        self.spawn(ctx, move || {
            let asked = Instant::now();
            match dialog() {
                Some(found) => Some(opened(found)),
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

fn opened(found: Result<Opened, String>) -> Pick {
    found.map_or_else(Pick::Failed, Pick::Opened)
}

/// Where a file is to be written: as the user says, or a free name where nobody can be asked. `None` where the user
/// would rather not.
fn ask_where(name: &str) -> Option<PathBuf> {
    let asked = Instant::now();
    match rfd::FileDialog::new().set_title("Save as").set_file_name(name).save_file() {
        None if asked.elapsed() < NO_DIALOG => Some(free(&usual_folder(), name)),
        answered => answered,
    }
}

/// Where people look for files that they saved.
fn usual_folder() -> PathBuf {
    let home = env::home_dir();
    let folders = home.iter().flat_map(|home| ["Downloads", "Documents"].map(|name| home.join(name)));
    let found = folders.into_iter().find(|folder| folder.is_dir());
    found.or_else(|| env::current_dir().ok()).unwrap_or_else(|| PathBuf::from("."))
}

/// A name in a folder that no file has yet: `map.png`, `map-2.png`.
fn free(folder: &Path, name: &str) -> PathBuf {
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) => (stem, format!(".{ending}")),
        None => (name, String::new()),
    };
    let numbered = (2..).map(|number| format!("{stem}-{number}{ending}"));
    let mut names = std::iter::once(name.to_string()).chain(numbered).map(|name| folder.join(name));
    names.find(|file| !file.exists()).unwrap_or_else(|| folder.join(name))
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
            Pick::Opened(Opened::Do(Command::OpenImage(source)))
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
        let Pick::Opened(Opened::Do(Command::OpenImage(ImageSource::Bytes(bytes, _)))) = encoded(&pasted)
        else {
            panic!("no image")
        };
        let read = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(read.get_pixel(1, 0).0, [0, 0, 255]);
    }

    #[test]
    fn a_free_name_is_no_other_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(free(dir.path(), "map.png"), dir.path().join("map.png"));
        for taken in ["map.png", "map-2.png", "run"] {
            std::fs::write(dir.path().join(taken), "").unwrap();
        }
        assert_eq!(free(dir.path(), "map.png"), dir.path().join("map-3.png"));
        assert_eq!(free(dir.path(), "run"), dir.path().join("run-2"));
    }

    #[test]
    fn what_is_saved_is_written_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let (dialogs, ctx) = (Dialogs::new(Some(dir.path().to_path_buf())), Context::default());
        let told = || dialogs.picks.1.recv_timeout(Duration::from_secs(20)).unwrap();
        dialogs.save(&ctx, "a.csv".to_string(), |_| Ok(b"x\n".to_vec()));
        let Pick::Written(file) = told() else { panic!("nothing written") };
        assert_eq!(
            (file.as_path(), std::fs::read(&file).unwrap()),
            (&*dir.path().join("a.csv"), b"x\n".to_vec())
        );
        dialogs.save(&ctx, "b.csv".to_string(), |_| Err("no numbers".to_string()));
        assert!(matches!(told(), Pick::Failed(why) if why == "no numbers"));
        assert!(!dir.path().join("b.csv").exists(), "nothing is left of it");
    }
}
