//! No subcommand: the window, or its job without one where there is no display.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::{app, bundled, run::RunSpec};

use super::{ModelArgs, run};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Image to open; a sample scene if left out.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// Where the job without a display leaves its files.
const OUT: &str = "sightline-out";

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let image = args.image.clone().unwrap_or_else(bundled::sample_image);
    let options =
        app::Options { model: args.model.folder(), image: image.clone(), device: args.model.device, dtype: args.model.dtype };
    match app::run(options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(app::AppError::NoDisplay(why)) => {
            eprintln!("no window can be opened here ({why}): doing the same without one");
            let spec = RunSpec::ask(bundled::PROMPT, 64);
            run::headless(&args.model, &image, &spec, true, OUT.as_ref())
        }
        Err(error) => Err(error.into()),
    }
}
