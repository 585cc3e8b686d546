//! Subcommands, one file each, and what they share: progress on stderr, a summary on stdout, errors
//! as text. Exit codes: 0 done, 1 a check failed, 2 unusable input.

mod eval;
mod lens;
mod replay;
mod run;
mod scenes;
mod subject;
mod verify;
mod window;

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use sightline::{checkpoint::weights::WeightDtype, device::open::DeviceChoice};

/// See which image patches a vision-language model looks at for every word of its answer, and cut
/// those paths live. Without a subcommand: the window.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    window: window::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare a model folder with the reference tensors beside it.
    Verify(verify::Args),
    /// Answer one prompt about one image without a window, and write the trace.
    Run(run::Args),
    /// Read what every layer would say at chosen positions (logit lens).
    Lens(lens::Args),
    /// Run the experiments of a session file again, on their own image or on others.
    Replay(replay::Args),
    /// Generate images whose truth is known: masks, descriptions, questions.
    Scenes(scenes::Args),
    /// Ask the questions of a scenes folder, or of any COCO-format folder, and score the answers.
    Eval(eval::Args),
}

/// Where and how a model runs.
#[derive(Debug, Clone, clap::Args)]
struct ModelArgs {
    /// Model folder (Hugging Face layout); the bundled model if left out.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Where to run: auto takes a real GPU if there is one.
    #[arg(long, value_enum, default_value_t)]
    device: DeviceChoice,
    /// Number format of weights and KV cache.
    #[arg(long, value_enum, default_value_t)]
    dtype: WeightDtype,
}

impl ModelArgs {
    fn folder(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(sightline::bundled::model)
    }
}

/// Does what the arguments ask.
pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    match args.command {
        None => window::run(args.window),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Lens(args)) => lens::run(args),
        Some(Command::Replay(args)) => replay::run(args),
        Some(Command::Scenes(args)) => scenes::run(args),
        Some(Command::Eval(args)) => eval::run(args),
    }
}

/// A bar on stderr; hidden where stderr is not a terminal.
fn bar(len: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:16} {bar:32} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(len).with_message(what.to_string());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
