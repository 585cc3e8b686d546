//! The command line: the subcommands, one file each, and what they share: progress on stderr, a summary on
//! stdout, errors as text. Exit codes: 0 done, 1 a check failed, 2 unusable input.

use std::{error::Error, process::ExitCode};

use clap::{Parser, Subcommand};
use sightline::device::remote;

mod bar;
mod effects;
mod eval;
mod lens;
mod model;
mod models;
mod numbers;
mod pictures;
mod replay;
mod run;
mod scenes;
mod serve;
mod study;
mod subject;
mod summary;
mod talk;
mod verify;
mod window;

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
    /// Measure what the papers measured over many images: one study of `sightline study list`, with figure and table.
    Study(study::Args),
    /// List models of the hub that are known by name, or fetch one.
    Models(models::Args),
    /// Let models of another machine run on this one's device.
    Serve(serve::Args),
}

/// Does what the arguments ask.
pub fn main(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let done = run_command(args);
    remote::settle();
    done
}

fn run_command(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    match args.command {
        None => window::run(args.window),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Lens(args)) => lens::run(args),
        Some(Command::Replay(args)) => replay::run(args),
        Some(Command::Scenes(args)) => scenes::run(args),
        Some(Command::Eval(args)) => eval::run(args),
        Some(Command::Study(args)) => study::run(args),
        Some(Command::Models(args)) => models::run(args),
        Some(Command::Serve(args)) => serve::run(args),
    }
}
