//! No subcommand: the window, or its job without one where there is no display.

use std::{env, error::Error, path::PathBuf, process::ExitCode};

use sightline::{
    bundled,
    spec::picture::ImageSource,
    window::{
        app::Options,
        start::{self, AppError},
    },
};

use crate::cli::{model::ModelArgs, numbers, run as headless, subject::SubjectArgs};

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Image to open; a sample scene if left out.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// First question; that of the last window if left out.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Longest answer, in tokens; that of the last window if left out.
    #[arg(long, value_name = "N", value_parser = numbers::length)]
    max_new: Option<usize>,
}

/// The folder in which the window writes exports and sessions without asking: for scripts.
const SAVE_DIR: &str = "SIGHTLINE_SAVE_DIR";

/// The folder of what outlives the window, and of its session while it is open; the user's own if left out.
const STATE_DIR: &str = "SIGHTLINE_STATE_DIR";

/// Where the job without a display leaves its files.
const OUT: &str = "sightline-out";

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let image = args.image.unwrap_or_else(bundled::sample_image);
    let options = Options {
        model: args.model.model.clone(),
        image: ImageSource::File(image.clone()),
        prompt: args.prompt.clone(),
        max_new: args.max_new,
        device: args.model.device.clone(),
        dtype: args.model.dtype,
        scenes: bundled::scene_images(),
        questions: bundled::QUESTIONS.map(String::from).to_vec(),
        save_dir: folder(SAVE_DIR),
        state_dir: folder(STATE_DIR),
    };
    match start::run(options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(AppError::NoDisplay(why) | AppError::NoAdapter(why)) => {
            eprintln!("no window can be opened here ({why}): doing the same without one");
            let prompt = args.prompt.unwrap_or_else(|| bundled::PROMPT.to_string());
            let max_new = args.max_new.unwrap_or(bundled::MAX_NEW);
            let subject = SubjectArgs::plain(args.model, image, prompt, max_new);
            headless::run(headless::Args::plain(subject, OUT.as_ref()))
        }
        Err(error) => Err(error.into()),
    }
}

/// A folder that a variable of the environment names.
fn folder(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
