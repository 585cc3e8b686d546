//! `sightline scenes`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::scenes::{self, SceneOptions};

use crate::cli::bar::bar;

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
    #[arg(long, value_name = "PIXELS", default_value_t = SceneOptions::default().size)]
    size: u32,
    /// How many objects a scene has: FEWEST-MOST.
    #[arg(long, value_name = "A-B", default_value = "1-5", value_parser = range)]
    objects: (usize, usize),
}

fn range(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    parsed.ok_or_else(|| format!("`{text}` is not of the form 1-5"))
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let (min_objects, max_objects) = args.objects;
    let options = SceneOptions { size: args.size, min_objects, max_objects };
    let bar = bar(args.count, "drawing scenes");
    scenes::write_folder(&args.out, args.seed, args.count, &options, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    println!("written: {} scenes in {}", args.count, args.out.display());
    Ok(ExitCode::SUCCESS)
}
