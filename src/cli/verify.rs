//! `sightline verify`.

use std::{error::Error, path::PathBuf, process::ExitCode};

use sightline::{
    device::open::{self, DeviceChoice},
    studies::verify::verify,
};

use crate::cli::{model::device, models};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with config.json, weights, reference.safetensors and reference.json, or org/name[@revision] of the hub.
    dir: PathBuf,
    /// Where to run.
    #[arg(long, value_name = "DEVICE", value_parser = device(), default_value = "cpu")]
    device: DeviceChoice,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let compute = open::open(args.device)?;
    let dir = models::folder(&args.dir)?;
    eprintln!("verifying {} on {}", dir.display(), compute.description);
    let report = verify(&dir, &compute)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(if report.pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
