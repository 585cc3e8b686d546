//! `sightline scenes`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::scenes::{self, SceneOptions};

use super::bar;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seed: the same seed gives the same scenes.
    #[arg(long, value_name = "S")]
    seed: u64,
    /// How many scenes.
    #[arg(long, value_name = "N")]
    count: u64,
    /// Folder for images/, masks/, annotations.json (COCO) and scenes.jsonl.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Side of an image in pixels.
    #[arg(long, default_value_t = 192)]
    size: u32,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let options = SceneOptions { size: args.size, ..SceneOptions::default() };
    let bar = bar(args.count, "drawing scenes");
    scenes::write_folder(&args.out, args.seed, args.count, &options, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    println!("written: {} scenes in {}", args.count, args.out.display());
    Ok(ExitCode::SUCCESS)
}
