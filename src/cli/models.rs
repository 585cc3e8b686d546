//! `sightline models`: the models that are known by name, and the way from any name of the hub to a folder.

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use sightline::{
    device::room,
    hub::{
        cache::Cache,
        control::Control,
        download::{Hub, Plan},
        error::HubError,
        id::HubId,
        place::Place,
        table::{self, Known},
    },
    model::families::registry,
    spec::record::gigabytes,
};

use crate::cli::bar::DownloadBars;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fetch a model into the Hugging Face cache, or what is missing of it, and print its folder.
    Get {
        /// org/name or org/name@revision.
        id: HubId,
    },
    /// Say what a model of the hub consists of, its size and licence, without fetching it.
    Show {
        /// org/name or org/name@revision.
        id: HubId,
    },
}

pub fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let cache = Cache::of_user();
    match args.command {
        Some(_) if args.json => Err("--json prints the list: leave it out of `get` and `show`".into()),
        Some(Command::Get { id }) => {
            println!("{}", fetch(&cache, &id)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Show { id }) => {
            show(cache, &id)?;
            Ok(ExitCode::SUCCESS)
        }
        None => {
            list(&cache, args.json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The folder of what was named as a model: a folder, or one of the hub, which is fetched where it is not in the cache.
pub fn folder(named: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let cache = Cache::of_user();
    match Place::of(named).here(&cache)? {
        Ok(folder) => Ok(folder),
        Err(id) => fetch(&cache, &id),
    }
}

fn plan(hub: &Hub, id: &HubId) -> Result<Plan, Box<HubError>> {
    hub.plan(id, &Control::default(), &mut |note| eprintln!("{note}")).map_err(Box::new)
}

/// Fetches a model, saying first what it costs.
fn fetch(cache: &Cache, id: &HubId) -> Result<PathBuf, Box<dyn Error>> {
    let hub = Hub::open(cache.clone())?;
    let plan = plan(&hub, id)?;
    for line in plan.lines() {
        eprintln!("{line}");
    }
    let mut bars = DownloadBars::new(plan.size);
    let look = |folder: &Path| registry::open(folder).map(|_| ()).map_err(|e| e.to_string());
    let folder = hub.fetch(&plan, &Control::default(), &look, &mut |state| bars.tell(state));
    bars.clear();
    Ok(folder?)
}

/// What the hub says of a model, and what is known of it without the hub: where that says nothing, the latter alone.
fn show(cache: Cache, id: &HubId) -> Result<(), Box<HubError>> {
    let known = table::find(id);
    match (Hub::open(cache).map_err(Box::new).and_then(|hub| plan(&hub, id)), &known) {
        (Ok(plan), _) => {
            for line in plan.lines() {
                println!("{line}");
            }
            for file in &plan.files {
                println!("  {:>12}  {}", gigabytes(file.size), file.name);
            }
        }
        (Err(error), Some(known)) if error.is_silence() => {
            eprintln!("the hub was not asked, or did not answer: {error}");
            println!("{}: {}, {} to fetch, as far as is known here", known.id, known.name, size(known));
            println!("licence: {} (its card decides)", known.licence);
        }
        (Err(error), _) => return Err(error),
    }
    if let Some(known) = known {
        println!("checked: {}", known.checked);
    }
    Ok(())
}

/// Bytes of its weights, marked where they are an estimate.
fn size(known: &Known) -> String {
    format!("{}{}", if known.bytes_exact { "" } else { "~" }, gigabytes(known.bytes))
}

/// The table, with what is in the cache and what fits this machine.
fn list(cache: &Cache, as_json: bool) -> Result<(), Box<dyn Error>> {
    let available = room::left();
    let all = table::known();
    let held = |known: &Known| known.hub_id().map(|id| cache.held(&id));
    if as_json {
        let rows = all.iter().map(|known| {
            json!({
                "model": known,
                "memory": {"f32": known.memory(4), "f16": known.memory(2), "bf16": known.memory(2)},
                "cache": held(known),
                "fits": available.map(|_| known.fits(available)),
            })
        });
        println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
        return Ok(());
    }
    println!(
        "{:<44} {:>11} {:>11} {:>11}  {:<20} {:<8} fits",
        "model", "to fetch", "in f32", "in f16", "licence", "cached"
    );
    for known in &all {
        let cached = held(known).map_or("", |held| held.word());
        println!(
            "{:<44} {:>11} {:>11} {:>11}  {:<20} {cached:<8} {}",
            known.id,
            size(known),
            gigabytes(known.memory(4)),
            gigabytes(known.memory(2)),
            known.licence,
            known.fits(available)
        );
    }
    println!("\nin f32, in f16: what the weights take in memory; a run takes more. ~: an estimate.");
    match available {
        Some(bytes) => {
            println!("fits: number formats for which {} of free memory suffice.", gigabytes(bytes))
        }
        None => println!("fits: not known, for this system does not tell how much memory is free."),
    }
    println!("cache: {}", cache.root().display());
    let types: Vec<&str> = registry::model_types().collect();
    println!("any other model of these types runs too, by org/name or folder: {}", types.join(", "));
    println!("`sightline models show ID` says what was checked of a model, `get ID` fetches it.");
    Ok(())
}
